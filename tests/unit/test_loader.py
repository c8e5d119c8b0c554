"""Custom workflows: the ways in, and what is told of those that cannot be loaded. Nothing runs a model here."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from benchai import workflow
from benchai.config import Config, LoadedConfig
from benchai.errors import BenchAIError, ConfigError, UnknownWorkflow, UsageError
from benchai.graphs import declared
from benchai.graphs.loader import load_workflows
from benchai.graphs.names import BUILTIN, workflow_names
from benchai.graphs.registry import WorkflowRegistry

GRAPH = """
from langgraph.graph import START, MessagesState, StateGraph

async def node(state):
    return {"messages": [("ai", "hello")]}

def make(schema=MessagesState, **more):
    made = StateGraph(schema, **more)
    made.add_node("node", node)
    made.add_edge(START, "node")
    return made
"""
DECLARED = (
    GRAPH
    + """
from benchai import workflow

@workflow("poet", roles=("general",), steps=3, reset={"round": 0})
def poems():
    '''Write poems.

    At length.
    '''
    return make()

@workflow(name="judge", description="Judge them")
def _():
    return make().compile()
"""
)


@pytest.fixture(autouse=True)
def own_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is a program of its own."""
    monkeypatch.setattr(declared, "_of_the_program", {})


def configured(folder: Path, workflows: Any) -> LoadedConfig:
    config = Config.model_validate({"models": {"m": {"file": "builtin:tiny"}}, "workflows": workflows})
    return LoadedConfig(config, folder / "benchai.yaml")


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def load(folder: Path, workflows: Any, **files: str) -> WorkflowRegistry:
    """The registry of a folder; a keyword is the text of a file of that name."""
    write(folder, {f"{name}.py": text for name, text in files.items()})
    return load_workflows(configured(folder, workflows))


def own(registry: WorkflowRegistry) -> list[str]:
    return [one.name for one in registry.all() if one.name not in BUILTIN]


def nodes(registry: WorkflowRegistry, name: str) -> set[str]:
    return set(registry.get(name).build().nodes)


def error_of(registry: WorkflowRegistry, name: str = "own") -> BenchAIError:
    """Why a workflow cannot be run: it is broken already, or building it fails."""
    assert "react" in {one.name for one in registry.all()}
    with pytest.raises(ConfigError) as caught:
        registry.get(name).build()
    registry.check()
    assert name in registry.broken
    assert name not in own(registry)
    return caught.value


# --- ways in ---


@pytest.mark.parametrize(
    "attribute",
    ["graph", "compiled", "make", "later", "with_config", "by_keyword", "Factory"],
)
def test_what_an_attribute_may_be(tmp_path: Path, attribute: str) -> None:
    text = (
        GRAPH
        + """
graph = make()
compiled = make().compile()
async def later():
    return make()
def with_config(config):
    assert config["configurable"] == {}
    return make()
def by_keyword(*, config):
    return with_config(config)
class Factory:
    def __call__(self):
        return make()
Factory = Factory()
"""
    )
    registry = load(tmp_path, {"own": f"./flows.py:{attribute}"}, flows=text)
    assert own(registry) == ["own"]
    assert nodes(registry, "own") == {"node"}


@pytest.mark.parametrize("workflows", [["./flows.py"], {"mine": "./flows.py"}])
def test_a_file_brings_what_it_declares(tmp_path: Path, workflows: Any) -> None:
    registry = load(tmp_path, workflows, flows=DECLARED)
    assert own(registry) == ["judge", "poet"]
    poet, judge = registry.get("poet"), registry.get("judge")
    assert (poet.description, poet.roles, poet.steps, dict(poet.reset)) == (
        "Write poems.",
        ("general",),
        3,
        {"round": 0},
    )
    assert (judge.description, judge.roles, judge.steps) == ("Judge them", (), 12)
    assert nodes(registry, "poet") == nodes(registry, "judge") == {"node"}
    # the file's are not the program's
    assert declared.declared_by_the_program() == []


