"""Bodies of requests about API keys, and of their responses."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.database import utc_now
from app.keys.models import ApiKey
from app.keys.scopes import SCOPES, Scope

KeyState = Literal["usable", "expired", "revoked"]


class KeyRequest(BaseModel):
    """A key to create for your own tenant."""

    model_config = ConfigDict(
        extra="forbid", frozen=True,
        json_schema_extra={"examples": [{"name": "nightly tool", "scopes": ["submit"], "days": 90}]},
    )  # fmt: skip
    name: str = Field(min_length=1, max_length=255, description="Name of the user or program that will use it.")
    scopes: Annotated[
        list[Scope],
        Field(
            min_length=1, max_length=len(SCOPES),
            description="Scopes: `read`; `submit`, which includes it; `metrics`; `admin`, which includes all.",
        ),
    ] = ["submit"]  # fmt: skip
    days: int | None = Field(default=None, ge=1, le=36_500, description="Days until it expires; null: never.")


class KeyView(BaseModel):
    """A key without its text, which is never stored."""

    id: str = Field(description="Id of the key.", examples=["key_01k9t4ae5xfz3v2s6q0m8y1d7c"])
    name: str = Field(description="Name of the user or program that uses it.", examples=["nightly tool"])
    prefix: str = Field(description="Start of its text, after `qp_`.", examples=["x4T9aB2c"])
    scopes: list[str] = Field(description="Scopes.", examples=[["submit"]])
    state: KeyState = Field(description="Whether it is usable.", examples=["usable"])
    created_at: datetime = Field(description="Creation time.")
    expires_at: datetime | None = Field(description="Expiry; null: never.")
    revoked_at: datetime | None = Field(description="Time of revocation; null if it was not revoked.")

    @classmethod
    def of(cls, row: ApiKey) -> KeyView:
        """The view of ``row``."""
        return cls(**cls.values(row))

    @staticmethod
    def values(row: ApiKey) -> dict[str, object]:
        """The fields of the view of ``row``."""
        state: KeyState = "revoked" if row.revoked_at else "usable"
        if state == "usable" and row.expires_at is not None and row.expires_at <= utc_now():
            state = "expired"
        names = ("id", "name", "prefix", "scopes", "created_at", "expires_at", "revoked_at")
        return {name: getattr(row, name) for name in names} | {"state": state}


class NewKeyView(KeyView):
    """A new key."""

    key: str = Field(
        description="Its text, which is only shown once.",
        examples=["qp_x4T9aB2c_0123456789abcdefghijklmnopqrstuv1a2b3c"],
    )


class KeyList(BaseModel):
    """The keys of a tenant."""

    keys: list[KeyView] = Field(description="Newest first, including revoked and expired ones.")
