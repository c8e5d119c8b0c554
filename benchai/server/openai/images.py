"""Pictures in requests: decoded and checked here, those of the web fetched as safely as a model's tools would.

An engine never gets an address: it would fetch whatever that names, this machine's own services included.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Any

from benchai.agents.images import MAX_BYTES, SEEN, data_url
from benchai.errors import ToolError, UsageError
from benchai.runtime.background import in_background
from benchai.runtime.endpoints import Endpoint
from benchai.server.openai.job import Job
from benchai.tools.net import Access
from benchai.tools.web import Kind, fetch

#: What a body without pictures does not hold.
SIGN = b"image"
PICTURES = Kind(lambda kind: kind.startswith("image/"), "a picture is needed here")
ACCESS = Access(size=MAX_BYTES)
KINDS = ("image_url", "input_image", "file")
MOST = 32
MAX_NAME = 60
_NO_URL = "pictures are given as data URL with base64, or as http(s) address"


async def admit(job: Job, access: Access = ACCESS) -> None:
    """Put a checked data URL in the place of each picture of a conversation.

    Raises:
        UsageError: one cannot be fetched, is none, or is too large; or there are too many.
    """
    found = [part for message in job.messages for part in _parts(message) if part.get("type") in KINDS]
    if len(found) > MOST:
        raise UsageError(f"the request has {len(found)} pictures, at most {MOST} are taken")
    for part in found:
        await _mend(part, access)
    job.images = len(found)


def check_sight(endpoint: Endpoint, job: Job) -> None:
    """Refuse pictures to a model that sees none; of those that the router found too old to matter a word is left.

    Raises:
        UsageError: it sees none.
    """
    if not job.images or endpoint.vision is not False:
        return
    if job.route is not None and not job.route.picture:
        for message in job.messages:
            for part in _parts(message):
                if part.get("type") in KINDS:
                    part.clear()
                    part |= {"type": "text", "text": SEEN}
    else:
        hint = "use 'auto', or a model with mmproj"
        raise UsageError(f"the model {endpoint.model!r} of the role {endpoint.role!r} sees no images", hint=hint)


def _parts(message: Any) -> list[dict[str, Any]]:
    content = message.get("content") if isinstance(message, dict) else None
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


async def _mend(part: dict[str, Any], access: Access) -> None:
    """Change one part: its picture as a data URL of our own making, in the form that engines know."""
    if part["type"] == "file":
        given = part.get("file")
        url = given.get("file_data") if isinstance(given, dict) else None
    else:
        given = part.get("image_url")
        url = given.get("url") if isinstance(given, dict) else given
    if not isinstance(url, str):
        raise UsageError(f"a part of the type {part['type']!r} has no picture", hint=_NO_URL)
    checked = await _picture(url, access)
    of_responses = part["type"] == "input_image"
    part.clear()
    part |= (
        {"type": "input_image", "image_url": checked}
        if of_responses
        else {"type": "image_url", "image_url": {"url": checked}}
    )


async def _picture(url: str, access: Access) -> str:
    name = repr(url if len(url) <= MAX_NAME else f"{url[:MAX_NAME]}...")
    if url.startswith("data:"):
        head, comma, data = url.partition(",")
        if not comma or not head.endswith(";base64"):
            raise UsageError(f"the picture {name} cannot be read", hint=_NO_URL)
        return await in_background(_from_base64, data, name)
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"the picture {name} cannot be read", hint=_NO_URL)
    try:
        body = await fetch(url, access, PICTURES)
    except ToolError as error:
        raise UsageError(f"the picture {name} cannot be fetched: {error.message}") from error
    return await in_background(data_url, body.data, name)


def _from_base64(data: str, name: str) -> str:
    try:
        return data_url(b64decode(data, validate=True), name)
    except binascii.Error as error:
        raise UsageError(f"the picture {name} is no base64: {error}") from error
