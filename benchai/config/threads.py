"""The section ``threads:`` of benchai.yaml: where conversations are kept."""

from __future__ import annotations

import os
import re
from typing import Literal

from pydantic import Field, model_validator

from benchai.config.section import Section, VariableName
from benchai.errors import ConfigError

# no password has a place in it: not before the @, not among the settings
_HOST = r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s:@/?#,\[\]]*)(?::\d{1,5})?"
_URL = re.compile(rf"postgres(?:ql)?://(?:[^\s:@/?#]+@)?{_HOST}(?:,{_HOST})*(?:/[^\s@?#/]*)?(?:\?[^\s@?#]*)?")
_SECRET = re.compile(r"pass(?!file)|secret|%", re.IGNORECASE)


class ThreadsConfig(Section):
    """Where conversations are kept: a SQLite file of the user, or a PostgreSQL database."""

    url: str | None = Field(
        None, description="PostgreSQL database, postgresql://USER@HOST:PORT/NAME, without a password; default: SQLite"
    )
    password_env: VariableName | None = Field(
        None, description="Environment variable that holds the password of url; default: PGPASSWORD, then ~/.pgpass"
    )
    durable: Literal["normal", "full"] = Field(
        "normal", description="full: each step waits for the disk; normal: a power loss may cost the last steps"
    )

    @model_validator(mode="after")
    def _is_a_database(self) -> ThreadsConfig:
        # the value is not told: it may hold a password
        if self.url is None and self.password_env is not None:
            raise ValueError("password_env goes with url")
        if self.url is not None and not _URL.fullmatch(self.url):
            raise ValueError(
                "url is expected as postgresql://USER@HOST:PORT/NAME, without a password: password_env names the "
                "environment variable that holds it"
            )
        if self.url is not None and any(_SECRET.search(key) for key in _settings(self.url)):
            raise ValueError("url holds a password among its settings: password_env names the variable that holds it")
        return self

    def password(self) -> str | None:
        """The password of ``url``; None leaves it to PostgreSQL's own ways.

        Raises:
            ConfigError: the environment variable that should hold it is not set.
        """
        if self.password_env is None:
            return None
        password = os.environ.get(self.password_env, "")
        if not password or "\0" in password:
            raise ConfigError(
                f"threads.password_env: the environment variable {self.password_env!r} is not set",
                hint=f"export {self.password_env}=...",
            )
        return password


def _settings(url: str) -> list[str]:
    """The names of the settings that a URL carries."""
    return [part.partition("=")[0] for part in url.partition("?")[2].split("&")]
