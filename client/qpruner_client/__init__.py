"""Client of the QPruner service.

::

    from qpruner_client import Client

    with Client("http://127.0.0.1:8000") as client:
        dataset = client.datasets.upload("task.txt")
        job = client.jobs.create(
            model="demo:smollm2-135m-instruct", dataset=dataset.id, target="gguf", memory_budget="60MB"
        )
        job.wait(progress=True)
        print(job.artifacts.download())

:class:`AsyncClient` has the same names. Errors are :class:`ClientError`, with ``code``, ``field`` and ``remedy``.
"""

from qpruner_client import webhooks
from qpruner_client.async_client import AsyncClient
from qpruner_client.async_jobs import AsyncJob
from qpruner_client.client import Client
from qpruner_client.errors import (
    ApiError,
    AuthenticationError,
    BudgetInfeasibleError,
    ClientError,
    ConflictError,
    ConnectionFailedError,
    DownloadError,
    InvalidRequestError,
    JobCancelledError,
    JobEndedError,
    JobFailedError,
    NotFoundError,
    PermissionDeniedError,
    ServiceFaultError,
    ServiceUnavailableError,
    SettingsError,
    TooManyRequestsError,
    UnexpectedResponseError,
    UploadError,
    UploadFailedError,
    WaitTimeoutError,
)
from qpruner_client.events import JobEvent
from qpruner_client.jobs import Job
from qpruner_client.progress import ProgressBar
from qpruner_client.retries import Retries
from qpruner_client.webhook_messages import WebhookMessage, WebhookVerificationError

__all__ = [
    "ApiError", "AsyncClient", "AsyncJob", "AuthenticationError", "BudgetInfeasibleError", "Client", "ClientError",
    "ConflictError", "ConnectionFailedError", "DownloadError", "InvalidRequestError", "Job", "JobCancelledError",
    "JobEndedError", "JobEvent", "JobFailedError", "NotFoundError", "PermissionDeniedError", "ProgressBar", "Retries",
    "ServiceFaultError", "ServiceUnavailableError", "SettingsError", "TooManyRequestsError", "UnexpectedResponseError",
    "UploadError", "UploadFailedError", "WaitTimeoutError", "WebhookMessage", "WebhookVerificationError", "webhooks",
]  # fmt: skip
