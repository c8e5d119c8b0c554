"""One request's story: what was asked, who answered and why, what it took. Headers, fields and usage rows tell it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from benchai.runtime.endpoints import Endpoint
from benchai.runtime.router.cache.identity import Identity
from benchai.runtime.router.route import Route
from benchai.runtime.usage.row import CacheState
from benchai.server.openai.exchange import Headers
from benchai.server.openai.forward import Measured
from benchai.server.openai.names import Target

if TYPE_CHECKING:
    from benchai.runtime.router.cache.similar import SimilarHit

#: A request's own field for us; engines never see it.
OURS = "benchai"
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict")
#: Tokens of a reply that goes on to the end of its context.
NO_LIMIT = 2**31
#: Where a path's conversation stands.
CONVERSATIONS = {"/chat/completions": "messages", "/responses": "input", "/completions": "prompt"}
#: Paths whose whole replies engines are asked for as streams, with the field that tells the tokens.
ASSEMBLED: dict[str, dict[str, Any]] = {
    "/chat/completions": {"stream_options": {"include_usage": True}},
    "/completions": {"stream_options": {"include_usage": True}},
    "/responses": {},
}
#: What the client is told: as a field of the reply, and as headers of the response.
FIELD = b'"%s":%%s' % OURS.encode()
TOLD = ("id", "role", "model", "score", "reason", "cache", "queue_ms", "swap_ms", "session")
HEADERS = {name: b"x-benchai-" + name.replace("_", "-").encode() for name in TOLD}
LIMIT_NAME = {"/chat/completions": "max_completion_tokens", "/completions": "max_tokens", "/responses": LIMITS[2]}


@dataclass
class Job:
    """A request of the OpenAI wire.

    Attributes:
        id: The request's id, which no other request has.
        path: Below /v1.
        data: The body.
        key: The name of the API key, "" without one.
        target: Who may answer.
        route: What the router found; None where the request named a model.
        reason: Why it is this one.
        session: The conversation's id.
        endpoint: Who answered.
        cache: none, exact, similar or shared.
        cache_key, identity: Under which the reply may be kept; None where it may not.
        shadow: A similar request's reply, to be compared with this one's.
        size: Bytes of the body.
        images: Pictures in the conversation.
        reply: What was answered, where that is at hand as a whole.
        request_id: The id that its client gave it, or ``id``.
        brief: Whether its reply is so short that its engine was asked for it as a whole.
        queue, swap: Seconds that it waited for a place, and for a model to be ready.
    """

    id: str
    path: str
    data: dict[str, Any]
    key: str = ""
    target: Target = field(default_factory=Target)
    route: Route | None = None
    reason: str = "the request names it"
    session: str = ""
    endpoint: Endpoint | None = None
    cache: CacheState = "none"
    cache_key: bytes | None = None
    identity: Identity | None = None
    shadow: SimilarHit | None = None
    queue: float = 0.0
    swap: float = 0.0
    measured: Measured = field(default_factory=Measured)
    began: float = field(default_factory=time.time)
    size: int = 0
    images: int = 0
    reply: bytes | None = None
    request_id: str = ""
    brief: bool = False
    outcome: str = "ok"
    status: int = 200

    @property
    def stream(self) -> bool:
        """Whether the client reads a stream of events."""
        return self.data.get("stream") is True

    @property
    def model(self) -> str:
        """The model that answered, or whose earlier reply is given again; "" before."""
        kept = self.target.models[0] if self.cache in ("exact", "similar") else ""
        return self.endpoint.model if self.endpoint else kept

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        """The conversation; [] where the path has none. A prompt, and the input of a response, are a user's turn."""
        name = CONVERSATIONS.get(self.path)
        found = self.data.get(name) if name else None
        return [{"role": "user", "content": found}] if isinstance(found, str) else found or []

    @property
    def assembled(self) -> bool:
        """Whether the engine is asked for a stream that the client does not see."""
        # of several replies the best can be told from the others at their end alone
        asked = self.path in ASSEMBLED and not self.stream and self.data.get("best_of") in (None, 1)
        return asked and not self.brief

    def tokens_for(self, endpoint: Endpoint) -> int:
        """Tokens that the reply has at most, all its choices together."""
        # engines differ in which of several limits they take, and a negative one is none
        named = [limit for name in LIMITS if isinstance(limit := self.data.get(name), int)]
        most = max(named, default=endpoint.max_tokens)
        return (NO_LIMIT if min(named, default=0) < 0 else most) * self.choices

    @property
    def each(self) -> int:
        """Choices of the reply for one prompt."""
        # llama-server's own name goes first
        named = [number for name in ("n_cmpl", "n") if isinstance(number := self.data.get(name), int)]
        return max([1, *named[:1]])

    @property
    def choices(self) -> int:
        """Choices of the reply, those of all its prompts."""
        prompts = self.data.get("prompt") if self.path == "/completions" else None
        if not isinstance(prompts, list) or any(isinstance(one, int) for one in prompts):
            # one prompt may be a list, too, of its tokens
            return self.each
        return self.each * max(1, len(prompts))

    def body_for(self, endpoint: Endpoint) -> bytes:
        """The body as this endpoint gets it."""
        sent = {name: value for name, value in self.data.items() if name != OURS}
        sent["model"] = endpoint.served_name
        if self.path in LIMIT_NAME and all(sent.get(name) is None for name in LIMITS):
            sent[LIMIT_NAME[self.path]] = endpoint.max_tokens
        for name in ("temperature", "top_p"):
            value = getattr(endpoint, name)
            if value is not None and self.path in LIMIT_NAME and sent.get(name) is None:
                sent[name] = value
        if self.assembled:
            sent |= {"stream": True} | ASSEMBLED[self.path]
        return orjson.dumps(sent)

    def about(self) -> dict[str, Any]:
        """What the client is told of it."""
        told: dict[str, Any] = {
            "id": self.id,
            "role": self.endpoint.role if self.endpoint else self.target.role,
            "model": self.model,
            "score": round(self.route.complexity, 3) if self.route else None,
            "reason": self.reason,
            "cache": self.cache,
            "queue_ms": round(self.queue * 1000, 2),
            "swap_ms": round(self.swap * 1000, 2),
            "session": self.session,
        }
        return {name: value for name, value in told.items() if value is not None and value != ""}

    def field(self) -> bytes:
        """``about`` as a field that can be put into a JSON object."""
        return FIELD % orjson.dumps(self.about())

    def headers(self) -> Headers:
        """``about`` as response headers."""
        return [(HEADERS[name], str(value).encode("ascii", "replace")) for name, value in self.about().items()]

    def told(self) -> tuple[bytes, Headers]:
        """``field`` and ``headers`` at once."""
        about = self.about()
        headers = [(HEADERS[name], str(value).encode("ascii", "replace")) for name, value in about.items()]
        return FIELD % orjson.dumps(about), headers