def test_the_configuration_renames_a_declared_workflow(tmp_path: Path) -> None:
    registry = load(tmp_path, {"rhymes": "./flows.py:poems", "poet": "./flows.py:_"}, flows=DECLARED)
    assert own(registry) == ["poet", "rhymes"]
    assert (registry.get("rhymes").description, registry.get("rhymes").steps) == ("Write poems.", 3)
    assert registry.get("poet").description == "Judge them"


def test_a_workflow_object_gets_the_name_of_the_configuration(tmp_path: Path) -> None:
    registry = load(tmp_path, {"mine": "./flows.py:WORKFLOW"}, flows="from benchai.graphs.react import WORKFLOW\n")
    assert own(registry) == ["mine"]
    assert registry.get("react").description == registry.get("mine").description


def test_a_program_declares_its_own(tmp_path: Path) -> None:
    class Input(BaseModel):
        task: str
        lines: int = 3

    @workflow("mine", input=Input)
    def build() -> Any:
        """My own."""

    found = load(tmp_path, {}).get("mine")
    assert (found.description, found.defaults()) == ("My own.", {"lines": 3})
    assert "mine" in workflow_names(configured(tmp_path, {}))

    @workflow("mine")
    def again() -> Any:
        """Another cell."""

    assert load(tmp_path, {}).get("mine").description == "Another cell."


def test_a_program_that_its_configuration_names_is_there_once(tmp_path: Path) -> None:
    write(tmp_path, {"flows.py": DECLARED})
    spec = importlib.util.spec_from_file_location("program", tmp_path / "flows.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert {one.name for one in declared.declared_by_the_program()} == {"poet", "judge"}
    registry = load(tmp_path, ["./flows.py"])
    assert (own(registry), registry.broken) == (["judge", "poet"], {})


def test_functions_are_not_called_before_they_are_needed(tmp_path: Path) -> None:
    text = GRAPH + "def lazy():\n    raise RuntimeError('called')\n"
    registry = load(tmp_path, {"own": "./flows.py:lazy"}, flows=text)
    assert own(registry) == ["own"]
    assert registry.broken == {}


@pytest.mark.parametrize("name", ["", "my flow", "a/b", "-x", "x" * 101, None, 5])
def test_a_name_that_cannot_be_declared(name: Any) -> None:
    with pytest.raises(UsageError, match="is no name of a workflow"):
        workflow(name)


def test_the_decorator_without_its_name() -> None:
    def build() -> None: ...

    with pytest.raises(UsageError, match="is no name") as caught:
        workflow(build)  # type: ignore[arg-type]
    assert '@workflow("haiku")' in str(caught.value.hint)
    with pytest.raises(UsageError, match="is on 5"):
        workflow("five")(5)  # type: ignore[type-var]


def test_descriptions(tmp_path: Path) -> None:
    text = '"""About all of it.\n\nMore."""\n' + GRAPH + "graph = make()\ndef bare():\n    return make()\n"
    registry = load(tmp_path, {"a": "./flows.py:graph", "b": "./plain.py:make"}, flows=text, plain=GRAPH)
    assert registry.get("a").description == "About all of it."
    assert registry.get("b").description == "custom graph of plain.py"


# --- files beside each other ---


def test_files_of_one_name_and_what_they_import(tmp_path: Path) -> None:
    flow = GRAPH + "import helper\nmade = make()\nmade.add_node(helper.NAME, node)\n"
    write(
        tmp_path,
        {"a/flow.py": flow, "b/flow.py": flow, "a/helper.py": "NAME = 'one'\n", "b/helper.py": "NAME = 'two'\n"},
    )
    before = list(sys.path)
    registry = load(tmp_path, {"a": "./a/flow.py:made", "b": "./b/flow.py:made"})
    assert (nodes(registry, "a"), nodes(registry, "b")) == ({"node", "one"}, {"node", "two"})
    assert sys.path == before


def test_a_file_that_was_edited_is_read_again(tmp_path: Path) -> None:
    flow = GRAPH + "import helper\nmade = make()\nmade.add_node(helper.NAME, node)\n"
    write(tmp_path, {"helper.py": "NAME = 'first'\n"})
    assert nodes(load(tmp_path, {"a": "./flow.py:made"}, flow=flow), "a") == {"node", "first"}
    write(tmp_path, {"helper.py": "NAME = 'afterwards'\n"})
    assert nodes(load(tmp_path, {"a": "./flow.py:made"}), "a") == {"node", "afterwards"}


def test_a_file_of_a_package(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "pkg/__init__.py": "",
            "pkg/names.py": "NAME = 'inner'\n",
            "pkg/sub/__init__.py": "",
            "pkg/sub/flow.py": GRAPH
            + "from ..names import NAME\nfrom . import other\nmade = make()\nmade.add_node(NAME + other.MORE, node)\n",
            "pkg/sub/other.py": "import pkg.names\nMORE = pkg.names.NAME\n",
        },
    )
    registry = load(tmp_path, {"own": "./pkg/sub/flow.py:made"})
    assert nodes(registry, "own") == {"node", "innerinner"}


