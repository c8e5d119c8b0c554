"""Files of prompts: what is read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchai.errors import UsageError
from benchai.runtime.measure.prompts import read_prompts


def contents(file: Path) -> list[str]:
    return [message["content"] for prompt in read_prompts(file).messages for message in prompt]


def test_text_and_lines(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_bytes(b"\xef\xbb\xbfone\r\nmore\r\n\r\n \r\n\r\ntwo\r\n")
    assert contents(text) == ["one\nmore", "two"]
    lines = tmp_path / "a.jsonl"
    # JSON may hold line ends of Unicode as they are
    said = ["a\u2028b", {"prompt": "c"}, [{"role": "user", "content": "d\u0085"}]]
    written = "\r\n".join(json.dumps(one, ensure_ascii=False) for one in said)
    lines.write_text("\ufeff" + written + "\r\n\r\n", encoding="utf-8", newline="")
    assert contents(lines) == ["a\u2028b", "c", "d\u0085"]


@pytest.mark.parametrize(
    "line",
    ['{"prompt": 5}', "[]", '"', '""', "null", "[" * 100_000, r'"a \ud800"', '{"prompt": ["a"]}', '[{"role": "user"}]'],
)
def test_a_line_that_is_no_prompt(tmp_path: Path, line: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(f'"first"\n{line}\n', encoding="utf-8")
    with pytest.raises(UsageError, match=r"a\.jsonl:2: ") as caught:
        read_prompts(file)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("data", "part"), [(b" \n\n", "hold none"), (b"\xff", "cannot be read"), (None, "cannot be read")]
)
def test_a_file_that_holds_none(tmp_path: Path, data: bytes | None, part: str) -> None:
    file = tmp_path / "a.txt"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(UsageError, match=part):
        read_prompts(file)


def test_prompts_that_are_left_out_are_told(tmp_path: Path) -> None:
    file = tmp_path / "many.txt"
    file.write_text("\n\n".join(f"prompt {number}" for number in range(201)), encoding="utf-8")
    assert len(contents(file)) == 200
    assert read_prompts(file).source == f"{file}, the first 200 of 201"
