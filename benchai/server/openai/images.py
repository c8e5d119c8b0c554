"""Pictures in requests: decoded and checked here, those of the web fetched as safely as a model's tools would.

An engine never gets an address: it would fetch whatever that names, this machine's own services included.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Any

from benchai.agents.faults import no_vision
from benchai.errors import ToolError, UsageError
from benchai.runtime.background import in_background
from benchai.runtime.endpoints import Endpoint
from benchai.server.openai.job import Job

#: A body without pictures, recordings and escaped letters holds none of these.
SIGNS = (b"image", b"file", b"audio", b"video", b"\\u00")
#: Recordings are passed on as they are, but for those that are an address.
RECORDINGS = ("input_audio", "input_video", "video_url")
KINDS = ("image_url", "input_image", "file")
MOST = 32
MAX_NAME = 60
_NO_URL = "pictures are given as data URL with base64, or as http(s) address"


def shows(body: bytes) -> bool:
    """Whether a body may hold pictures or recordings."""
    return any(sign in body for sign in SIGNS)


async def admit(job: Job) -> None:
    """Put a checked data URL in the place of each picture of a conversation.

    Raises:
        UsageError: one cannot be fetched, is none, or is too large; or there are too many.
    """
    parts = [part for message in job.messages for part in _parts(message)]
    for part in parts:
        _check_recording(part)
    found = [part for part in parts if part.get("type") in KINDS]
    if len(found) > MOST:
        raise UsageError(f"the request has {len(found)} pictures, at most {MOST} are taken")
    for part in found:
        # to the router a picture is no text
        job.size -= await _mend(part)
    job.images = len(found)


def check_sight(endpoint: Endpoint, job: Job) -> None:
    """Refuse pictures to a model that sees none; of those that the router found too old to matter a word is left.

    Raises:
        UsageError: it sees none.
    """
    if not job.images or endpoint.vision is not False:
        return
    if job.route is not None and not job.route.picture:
        from benchai.agents.images import SEEN

        for message in job.messages:
            for part in _parts(message):
                if part.get("type") in KINDS:
                    part.clear()
                    part |= {"type": "text", "text": SEEN}
    else:
        raise no_vision(endpoint, "use 'auto', or a model with mmproj")


def _parts(message: Any) -> list[dict[str, Any]]:
    # the output of a tool in /v1/responses
    lists = (message.get("content"), message.get("output")) if isinstance(message, dict) else ()
    return [part for parts in lists if isinstance(parts, list) for part in parts if isinstance(part, dict)]


def _check_recording(part: dict[str, Any]) -> None:
    given = part.get(part["type"]) if part.get("type") in RECORDINGS else None
    for url in given.values() if isinstance(given, dict) else ():
        if isinstance(url, str) and ":" in url[:MAX_NAME] and not url.startswith("data:"):
            raise UsageError(f"the recording {url[:MAX_NAME]!r} is an address", hint="send its data as base64")


async def _mend(part: dict[str, Any]) -> int:
    """Change one part: its picture as a data URL of our own making, in the form that engines know.

    Returns the characters that were given for it.
    """
    if part["type"] == "file":
        given = part.get("file")
        url = given.get("file_data") if isinstance(given, dict) else None
    else:
        given = part.get("image_url")
        url = given.get("url") if isinstance(given, dict) else given
    if not isinstance(url, str):
        raise UsageError(f"a part of the type {part['type']!r} has no picture", hint=_NO_URL)
    checked = await _picture(url)
    of_responses = part["type"] == "input_image"
    part.clear()
    part |= (
        {"type": "input_image", "image_url": checked}
        if of_responses
        else {"type": "image_url", "image_url": {"url": checked}}
    )
    return len(url)


async def _picture(url: str) -> str:
    # both load libraries that most servers never need: not at their start
    from benchai.agents.images import MAX_BYTES, data_url
    from benchai.tools.net import Access
    from benchai.tools.web import Kind, fetch

    name = repr(url if len(url) <= MAX_NAME else f"{url[:MAX_NAME]}...")
    if url.startswith("data:"):
        head, comma, data = url.partition(",")
        if not comma or not head.endswith(";base64"):
            raise UsageError(f"the picture {name} cannot be read", hint=_NO_URL)
        return await in_background(_from_base64, data, name)
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"the picture {name} cannot be read", hint=_NO_URL)
    try:
        pictures = Kind(lambda kind: kind.startswith("image/"), "a picture is needed here")
        body = await fetch(url, Access(size=MAX_BYTES), pictures)
    except ToolError as error:
        raise UsageError(f"the picture {name} cannot be fetched: {error.message}") from error
    return await in_background(data_url, body.data, name)


def _from_base64(data: str, name: str) -> str:
    from benchai.agents.images import data_url

    try:
        return data_url(b64decode(data, validate=True), name)
    except binascii.Error as error:
        raise UsageError(f"the picture {name} is no base64: {error}") from error
