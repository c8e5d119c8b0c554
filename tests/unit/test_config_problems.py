"""What is wrong with a benchai.yaml is told with file, line, column, key, value and the nearest valid key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from benchai.config import load_config
from benchai.config.load import validate
from benchai.config.source import parse_yaml
from benchai.errors import ConfigError

MODEL = "models:\n  code:\n    file: a.gguf\n"


def error_of(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as raised:
        validate(parse_yaml(text, "b.yaml"))
    return raised.value


def outcome_of(text: str) -> str:
    """The message of our error, or nothing: any other error goes through."""
    try:
        validate(parse_yaml(text, "b.yaml"))
    except ConfigError as error:
        return error.message
    return ""


def lines_of(text: str) -> list[str]:
    return error_of(text).message.splitlines()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (MODEL + "    threds: 8\n", "b.yaml:4:5: models.code.threds = 8: unknown key (did you mean 'threads'?)"),
        (MODEL + "roter: {}\n", "b.yaml:4:1: roter = {}: unknown key (did you mean 'router'?)"),
        (MODEL + "router:\n  prt: 1\n", "b.yaml:5:3: router.prt = 1: unknown key (did you mean 'port'?)"),
        (
            MODEL + "router:\n  timeouts:\n    gpus: 1\n",
            "b.yaml:6:5: router.timeouts.gpus = 1: unknown key (did you mean 'gpu'?)",
        ),
        (
            MODEL + "    draft: {file: d, max_token: 3}\n",
            "b.yaml:4:22: models.code.draft.max_token = 3: unknown key (did you mean 'max_tokens'?)",
        ),
        (
            "models: {code: {file: a, Threads: 'x'}}\n",
            "b.yaml:1:26: models.code.Threads = 'x': unknown key (did you mean 'threads'?)",
        ),
        (MODEL + "engine: {knd: auto}\n", "b.yaml:4:10: engine.knd = 'auto': unknown key (did you mean 'kind'?)"),
        (
            MODEL + "tools: {enabld: []}\n",
            "b.yaml:4:9: tools.enabld = []: unknown key (did you mean 'enabled'?)",
        ),
        (
            MODEL + "budgets:\n  step: 1\n",
            "b.yaml:5:3: budgets.step = 1: unknown key (did you mean 'steps'?)",
        ),
    ],
)
def test_an_unknown_key(text: str, line: str) -> None:
    assert lines_of(text) == [line]


def test_an_unknown_key_like_no_other_gets_the_list() -> None:
    (line,) = lines_of(MODEL + "budgets: {zzz: 1}\n")
    assert line.endswith("budgets.zzz = 1: unknown key (valid names: seconds, steps, tokens)")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        (MODEL + "    threads: many\n", "b.yaml:4:5: models.code.threads = 'many': "),
        (MODEL + "    lora: [a, 5]\n", "b.yaml:4:15: models.code.lora.1 = 5: "),
        (MODEL + "    lora:\n      - a\n      - 5\n", "b.yaml:6:9: models.code.lora.1 = 5: "),
        (MODEL + "    extra_args: [--temp, 0.7]\n", "b.yaml:4:26: models.code.extra_args.1 = 0.7: "),
        (MODEL + "router: {max_concurrent: {code: 0}}\n", "b.yaml:4:27: router.max_concurrent.code = 0: "),
        (MODEL + "roles: {general: 5}\n", "b.yaml:4:9: roles.general = 5: "),
        (MODEL + "    gpu_layers: most\n", "b.yaml:4:5: models.code.gpu_layers = 'most': "),
        (MODEL + "workflows: {a: [b]}\n", "b.yaml:4:13: workflows.a = ['b']: "),
        ("models:\n  code:\n", "b.yaml:2:3: models.code = None: "),
        ("models: {}\n", "b.yaml:1:1: models: "),
        ("models: abc\n", "b.yaml:1:1: models = 'abc': "),
        ("roles: {}\n", "b.yaml: models: is needed and not there"),
        (MODEL + "    hf: a/b\n", "b.yaml:2:3: models.code: exactly one of file, hf and endpoint is needed"),
    ],
)
def test_a_wrong_value(text: str, start: str) -> None:
    (line,) = lines_of(text)
    assert line.startswith(start)


def test_the_complaints_of_a_union_are_one_line() -> None:
    (line,) = lines_of(MODEL + "    gpu_layers: most\n")
    assert "integer" in line
    assert "'auto' or 'all'" in line


def test_all_problems_at_once_in_the_order_of_the_file() -> None:
    text = MODEL + "    threds: 8\nrouter:\n  port: high\n  timeout: {}\nbudgets: {steps: 0, step: 1}\n"
    places = ["b.yaml:4:5:", "b.yaml:6:3:", "b.yaml:7:3:", "b.yaml:8:11:", "b.yaml:8:21:"]
    assert [line.split(" ", 1)[0] for line in lines_of(text)] == places


def test_every_role_without_a_model_is_named() -> None:
    text = MODEL + "roles:\n  general: cod\n  planner: other\n"
    message = error_of(text).message
    assert "b.yaml:5:3: roles.general = 'cod'" in message
    assert "b.yaml:6:3: roles.planner = 'other'" in message


def test_a_role_without_a_model_gets_the_nearest() -> None:
    error = error_of(MODEL + "roles: {general: cod}\n")
    assert error.message.startswith("b.yaml:4:9: roles.general = 'cod': there is no such model")
    assert error.hint == "did you mean 'code'?"


def test_concurrency_of_an_unknown_role() -> None:
    error = error_of(MODEL + "router:\n  max_concurrent:\n    cde: 2\n")
    assert error.message.startswith("b.yaml:6:5: router.max_concurrent.cde")
    assert error.hint == "did you mean 'code'?"


def test_concurrency_of_own_and_standard_roles() -> None:
    validate(parse_yaml(MODEL + "roles: {critic: code}\nrouter: {max_concurrent: {critic: 2, vision: 1}}\n", "b.yaml"))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("models:\n\tcode: 1\n", "b.yaml:2:1: "),
        ('models:\n  code:\n    file: "abc\n', "b.yaml:4:1: "),
        (MODEL + "    file: b.gguf\n", "b.yaml:4:5: "),
        ("models: {}\nmodels: {}\n", "b.yaml:2:1: "),
        (MODEL + "roles: {a: code, b: code, a: code}\n", "b.yaml:4:27: "),
        ("models: [\n", "b.yaml:2:1: "),
        ("models: *nowhere\n", "b.yaml:1:9: "),
        (MODEL + "---\nmodels: {}\n", "b.yaml:4:1: "),
        ("models: !!python/object:os.system {}\n", "b.yaml:1:9: "),
        ("- models\n", "b.yaml:1:1: "),
        ("just words\n", "b.yaml:1:1: "),
        ("models: {? [a] : b}\n", "b.yaml:1:"),
        (MODEL + "# bell \x07\n", "b.yaml:4:"),
        (MODEL + "budgets: {seconds: 2020-13-45}\n", "b.yaml:4:"),
    ],
)
def test_invalid_yaml_is_told_with_line_and_column(text: str, place: str) -> None:
    error = error_of(text)
    assert error.message.startswith(place)
    assert "\n" not in error.message


def test_a_tab_gets_its_own_hint() -> None:
    assert "tabs" in str(error_of("models:\n\tcode: 1\n").hint)


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "---\n", "null\n"])
def test_an_empty_file(text: str) -> None:
    assert error_of(text).message == "b.yaml: the file is empty"


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"models: {code: {file: \xff}}\n", "not UTF-8 at byte 22"),
        (MODEL.encode("utf-16"), "not UTF-8"),
        (b"\x00\x01\x02", "invalid YAML"),
    ],
)
def test_a_file_that_is_no_text(tmp_path: Path, data: bytes, part: str) -> None:
    file = tmp_path / "benchai.yaml"
    file.write_bytes(data)
    with pytest.raises(ConfigError) as raised:
        load_config(file, {})
    assert part in raised.value.message
    assert str(file) in raised.value.message


def test_a_byte_order_mark_is_no_content() -> None:
    source = parse_yaml("\ufeff" + MODEL, "b.yaml")
    assert source.mark(("models", "code")).line == 2
    validate(source)


@pytest.mark.parametrize(
    "text", ["models: " + "[" * 3000 + "]" * 3000, "{" * 3000, "models: " + "{a: " * 250 + "}" * 250]
)
def test_deep_nesting_is_an_error_of_ours(text: str) -> None:
    assert error_of(text).exit_code == 2


@pytest.mark.parametrize(
    "text", ["models: &a\n  code: *a\n", "models: &a {code: {file: x, lora: [*a]}}\n", "&a a: *a\n"]
)
def test_an_alias_of_itself_is_an_error_of_ours(text: str) -> None:
    assert error_of(text).exit_code == 2


def test_aliases_of_aliases_are_bounded() -> None:
    """A small "billion laughs"."""
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 5)]
    assert "expands to more than" in error_of("\n".join(lines)).message


def test_anchors_aliases_and_merge_keys() -> None:
    text = "models:\n  a: &a {file: a.gguf, threads: 3}\n  b: *a\n  c:\n    <<: *a\n    threads: 4\n"
    config = validate(parse_yaml(text, "b.yaml"))
    assert [config.models[name].threads for name in "abc"] == [3, 3, 4]


def test_a_wrong_key_that_was_merged_in_is_found() -> None:
    text = "models:\n  a: &a\n    file: a.gguf\n    threds: 3\n  b:\n    <<: *a\n"
    first, second = lines_of(text)
    assert first.startswith("b.yaml:4:5: models.a.threds = 3: unknown key")
    assert second.startswith("b.yaml:4:5: models.b.threds = 3: unknown key")


@pytest.mark.parametrize(
    ("text", "place", "key"),
    [
        ("models:\n  a: {file: x}\n  5: {file: x}\n", "b.yaml:3:3: ", "models.5"),
        (MODEL + "    yes: 3\n", "b.yaml:4:5: ", "models.code.yes"),
        (MODEL + "    5: 3\n", "b.yaml:4:5: ", "models.code.5"),
        (MODEL + "5: 3\n", "b.yaml:4:1: ", "5"),
        (MODEL + "~: 3\n", "b.yaml:4:1: ", "~"),
        (MODEL + "2020-01-01: 3\n", "b.yaml:4:1: ", "2020-01-01"),
        (MODEL + "roles: {no: code}\n", "b.yaml:4:9: ", "roles.no"),
    ],
)
def test_a_key_that_is_no_text_is_named_as_it_stands(text: str, place: str, key: str) -> None:
    """YAML reads ``yes``, ``5`` and ``~`` as other things than text."""
    (line,) = lines_of(text)
    assert line.startswith(place)
    assert key in line
    assert "string" in line


def test_a_long_value_is_shortened() -> None:
    (line,) = lines_of(MODEL + f"    note: {'x' * 5000}\n")
    assert len(line) < 250


def test_a_secret_under_a_wrong_key_is_not_repeated() -> None:
    text = "models: {far: {endpoint: 'http://x', model: m, api_key: sk-very-secret}}\n"
    error = error_of(text)
    assert "sk-very-secret" not in error.message
    assert "did you mean 'api_key_env'?" in error.message


@given(st.text(max_size=60))
def test_any_text_loads_or_is_an_error_of_ours(text: str) -> None:
    message = outcome_of(text)
    assert message == "" or message.startswith("b.yaml")


YAML = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.dates()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(
                st.sampled_from(["models", "code", "file", "router", "timeouts", "lora", "draft"]), st.integers()
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@given(YAML)
def test_any_data_loads_or_is_an_error_of_ours(data: object) -> None:
    message = outcome_of(yaml.safe_dump({"models": data, "router": data}))
    assert all(line.startswith("b.yaml") for line in message.splitlines())


def test_a_value_is_told_without_its_password() -> None:
    error = error_of("threads: {ulr: 'postgresql://me:s3cret@host/db'}\n" + MODEL)
    assert "s3cret" not in error.message
    assert "me:...@host" in error.message