def test_two_packages_of_one_name(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(
            tmp_path,
            {
                f"{folder}/pkg/__init__.py": "",
                f"{folder}/pkg/flow.py": GRAPH + "from .n import NAME\nmade = make()\nmade.add_node(NAME, node)\n",
                f"{folder}/pkg/n.py": f"NAME = {folder!r}\n",
            },
        )
    registry = load(tmp_path, {one: f"./{one}/pkg/flow.py:made" for one in ("one", "two")})
    assert [nodes(registry, one) for one in ("one", "two")] == [{"node", "one"}, {"node", "two"}]


def test_a_file_runs_once_for_all_its_workflows(tmp_path: Path) -> None:
    text = (
        GRAPH
        + f"with open({str(tmp_path / 'runs')!r}, 'a') as file:\n    file.write('x')\none = make()\ntwo = make()\n"
    )
    registry = load(tmp_path, {"a": "./flows.py:one", "b": "./flows.py:two"}, flows=text)
    assert own(registry) == ["a", "b"]
    assert (tmp_path / "runs").read_text() == "x"


def test_a_module_by_its_name(tmp_path: Path) -> None:
    write(tmp_path, {"my_flows/__init__.py": "", "my_flows/first.py": GRAPH + "graph = make()\n"})
    registry = load(tmp_path, {"own": "my_flows.first:graph"})
    assert nodes(registry, "own") == {"node"}


# --- langgraph.json ---


def langgraph_json(folder: Path, data: Any) -> None:
    (folder / "langgraph.json").write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")


def test_a_langgraph_json(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "src/agent/__init__.py": "",
            "src/agent/graph.py": GRAPH + "from agent.names import NAME\ngraph = make()\ngraph.add_node(NAME, node)\n",
            "src/agent/names.py": "NAME = 'extra'\n",
            "lib/shared.py": "NAME = 'shared'\n",
            "flow.py": GRAPH + "import shared\nasync def make_it(config):\n    return make().compile()\n",
        },
    )
    langgraph_json(
        tmp_path,
        {
            "$schema": "https://langgra.ph/schema.json",
            "dependencies": [".", "./lib", "langchain_openai"],
            "graphs": {
                "agent": {"path": "./src/agent/graph.py:graph", "description": "Does it."},
                "named": "agent.graph:graph",
                "made": "./flow.py:make_it",
                "web": "./src/agent.ts:graph",
            },
            "env": "./.env",
            "python_version": "3.12",
        },
    )
    registry = load(tmp_path, ["./langgraph.json"])
    assert own(registry) == ["agent", "made", "named"]
    assert registry.get("agent").description == "Does it."
    assert nodes(registry, "agent") == nodes(registry, "named") == {"node", "extra"}
    assert nodes(registry, "made") == {"node"}
    assert "no Python file" in registry.broken["web"].message
    assert workflow_names(configured(tmp_path, ["./langgraph.json"])) >= {"agent", "named", "made", "web"}


