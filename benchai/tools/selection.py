"""Which tools a run is offered."""

from __future__ import annotations

from benchai.config.models import ToolsConfig
from benchai.errors import ConfigError, did_you_mean
from benchai.tools.registry import ToolRegistry, builtin_tools

# small models choose well among few tools, and each schema costs tokens in every request
DEFAULT = ("calculator", "current_time", "list_files", "read_file")
ALL = "all"


def select_tools(section: ToolsConfig) -> ToolRegistry:
    """The tools that the configuration enables, in its order.

    Raises:
        ConfigError: it names one that is not there.
    """
    every = builtin_tools()
    enabled = section.enabled if section.enabled is not None else list(DEFAULT)
    if enabled == [ALL]:
        return every
    for name in enabled:
        if name not in every.names():
            raise ConfigError(f"tools.enabled: there is no tool {name!r}", hint=did_you_mean(name, every.names()))
    return ToolRegistry(every.get(name) for name in enabled)
