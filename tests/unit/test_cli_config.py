"""``benchai config`` and ``benchai fleet plan``, called in this process: data on stdout, words on stderr."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchai.cli.app import main
from benchai.config import Config, load_config

FULL = """
models:
  code: {file: code.gguf, gpu_layers: 35, flash_attn: true, draft: {file: d.gguf}, lora: [l.gguf]}
  "yes": {hf: 'owner/name:Q5_K_M', load_mode: mlock, temperature: 0}
  far: {endpoint: 'https://api.example.com/v1', model: big, api_key_env: MY_KEY}
roles: {general: "yes", critic: far}
engine: {kind: native}
router: {max_concurrent: {critic: 3}, timeouts: {gpu: 1.5}}
budgets: {steps: 3}
tools: {enabled: [calculator]}
"""


class Output:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Call the command line in an empty folder."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def call(*args: str) -> Output:
        monkeypatch.setattr(sys, "argv", ["benchai", *args])
        with pytest.raises(SystemExit) as raised:
            main()
        captured = capsys.readouterr()
        return Output(int(raised.value.code or 0), captured.out, captured.err)

    return call


def write(tmp_path: Path, text: str, name: str = "b.yaml") -> str:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_check_a_good_file_with_missing_models(cli: Any, tmp_path: Path) -> None:
    file = write(tmp_path, FULL)
    done = cli("config", "check", "--config", file)
    assert done.code == 0
    assert done.out.startswith(f"{file}: valid; models ")
    assert "critic=far" in done.out
    assert done.err.count("warning:") == 3
    assert f"models.code.lora = 'l.gguf': missing, looked for as {tmp_path / 'l.gguf'}" in done.err


def test_check_a_wrong_file(cli: Any, tmp_path: Path) -> None:
    file = write(tmp_path, "models:\n  code:\n    file: a\n    threds: 3\nrouter: {prt: 1}\n")
    done = cli("config", "check", "-c", file)
    assert (done.code, done.out) == (2, "")
    assert f"error: {file}:4:5: models.code.threds = 3: unknown key (did you mean 'threads'?)" in done.err
    assert f"error: {file}:5:10: router.prt = 1: unknown key (did you mean 'port'?)" in done.err


def test_check_a_file_that_is_not_there(cli: Any, tmp_path: Path) -> None:
    done = cli("config", "check", "-c", str(tmp_path / "no.yaml"))
    assert (done.code, done.out) == (2, "")
    assert "error: " in done.err
    assert "hint: " in done.err


def test_check_the_built_in_configuration(cli: Any) -> None:
    done = cli("config", "check")
    assert done.code == 0
    assert done.out.startswith("the built-in configuration: valid; models tiny, tiny-vision; roles general=tiny")


@pytest.mark.parametrize("name", ["[red]x[/red].gguf", "model[q4].gguf", "[/].gguf", "x\\[y].gguf"])
def test_brackets_in_a_name_are_no_markup(cli: Any, tmp_path: Path, name: str) -> None:
    file = write(tmp_path, f"models: {{code: {{file: '{name}'}}}}\n")
    done = cli("config", "check", "-c", file)
    assert done.code == 0
    assert f"models.code.file = {name!r}: missing, looked for as {tmp_path / name}" in done.err


def test_brackets_in_a_folder_are_no_markup(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHAI_HOME", str(tmp_path / "[bold]home"))
    done = cli("config", "path")
    assert done.code == 0
    assert str(tmp_path / "[bold]home" / "benchai.yaml") in done.err
    file = write(tmp_path, "models: {code: {file: a, threds: 1}}\n", "[red]x/b.yaml")
    assert f"{file}:1:26: " in cli("config", "check", "-c", file).err


@pytest.mark.parametrize("text", [FULL, "models: {code: {file: a}, mine: {file: '2020-01-01'}}\n"])
@pytest.mark.parametrize("as_json", [False, True])
def test_what_show_prints_loads_again(cli: Any, tmp_path: Path, text: str, as_json: bool) -> None:
    file = write(tmp_path, text)
    done = cli("config", "show", "-c", file, *(["--json"] if as_json else []))
    assert done.code == 0
    if as_json:
        json.loads(done.out, parse_constant=lambda constant: pytest.fail(f"no JSON: {constant}"))
    again = load_config(Path(write(tmp_path, done.out, "again.yaml")), {}).config
    first = load_config(Path(file), {}).config
    assert again.role_map() == first.role_map()
    assert again.model_copy(update={"roles": {}}) == first.model_copy(update={"roles": {}})


def test_show_the_built_in_configuration(cli: Any, tmp_path: Path) -> None:
    again = load_config(Path(write(tmp_path, cli("config", "show").out)), {}).config
    assert again.role_map()["planner"] == "tiny"


def test_show_prints_overrides_and_no_key(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHAI_ROUTER__TIMEOUTS__GPU", "60")
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    done = cli("config", "show", "-c", write(tmp_path, FULL))
    assert "# overridden by BENCHAI_ROUTER__TIMEOUTS__GPU\n" in done.out
    assert yaml.safe_load(done.out)["router"]["timeouts"] == {"gpu": 60.0, "cpu": 300.0, "total": 3600}
    assert "sk-very-secret" not in done.out


def test_path(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none = cli("config", "path")
    assert (none.code, none.out) == (0, "")
    assert "built-in" in none.err
    file = write(tmp_path, FULL)
    assert cli("config", "path", "-c", file).out == f"{file}\n"
    monkeypatch.setenv("BENCHAI_CONFIG", file)
    assert cli("config", "path").out == f"{file}\n"


def accepts(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> bool:
    """Whether a value fits a JSON Schema, as far as pydantic writes schemas."""
    if "$ref" in schema:
        return accepts(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], value, root)
    if "anyOf" in schema and not any(accepts(one, value, root) for one in schema["anyOf"]):
        return False
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        return False
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    kind = schema.get("type")
    if kind in ("integer", "number"):
        if isinstance(value, bool) or not isinstance(value, int if kind == "integer" else int | float):
            return False
        if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            return False
        return "exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"]
    if kind is not None and not isinstance(value, kinds[kind]):
        return False
    if isinstance(value, list):
        return all(accepts(schema.get("items", {}), one, root) for one in value)
    return not isinstance(value, dict) or accepts_object(schema, value, root)


def accepts_object(schema: dict[str, Any], value: dict[str, Any], root: dict[str, Any]) -> bool:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    if not set(schema.get("required", [])) <= set(value) or len(value) < schema.get("minProperties", 0):
        return False
    for key, one in value.items():
        inner = properties.get(key, others)
        if inner is False or (inner is not True and not accepts(inner, one, root)):
            return False
    return True


def test_the_schema_accepts_what_loads_and_refuses_what_does_not(cli: Any) -> None:
    done = cli("config", "schema")
    schema = json.loads(done.out)
    assert done.code == 0
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    seed = Path(__file__).parent.parent.joinpath("fixtures", "seed.md").read_text(encoding="utf-8")
    block = seed.split("### Configuration Checklist", 1)[1].split("```yaml\n", 1)[1].split("```", 1)[0]
    good = [FULL, block]
    bad = [
        "models: {}",
        "{}",
        "models: {a: {file: x, threds: 1}}",
        "models: {a: {file: x, threads: many}}",
        "models: {a: {file: x, flash_attn: maybe}}",
        "models: {a: {file: x}}\nrouter: {prt: 1}",
        "models: {a: {file: x}}\nrouter: {timeouts: {gpu: 0}}",
        "models: {a: {file: x, lora: x}}",
        "models: {a: {file: x}}\nextra: 1",
    ]
    assert [accepts(schema, yaml.safe_load(text), schema) for text in good] == [True, True]
    assert [text for text in bad if accepts(schema, yaml.safe_load(text), schema)] == []


def test_every_key_of_the_schema_of_a_model_is_described() -> None:
    properties = Config.model_json_schema()["$defs"]["ModelConfig"]["properties"]
    assert [name for name, one in properties.items() if not one.get("description")] == []


def test_plan_as_json(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = cli("fleet", "plan", "--json", "-c", write(tmp_path, FULL.replace("engine: {kind: native}", "")))
    assert done.code == 0
    code, hub, far = json.loads(done.out)
    assert (code["model"], code["engine"], code["roles"]) == ("code", "native", ["code"])
    assert code["missing"] == [str(tmp_path / name) for name in ("code.gguf", "d.gguf", "l.gguf")]
    assert (hub["model"], hub["roles"], hub["port"]) == ("yes", ["general"], 0)
    assert (far["placement"], far["argv"], far["host"]) == ("remote", [], "https://api.example.com/v1")
    assert "missing" not in far


def test_plan_as_text(cli: Any, tmp_path: Path) -> None:
    done = cli("fleet", "plan", "-c", write(tmp_path, FULL))
    assert done.code == 0
    lines = done.out.splitlines()
    assert f"  missing {tmp_path / 'code.gguf'}" in lines
    assert "  endpoint https://api.example.com/v1" in lines
    assert any("--flash-attn on" in line for line in lines)


def test_plan_of_the_built_in_configuration(cli: Any) -> None:
    done = cli("fleet", "plan", "--json")
    assert done.code == 0
    assert json.loads(done.out)[0]["model"] == "tiny"


def test_plan_without_an_engine(cli: Any, tmp_path: Path) -> None:
    file = write(tmp_path, f"models: {{code: {{file: a}}}}\nengine: {{path: {tmp_path / 'no'}}}\n")
    done = cli("fleet", "plan", "-c", file)
    assert (done.code, done.out) == (2, "")
    assert "error: engine.path = " in done.err


def test_plan_of_remote_models_needs_no_engine(cli: Any, tmp_path: Path) -> None:
    far = "models: {far: {endpoint: 'http://127.0.0.1:1/v1', model: m}}\n"
    file = write(tmp_path, f"{far}engine: {{path: {tmp_path / 'no'}}}\n")
    assert cli("fleet", "plan", "-c", file).code == 0


@pytest.mark.parametrize(
    "args", [["--nonsense"], ["config"], ["config", "chek"], ["fleet", "plan", "--yaml"], ["config", "check", "-c"]]
)
def test_a_wrong_command_line_ends_with_2(cli: Any, args: list[str]) -> None:
    assert cli(*args).code == 2


def test_help_and_version(cli: Any) -> None:
    import benchai

    assert cli("--version").out == f"{benchai.__version__}\n"
    text = cli("--help").out
    assert all(name in text for name in ("run", "workflows", "doctor", "config", "fleet", "threads"))


def test_a_missing_file_is_told_with_every_place_where_it_was_looked_for(cli: Any, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    done = cli("config", "check", "-c", write(tmp_path, f"models_dir: {weights}\nmodels: {{code: {{file: a.gguf}}}}\n"))
    assert f"missing, looked for as {tmp_path / 'a.gguf'} and {weights / 'a.gguf'} and " in done.err
    done = cli("config", "check", "-c", write(tmp_path, "models: {code: {file: /no/a.gguf}}\n"))
    assert done.err.rstrip().endswith("missing, looked for as /no/a.gguf")
