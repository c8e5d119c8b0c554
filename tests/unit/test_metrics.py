"""What /metrics tells of requests."""

from __future__ import annotations

from typing import Any

from benchai.server.metrics import Metrics
from benchai.server.openai.job import Job
from benchai.server.openai.names import Target


class NoModels:
    """A fleet without any."""

    members: dict[str, Any] = {}  # noqa: RUF012 - stays empty


def job(total: float, **fields: Any) -> Job:
    made = Job("a", "/chat/completions", {}, target=Target("general", ("tiny",)))
    made.measured.total = total
    for name, value in fields.items():
        setattr(made.measured, name, value)
    return made


def test_times_are_counted_below_their_bounds() -> None:
    metrics = Metrics(NoModels())  # type: ignore[arg-type]
    for one in (job(0.01), job(0.02, prompt_tokens=3), job(400.0, prompt_tokens=4)):
        metrics.take(one)
    told = metrics.text().decode()
    for line in (
        'benchai_requests_total{model="",outcome="ok",path="/chat/completions",role="general"} 3.0',
        'benchai_tokens_total{kind="prompt",model=""} 7.0',
        'benchai_cache_total{state="none"} 3.0',
        'benchai_request_seconds_bucket{le="0.01",role="general"} 1.0',
        'benchai_request_seconds_bucket{le="0.05",role="general"} 2.0',
        'benchai_request_seconds_bucket{le="300.0",role="general"} 2.0',
        'benchai_request_seconds_bucket{le="+Inf",role="general"} 3.0',
        'benchai_request_seconds_count{role="general"} 3.0',
        'benchai_request_seconds_sum{role="general"} 400.03',
    ):
        assert line in told.splitlines()
    assert "benchai_swap_seconds_bucket" not in told
