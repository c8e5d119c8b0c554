"""What quantising costs in quality: both files on one text, each on an engine of its own."""

from __future__ import annotations

from dataclasses import dataclass

from benchai.config import LoadedConfig, ModelConfig
from benchai.runtime.measure.perplexity import SPARE, WINDOW, Change, Perplexity, Told, perplexity
from benchai.runtime.measure.rig import started, with_model
from benchai.runtime.placement.model_info import ModelInfo

MOST_SLOTS = 4
# Up to how many % of perplexity a loss has which name. For Llama 3 8B llama.cpp's table of types (tools/quantize,
# b11434) has +0.04 % at Q8_0, +0.9 % at Q5_K_M, +2.8 % at Q4_K_M, +10.5 % at Q3_K_M, +56 % at Q2_K.
_LOSSES = ((1.0, "hardly any loss"), (4.0, "a small loss"), (12.0, "a clear loss"))
_HEAVY = "a heavy loss"
# an interval that is wider than so many % tells little
_WIDE = 4.0


@dataclass(frozen=True)
class Measured:
    """The perplexity of a file, and the engine that told it."""

    perplexity: Perplexity
    engine: str


def predicts(info: ModelInfo) -> bool:
    """Whether a model predicts text; encoders and projectors do not, and have no perplexity."""
    return not info.projector and (any(info.kv_heads) or info.recurrent)


async def measure(
    loaded: LoadedConfig,
    name: str,
    info: ModelInfo,
    text: str,
    tokens: int,
    settings: ModelConfig | None = None,
    told: Told = lambda done, total: None,
) -> Measured:
    """Start an engine on a file, measure, and end it.

    Args:
        loaded: Says which engine, and how much memory there is.
        name: What messages and the log call the model.
        info: The file.
        text: What it is to predict.
        tokens: How many tokens are to count.
        settings: Launch settings (threads, GPU layers, ...); context and slots are the measurement's own.
        told: Called with the tokens that are done, and all of them.

    Raises:
        DoesNotFit: no place has the memory that it needs.
        EngineError: the engine does not start.
        UsageError: the text is too short.
        EndpointError: the engine failed, or tells no probabilities.
    """
    launched = launch_settings(info, tokens, settings)
    async with started(with_model(loaded, name, launched), name) as rig:
        window = _window(info)
        found = await perplexity(rig.ready.root, text, tokens, window=window, told=told)
        return Measured(found, rig.engine_version)


def launch_settings(info: ModelInfo, tokens: int, settings: ModelConfig | None = None) -> ModelConfig:
    """The settings of an engine that measures: a slot for each window, and nothing that stands beside the model."""
    window = _window(info)
    slots = max(min(-(-tokens // max(window // 2 - 1, 1)), MOST_SLOTS), 1)
    own: dict[str, object] = {"file": str(info.path), "hf": None, "context": slots * (window + SPARE), "slots": slots}
    beside: dict[str, object] = {
        "draft": None,
        "ngram": False,
        "mmproj": None,
        "lora": [],
        "embedding": False,
        "rerank": False,
    }
    base = settings or ModelConfig(file=str(info.path))
    return base.model_copy(update=own | beside)


def _window(info: ModelInfo) -> int:
    return min(WINDOW, info.context_length or WINDOW)


def verdict(type_: str, saved: float, loss: Change | None) -> str:
    """One sentence on a quantised file.

    Args:
        type_: Its type.
        saved: By how many % it is smaller than the source.
        loss: How the perplexity changed, where that was measured.
    """
    size = f"{type_} is {abs(saved):.0f} % {'smaller' if saved >= 0 else 'larger'}"
    if loss is None:
        return f"{size}; what it loses was not measured"
    low, high = 100 * (loss.low - 1), 100 * (loss.high - 1)
    interval = f"({low:+.2f} % to {high:+.2f} %)"
    if high < 0:
        return f"{size}, and no loss: the perplexity changes by {loss.percent:+.2f} % {interval}"
    if low <= 0:
        more = "; more text (--text, --tokens) would tell more" if high - low > _WIDE else ""
        return f"{size}, and no loss can be told from chance: perplexity {loss.percent:+.2f} % {interval}{more}"
    words = next((words for most, words in _LOSSES if loss.percent <= most), _HEAVY)
    return f"{size}, at {words}: perplexity {loss.percent:+.2f} % {interval}"
