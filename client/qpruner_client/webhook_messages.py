"""Verifies messages of webhooks as specified by Standard Webhooks (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from qpruner_client.errors import ClientError
from qpruner_client.models.base import Model

TOLERANCE_SECONDS = 300
_PREFIX = "whsec_"


class WebhookVerificationError(ClientError):
    """The message is not from the service, or an old one replayed by someone else."""

    code = "webhook_not_verified"


class WebhookMessage(Model):
    """A verified message. ``data`` has ``job_id``, ``status``, ``model``, ``labels``, ``event_id`` and ``event``."""

    type: str
    """The event, such as ``job.succeeded``."""

    timestamp: datetime
    """Time of the event."""

    data: dict[str, Any]
    """The job, and the data of its event."""

    id: str = ""
    """The ``webhook-id``: the same if a message arrives twice."""


def verify(
    body: bytes | str, headers: Mapping[str, str], secret: str, *, tolerance: float = TOLERANCE_SECONDS
) -> WebhookMessage:
    """The message of a request, if it was signed with ``secret`` in the last five minutes.

    Args:
        body: body of the request, byte for byte.
        headers: headers of the request, case-insensitive.
        secret: ``whsec_…`` of the webhook.
        tolerance: seconds of clock difference and transmission.

    Raises:
        WebhookVerificationError: it must not be trusted.
    """
    raw = body.encode() if isinstance(body, str) else body
    named = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, timestamp = named["webhook-id"], named["webhook-timestamp"]
        signatures = named["webhook-signature"].split(" ")
        sent = int(timestamp)
    except (KeyError, ValueError) as error:
        raise WebhookVerificationError("The request lacks the headers of a webhook.") from error
    if abs(time.time() - sent) > tolerance:
        raise WebhookVerificationError("The message is too old, or from the future.", remedy="Check the clock.")
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise WebhookVerificationError("The secret is malformed.", field="secret") from error
    content = f"{message_id}.{timestamp}.".encode() + raw
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest())
    given = [one.partition(",")[2].encode() for one in signatures if one.startswith("v1,")]
    if not any(hmac.compare_digest(expected, one) for one in given):
        raise WebhookVerificationError(
            ("The signature does not match this secret."), remedy="Use the secret of the webhook."
        )
    try:
        return WebhookMessage.model_validate_json(raw).model_copy(update={"id": message_id})
    except ValidationError as error:
        raise WebhookVerificationError("The body is not a webhook message.") from error
