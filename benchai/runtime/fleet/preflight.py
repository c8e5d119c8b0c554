"""Before a model is placed and started: where its file is, and what would make the engine fail."""

from __future__ import annotations

from pathlib import Path

from benchai.config import LoadedConfig, ModelConfig
from benchai.config.load import require_file
from benchai.errors import EngineError, EngineStartError
from benchai.events import Emit, Notice
from benchai.runtime.background import in_background
from benchai.runtime.engine.discover import Engine, flag_hint
from benchai.runtime.engine.gguf_file import check_gguf
from benchai.runtime.placement.plan import ModelPlan
from benchai.runtime.placement.vocabulary import check_draft


async def find_file(loaded: LoadedConfig, name: str, emit: Emit) -> Path:
    """The GGUF of a model; one on the hub is downloaded first.

    Raises:
        BenchAIError: it cannot be downloaded.
    """
    hub = loaded.config.models[name].hf
    if hub is not None:
        from benchai.config.hub import cached_file, download

        cached = await in_background(cached_file, hub)
        if cached is not None:
            return cached
        emit(Notice(text=f"fetching {hub} from Hugging Face"))
        return await in_background(download, hub)
    file = loaded.model_file(name)
    assert file is not None
    return file


def check(plan: ModelPlan, engine: Engine, model: ModelConfig) -> None:
    """Find what would make the engine fail before it is started; makes the folder for saved KV caches.

    Raises:
        ModelFileError: a file that it needs is missing or cannot be read, its own is no GGUF, or its draft model has
            another vocabulary.
        EngineError: the engine does not know a flag, or the folder cannot be made.
    """
    check_gguf(Path(str(plan.file)), f"models.{plan.model}")
    for path in plan.missing:
        require_file(Path(path), f"models.{plan.model}")
    if plan.draft is not None:
        check_draft(Path(str(plan.file)), Path(plan.draft), f"models.{plan.model}")
    for flag in engine.lacks(plan.argv):
        message = f"model {plan.model!r}: {engine.version()} does not know the flag {flag!r}"
        raise EngineStartError(message, hint=flag_hint(flag, model))
    try:
        Path(str(plan.slot_dir)).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"model {plan.model!r}: cannot make {plan.slot_dir!r} for saved KV caches: {error.strerror}"
        hint = f"set models.{plan.model}.slot_save_path to a folder of yours"
        raise EngineError(message, hint=hint) from error
