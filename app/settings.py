"""Every setting of the service, from ``QPRUNER_*`` environment variables or a ``.env`` file."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.durations import Duration
from app.setting_values import BrokerUrl, DatabaseUrl, DaysOfTenants, HostNames, HttpUrl, LogLevel, Roots, StoreUrl
from qpruner_core.sizes import ByteSize
from qpruner_core.source_policy import SourcePolicy, default_cache_dir

Weight = Annotated[float, Field(ge=0.01, le=100)]


class Settings(BaseSettings):
    """Settings of the API, the workers and the command line; the defaults are the embedded parts."""

    model_config = SettingsConfigDict(env_prefix="QPRUNER_", env_file=".env", extra="ignore", allow_inf_nan=False)

    data_dir: Path = Field(
        default=Path(".qpruner"), description="Directory of the embedded database, store, secrets and scratch space."
    )
    cache_dir: Path = Field(
        default_factory=default_cache_dir,
        description="Directory of downloaded and converted models; default: below ~/.cache.",
    )

    database_url: DatabaseUrl = Field(
        default=None, description="SQLAlchemy URL of the database; default: SQLite in data_dir."
    )
    broker_url: BrokerUrl = Field(default=None, description="Redis URL of the broker; default: an embedded Valkey.")
    store_url: StoreUrl = Field(
        default=None, description='URL of the store, "file:///path" or "s3://bucket/prefix"; default: data_dir/store.'
    )
    s3_endpoint_url: HttpUrl = Field(default=None, description="S3 endpoint that the service connects to.")
    s3_public_endpoint_url: HttpUrl = Field(
        default=None, description="S3 endpoint that signed URLs name; default: s3_endpoint_url."
    )
    s3_region: str = Field(default="us-east-1", description="Region in S3 signatures.")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on.")
    public_url: HttpUrl = Field(default=None, description="Base URL that users see; default: taken from the request.")
    require_key: bool | None = Field(
        default=None, description="Require an API key; default: on every address but loopback."
    )
    trusted_hosts: HostNames = Field(
        default=(),
        description=(
            "Names accepted in the Host header, in addition to loopback's and that of public_url, such as "
            '"prune.example.org, *.internal"; default: every name if API keys are required.'
        ),
    )
    metrics_access: Literal["open", "key"] | None = Field(
        default=None,
        description=(
            "Whether /metrics is public or needs a key with the scope metrics; default: like all other requests."
        ),
    )
    metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port that only serves /metrics, without a key; default: none."
    )
    worker_metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port on which a worker serves its own /metrics; default: none."
    )
    traces_endpoint: HttpUrl = Field(
        default=None,
        description="Base URL of an OpenTelemetry collector that takes OTLP over HTTP, such as "
        "http://127.0.0.1:4318; default: no traces. Needs the extra otel.",
    )
    traces_share: float = Field(default=1.0, ge=0, le=1, description="Share of requests of which traces are kept.")
    signing_key: SecretStr | None = Field(
        default=None, description="Secret for signed URLs and key hashes; default: generated and kept in data_dir."
    )
    signed_url_seconds: int = Field(default=900, ge=1, le=7 * 86400, description="Lifetime of a signed URL in seconds.")

    allowed_roots: Roots = Field(
        default=(), description='Local folders for models and datasets of jobs: "/one:/two", or a JSON list.'
    )
    allow_hub: bool = Field(default=True, description="Allow models and datasets from the hub.")
    hub_endpoint: HttpUrl = Field(default=None, description="Base URL of the model hub; default: the public one.")
    hub_token: SecretStr | None = Field(default=None, description="Token for gated models of the hub.")
    max_dataset_bytes: ByteSize = Field(default=256 * 2**20, description="Largest dataset, in bytes.")
    max_model_bytes: ByteSize = Field(
        default=200 * 2**30, description="Largest model that is downloaded or uploaded, in bytes."
    )
    upload_part_bytes: ByteSize = Field(
        default=64 * 2**20,
        ge=5 * 2**20,
        le=5 * 2**30,
        description="Bytes of a part of an upload; S3 requires at least 5 MiB.",
    )
    upload_lifetime: Duration = Field(
        default=86_400, description='Time after which an unfinished or failed upload is deleted, in seconds or "12h".'
    )
    max_unfinished_uploads: int = Field(
        default=20, ge=1, le=100_000, description="Unfinished uploads per tenant; more are refused with status 429."
    )
    max_body_bytes: ByteSize = Field(default=2**20, description="Largest JSON body of a request, in bytes.")
    max_queued_jobs: int = Field(
        default=100,
        ge=1,
        le=1_000_000,
        description="Unfinished jobs per tenant; more are refused with status 429.",
    )

    max_webhooks: int = Field(default=20, ge=0, le=10_000, description="Webhooks per tenant, without those of jobs.")
    webhook_seconds: float = Field(
        default=30,
        ge=1,
        le=120,
        description="Longest attempt to deliver a message to a webhook, redirects included, in seconds.",
    )
    webhook_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(), description="Private networks that webhooks may reach, as 10.0.0.0/8,192.168.1.0/24."
    )
    max_running_jobs: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Running jobs per tenant; more wait. Null: no limit.",
    )
    max_running_jobs_per_key: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Running jobs per API key; more wait. Null: the limit of its tenant.",
    )
    tenant_weights: Annotated[dict[str, Weight], NoDecode] = Field(
        default={},
        description='Turns in the queue per turn of other tenants, such as "research=2 web=0.5"; default 1.',
    )
    max_streams: int = Field(
        default=1000, ge=1, le=1_000_000, description="Open event streams per API key and process of the API."
    )
    max_looks: int = Field(
        default=4,
        ge=1,
        le=16,
        description="Concurrent inspections of models and datasets by requests of one tenant; more wait briefly.",
    )
    look_seconds: float = Field(
        default=20.0,
        gt=0,
        le=600,
        description=("Time limit of a request's inspection of a model or dataset, mainly on a hub, in seconds."),
    )
    dataset_check_seconds: float = Field(
        default=300.0,
        gt=0,
        le=3600,
        description="Time limit of checking a dataset that was sent as one body, in seconds.",
    )

    lease_seconds: float = Field(
        default=30.0,
        gt=0,
        le=86400,
        description="Silence of a worker after which its job is given to another, in seconds.",
    )
    resend_seconds: float = Field(
        default=15.0,
        gt=0,
        le=86400,
        description="Time after which a wake-up that started no job is sent again, in seconds.",
    )
    poll_seconds: float = Field(
        default=0.5,
        gt=0,
        le=3600,
        description="Interval at which dispatcher, supervisor and streams check for changes, in seconds.",
    )
    default_deadline: Duration = Field(
        default=86_400, description='Deadline of a job without its own, in seconds or such as "12h" or "1d 12h".'
    )
    max_deadline: Duration = Field(
        default=7 * 86_400, description='Longest deadline of a job, in seconds or such as "7d".'
    )
    job_memory: ByteSize | None = Field(
        default=None,
        description="Memory of a job's process and its children, in bytes; default: 95 % of the machine or container.",
    )
    stall_seconds: float = Field(
        default=3600.0,
        ge=0,
        le=30 * 86_400,
        description="Time without progress after which a job's process is ended, in seconds; 0: never.",
    )
    max_attempts: int = Field(default=3, ge=1, le=1000, description="Attempts per job if its worker is lost.")
    keep_pruned: bool = Field(
        default=True, description="Keep the pruned model of a finished job for jobs that differ only in the budget."
    )
    keep_artifacts_days: DaysOfTenants = Field(
        default={},
        description=(
            'Days that files of ended jobs are kept, such as "30 research=90" for all tenants and for one; '
            "default: forever."
        ),
    )
    keep_stages_days: DaysOfTenants = Field(
        default={}, description="Days that stages of ended jobs are kept, in the same form; default: forever."
    )
    keep_events_days: DaysOfTenants = Field(
        default={}, description="Days that the history of ended jobs is kept, in the same form; default: forever."
    )
    keep_models_days: DaysOfTenants = Field(
        default={},
        description="Days that uploaded models are kept without being used, in the same form; default: forever.",
    )
    max_storage_bytes: ByteSize | None = Field(
        default=None, description="Bytes per tenant in the store; more are refused with status 403. Default: no limit."
    )
    worker_threads: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="CPU threads of a job's process; 0: every CPU that the process may use.",
    )
    share_trials: bool = Field(
        default=False,
        description="Let idle workers measure trials of a job that another worker runs, where allocate.batch is 2 or "
        "more.",
    )
    llama_cpp: Path | None = Field(
        default=None, description="Directory of llama.cpp's programs, for measuring GGUF files; default: those on PATH."
    )
    vllm_python: Path | None = Field(
        default=None,
        description="Python of an environment with vLLM, for measuring compressed-tensors checkpoints; default: the "
        "service's own, if vLLM is installed there.",
    )
    log_level: LogLevel = Field(default="INFO", description="Lowest level that is logged.")

    @field_validator("tenant_weights", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        """``tenant=weight``, separated by spaces or commas."""
        if not isinstance(value, str):
            return value
        pairs = [part.partition("=") for part in value.replace(",", " ").split()]
        if not all(name and weight for name, _, weight in pairs):
            raise ValueError('Give pairs such as "research=2 web=0.5".')
        return {name: weight for name, _, weight in pairs}

    @field_validator("webhook_networks", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [one.strip() for one in value.split(",") if one.strip()] if isinstance(value, str) else value

    @property
    def resolved_database_url(self) -> str:
        """The effective SQLAlchemy URL."""
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'qpruner.db'}"

    @property
    def resolved_store_url(self) -> str:
        """The effective store URL."""
        return self.store_url or (self.data_dir.resolve() / "store").as_uri()

    @property
    def source_policy(self) -> SourcePolicy:
        """Allowed sources of jobs."""
        return SourcePolicy(
            allowed_roots=tuple(root.absolute() for root in self.allowed_roots),
            hub_endpoint=self.hub_endpoint,
            hub_token=self.hub_token.get_secret_value() if self.hub_token else None,
            implicit_login=False,
            allow_hub=self.allow_hub,
            cache_dir=self.cache_dir,
            max_dataset_bytes=self.max_dataset_bytes,
            max_model_bytes=self.max_model_bytes,
        )


@lru_cache
def get_settings() -> Settings:
    """The process's settings, read once."""
    return Settings()
