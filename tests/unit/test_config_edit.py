"""benchai.yaml is changed key by key: comments, order and form stay, the old value stands beside the new one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from benchai.config import load_config
from benchai.config.edit import refuse_unwritable, set_model_keys, write_edit
from benchai.config.yaml_edit import edited
from benchai.errors import ConfigError

NOTE = "benchai tune, 2026-11-23"
BLOCK = """\
# top
models:
  code: # the coder
    file: a.gguf   # weights
    threads: 8 # for the desk
    flash_attn: auto

    draft:
      file: d.gguf
      max_tokens: 16   # x
  # general comes
  general: {file: b.gguf, threads: 4, ubatch_size: 512} # flow
"""


def change(text: str, changes: dict[str, Any], model: str = "code") -> str:
    return edited(text, "f.yaml", ("models", model), changes, NOTE)


def lines_that_differ(before: str, after: str) -> list[str]:
    return [line for line in after.split("\n") if line not in before.split("\n")]


@pytest.mark.parametrize(
    ("changes", "model", "expected"),
    [
        ({"threads": 4}, "code", [f"    threads: 4 # was 8 ({NOTE}) # for the desk"]),
        ({"flash_attn": True}, "code", [f"    flash_attn: true # was auto ({NOTE})"]),
        ({"draft.max_tokens": 8}, "code", [f"      max_tokens: 8 # was 16 ({NOTE})   # x"]),
        ({"ubatch_size": 256}, "code", [f"    ubatch_size: 256 # was not set ({NOTE})"]),
        ({"threads": None}, "code", [f"    # threads: 8 # taken away ({NOTE}) # for the desk"]),
        (
            {"draft": None},
            "code",
            ["    # draft:", "    #   file: d.gguf", f"    #   max_tokens: 16 # taken away ({NOTE})   # x"],
        ),
        (
            {"threads": 2, "cache_type_k": "q8_0", "ubatch_size": None},
            "general",
            [
                "  general: {file: b.gguf, threads: 2, cache_type_k: q8_0}"
                f" # was threads: 4, cache_type_k: not set, ubatch_size: 512 ({NOTE}) # flow"
            ],
        ),
    ],
)
def test_only_the_lines_of_the_keys_change(changes: dict[str, Any], model: str, expected: list[str]) -> None:
    after = change(BLOCK, changes, model)
    assert lines_that_differ(BLOCK, after) == expected
    kept = [line for line in BLOCK.split("\n") if line in after.split("\n")]
    assert [line for line in after.split("\n") if line in kept] == kept


def test_a_section_is_written_over_another_which_stays_as_a_comment() -> None:
    after = change(BLOCK, {"draft": {"file": "e, f.gguf", "max_tokens": 3}})
    assert f'draft: {{file: "e, f.gguf", max_tokens: 3}} # {NOTE}'.replace('"', "'") in after
    assert "    #   file: d.gguf\n" in after


def test_what_is_so_already_is_left_alone() -> None:
    assert change(BLOCK, {"threads": 8, "slots": None}) == BLOCK


def test_line_ends_stay_as_they_are() -> None:
    text = "models:\r\n  code:\r\n    file: a # w\r\n    threads: 3\r\n"
    after = change(text, {"threads": 4, "slots": 2})
    assert after == text.replace("threads: 3", f"threads: 4 # was 3 ({NOTE})") + (
        f"    slots: 2 # was not set ({NOTE})\r\n"
    )


def test_a_file_without_a_last_line_end_is_gone_on_in_a_line_of_its_own() -> None:
    assert change("models:\n  code:\n    file: a", {"slots": 2}).split("\n")[2:] == [
        "    file: a",
        f"    slots: 2 # was not set ({NOTE})",
    ]


def test_a_block_of_text_at_the_end_is_not_run_into() -> None:
    text = "models:\n  code:\n    file: a\n    chat_template_file: |\n      a\n      # no comment\n\n  b: {file: c}\n"
    after = change(text, {"slots": 2})
    assert yaml.safe_load(after)["models"]["code"] == yaml.safe_load(text)["models"]["code"] | {"slots": 2}


@pytest.mark.parametrize(
    "text",
    [
        'models:\n  \'code\': {"file": a,\n    "threads": 8, # hm\n    }\n',
        "models: {code: {file: a, threads: 8}}",
        "models:\n  code: &anchor !!map\n    file: a\n    threads:    8\nx: {}\n",
        "---\nmodels:\n    code:\n            file: a\n            threads: 8\n...\n",
        "\ufeffmodels:\n  code:\n    file: ä 🙂\n    threads: 8  # mine\n",
        "base: &b {file: a, threads: 8}\nmodels:\n  code:\n    <<: *b\n    slots: 1\n",
        "n: &n 8\nmodels:\n  code:\n    file: a\n    threads: *n\n    slots: 1\n",
        "models:\n  code:\n    threads:\n    file: a\n",
    ],
)
def test_odd_forms(text: str) -> None:
    after = change(text, {"threads": 4, "ngram": True})
    now = yaml.safe_load(after)["models"]["code"]
    assert now == yaml.safe_load(text)["models"]["code"] | {"threads": 4, "ngram": True}
    assert after.count("# hm") == text.count("# hm")


@pytest.mark.parametrize(
    ("text", "changes", "why"),
    [
        ("x: &b {file: a}\nmodels:\n  code: *b\n", {"threads": 4}, "models.code is an alias"),
        ("x: &b {threads: 4}\nmodels:\n  code:\n    <<: *b\n    file: a\n", {"threads": None}, "comes from a merge"),
        (
            "models:\n  code:\n    file: a\n    slots: &s 3\n  b:\n    file: a\n    slots: *s\n",
            {"slots": 2},
            "alias 's'",
        ),
        ("models:\n  code: &c\n    file: a\n  b: *c\n", {"slots": 2}, "something else would change with it"),
        ("models:\n  code:\n    file: a\n", {"draft.max_tokens": 2}, "models.code.draft does not stand there"),
        ("models:\n  code: {file: a, draft: {\n    file: b}}\n", {"draft": None}, "over several lines within braces"),
        ("models:\n  code:\n    file: |\n      a\n", {"file": "b"}, "is a block of text"),
        ("models: []\n", {"threads": 4}, "models.code does not stand there"),
    ],
)
def test_what_cannot_be_changed_surely_is_refused(text: str, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match="cannot be changed surely") as caught:
        change(text, changes)
    assert why in caught.value.message


VALUES = st.sampled_from([1, 7, True, False, "auto", "on", "q8_0", "a, b", "x: y", "# no", "", "'", 1.5])


@settings(max_examples=60)
@given(
    st.dictionaries(st.sampled_from(["k", "l", "m", "n"]), VALUES, min_size=1),
    st.dictionaries(st.sampled_from(["k", "l", "m", "n", "o"]), st.none() | VALUES, min_size=1),
    st.booleans(),
)
def test_the_data_afterwards_is_what_was_meant(old: dict[str, Any], changes: dict[str, Any], flow: bool) -> None:
    before = {"models": {"code": {"file": "a"} | old, "b": {"file": "c"}}}
    text = yaml.safe_dump(before, default_flow_style=flow, sort_keys=False)
    after = yaml.safe_load(change(text, changes))
    kept = {key: value for key, value in (old | changes).items() if value is not None}
    assert after == {"models": {"code": {"file": "a"} | kept, "b": {"file": "c"}}}
    # 1 == True
    assert {key: type(value) for key, value in after["models"]["code"].items() if key != "file"} == {
        key: type(value) for key, value in kept.items()
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "benchai.yaml"
    path.write_text(BLOCK, encoding="utf-8")
    return path


def test_the_file_is_replaced_with_its_mode_through_a_link(file: Path, tmp_path: Path) -> None:
    file.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    write_edit(load_config(link), "code", {"threads": 4}, NOTE)
    assert link.is_symlink()
    assert file.read_text() == set_model_keys(link, "code", {"threads": 4}, NOTE) == change(BLOCK, {"threads": 4})
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(one.name for one in tmp_path.iterdir()) == ["benchai.yaml", "link.yaml"]


def test_a_read_only_file_is_refused_also_before_the_work(file: Path) -> None:
    loaded = load_config(file)
    file.chmod(0o444)
    with pytest.raises(ConfigError, match="read-only"):
        refuse_unwritable(loaded, "code")
    with pytest.raises(ConfigError, match="read-only"):
        write_edit(loaded, "code", {"threads": 4}, NOTE)
    assert file.read_text() == BLOCK


def test_settings_that_changed_meanwhile_are_not_written_over(file: Path) -> None:
    loaded = load_config(file)
    file.write_text(BLOCK.replace("threads: 8", "threads: 6"))
    with pytest.raises(ConfigError, match="other settings now than those that were measured"):
        write_edit(loaded, "code", {"threads": 4}, NOTE)
    file.write_text("models: {b: {file: a}}")
    with pytest.raises(ConfigError, match="no longer there"):
        write_edit(loaded, "code", {"threads": 4}, NOTE)


def test_what_else_changed_meanwhile_is_kept(file: Path) -> None:
    loaded = load_config(file)
    file.write_text(BLOCK.replace("# top", "# another top"))
    write_edit(loaded, "code", {"threads": 4}, NOTE)
    assert file.read_text() == change(BLOCK, {"threads": 4}).replace("# top", "# another top")


def test_the_built_in_configuration_has_no_file(own_home: Path) -> None:
    with pytest.raises(ConfigError, match="no file") as caught:
        refuse_unwritable(load_config(), "tiny")
    assert str(own_home / "benchai.yaml") in str(caught.value.hint)


def test_a_variable_above_the_file_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHAI_MODELS__CODE__THREADS", "3")
    loaded = load_config(file)
    with pytest.raises(ConfigError, match="BENCHAI_MODELS__CODE__THREADS"):
        write_edit(loaded, "code", {"threads": 4}, NOTE)
    # of another model
    refuse_unwritable(loaded, "general", {"threads": 2})


def test_a_setting_that_would_not_load_is_not_written(file: Path) -> None:
    with pytest.raises(ConfigError, match="needs flash attention"):
        write_edit(load_config(file), "code", {"cache_type_v": "q8_0", "flash_attn": False}, NOTE)
    assert file.read_text() == BLOCK


def test_a_form_that_cannot_be_changed_is_told_before_the_work(file: Path) -> None:
    file.write_text("models:\n  b: &b {file: a.gguf}\n  code: *b\n")
    with pytest.raises(ConfigError, match=r"models\.code is an alias"):
        refuse_unwritable(load_config(file), "code", {"threads": 2})


def test_a_key_that_stands_empty_is_taken_away() -> None:
    text = "models:\n  code:\n    file: a.gguf\n    ttl:\n    keep: true\n"
    assert yaml.safe_load(change(text, {"ttl": None}))["models"]["code"] == {"file": "a.gguf", "keep": True}


@pytest.mark.parametrize("order", [("ngram", "draft.max_tokens"), ("draft.max_tokens", "ngram")])
def test_new_keys_within_and_behind_a_mapping_that_comes_last(order: tuple[str, str]) -> None:
    text = "models:\n  code:\n    file: a.gguf\n    draft:\n      file: d.gguf\n"
    values: dict[str, Any] = {"ngram": True, "draft.max_tokens": 8}
    found = yaml.safe_load(change(text, {key: values[key] for key in order}))["models"]["code"]
    assert found == {"file": "a.gguf", "draft": {"file": "d.gguf", "max_tokens": 8}, "ngram": True}
