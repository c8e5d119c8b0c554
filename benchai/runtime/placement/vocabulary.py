"""Whether a draft model has the vocabulary of the model that it drafts for.

The engine hands the ids of one model's tokens to the other, so both have to mean the same by them. What it asks is in
llama.cpp b11434, ``common/speculative.cpp``, ``common_speculative_are_compatible``; a draft that fails there is left
out without an error, and the model runs on alone. What a file leaves unsaid is as in ``src/llama-vocab.cpp``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from benchai.errors import ModelFileError
from benchai.runtime.placement.gguf_header import Strings, read_header

MOST_APART = 128
"""So many tokens one vocabulary may have more than the other (SPEC_VOCAB_MAX_SIZE_DIFFERENCE)."""
FIRST_COMPARED = 5
"""The tokens before this id may differ (SPEC_VOCAB_CHECK_START_TOKEN_ID)."""
SHOWN = 40
HINT = "use a smaller model of the same family as draft.file, or remove draft:"
_LENGTH = struct.Struct("<Q")
_PREFIX = "tokenizer.ggml."
_TOKENS = f"{_PREFIX}tokens"
# tokenizer: ids of the first and the last token of a text, whether they are added, unless the file says otherwise
_DEFAULTS = {
    "llama": (1, 2, True, False),
    "bert": (101, -1, True, False),
    "gpt2": (11, 11, False, False),
    "t5": (-1, 1, False, True),
    "plamo2": (1, 2, False, False),
    "gemma4": (-1, -1, True, False),
}
# names of one and the same way to cut a text
_FAMILIES = (
    "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
    "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert exaone4 "
    "jina-v1-en jina-v2-code roberta-bpe",
    "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez",
    "gpt-4o llama4 kanana2 talkie",
    "glm4 glm5 chatglm-bpe",
    "bailingmoe bailingmoe2 llada-moe",
    "tiny_aya cohere2moe",
)
_FAMILY = {name: family.split()[0] for family in _FAMILIES for name in family.split()}
_ADD_FIRST = {"llama-bpe", "tekken", "chameleon"}


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary of a GGUF.

    ``tokenizer`` is its kind ("gpt2", "llama"), ``pre`` how it cuts a text into words, "" where the file is silent.
    ``first`` and ``last`` are the ids that are put around a text, None where none is.
    """

    path: Path
    tokenizer: str
    pre: str
    first: int | None
    last: int | None
    tokens: Strings = field(repr=False)


def read_vocabulary(path: Path) -> Vocabulary:
    """Read the vocabulary of a GGUF: 0.1 s for 150 000 tokens.

    Raises:
        ModelFileError: the file is missing, no GGUF, truncated, or holds no vocabulary.
    """
    facts = read_header(path, (_TOKENS,)).facts
    tokens, tokenizer = facts.get(_TOKENS), facts.get(f"{_PREFIX}model")
    if not isinstance(tokens, Strings) or not isinstance(tokenizer, str) or not tokens.count:
        hint = "name a GGUF that holds a whole language model"
        raise ModelFileError(f"model: {str(path)!r} holds no vocabulary", hint=hint)
    pre = facts.get(f"{_PREFIX}pre", "")
    first, last = _ends(tokenizer, _FAMILY.get(pre, pre), facts)
    return Vocabulary(path, tokenizer, pre, first, last, tokens)


def _ends(tokenizer: str, family: str, facts: dict[str, Any]) -> tuple[int | None, int | None]:
    first, last, add_first, add_last = _DEFAULTS.get(tokenizer, (-1, -1, False, False))
    add_first = facts.get(f"{_PREFIX}add_bos_token", add_first or family in _ADD_FIRST)
    add_last = facts.get(f"{_PREFIX}add_eos_token", add_last)
    return (
        facts.get(f"{_PREFIX}bos_token_id", first) if add_first else None,
        facts.get(f"{_PREFIX}eos_token_id", last) if add_last else None,
    )


def difference(model: Vocabulary, draft: Vocabulary) -> str | None:
    """What makes a draft useless for a model, in words; None if nothing does.

    Beyond what the engine asks, both have to cut a text in the same way: a draft that was trained on other cuts
    guesses badly.
    """
    if model.tokenizer != draft.tokenizer:
        return f"the tokenizers are {model.tokenizer!r} and {draft.tokenizer!r}"
    if model.pre and draft.pre and _FAMILY.get(model.pre, model.pre) != _FAMILY.get(draft.pre, draft.pre):
        return f"the pre-tokenizers are {model.pre!r} and {draft.pre!r}"
    for what, one, other in (("first", model.first, draft.first), ("last", model.last, draft.last)):
        if one != other:
            return f"the {what} token of a text is {_id(one)} and {_id(other)}"
    if abs(model.tokens.count - draft.tokens.count) > MOST_APART:
        sizes = f"they have {model.tokens.count} and {draft.tokens.count} tokens"
        return f"{sizes}, which may be {MOST_APART} apart at most"
    return _other_token(model.tokens, draft.tokens)


def _id(token: int | None) -> str:
    return "none" if token is None else str(token)


def _other_token(model: Strings, draft: Strings) -> str | None:
    # as a rule one is the beginning of the other: no need to walk
    if model.data.startswith(draft.data) or draft.data.startswith(model.data):
        return None
    pairs = zip(_texts(model), _texts(draft), strict=False)
    for number, (one, other) in islice(enumerate(pairs), FIRST_COMPARED, None):
        if one != other:
            return f"token {number} is {_shown(one)} and {_shown(other)}"
    return None


def _texts(strings: Strings) -> Iterator[bytes]:
    at = 0
    for _ in range(strings.count):
        start = at + _LENGTH.size
        at = start + _LENGTH.unpack_from(strings.data, at)[0]
        yield strings.data[start:at]


def _shown(text: bytes) -> str:
    return repr(text.decode("utf-8", "replace")[:SHOWN])


def check_draft(model: Path, draft: Path, key: str) -> None:
    """Check that one file can draft for another.

    Args:
        model: The GGUF of the model.
        draft: The GGUF of its draft.
        key: The model's key in the configuration (``models.code``).

    Raises:
        ModelFileError: a file cannot be read, or the vocabularies differ.
    """
    try:
        small = read_vocabulary(draft)
    except ModelFileError as error:
        raise ModelFileError(f"{key}.draft.file: {error.message.removeprefix('model: ')}", hint=error.hint) from error
    other = difference(read_vocabulary(model), small)
    if other is not None:
        message = f"{key}.draft.file: {str(draft)!r} cannot draft for {str(model)!r}"
        raise ModelFileError(f"{message}, its vocabulary is another: {other}", hint=HINT)
