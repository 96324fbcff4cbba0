"""Every request of the client, as data shared by the synchronous and the asynchronous client."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from qpruner_client.errors import UnexpectedResponseError
from qpruner_client.models import (
    AllocationView,
    ArtifactList,
    DatasetPage,
    DatasetView,
    DeliveryPage,
    DeliveryView,
    Estimate,
    JobMetricsView,
    JobPage,
    JobView,
    LogList,
    ModelPage,
    ModelView,
    PartsView,
    Readiness,
    TrialList,
    WebhookPage,
    WebhookSecret,
    WebhookView,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request.

    ``result``: parses the body of a response. ``repeatable``: repeating it has no further effect. ``file``: opens the
    body, again for each attempt. ``accepted``: statuses above 399 whose body is a result. ``accepted_again``: statuses
    that mean success after an attempt whose response was lost, such as 404 for a deletion.
    """

    method: str
    path: str
    result: Callable[[bytes], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    file: Callable[[], BinaryIO] | None = None
    repeatable: bool = True
    accepted: tuple[int, ...] = ()
    accepted_again: tuple[int, ...] = ()

    def is_result(self, response: httpx.Response, *, perhaps_done: bool) -> bool:
        """Whether ``response`` is a result; ``perhaps_done``: the response to an earlier attempt was lost."""
        again = perhaps_done and response.status_code in self.accepted_again
        return again or not response.is_error or response.status_code in self.accepted

    def parse(self, response: httpx.Response) -> T:
        """The result. Raises :class:`UnexpectedResponseError`."""
        try:
            return self.result(response.content)
        except ValidationError as error:
            raise UnexpectedResponseError(
                f"The response of the server to {self.method} {response.request.url} does not match this API: "
                f"{error.errors(include_url=False)[0]['msg']}.",
                remedy="Check the address of the server; a newer service may need a newer qpruner_client.",
            ) from error


def _nothing(body: bytes) -> None:
    """The result of a request without a body."""


def _deletion(path: str) -> Call[None]:
    return Call("DELETE", path, _nothing, accepted_again=(404,))


def create_job(body: Mapping[str, Any], idempotency_key: str | None) -> Call[JobView]:
    """``POST /jobs``; with a generated key if none is given, so that repeating it creates one job."""
    headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
    return Call("POST", "/jobs", JobView.model_validate_json, json=_sendable(body), headers=headers)


def estimate_job(body: Mapping[str, Any]) -> Call[Estimate]:
    """``POST /jobs/estimate``."""
    return Call("POST", "/jobs/estimate", Estimate.model_validate_json, json=_sendable(body))


def get_job(job_id: str) -> Call[JobView]:
    """``GET /jobs/{id}``."""
    return Call("GET", job_path(job_id), JobView.model_validate_json)


def list_jobs(filters: Mapping[str, Any], cursor: str | None) -> Call[JobPage]:
    """``GET /jobs``."""
    params = {name: _as_query(value) for name, value in filters.items() if value is not None}
    return Call("GET", "/jobs", JobPage.model_validate_json, params=params | ({"cursor": cursor} if cursor else {}))


def cancel_job(job_id: str) -> Call[JobView]:
    """``POST /jobs/{id}/cancel``."""
    return Call("POST", job_path(job_id, "cancel"), JobView.model_validate_json)


def retry_job(job_id: str) -> Call[JobView]:
    """``POST /jobs/{id}/retry``. A second one would be refused, so it is not repeated after a lost response."""
    return Call("POST", job_path(job_id, "retry"), JobView.model_validate_json, repeatable=False)


def delete_job(job_id: str) -> Call[None]:
    """``DELETE /jobs/{id}``."""
    return _deletion(job_path(job_id))


def list_trials(job_id: str) -> Call[TrialList]:
    """``GET /jobs/{id}/trials``."""
    return Call("GET", job_path(job_id, "trials"), TrialList.model_validate_json)


def get_metrics(job_id: str) -> Call[JobMetricsView]:
    """``GET /jobs/{id}/metrics``."""
    return Call("GET", job_path(job_id, "metrics"), JobMetricsView.model_validate_json)


def get_logs(job_id: str) -> Call[LogList]:
    """``GET /jobs/{id}/logs``."""
    return Call("GET", job_path(job_id, "logs"), LogList.model_validate_json)


def get_allocation(job_id: str, memory_budget: int | str) -> Call[AllocationView]:
    """``GET /jobs/{id}/allocation``."""
    return Call(
        "GET",
        job_path(job_id, "allocation"),
        AllocationView.model_validate_json,
        params={"memory_budget": str(memory_budget)},
    )


def list_artifacts(job_id: str) -> Call[ArtifactList]:
    """``GET /jobs/{id}/artifacts``."""
    return Call("GET", job_path(job_id, "artifacts"), ArtifactList.model_validate_json)


def upload_dataset(filename: str, file: Callable[[], BinaryIO]) -> Call[DatasetView]:
    """``POST /datasets`` with the file as the bare body, which is never held in memory."""
    headers = {"Content-Type": "application/octet-stream"}
    return Call(
        "POST",
        "/datasets",
        DatasetView.model_validate_json,
        params={"filename": filename},
        headers=headers,
        file=file,
        repeatable=False,
    )


def list_datasets(cursor: str | None, limit: int) -> Call[DatasetPage]:
    """``GET /datasets``."""
    return Call(
        "GET",
        "/datasets",
        DatasetPage.model_validate_json,
        params={"limit": limit} | ({"cursor": cursor} if cursor else {}),
    )


def get_dataset(dataset_id: str) -> Call[DatasetView]:
    """``GET /datasets/{id}``."""
    return Call("GET", f"/datasets/{quote(dataset_id, safe='')}", DatasetView.model_validate_json)


def delete_dataset(dataset_id: str) -> Call[None]:
    """``DELETE /datasets/{id}``."""
    return _deletion(f"/datasets/{quote(dataset_id, safe='')}")


def create_model(body: Mapping[str, Any]) -> Call[ModelView]:
    """``POST /models``; not sent again after a lost response, which might reserve the bytes twice."""
    return Call("POST", "/models", ModelView.model_validate_json, json=_sendable(body), repeatable=False)


def list_models(cursor: str | None, limit: int) -> Call[ModelPage]:
    """``GET /models``."""
    return Call("GET", "/models", ModelPage.model_validate_json, params=_given(limit=limit, cursor=cursor))


def get_model(model_id: str) -> Call[ModelView]:
    """``GET /models/{id}``."""
    return Call("GET", _model_path(model_id), ModelView.model_validate_json)


def list_model_parts(model_id: str) -> Call[PartsView]:
    """``GET /models/{id}/parts``."""
    return Call("GET", f"{_model_path(model_id)}/parts", PartsView.model_validate_json)


def complete_model(model_id: str) -> Call[ModelView]:
    """``POST /models/{id}/complete``."""
    return Call("POST", f"{_model_path(model_id)}/complete", ModelView.model_validate_json)


def delete_model(model_id: str) -> Call[None]:
    """``DELETE /models/{id}``."""
    return _deletion(_model_path(model_id))


def _model_path(model_id: str) -> str:
    return f"/models/{quote(model_id, safe='')}"


def create_webhook(body: Mapping[str, Any]) -> Call[WebhookView]:
    """``POST /webhooks``; not repeated after a lost response, which might add two."""
    return Call("POST", "/webhooks", WebhookView.model_validate_json, json=_sendable(body), repeatable=False)


def list_webhooks(job_id: str | None, cursor: str | None) -> Call[WebhookPage]:
    """``GET /webhooks``."""
    return Call("GET", "/webhooks", WebhookPage.model_validate_json, params=_given(job_id=job_id, cursor=cursor))


def get_webhook(webhook_id: str) -> Call[WebhookView]:
    """``GET /webhooks/{id}``."""
    return Call("GET", _webhook_path(webhook_id), WebhookView.model_validate_json)


def change_webhook(webhook_id: str, body: Mapping[str, Any]) -> Call[WebhookView]:
    """``PATCH /webhooks/{id}``."""
    return Call("PATCH", _webhook_path(webhook_id), WebhookView.model_validate_json, json=_sendable(body))


def delete_webhook(webhook_id: str) -> Call[None]:
    """``DELETE /webhooks/{id}``."""
    return _deletion(_webhook_path(webhook_id))


def get_webhook_secret(webhook_id: str) -> Call[WebhookSecret]:
    """``GET /webhooks/{id}/secret``."""
    return Call("GET", f"{_webhook_path(webhook_id)}/secret", WebhookSecret.model_validate_json)


def rotate_webhook_secret(webhook_id: str, keep_seconds: int) -> Call[WebhookSecret]:
    """``POST /webhooks/{id}/secret/rotate``; a second time would end the old secret."""
    path, body = f"{_webhook_path(webhook_id)}/secret/rotate", {"keep_seconds": keep_seconds}
    return Call("POST", path, WebhookSecret.model_validate_json, json=body, repeatable=False)


def send_test_message(webhook_id: str) -> Call[DeliveryView]:
    """``POST /webhooks/{id}/test``."""
    return Call("POST", f"{_webhook_path(webhook_id)}/test", DeliveryView.model_validate_json)


def list_deliveries(webhook_id: str, status: str | None, cursor: str | None) -> Call[DeliveryPage]:
    """``GET /webhooks/{id}/deliveries``."""
    path, params = f"{_webhook_path(webhook_id)}/deliveries", _given(status=status, cursor=cursor, limit=100)
    return Call("GET", path, DeliveryPage.model_validate_json, params=params)


def resend_delivery(webhook_id: str, delivery_id: str) -> Call[DeliveryView]:
    """``POST /webhooks/{id}/deliveries/{id}/resend``."""
    path = f"{_webhook_path(webhook_id)}/deliveries/{quote(delivery_id, safe='')}/resend"
    return Call("POST", path, DeliveryView.model_validate_json)


def _webhook_path(webhook_id: str) -> str:
    return f"/webhooks/{quote(webhook_id, safe='')}"


def _given(**params: Any) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def readiness() -> Call[Readiness]:
    """``GET /readyz``, which returns 503 while a part is not ready."""
    return Call("GET", "/readyz", Readiness.model_validate_json, accepted=(503,))


def job_path(job_id: str, part: str = "") -> str:
    """The path of a job, or of one of its sub-resources."""
    return f"/jobs/{quote(job_id, safe='')}" + (f"/{part}" if part else "")


def _as_query(value: Any) -> Any:
    if isinstance(value, dict):
        return [f"{key}:{one}" for key, one in value.items()]
    return value.isoformat() if hasattr(value, "isoformat") else value


def _sendable(body: Mapping[str, Any]) -> dict[str, Any]:
    """``body`` as JSON values: dates as text."""
    sendable: dict[str, Any] = to_jsonable_python(dict(body))
    return sendable
