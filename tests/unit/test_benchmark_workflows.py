"""What the benchmark of workflows computes: its tasks, its judges, its medians and its tables."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from benchai.events import Answer, Event, ModelCall, Observation, Result, StopReason, Usage
from benchai.testing import text
from benchmarks.workflow_parts import first_request, held_out, instant_server, judging, loops, steps, tiny
from benchmarks.workflow_parts.fault_cases import FAULTS, GAVE_UP, Case, Played, paired
from benchmarks.workflow_parts.faults import outcome, summary
from benchmarks.workflow_parts.report import Part, markdown
from scripts.tiny_model.split import Draw
from scripts.tiny_model.tasks import calculate, coding, planning, writing
from scripts.tiny_model.tasks.turn import Maker

pytestmark = pytest.mark.anyio


# ---- judges


@pytest.mark.parametrize(
    ("answer", "values", "right"),
    [
        ("6 * 7 = 42.", ["42"], True),
        ("It is 42", ["42"], True),
        ("42 + 1 = 43.", ["42"], False),
        ("5 - 8 = -3.", ["-3"], True),
        ("5 - 8 = 3.", ["-3"], False),
        ("1 / 3 = 0.3333333333.", ["0.3333333333"], True),
        ("1 / 3 = 0.3333.", ["0.3333333333"], False),
        ("2 + 2 = 4. 3 * 3 = 9.", ["4", "9"], True),
        ("2 + 2 = 5. 3 * 3 = 9.", ["4", "9"], False),
        ("I do not know that.", ["4"], False),
        ("x4 is v42", ["42"], False),
    ],
)
def test_an_answer_gives_values(answer: str, values: list[str], right: bool) -> None:
    assert judging.gives(answer, values) is right


def piece(kind: int, **values: str) -> writing.Piece:
    chosen = writing.KINDS[kind]
    frame = chosen.frames[0]
    right = frame.format(**values) + chosen.end
    return writing.Piece(chosen, values, values, "", frame, right, right, [])


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Ann found the lamp at home.", True),
        ("Ann found the Lamp at home.", True),
        ("Ann found the lamps at home.", False),
        ("Ann found the lamp at home", False),
        ("Ann found the lamp. It was at home.", False),
        ("Bob found the lamp at home.", False),
    ],
)
def test_a_text_meets_its_task(answer: str, right: bool) -> None:
    assert judging.meets(answer, piece(0, N="Ann", w="lamp")) is right


def test_every_right_text_of_the_family_meets_its_task() -> None:
    draw = Draw(random.Random(1), held_out=True)
    for _ in range(50):
        draw.begin()
        item = writing.piece(draw, 0.0)
        assert judging.meets(item.right, item)
        assert not judging.meets(item.draft, item), item


def test_the_function_of_a_sub_task_is_known_again() -> None:
    draw = Draw(random.Random(2), held_out=True)
    for _ in range(50):
        draw.begin()
        _, parts = planning.split_functions(draw)
        for role, what, _ in parts:
            if role == "code":
                wanted = judging.function_of(what)
                assert what == f"Write a function {wanted.signature} that {wanted.does}."
                code = wanted.code(wanted.family.body)
                assert all(coding.run(code, line[len("assert ") :]) == "True" for line in coding.asserts(wanted))


def test_a_sub_task_that_asks_for_no_function_is_refused() -> None:
    with pytest.raises(ValueError, match="no known function"):
        judging.function_of("Write a function f(a) that sings.")


def test_code_is_compared_without_its_layout() -> None:
    wanted = judging.function_of("Write a function plus(a, b) that returns the sum of a and b.")
    assert judging.same_code("def plus(a, b):\n\n  return (a + b)", wanted)
    assert not judging.same_code("def plus(a, b):\n    return a - b", wanted)
    assert not judging.same_code("def plus(a, b) return", wanted)


def test_new_files_are_read_from_a_diff() -> None:
    head = "diff --git a/{0} b/{0}\nnew file mode 100644\n--- /dev/null\n+++ b/{0}\n@@ -0,0 +1,2 @@\n"
    diff = head.format("solution.py") + "+x = 1\n+y = 2\n" + head.format("test_solution.py") + "+assert x\n"
    assert judging.added(diff) == {"solution.py": "x = 1\ny = 2\n", "test_solution.py": "assert x\n"}


def test_blocks_of_a_text() -> None:
    assert judging.blocks("```python\na = 1\n```\nand\n```python\nb = 2\n``` APPROVED") == ["a = 1", "b = 2"]
    assert judging.blocks("a = 1") == ["a = 1"]


# ---- tasks


@pytest.mark.parametrize("workflow", [name for name in held_out.TASKS if name not in ("vision", "router")])
def test_tasks_are_the_same_for_the_same_seed(workflow: str) -> None:
    first, again, other = (held_out.held_out(workflow, 3, seed) for seed in (0, 0, 1))
    assert [task.text for task in first] == [task.text for task in again]
    assert [task.text for task in first] != [task.text for task in other]


@pytest.mark.parametrize("maker", dict.fromkeys(held_out.CALCULATIONS))
async def test_the_expected_answer_of_a_calculation_is_right_and_another_wrong(maker: Maker) -> None:
    draw = Draw(random.Random(3), held_out=True)
    both = maker is calculate.two_questions
    for _ in range(3):
        draw.begin()
        turn = maker(draw)
        answer = turn.talk.messages[-1]["content"]
        if "did not work" in answer:
            continue
        task = held_out.calculated(turn, both)
        assert await task.judge(answer)
        assert not await task.judge(answer.rpartition("=")[0] + "= 0.123.")
        assert not await task.judge("I do not know that.")


async def test_files_of_a_task_lie_where_it_asks_for_them() -> None:
    draw = Draw(random.Random(4), held_out=True)
    for _ in range(30):
        draw.begin()
        task = held_out.reading(draw)
        [(path, content)] = task.files.items()
        assert path in task.text
        assert await task.judge(f"{path} says: {content}")
        task = held_out.listing(draw)
        assert await task.judge("\n".join(part for path in task.files for part in path.replace("/", "/\n").split()))
        assert not await task.judge("")
        assert all(not Path(path).is_absolute() for path in task.files)


# ---- counts and medians


def test_ratios_are_those_of_each_round() -> None:
    found = {steps.BARE: [(1.0, 1.0), (4.0, 2.0), (2.0, 2.0)], steps.OURS: [(2.0, 1.0), (4.0, 6.0), (3.0, 4.0)]}
    bare, ours = steps.costs("5 steps", found)
    assert (bare.wall, bare.cpu, bare.wall_ratio, bare.cpu_ratio) == (2.0, 2.0, 1.0, 1.0)
    # 2, 1 and 1.5; 1, 3 and 2
    assert (ours.wall, ours.cpu, ours.wall_ratio, ours.cpu_ratio, ours.rounds) == (3.0, 4.0, 1.5, 2.0, 3)
    table = steps.table([bare, ours])
    assert table[1] == [steps.BARE, "2.00 / 2.00 (1.00 / 1.00)"]
    assert table[2][1].endswith("NOT met: 1.3")


def model_call(prompt: int, cached: int) -> ModelCall:
    return ModelCall(
        step=1,
        role="general",
        model="m",
        prompt_tokens=prompt,
        completion_tokens=5,
        cached_tokens=cached,
        seconds=0.1,
        finish_reason="stop",
    )


def test_what_the_engine_kept_is_a_share_of_the_prompt_before() -> None:
    lost = ModelCall(step=2, role="general", model="tiny", seconds=0.1, error="EndpointLost", then="called_again")
    events: list[Event] = [model_call(100, 3), lost, Answer(text="x"), model_call(200, 95), model_call(300, 210)]
    assert tiny.kept(events) == [0.95, 1.0]
    assert tiny.kept(events[:1]) == []


def ran(reason: str = "completed", right: bool = True, chosen: str = "", seconds: float = 1.0) -> tiny.Ran:
    return tiny.Ran("Do.", reason, "done", right, ("react",), chosen, "", seconds)


def test_completed_and_right_are_counted_apart() -> None:
    rate = tiny.rate("react", [ran(), ran(right=False), ran("loop", right=False, seconds=3.0)])
    assert (rate.n, rate.completed, rate.right, rate.chosen, rate.seconds) == (3, 2, 1, None, 1.0)
    assert rate.ends == {"completed": 2, "loop": 1}
    assert not rate.met


def test_the_router_must_choose_what_fits() -> None:
    good, bad = ran(chosen="react"), ran(chosen="vision")
    assert tiny.rate("router", [good] * 19 + [bad]).met
    assert not tiny.rate("router", [good] * 18 + [bad] * 2).met
    assert tiny.rate("react", [bad] * 20).met


@pytest.mark.parametrize(
    ("request_body", "count"),
    [
        ({"messages": [{"role": "user", "content": "abcd"}]}, 4),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "abc"}]}], "tools": [{"a": 1}]}, 10),
        ({"messages": [{"role": "assistant", "content": None}]}, 0),
    ],
)
def test_characters_of_a_request(request_body: dict[str, Any], count: int) -> None:
    assert first_request.characters(request_body) == count


def test_the_second_count_says_what_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    request = {"messages": [{"role": "user", "content": "abcde"}]}
    assert first_request.second_count(request) == (2, "characters / 4")


@pytest.mark.parametrize(("tiny_count", "second", "says"), [(60, 60, "met"), (60, 61, "first count"), (61, 9, "NOT")])
def test_the_goal_of_the_prompt(tiny_count: int, second: int, says: str) -> None:
    row = {"framework": "benchai react", "tiny": tiny_count, "second": second, "by": "characters / 4"}
    assert says in first_request.prompt_table([row])[1][-1]


# ---- the scripted run


def asked(steps_wanted: int, replies: int, **more: Any) -> bytes:
    messages = [{"role": "user", "content": f"go {steps_wanted} steps"}]
    messages += [{"role": "assistant", "content": "x"}] * replies
    return json.dumps({"messages": messages} | more).encode()


def test_the_instant_server_calls_until_its_steps_are_done() -> None:
    first = instant_server.reply_to(asked(2, 0))
    [call] = first["tool_calls"]
    assert loops.calculator(**json.loads(call["function"]["arguments"])) == "1"
    assert instant_server.reply_to(asked(2, 1)) == {"role": "assistant", "content": "done after 2"}
    ended = instant_server.reply_to(asked(1, 0, tools=["final_answer"]))
    assert ended["tool_calls"][0]["function"]["name"] == "final_answer"


def test_the_instant_server_answers_whole_and_streamed() -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\n\r\n"
    whole = json.loads(instant_server.answer(head, asked(1, 0)).partition(b"\r\n\r\n")[2])
    assert whole["choices"][0]["message"]["content"] == "done after 1"
    streamed = instant_server.answer(head, asked(2, 0, stream=True)).partition(b"\r\n\r\n")[2].decode()
    lines = [line.removeprefix("data: ") for line in streamed.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    assert json.loads(lines[1])["choices"][0]["delta"]["tool_calls"][0]["index"] == 0
    props = json.loads(instant_server.answer(b"GET /props HTTP/1.1\r\n\r\n", b"").partition(b"\r\n\r\n")[2])
    assert props["default_generation_settings"]["n_ctx"] > 0


# ---- faults


def played(*events: Event, reason: StopReason = "completed", output: str = "It is 42.") -> Played:
    result = Result(
        output=output,
        stop_reason=reason,
        steps=1,
        usage=Usage(),
        thread_id="t",
        workflow="react",
    )
    return Played([*events, result], None, [], 0.1)


SEEN = Observation(step=1, id="1", name="calculator", ok=True, text="42")


def test_a_case_is_recovered_only_with_the_right_answer_and_calls() -> None:
    case = Case("one", (text("It is 42."),))
    assert case.verdict(played(SEEN)) == "recovered"
    assert case.verdict(played(SEEN, SEEN)).startswith("FAILED")
    assert case.verdict(played(SEEN, output="42")).startswith("FAILED")
    assert case.verdict(played(SEEN, reason="loop")).startswith("FAILED")
    looped = Case("two", (text(""),), ends="loop")
    assert looped.verdict(played(SEEN, reason="loop")) == "ended: loop"
    assert looped.verdict(played(SEEN)).startswith("FAILED")
    assert Case("three", (text(""),), also=lambda _: False).verdict(played(SEEN)).startswith("FAILED")
    assert next(summary([{"benchai": "recovered"}, {"benchai": "FAILED: x"}])).startswith("1 of 2")


def test_ids_must_be_there_once() -> None:
    def with_ids(*ids: str, results: tuple[str, ...]) -> Played:
        calls = {"role": "assistant", "tool_calls": [{"id": one} for one in ids]}
        answers = [{"role": "tool", "tool_call_id": one} for one in results]
        return Played([], None, [{"messages": [calls, *answers]}], 0)

    assert paired(with_ids("a", "b", results=("a", "b")))
    assert not paired(with_ids("a", "a", results=("a", "a")))
    assert not paired(with_ids("a", "b", results=("b", "a")))


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ({"answers": ["It is 42."]}, "recovered"),
        ({"answers": [""]}, "answers ''"),
        ({"answers": [GAVE_UP]}, "goes on, 1 requests"),
        ({"error": "BadRequestError: too long"}, "raises BadRequestError"),
        ({}, "hangs"),
    ],
)
def test_what_a_peer_did_is_said_in_a_word(said: dict[str, Any], word: str) -> None:
    assert outcome(said, [{"messages": []}]) == word


def test_every_fault_is_replayed() -> None:
    assert len(FAULTS) == 13
    assert all(fault.cases and fault.peers for fault in FAULTS)
    names = [case.name for fault in FAULTS for case in fault.cases]
    assert len(set(names)) == len(names)


# ---- tables


def test_a_table_has_one_width_for_each_column() -> None:
    lines = markdown([["a", "b"], ["x|y", "two\nlines"]]).splitlines()
    assert lines[2] == "| x\\|y | two lines |"
    assert len({len(line) for line in lines}) == 1


def test_a_part_tells_how_busy_the_machine_was() -> None:
    part = Part("cold", [{"n": 1}], [["a"], ["1"]], ["why"], 3.0, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    assert "load average 1.0/2.0/3.0 -> 4.0/5.0/6.0" in part.markdown()
    assert part.markdown().endswith("- why")
    assert part.as_json()["load"] == {"before": (1.0, 2.0, 3.0), "after": (4.0, 5.0, 6.0)}
