"""What an MCP server answers to a call, as text for a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchai.errors import ToolError
from benchai.tools.json_shown import plain_text

if TYPE_CHECKING:
    from mcp_types import BlobResourceContents, CallToolResult, ContentBlock, TextResourceContents

__all__ = ["MAX_TEXT", "result_text"]

MAX_TEXT = 1024**2  # bytes
MAX_PARTS = 1000


def result_text(result: CallToolResult, source: str) -> str:
    """Return the text of a result, at most 1 MiB; pictures, sounds and resources are named, not shown.

    Raises ToolError with that text when the server says that the call failed; `source` names the tool for it.
    """
    text = _bounded(_joined(result.content, result.structured_content))
    if result.is_error:
        raise ToolError(text or f"{source} reported an error without a word about it")
    return text or "(no output)"


def _joined(content: Sequence[ContentBlock], structured: Any) -> str:
    lines: list[str] = []
    left = MAX_TEXT
    for part in content[:MAX_PARTS]:
        if left < 0:
            break
        lines.append(_line(part))
        left -= len(lines[-1])
    if structured is not None and not any(part.type == "text" and part.text for part in content):
        lines.append(json.dumps(structured, ensure_ascii=False, default=str))
    if len(content) > MAX_PARTS:
        lines.append(f"[{len(content) - MAX_PARTS} more parts]")
    return "\n".join(line for line in lines if line)


def _line(part: ContentBlock) -> str:
    if part.type == "text":
        # One character more than fits shows that something was cut
        return part.text[: MAX_TEXT + 1]
    if part.type == "resource_link":
        size = "" if part.size is None else f", {part.size} bytes"
        return f"[resource {_short(str(part.uri))}, {_short(part.mime_type)}{size}]"
    if part.type == "resource":
        return _resource(part.resource)
    return f"[{part.type}, {_short(part.mime_type)}, {_decoded_size(part.data)} bytes]"


def _resource(resource: TextResourceContents | BlobResourceContents) -> str:
    text = getattr(resource, "text", None)
    size = len(text.encode()) if text is not None else _decoded_size(getattr(resource, "blob", ""))
    return f"[resource {_short(str(resource.uri))}, {_short(resource.mime_type)}, {size} bytes]"


def _decoded_size(base64: str) -> int:
    return len(base64.rstrip("=")) * 3 // 4


def _short(text: str | None) -> str:
    return plain_text(text, 200) if text else "unknown type"


def _bounded(text: str) -> str:
    raw = text.encode(errors="replace")
    if len(raw) <= MAX_TEXT:
        return text
    return f"{raw[:MAX_TEXT].decode(errors='ignore')}\n[cut after {MAX_TEXT} bytes]"