@pytest.mark.parametrize(
    ("data", "part"),
    [
        ("{", "langgraph.json, line 1: no JSON"),
        ("[]", "is no JSON object"),
        ({"dependencies": ["."]}, "has no graphs"),
        ({"graphs": []}, "has no graphs"),
        ("\xff", "no JSON"),
    ],
)
def test_a_langgraph_json_that_is_none(tmp_path: Path, data: Any, part: str) -> None:
    langgraph_json(tmp_path, data)
    registry = load(tmp_path, {"app": "./langgraph.json"})
    assert part in error_of(registry, "app").message


@pytest.mark.parametrize("value", [5, {"description": "no path"}, {"path": None}, "graph", "./a.py", ""])
def test_a_langgraph_json_with_a_wrong_graph(tmp_path: Path, value: Any) -> None:
    write(tmp_path, {"flow.py": GRAPH, "a.py": GRAPH})
    langgraph_json(tmp_path, {"graphs": {"bad": value, "good": "./flow.py:make"}})
    registry = load(tmp_path, ["./langgraph.json"])
    assert own(registry) == ["good"]
    assert "graphs.bad" in error_of(registry, "bad").message


def test_a_langgraph_json_that_nobody_names_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"flow.py": GRAPH})
    langgraph_json(tmp_path, {"graphs": {"agent": "./flow.py:make"}})
    monkeypatch.chdir(tmp_path)
    assert own(load(tmp_path, {})) == []


