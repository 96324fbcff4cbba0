"""Bodies of requests about webhooks, and of their responses."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.webhooks.outbox import ENDINGS, EVENT_NAMES, EventName
from qpruner_core.strict import StrictModel

Url = Annotated[str, Field(min_length=1, max_length=2048, description="Where events are sent to, by POST.")]
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
    job_id: str | None = Field(default=None, max_length=40, description="Only of this job; null: of all jobs.")


class WebhookChange(StrictModel):
    """What to change of a webhook; what is left out stays."""

    url: Url | None = Field(default=None, description="Where events are sent to.")
    events: Events | None = Field(default=None, description="Events to send.")
    enabled: bool | None = Field(default=None, description="Whether events are sent to it.")


class RotationRequest(StrictModel):
    """How a secret is replaced."""

    keep_seconds: int = Field(
        default=86_400, ge=0, le=30 * 86_400, description="How long messages are signed by the old secret, too."
    )


class WebhookView(BaseModel):
    """A webhook. Its secret is had from `GET /webhooks/{id}/secret`."""

    model_config = ConfigDict(from_attributes=True)
    id: str = Field(description="Id of the webhook.", examples=["wh_01k9t4ae5xfz3v2s6q0m8y1d7c"])
    url: str = Field(description="Where events are sent to.", examples=["https://tool.example/qpruner"])
    events: list[str] = Field(description="Events that are sent.", examples=[["job.succeeded", "job.failed"]])
    job_id: str | None = Field(description="The job whose events are sent; null: all jobs.")
    enabled: bool = Field(description="Whether events are sent; a receiver that answers 410 disables it.")
    created_at: datetime = Field(description="When it was made.")


class WebhookPage(BaseModel):
    """A page of webhooks, the newest first."""

    webhooks: list[WebhookView] = Field(description="The webhooks.")
    next_cursor: str | None = Field(description="Give it as `cursor` to see older ones; null on the last page.")


class WebhookSecret(BaseModel):
    """The secret that messages are signed by, as Standard Webhooks has it."""

    secret: str = Field(
        description="Give it to the library that verifies.", examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
    )


class DeliveryView(BaseModel):
    """A message to a webhook, and how far it came."""

    model_config = ConfigDict(from_attributes=True)
    id: str = Field(description="The `webhook-id` of the message.", examples=["msg_01k9t4ae5xfz3v2s6q0m8y1d7c"])
    type: str = Field(description="The event.", examples=["job.succeeded"])
    payload: dict[str, Any] = Field(description="The body of the message.")
    status: Literal["pending", "delivered", "failed"] = Field(description="State of the delivery.")
    attempts: int = Field(description="Attempts so far.")
    due_at: datetime = Field(description="When a pending message is sent next.")
    last_attempt_at: datetime | None = Field(description="When it was sent last.")
    response_status: int | None = Field(description="HTTP status of the last response.", examples=[204])
    error: str | None = Field(description="Why the last attempt failed.")
    created_at: datetime = Field(description="When it was made.")
    delivered_at: datetime | None = Field(description="When a receiver took it.")


class DeliveryPage(BaseModel):
    """A page of deliveries, the newest first."""

    deliveries: list[DeliveryView] = Field(description="The deliveries.")
    next_cursor: str | None = Field(description="Give it as `cursor` to see older ones; null on the last page.")
