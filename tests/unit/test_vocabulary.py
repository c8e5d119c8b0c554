"""Whether a draft model has the vocabulary of the model that it drafts for."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from benchai.config import load_config
from benchai.config.models import TINY_DRAFT
from benchai.errors import ModelFileError
from benchai.runtime.placement.gguf_header import Strings
from benchai.runtime.placement.model_info import read_model_info
from benchai.runtime.placement.vocabulary import (
    FIRST_COMPARED,
    MOST_APART,
    Vocabulary,
    check_draft,
    difference,
    read_vocabulary,
)
from tests.conftest import TINY
from tests.drafts import DRAFT, altered_draft

WORDS = [f"word{number}" for number in range(300)]


def vocabulary(words: list[str] = WORDS, **facts: Any) -> Vocabulary:
    data = b"".join(len(text.encode()).to_bytes(8, "little") + text.encode() for text in words)
    base: dict[str, Any] = {"tokenizer": "gpt2", "pre": "qwen2", "first": None, "last": None}
    return Vocabulary(Path("m.gguf"), tokens=Strings(len(words), data), **base | facts)


def changed(place: int, text: str = "other") -> list[str]:
    return [*WORDS[:place], text, *WORDS[place + 1 :]]


def test_the_bundled_draft_fits_the_bundled_model() -> None:
    check_draft(TINY, DRAFT, "models.tiny")
    assert load_config().resolve(TINY_DRAFT) == DRAFT
    assert read_model_info(DRAFT).parameters * 5 < read_model_info(TINY).parameters


def test_what_is_read(tmp_path: Path) -> None:
    found = read_vocabulary(TINY)
    assert (found.tokenizer, found.pre, found.first, found.last) == ("gpt2", "qwen2", None, None)
    assert found.tokens.count == read_model_info(TINY).vocabulary
    ended = read_vocabulary(altered_draft(tmp_path / "a.gguf", add_bos_token=True, add_eos_token=True))
    assert (ended.first, ended.last) == (0, 2)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # what a file leaves unsaid: src/llama-vocab.cpp
        ({"model": "llama", "add_bos_token": None}, (0, None)),
        ({"model": "llama", "add_bos_token": None, "bos_token_id": None}, (1, None)),
        ({"model": "t5", "add_bos_token": None, "eos_token_id": None}, (None, 1)),
        ({"pre": "llama-v3", "add_bos_token": None, "bos_token_id": None}, (11, None)),
        ({"pre": "tekken", "add_bos_token": None}, (0, None)),
        ({"add_bos_token": None}, (None, None)),
    ],
)
def test_which_tokens_are_put_around_a_text(
    tmp_path: Path, changes: dict[str, Any], expected: tuple[int | None, int | None]
) -> None:
    found = read_vocabulary(altered_draft(tmp_path / "a.gguf", **changes))
    assert (found.first, found.last) == expected


@pytest.mark.parametrize(
    "draft",
    [
        vocabulary(),
        vocabulary(WORDS + [f"more{number}" for number in range(MOST_APART)]),
        vocabulary(WORDS[:-MOST_APART]),
        vocabulary(changed(FIRST_COMPARED - 1)),
        vocabulary(pre=""),
        vocabulary(pre="deepseek-r1-qwen"),
    ],
    ids=["the same", "some more", "some less", "one of the first", "pre unsaid", "pre of the same kind"],
)
def test_what_may_differ(draft: Vocabulary) -> None:
    assert difference(vocabulary(), draft) is None
    assert difference(draft, vocabulary()) is None


@pytest.mark.parametrize(
    ("draft", "expected"),
    [
        (vocabulary(tokenizer="llama"), "the tokenizers are 'gpt2' and 'llama'"),
        (vocabulary(pre="llama-bpe"), "the pre-tokenizers are 'qwen2' and 'llama-bpe'"),
        (vocabulary(first=7), "the first token of a text is none and 7"),
        (vocabulary(last=0), "the last token of a text is none and 0"),
        (vocabulary(WORDS * 2), "they have 300 and 600 tokens, which may be 128 apart at most"),
        (vocabulary(WORDS[: -MOST_APART - 1]), "they have 300 and 171 tokens, which may be 128 apart at most"),
        (vocabulary(changed(FIRST_COMPARED)), "token 5 is 'word5' and 'other'"),
        (vocabulary(changed(299, "")), "token 299 is 'word299' and ''"),
        (vocabulary(changed(9, "\x1b[31m" + "x" * 90)), f"token 9 is 'word9' and '\\x1b[31m{'x' * 35}'"),
    ],
)
def test_what_must_not_differ(draft: Vocabulary, expected: str) -> None:
    assert difference(vocabulary(), draft) == expected


def test_the_words_of_a_refusal(tmp_path: Path) -> None:
    draft = altered_draft(tmp_path / "other.gguf", tokens=lambda words: [*words[:70], "Zorbin", *words[71:]])
    with pytest.raises(ModelFileError) as caught:
        check_draft(TINY, draft, "models.code")
    message = caught.value.message
    assert message.startswith(f"models.code.draft.file: {str(draft)!r} cannot draft for {str(TINY)!r}")
    assert re.search(r"its vocabulary is another: token 70 is '.+' and 'Zorbin'$", message)
    assert caught.value.hint == "use a smaller model of the same family as draft.file, or remove draft:"


def test_files_that_are_no_draft(tmp_path: Path) -> None:
    short = tmp_path / "short.gguf"
    short.write_bytes(DRAFT.read_bytes()[:-4000])
    projector = TINY.with_name("tiny-vision-mmproj.gguf")
    for file, part in [
        (short, "truncated"),
        (projector, "holds no vocabulary"),
        (tmp_path / "none.gguf", "missing"),
        (tmp_path, "folder"),
        (altered_draft(tmp_path / "odd.gguf", tokens=None), "holds no vocabulary"),
    ]:
        with pytest.raises(ModelFileError, match=part) as caught:
            check_draft(TINY, file, "models.code")
        assert caught.value.message.startswith("models.code.draft.file: ")
        assert caught.value.hint


def test_the_card_names_the_draft_as_it_is() -> None:
    card = DRAFT.with_name("MODEL_CARD.md").read_text(encoding="utf-8")
    for file in (TINY, DRAFT):
        assert hashlib.sha256(file.read_bytes()).hexdigest() in card
        assert f"{file.stat().st_size:,} bytes" in card
        assert f"{read_model_info(file).parameters:,} parameters" in card
