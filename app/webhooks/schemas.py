"""Bodies of requests about webhooks, and of their responses."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.webhooks.outbox import ENDINGS, EVENT_NAMES, EventName
from qpruner_core.strict import StrictModel

WEBHOOKS_PER_JOB = 4
"""Webhooks that a job may have of its own."""
Url = Annotated[str, Field(min_length=1, max_length=2048, description="URL that events are sent to, by POST.")]
Events = Annotated[
    list[EventName],
    AfterValidator(lambda names: [name for name in EVENT_NAMES if name in names]),
    Field(min_length=1, max_length=32, description="Events to send. Default: those that end a job."),
]
_EXAMPLE: dict[str, Any] = {"url": "https://tool.example/qpruner", "events": ["job.succeeded", "job.failed"]}


class JobWebhook(StrictModel):
    """A webhook for the events of one job."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})
    url: Url
    events: Events = Field(default=list(ENDINGS))


class WebhookRequest(StrictModel):
    """A webhook for the events of all jobs, or of one."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})
    url: Url
    events: Events = Field(default=list(ENDINGS))
    job_id: str | None = Field(default=None, max_length=40, description="Only events of this job; null: of all jobs.")


class WebhookChange(StrictModel):
    """Changes of a webhook; omitted fields are unchanged."""

    url: Url | None = Field(default=None, description="URL that events are sent to.")
    events: Events | None = Field(default=None, description="Events to send.")
    enabled: bool | None = Field(default=None, description="Whether events are sent to it.")


class RotationRequest(StrictModel):
    """How a secret is replaced."""

    keep_seconds: int = Field(
        default=86_400, ge=0, le=30 * 86_400, description="How long messages are also signed with the old secret."
    )


class WebhookView(BaseModel):
    """A webhook. `GET /webhooks/{id}/secret` returns its secret."""

    model_config = ConfigDict(from_attributes=True)
    id: str = Field(description="Id of the webhook.", examples=["wh_01k9t4ae5xfz3v2s6q0m8y1d7c"])
    url: str = Field(description="URL that events are sent to.", examples=["https://tool.example/qpruner"])
    events: list[str] = Field(description="Events that are sent.", examples=[["job.succeeded", "job.failed"]])
    job_id: str | None = Field(description="The job whose events are sent; null: all jobs.")
    enabled: bool = Field(description="Whether events are sent; a receiver that responds with 410 disables it.")
    created_at: datetime = Field(description="Creation time.")


class WebhookPage(BaseModel):
    """A page of webhooks, newest first."""

    webhooks: list[WebhookView] = Field(description="The webhooks.")
    next_cursor: str | None = Field(description="Send it as `cursor` for older ones; null on the last page.")


class WebhookSecret(BaseModel):
    """The secret for signing messages, as specified by Standard Webhooks."""

    secret: str = Field(
        description="Pass it to a Standard Webhooks library.", examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
    )


class DeliveryView(BaseModel):
    """A message to a webhook, and its state."""

    model_config = ConfigDict(from_attributes=True)
    id: str = Field(description="The `webhook-id` of the message.", examples=["msg_01k9t4ae5xfz3v2s6q0m8y1d7c"])
    type: str = Field(description="The event.", examples=["job.succeeded"])
    payload: dict[str, Any] = Field(description="The body of the message.")
    status: Literal["pending", "delivered", "failed"] = Field(description="State of the delivery.")
    attempts: int = Field(description="Attempts so far.")
    due_at: datetime = Field(description="Next attempt of a pending message.")
    last_attempt_at: datetime | None = Field(description="Last attempt.")
    response_status: int | None = Field(description="HTTP status of the last response.", examples=[204])
    error: str | None = Field(description="Reason why the last attempt failed.")
    created_at: datetime = Field(description="Creation time.")
    delivered_at: datetime | None = Field(description="Time of acceptance by the receiver.")


class DeliveryPage(BaseModel):
    """A page of deliveries, newest first."""

    deliveries: list[DeliveryView] = Field(description="The deliveries.")
    next_cursor: str | None = Field(description="Send it as `cursor` for older ones; null on the last page.")