# --- packages ---


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that offers workflows."""
    site = tmp_path / "site"
    points = {
        "verse": "offered_flows:poems",
        "ready": "offered_flows:graph",
        "all": "offered_flows",
        "react": "offered_flows:graph",
        "gone": "offered_flows:nothing",
        "fails": "offered_failing:graph",
    }
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    write(
        site,
        {
            "offered_flows.py": DECLARED + "graph = make()\n",
            "offered_failing.py": "import offered_flows\n\nraise SystemExit(3)\n",
            "offered-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: offered\nVersion: 1.0\n",
            "offered-1.0.dist-info/entry_points.txt": f"[benchai.workflows]\n{lines}",
        },
    )
    monkeypatch.syspath_prepend(str(site))
    yield site
    for name in ("offered_flows", "offered_failing"):
        sys.modules.pop(name, None)


def test_an_installed_package_offers_workflows(tmp_path: Path, package: Path) -> None:
    registry = load(tmp_path, {})
    assert own(registry) == ["judge", "poet", "ready", "verse"]
    assert registry.get("verse").description == "Write poems."
    assert nodes(registry, "ready") == {"node"}
    assert {"verse", "ready"} <= workflow_names(configured(tmp_path, {}))
    assert "nothing" in error_of(registry, "gone").message
    assert "offered_failing.py, line 3: SystemExit: 3" in error_of(registry, "fails").message
    # nobody can rename what a package calls react
    assert registry.get("react").description != "custom graph of offered_flows.py"
    [clash] = [error for error in registry.broken.values() if "twice" in error.message]
    assert "'react'" in clash.message


def test_the_configuration_stands_above_a_package(tmp_path: Path, package: Path) -> None:
    registry = load(
        tmp_path, {"verse": "./flows.py:mine"}, flows=GRAPH + "def mine():\n    'Mine.'\n    return make()\n"
    )
    assert registry.get("verse").description == "Mine."


# --- broken ones ---

BROKEN: dict[str, tuple[str, list[str]]] = {
    "a syntax error": ("def broken(:\n", ["flows.py, line 1", "SyntaxError"]),
    "a module that is missing": ("x = 1\nimport no_such_module\n", ["flows.py, line 2", "no_such_module"]),
    "an exit": ("import sys\n\nsys.exit('go away')\n", ["flows.py, line 3: SystemExit: go away"]),
    "an error in a function": (
        "def inner():\n    raise ValueError('deep')\n\ninner()\n",
        ["flows.py, line 2: ValueError: deep", "line 4, in <module>: inner()", "line 2, in inner: raise ValueError"],
    ),
    "no such attribute": ("", ["flows.py has no 'own'"]),
    "no graph": ("own = 42\n", ["is no StateGraph but 'int'", "flows.py, line 1"]),
    "a factory that raises": (GRAPH + "\ndef own():\n    raise KeyError('lost')\n", ["flows.py, line 14", "KeyError"]),
    "a factory that exits": (GRAPH + "\ndef own():\n    raise SystemExit\n", ["flows.py, line 14", "SystemExit"]),
    "an async factory that raises": (
        GRAPH + "\nasync def own():\n    raise KeyError('lost')\n",
        ["flows.py, line 14", "KeyError"],
    ),
    "a factory of something else": ("\ndef own():\n    return 5\n", ["flows.py, line 2", "no StateGraph but 'int'"]),
    "a factory that yields": (
        GRAPH + "from contextlib import asynccontextmanager as c\n@c\nasync def own():\n    yield make()\n",
        ["flows.py", "yields its graph"],
    ),
    "a factory with parameters": ("\ndef own(a, b):\n    pass\n", ["flows.py, line 2", "wants a, b"]),
    "a factory for the server": (
        "from langgraph_sdk.runtime import ServerRuntime\ndef own(runtime: ServerRuntime):\n    pass\n",
        ["flows.py, line 2", "wants runtime"],
    ),
    "no entry point": (
        GRAPH + "own = StateGraph(MessagesState)\nown.add_node('node', node)\n",
        ["flows.py, line 12", "must have an entrypoint"],
    ),
    "no entry point, compiled": (
        GRAPH + "own = StateGraph(MessagesState)\nown.add_node('node', node)\nown = own.compile()\n",
        ["flows.py, line 14", "must have an entrypoint"],
    ),
    "an edge to nowhere": (GRAPH + "own = make()\nown.add_edge('node', 'gone')\n", ["flows.py, line 12", "gone"]),
    "no end": (GRAPH + "own = make()\nown.add_edge('node', 'node')\n", ["flows.py, line 12", "has no end"]),
    "no end, by a branch": (
        GRAPH + "own = make()\nown.add_conditional_edges('node', lambda _: 'node', ['node'])\n",
        ["flows.py, line 12", "has no end"],
    ),
    "no messages": (
        GRAPH
        + "from typing import TypedDict\nclass S(TypedDict):\n    question: str\n    answer: str\nown = make(S)\n",
        ["flows.py, line 16", "state has no 'messages', only answer, question"],
    ),
    "no messages in the output": (
        GRAPH
        + "from typing import TypedDict\nclass S(TypedDict):\n    answer: str\nown = make(output_schema=S).compile()\n",
        ["flows.py, line 15", "output has no 'messages', only answer"],
    ),
    "a checkpointer of its own": (
        GRAPH + "from langgraph.checkpoint.memory import InMemorySaver\nown = make().compile(InMemorySaver())\n",
        ["flows.py, line 13", "checkpointer of its own"],
    ),
    "breakpoints": (GRAPH + "own = make().compile(interrupt_before=['node'])\n", ["flows.py, line 12", "breakpoints"]),
    "a context that wants values": (
        GRAPH
        + "from dataclasses import dataclass\n@dataclass\nclass C:\n    user: str\nown = make(context_schema=C)\n",
        ["flows.py, line 16", "context_schema C wants user"],
    ),
    "a context model that wants values": (
        GRAPH + "from pydantic import BaseModel\nclass C(BaseModel):\n    user: str\nown = make(context_schema=C)\n",
        ["flows.py, line 15", "context_schema C wants user"],
    ),
    "a name with blanks": (
        "from benchai import workflow\n@workflow('my flow')\ndef own():\n    pass\n",
        ["flows.py, line 2: UsageError", "'my flow' is no name"],
    ),
    "an error that cannot be told": (
        "class E(Exception):\n    def __str__(self):\n        raise ValueError\nraise E\n",
        ["flows.py, line 4: E: (no text)"],
    ),
}


@pytest.mark.parametrize(("text", "parts"), BROKEN.values(), ids=BROKEN.keys())
def test_what_cannot_run_is_told_with_its_line(tmp_path: Path, text: str, parts: list[str]) -> None:
    registry = load(tmp_path, {"own": "./flows.py:own", "good": "./good.py:make"}, flows=text, good=GRAPH)
    error = error_of(registry)
    assert error.message.startswith("workflows.own = './flows.py:own'")
    for part in parts:
        assert part in error.message
    assert own(registry) == ["good"]


def test_a_mistake_in_a_module_beside(tmp_path: Path) -> None:
    registry = load(tmp_path, {"own": "./flows.py:own"}, flows="import beside\n", beside="x = 1\ny = x / 0\n")
    message = error_of(registry).message
    assert "flows.py, line 1: ZeroDivisionError" in message
    assert "beside.py, line 2, in <module>: y = x / 0" in message
    registry = load(tmp_path, {"own": "./flows.py:own"}, beside="x = (\n")
    assert "beside.py, line 1: SyntaxError" in error_of(registry).message


@pytest.mark.parametrize("target", ["flows.py", "flows", "flows:", ":own", "./flows.txt", "a b:c", ""])
def test_a_target_of_another_form(tmp_path: Path, target: str) -> None:
    registry = load(tmp_path, {"own": target}, flows=GRAPH)
    assert "./file.py:attribute" in error_of(registry).message


def test_a_missing_file(tmp_path: Path) -> None:
    registry = load(tmp_path, ["./gone.py", "./gone.json"])
    assert "gone.py' is missing" in error_of(registry, "./gone.py").message
    assert "gone.json' is missing" in error_of(registry, "./gone.json").message


def test_a_file_that_is_no_python(tmp_path: Path) -> None:
    write(tmp_path, {"flows.txt": GRAPH})
    assert "no Python file" in error_of(load(tmp_path, {"own": "./flows.txt:make"})).message


def test_names_that_are_taken(tmp_path: Path) -> None:
    registry = load(
        tmp_path,
        {"react": "./flows.py:make", "poet": "./flows.py:make", "more": "./declared.py"},
        flows=GRAPH,
        declared=DECLARED,
    )
    assert "a built-in workflow" in registry.broken["react"].message
    assert "declared.py, line 15" in registry.broken["poet"].message
    assert own(registry) == ["judge"]
    with pytest.raises(ConfigError, match="'poet' is there twice"):
        registry.get("poet")


def test_an_unknown_name_tells_what_could_not_be_loaded(tmp_path: Path) -> None:
    registry = load(tmp_path, ["./flows.py"], flows="1/0\n")
    with pytest.raises(UnknownWorkflow) as caught:
        registry.get("poet")
    assert "./flows.py" in str(caught.value.hint)


# --- names, and the configuration ---


def test_names_are_read_without_running_a_file(tmp_path: Path) -> None:
    write(tmp_path, {"flows.py": f"raise SystemExit\n{DECLARED}", "wrong.py": "def ("})
    names = workflow_names(configured(tmp_path, ["./flows.py", "./wrong.py", "./gone.py", "./gone.json"]))
    assert names - set(BUILTIN) == {"poet", "judge", "./flows.py", "./wrong.py", "./gone.py", "./gone.json"}
    assert workflow_names(configured(tmp_path, {"my own": "./flows.py:poems"})) - set(BUILTIN) == {"my own"}


def test_the_list_is_kept_as_a_mapping() -> None:
    config = configured(Path("/"), ["./a.py", "./langgraph.json"]).config
    assert config.workflows == {"./a.py": "./a.py", "./langgraph.json": "./langgraph.json"}
    assert Config.model_validate(config.as_data()).workflows == config.workflows


@pytest.mark.parametrize("value", [[5], [{"a": "b"}], "./a.py", {"a": None}, 5])
def test_workflows_of_another_type(value: Any) -> None:
    with pytest.raises(ValidationError, match="workflows"):
        configured(Path("/"), value)


def test_the_schema_knows_both_forms() -> None:
    schema = Config.model_json_schema()["properties"]["workflows"]
    assert {form["type"] for form in schema["anyOf"]} == {"object", "array"}
