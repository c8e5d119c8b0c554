"""The section ``usage:`` of benchai.yaml: what is kept of each request."""

from __future__ import annotations

from pydantic import Field

from benchai.config.section import Count, Section


class UsageConfig(Section):
    """The rows of requests that ``benchai stats`` reads."""

    enabled: bool = Field(True, description="Keep one row for each request: times, tokens, model, outcome")
    contents: bool = Field(False, description="Keep what was asked and answered, too; readable for this user alone")
    retention: Count = Field(90, description="Days after which rows are deleted")
