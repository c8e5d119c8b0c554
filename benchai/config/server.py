"""The section ``server:`` of benchai.yaml: who may ask `benchai serve`, from where, and how much."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from benchai.config.section import Count, Natural, Seconds, Section

KEY_NAME = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"
KeyName = Annotated[str, Field(pattern=KEY_NAME)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
HostName = Annotated[str, Field(pattern=r"^(\*|\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)$")]
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\sA-Z]+")


class KeyConfig(Section):
    """One API key. The key itself stands nowhere: `benchai keys new` shows it once."""

    name: KeyName = Field(description="Who uses it; stands in the access log and the usage rows")
    sha256: Digest = Field(description="SHA-256 of the key, 64 hexadecimal digits")
    requests_per_minute: Count | None = Field(None, description="Requests a minute, as many at once; default: any")
    concurrent: Count | None = Field(None, description="Requests at a time; default: any")


class CorsConfig(Section):
    """Web pages of other origins that may ask from a browser; none by default."""

    origins: list[str] = Field(
        default_factory=list, description='Origins, as in https://chat.example.org; "*" stands for all'
    )
    credentials: bool = Field(False, description="Whether browsers may send cookies and stored credentials")
    max_age: Natural = Field(600, description="Seconds for which a browser need not ask again")

    @field_validator("origins")
    @classmethod
    def _are_origins(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin: scheme://host[:port] in small letters, without a path")
        return origins

    @model_validator(mode="after")
    def _names_whom_it_trusts(self) -> CorsConfig:
        if self.credentials and "*" in self.origins:
            raise ValueError('credentials: true contradicts origins: ["*"]; name the origins')
        return self


class ServerConfig(Section):
    """What stands before every request of `benchai serve`."""

    keys: list[KeyConfig] = Field(
        default_factory=list, description="API keys; needed where the server can be reached from other machines"
    )
    hosts: list[HostName] = Field(
        default_factory=list,
        description='Names, without a port, that requests may ask for beside this machine\'s; "*" any',
    )
    cors: CorsConfig = Field(default_factory=CorsConfig)
    max_body: Count = Field(32 * 2**20, description="Bytes of a request's body")
    max_headers: Count = Field(100, description="Headers of a request")
    max_header_bytes: Count = Field(32 * 2**10, description="Bytes of a request's line and headers")
    max_connections: Count = Field(500, description="Connections at a time")
    header_timeout: Seconds = Field(10, description="From a request's first byte to the end of its headers")
    body_timeout: Seconds = Field(30, description="Between two pieces of a request's body")
    send_timeout: Seconds = Field(60, description="A client that takes nothing of its response for so long is left")
    keep_alive: Seconds = Field(75, description="A connection without a request is closed after so long")
    access_log: bool = Field(False, description="A line for each request on stderr, without contents")

    @model_validator(mode="after")
    def _keys_differ(self) -> ServerConfig:
        for what in ("name", "sha256"):
            values = [getattr(key, what) for key in self.keys]
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise ValueError(f"two keys have the {what} {twice!r}")
        return self
