"""Plays the script to one server and notes what it answers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx

from scripts.agent_conformance.steps import Step

#: Seconds that a call may take, and that a state may keep us waiting.
LIMIT = 60.0
AGAIN_SECONDS = 0.05
HEADERS = ("cache-control", "content-location", "content-type", "location", "x-pagination-next", "x-pagination-total")
VARIABLE = re.compile(r"<([a-z_0-9]+)>")
#: Calls that can be under way at the same time.
AT_ONCE = 8
#: What ends a stream that was not waited for any longer.
OPEN = {"event": "(still open)"}

Answer = dict[str, Any]


class Unplayed(Exception):
    """A step could not be played as written: what it needs never came."""


class Player:
    """One server and what was kept of its answers so far.

    ``again``: how often a stream without a thread that never ends is asked for again. The reference server has such
    streams now and then.
    """

    def __init__(self, client: httpx.Client, again: int = 0) -> None:
        self._again = again
        self.kept: dict[str, str] = {}
        self._client = client
        self._under_way: dict[str, Future[Answer]] = {}

    def play(self, steps: Sequence[Step]) -> dict[str, Answer]:
        """The answers by the names of the steps; those of silent steps are left out, unless they failed."""
        answers: dict[str, Answer] = {}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for step in steps:
                answer = self._played(step, pool)
                if answer is not None and (not step.silent or "unplayed" in answer):
                    answers[step.name] = answer
        return answers

    def _played(self, step: Step, pool: ThreadPoolExecutor) -> Answer | None:
        try:
            if step.end is not None:
                answer = self._ended(step.end)
            elif step.begin is not None:
                self._under_way[step.begin] = pool.submit(self._asked, self._filled(step))
                return None
            else:
                answer = self._asked(self._filled(step))
            for name, path in step.keep.items():
                self.kept[name] = str(_at(answer, path))
        except (Unplayed, TimeoutError, httpx.HTTPError) as error:
            return {"unplayed": f"{type(error).__name__}: {error}"}
        return answer

    def _ended(self, name: str) -> Answer:
        if name not in self._under_way:
            raise Unplayed(f"{name} never began")
        return self._under_way.pop(name).result(2 * LIMIT)

    def _asked(self, step: Step) -> Answer:
        end = time.monotonic() + LIMIT
        while True:
            answer = self._once(step)
            for _ in range(self._again):
                if step.call == "POST /runs/stream" and answer.get("events", [])[-1:] == [OPEN]:
                    answer = self._once(step)
            if all(_holds(answer, path, value) for path, value in step.until.items()):
                return answer
            if time.monotonic() > end:
                raise Unplayed(f"{step.until} never came, at last {json.dumps(answer)[:500]}")
            time.sleep(AGAIN_SECONDS)

    def _once(self, step: Step) -> Answer:
        method, _, path = step.call.partition(" ")
        content = step.raw if step.raw is not None else None if step.body is None else json.dumps(step.body)
        headers = {"Content-Type": "application/json"} if content is not None else {}
        request = self._client.build_request(
            method, path, params=step.query, content=content, headers=headers | step.headers
        )
        response = self._client.send(request, stream=True)
        try:
            return _noted(response, step.events)
        finally:
            response.close()

    def _filled(self, step: Step) -> Step:
        """The step with what was kept in place of ``<names>``."""
        parts = {name: getattr(step, name) for name in ("call", "body", "raw", "query", "headers")}
        return Step(**{**vars(step), **{name: self._fill(value) for name, value in parts.items()}})

    def _fill(self, value: Any) -> Any:
        if isinstance(value, str):
            return VARIABLE.sub(self._value, value)
        if isinstance(value, dict):
            return {self._fill(key): self._fill(one) for key, one in value.items()}
        return [self._fill(one) for one in value] if isinstance(value, list) else value

    def _value(self, found: re.Match[str]) -> str:
        try:
            return self.kept[found[1]]
        except KeyError:
            raise Unplayed(f"no answer gave {found[1]}") from None


def _noted(response: httpx.Response, limit: int | None) -> Answer:
    head = {name: response.headers[name] for name in HEADERS if name in response.headers}
    answer: Answer = {"status": response.status_code, "headers": head}
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        lines = _until(time.monotonic() + LIMIT, response.iter_lines())
        return answer | {"events": list(_some(events(lines), limit))}
    text = response.read().decode()
    try:
        return answer | ({"body": json.loads(text)} if text.strip() else {})
    except ValueError:
        return answer | {"text": text}


def _until(end: float, lines: Iterable[str]) -> Iterator[str]:
    """The lines that come in time; an event tells that there might have been more."""
    for line in lines:
        yield line
        if time.monotonic() > end:
            yield from ("", f"event: {OPEN['event']}", "")
            return


def _some(found: Iterator[Answer], limit: int | None) -> Iterator[Answer]:
    for number, event in enumerate(found, 1):
        yield event
        if number == limit:
            return


def events(lines: Iterable[str]) -> Iterator[Answer]:
    """The events of a stream; comments are left out."""
    event: Answer = {}
    for line in lines:
        if not line:
            if event:
                yield event
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            event[name] = _json(value) if name == "data" else value
    if event:
        yield event


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _holds(answer: Answer, path: str, wanted: Any) -> bool:
    try:
        found = _at(answer, path)
    except Unplayed:
        return False
    return found in wanted if isinstance(wanted, list) else bool(found == wanted)


def _at(answer: Answer, path: str) -> Any:
    found: Any = answer
    for part in path.split("."):
        try:
            found = found[int(part)] if isinstance(found, list) else found[part]
        except (KeyError, IndexError, ValueError, TypeError):
            shown = json.dumps(answer)[:500]
            raise Unplayed(f"the answer has no {path!r}: {shown}") from None
    return found
