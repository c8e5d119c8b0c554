"""Calls written as text: forms that published chat templates and small models produce."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchai.agents import text_calls
from benchai.agents.markup import MAX_CALLS, Found, TextCall, find_calls

NAMES = ("search", "calculator", "read_file", "write_file", "clock")
S = TextCall("search", {"query": "rain"})
C = TextCall("calculator", {"expression": "2+2"})
JS = '{"name": "search", "arguments": {"query": "rain"}}'
JC = '{"name": "calculator", "arguments": {"expression": "2+2"}}'


def cut(name: str, arguments: Any) -> TextCall:
    return TextCall(name, arguments, cut=True)


CALLS: dict[str, tuple[str, list[TextCall]]] = {
    # Hermes, Qwen2.5, Qwen3
    "hermes": (f"<tool_call>\n{JS}\n</tool_call>", [S]),
    "hermes on one line": (f"<tool_call>{JS}</tool_call>", [S]),
    "hermes, two": (f"<tool_call>\n{JS}\n</tool_call>\n<tool_call>\n{JC}\n</tool_call>", [S, C]),
    "hermes, two in one tag": (f"<tool_call>\n{JS}\n{JC}\n</tool_call>", [S, C]),
    "hermes, second opening tag forgotten": (f"<tool_call>\n{JS}\n</tool_call>\n{JC}\n</tool_call>", [S, C]),
    "hermes, opening tag in place of the closing one": (f"<tool_call>\n{JS}\n<tool_call>", [S]),
    "hermes, no closing tag": (f"<tool_call>\n{JS}", [S]),
    "hermes, half a closing tag": (f"<tool_call>\n{JS}\n</tool_", [S]),
    "hermes, windows lines": (f"<tool_call>\r\n{JS}\r\n</tool_call>\r\n", [S]),
    "hermes after a sentence": (f"I will look it up.\n<tool_call>\n{JS}\n</tool_call>", [S]),
    "hermes before a sentence": (f"<tool_call>\n{JS}\n</tool_call>\nPlease wait.", [S]),
    "hermes with end of turn": (f"<tool_call>\n{JS}\n</tool_call><|im_end|>", [S]),
    "hermes, parameters for arguments": (f"<tool_call>{JS.replace('arguments', 'parameters')}</tool_call>", [S]),
    "hermes, arguments as text": (
        '<tool_call>{"name": "search", "arguments": "{\\"query\\": \\"rain\\"}"}</tool_call>',
        [TextCall("search", '{"query": "rain"}')],
    ),
    "hermes, no arguments": ('<tool_call>{"name": "clock"}</tool_call>', [TextCall("clock", {})]),
    "hermes, null arguments": ('<tool_call>{"name": "clock", "arguments": null}</tool_call>', [TextCall("clock", {})]),
    "hermes, flat arguments": ('<tool_call>{"name": "search", "query": "rain"}</tool_call>', [S]),
    "hermes, an argument beside the others": (
        '<tool_call>{"name": "write_file", "arguments": {"path": "a"}, "content": "x"}</tool_call>',
        [TextCall("write_file", {"path": "a", "content": "x"})],
    ),
    "hermes, a brace too few": (f"<tool_call>\n{JS[:-1]}\n</tool_call>", [S]),
    "hermes, two braces too few": (f"<tool_call>\n{JS[:-2]}\n</tool_call>", [S]),
    "hermes, a brace too many": (f"<tool_call>\n{JS}}}\n</tool_call>", [S]),
    "hermes, double braces of a template": (
        '<tool_call>\n{{"name": "search", "arguments": {"query": "rain"}}}\n</tool_call>',
        [TextCall("search", '{"query": "rain"}}}')],
    ),
    "hermes, python literals": (
        "<tool_call>\n{'name': 'search', 'arguments': {'query': 'rain', 'safe': True, 'after': None}}\n</tool_call>",
        [TextCall("search", {"query": "rain", "safe": True, "after": None})],
    ),
    "hermes, trailing comma": ('<tool_call>{"name": "search", "arguments": {"query": "rain",},}</tool_call>', [S]),
    "hermes, raw lines in a string": (
        '<tool_call>\n{"name": "write_file", "arguments": {"path": "a", "content": "x\ny\n"}}\n</tool_call>',
        [TextCall("write_file", {"path": "a", "content": "x\ny\n"})],
    ),
    "hermes, quotes in a string": (
        '<tool_call>{"name": "write_file", "arguments": {"content": "print("hi")"}}</tool_call>',
        [TextCall("write_file", {"content": 'print("hi")'})],
    ),
    "hermes, tags inside a string": (
        '<tool_call>{"name": "write_file", "arguments": {"content": "<tool_call>x</tool_call> `a` ```b"}}</tool_call>',
        [TextCall("write_file", {"content": "<tool_call>x</tool_call> `a` ```b"})],
    ),
    "hermes, unknown tool": ('<tool_call>{"name": "fly", "arguments": {}}</tool_call>', [TextCall("fly", {})]),
    "hermes, prefixed": (
        '<tool_call>{"name": "functions.clock", "arguments": {}}</tool_call>',
        [TextCall("clock", {})],
    ),
    "hermes, prefixed by tools": ('<tool_call>{"name": "tools.clock"}</tool_call>', [TextCall("clock", {})]),
    "hermes, prefix of an unknown tool stays": (
        '<tool_call>{"name": "functions.fly"}</tool_call>',
        [TextCall("functions.fly", {})],
    ),
    "hermes, the form of the wire": (
        '<tool_call>{"type": "function", "function": {"name": "search", "arguments": {"query": "rain"}}}</tool_call>',
        [S],
    ),
    "hermes, name as key": ('<tool_call>{"search": {"query": "rain"}}</tool_call>', [S]),
    "hermes, after thoughts": (f"<think>\nI could <tool_call>\n</think>\n\n<tool_call>\n{JS}\n</tool_call>", [S]),
    "hermes, after thoughts that the template opened": (f"hm {{}}\n</think>\n\n<tool_call>{JS}</tool_call>", [S]),
    "hermes, made-up result": (
        f"<tool_call>{JS}</tool_call>\n<tool_response>\nsunny\n</tool_response>\n<tool_call>{JC}</tool_call>",
        [S],
    ),
    "hermes, cut in a string": (
        '<tool_call>\n{"name": "write_file", "arguments": {"path": "a", "content": "def f(',
        [cut("write_file", {"path": "a", "content": "def f("})],
    ),
    "hermes, cut after a value": (
        '<tool_call>\n{"name": "search", "arguments": {"query": "rain"',
        [cut(S.name, S.arguments)],
    ),
    "hermes, cut in a closed tag": (
        '<tool_call>{"name": "search", "arguments": {"query": "ra</tool_call>',
        [cut("search", {"query": "ra"})],
    ),
    "hermes, cut after the name": ('<tool_call>\n{"name": "search", "argu', [cut("search", {})]),
    "hermes, cut before the name": ('<tool_call>\n{"na', [cut("", '{"na')]),
    "hermes, unreadable": (
        '<tool_call>{"name": "search", "arguments": {"query": rain}}</tool_call>',
        [TextCall("search", '{"query": rain}}')],
    ),
    "hermes in a fence that is all": (f"```json\n<tool_call>\n{JS}\n</tool_call>\n```", [S]),
    "a tag in capitals": (f"<TOOLCALL>[{JS}]</TOOLCALL>", [S]),
    "qwen, tools for tool_call": (f"<tools>\n{JS}\n</tools>", [S]),
    "tool_calls with a list": (f"<tool_calls>[{JS}, {JC}]</tool_calls>", [S, C]),
    "function_call": (f"<function_call> {JS}", [S]),
    "glaive": (f"<functioncall> {JS} <|endoftext|>", [S]),
    "tool_use": (f"<tool_use>{JS}</tool_use>", [S]),
    # Qwen3-Coder, Llama 3.1, MiniMax
    "qwen3 coder": (
        "<tool_call>\n<function=search>\n<parameter=query>\nrain\n</parameter>\n</function>\n</tool_call>",
        [S],
    ),
    "qwen3 coder, no outer tag": (
        "<function=search>\n<parameter=query>\nrain\n</parameter>\n</function>\n</tool_call>",
        [S],
    ),
    "qwen3 coder, lines and tags kept": (
        "<function=write_file>\n<parameter=path>\na.html\n</parameter>\n<parameter=content>\n<p>\n  `x`\n</p>\n\n"
        "</parameter>\n</function>",
        [TextCall("write_file", {"path": "a.html", "content": "<p>\n  `x`\n</p>\n"})],
    ),
    "qwen3 coder, two": (
        "<tool_call>\n<function=clock>\n</function>\n</tool_call>\n<tool_call>\n<function=search>\n<parameter=query>\n"
        "rain\n</parameter>\n</function>\n</tool_call>",
        [TextCall("clock", {}), S],
    ),
    "qwen3 coder, function not closed": (
        "<tool_call>\n<function=search>\n<parameter=query>\nrain\n</parameter>\n</tool_call>",
        [S],
    ),
    "qwen3 coder, parameter not closed": (
        "<function=write_file>\n<parameter=path>\na\n<parameter=content>\nb\n</parameter>\n</function>",
        [TextCall("write_file", {"path": "a", "content": "b"})],
    ),
    "qwen3 coder, cut": (
        "<tool_call>\n<function=write_file>\n<parameter=path>\na\n</parameter>\n<parameter=content>\ndef",
        [cut("write_file", {"path": "a", "content": "def"})],
    ),
    "qwen3 coder, cut between parameters": (
        "<function=write_file>\n<parameter=path>\na\n</parameter>\n",
        [cut("write_file", {"path": "a"})],
    ),
    "qwen3 coder, parameter twice": (
        "<function=search>\n<parameter=query>a</parameter>\n<parameter=query>b</parameter>\n</function>",
        [TextCall("search", "<parameter=query>a</parameter>\n<parameter=query>b</parameter>")],
    ),
    "llama 3.1": ('<function=search>{"query": "rain"}</function>', [S]),
    "llama 3.1 with end of turn": ('<function=search>{"query": "rain"}</function><|eom_id|>', [S]),
    "llama 3.1, cut": ('<function=search>{"query": "ra', [cut("search", {"query": "ra"})]),
    "invoke": (
        '<function_calls>\n<invoke name="search">\n<parameter name="query">rain</parameter>\n</invoke>\n'
        "</function_calls>",
        [S],
    ),
    # GLM
    "glm": ("<tool_call>search\n<arg_key>query</arg_key>\n<arg_value>rain</arg_value>\n</tool_call>", [S]),
    "glm, no arguments": ("<tool_call>clock\n</tool_call>", [TextCall("clock", {})]),
    "glm, cut": ("<tool_call>search\n<arg_key>query</arg_key>\n<arg_value>ra", [cut("search", {"query": "ra"})]),
    # Llama 3
    "python tag": ('<|python_tag|>{"type": "function", "name": "search", "parameters": {"query": "rain"}}', [S]),
    "python tag, two": (f"<|python_tag|>{JS}; {JC}<|eom_id|>", [S, C]),
    "python tag, call": ('<|python_tag|>search.call(query="rain")', [S]),
    "llama 3.2, pythonic": ('[search(query="rain")]', [S]),
    "llama 3.2, pythonic, two": ("[search(query='rain'), calculator(expression='2+2')]", [S, C]),
    "llama 3.2, literals": (
        "search".join(["[", '(query="a", limit=-3, deep=True, tags=["x", ("y",)], more={"k": null})]']),
        [TextCall("search", {"query": "a", "limit": -3, "deep": True, "tags": ["x", ["y"]], "more": {"k": None}})],
    ),
    "llama 3.2, bare": ('{"name": "search", "parameters": {"query": "rain"}}', [S]),
    "llama 3.2, bare, two": (f"{JS}; {JC}", [S, C]),
    "lfm2": ('<|tool_call_start|>[search(query="rain")]<|tool_call_end|>', [S]),
    "lfm2, cut": ('<|tool_call_start|>[search(query="ra', [cut("search", 'search(query="ra')]),
    # Mistral
    "mistral": (f"[TOOL_CALLS][{JS}]", [S]),
    "mistral with blanks": (f"[TOOL_CALLS] [{JS}, {JC}]</s>", [S, C]),
    "mistral, new": ('[TOOL_CALLS]search{"query": "rain"}', [S]),
    "mistral, args": ('[TOOL_CALLS]search[ARGS]{"query": "rain"}', [S]),
    "mistral, two": (
        '[TOOL_CALLS]search[ARGS]{"query": "rain"}[TOOL_CALLS]calculator[ARGS]{"expression": "2+2"}',
        [S, C],
    ),
    "mistral, id": ('[TOOL_CALLS]search[CALL_ID]abc123DEF[ARGS]{"query": "rain"}', [S]),
    "mistral, marker lost": ('search[ARGS]{"query": "rain"}', [S]),
    "mistral, cut": ('[TOOL_CALLS]search[ARGS]{"query": "ra', [cut("search", {"query": "ra"})]),
    # Granite, Phi, Firefunction
    "granite": (f"<|tool_call|>[{JS}]", [S]),
    "granite, tag": (f"<tool_call>[{JS}]", [S]),
    "phi 4 mini": (f"<|tool_call|>[{JS}]<|/tool_call|>", [S]),
    "functools": (f"functools[{JS}]", [S]),
    # DeepSeek, Kimi, gpt-oss, Functionary
    "deepseek r1": (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>search\n```json\n"
        '{"query": "rain"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        [S],
    ),
    "deepseek v3.1, two": (
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>search<｜tool▁sep｜>{"query": "rain"}<｜tool▁call▁end｜>'
        '<｜tool▁call▁begin｜>calculator<｜tool▁sep｜>{"expression": "2+2"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        [S, C],
    ),
    "deepseek, ascii": (
        '<|tool_calls_begin|><|tool_call_begin|>search<|tool_sep|>{"query": "rain"}<|tool_call_end|>',
        [S],
    ),
    "kimi": (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.search:0<|tool_call_argument_begin|>"
        '{"query": "rain"}<|tool_call_end|><|tool_calls_section_end|>',
        [S],
    ),
    "gpt-oss": (
        "<|channel|>analysis<|message|>Look it up.<|end|><|start|>assistant<|channel|>commentary to=functions.search "
        '<|constrain|>json<|message|>{"query": "rain"}<|call|>',
        [S],
    ),
    "functionary": ('>>>search\n{"query": "rain"}', [S]),
    "chatglm": ('search\n{"query": "rain"}', [S]),
    # Command-R, ReAct
    "command-r": (
        'Action: ```json\n[\n    {\n        "tool_name": "search",\n        "parameters": {"query": "rain"}\n'
        "    }\n]\n```",
        [S],
    ),
    "command-r7b": (
        '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "search", "parameters": {"query": "rain"}}]<|END_ACTION|>',
        [S],
    ),
    "react": ('Thought: look it up\nAction: search\nAction Input: {"query": "rain"}', [S]),
    "react, made-up result": (
        'Thought: x\nAction: search\nAction Input: {"query": "rain"}\nObservation: sunny\nFinal Answer: sunny',
        [S],
    ),
    "react, words": ("Action: search\nAction Input: rain in Oslo\nObservation:", [TextCall("search", "rain in Oslo")]),
    "react, bold": ('**Action:** search\n**Action Input:** {"query": "rain"}', [S]),
    "react, call": ('Action: search({"query": "rain"})', [S]),
    "react, keywords": ('Action: search(query="rain")', [S]),
    "react, json": ('Thought: x\nAction:\n```\n{"action": "search", "action_input": {"query": "rain"}}\n```', [S]),
    "react, cut": ('Action: search\nAction Input: {"query": "ra', [cut("search", {"query": "ra"})]),
    # fences and bare JSON
    "fence": (f"```json\n{JS}\n```", [S]),
    "fence after a sentence": (f"I need the weather.\n\n```json\n{JS}\n```", [S]),
    "fence without label": (f"```\n{JS}\n```", [S]),
    "fence not closed": (f"```json\n{JS}", [S]),
    "fence with a list": (f"```json\n[{JS}, {JC}]\n```", [S, C]),
    "two fences": (f"First:\n```json\n{JS}\n```\nThen:\n```json\n{JC}\n```\n", [S, C]),
    "fence tool_call": (f"```tool_call\n{JS}\n```", [S]),
    "fence tool_call, unknown tool": ('```tool_call\n{"name": "fly", "arguments": {}}\n```', [TextCall("fly", {})]),
    "gemma tool_code": ('```tool_code\nsearch(query="rain")\n```', [S]),
    "gemma tool_code, printed": ('```tool_code\nprint(search(query="rain"))\n```', [S]),
    "bare": (JS, [S]),
    "bare, pretty": (json.dumps(json.loads(JS), indent=2), [S]),
    "bare list": (f"[{JS}, {JC}]", [S, C]),
    "bare, tool and args": ('{"tool": "search", "args": {"query": "rain"}}', [S]),
    "bare, tool_name": ('{"tool_name": "search", "parameters": {"query": "rain"}}', [S]),
    "bare, function as text": ('{"function": "search", "arguments": {"query": "rain"}}', [S]),
    "bare, wire": ('{"function": {"name": "search", "arguments": "{}"}}', [TextCall("search", "{}")]),
    "bare, tool_calls": (f'{{"tool_calls": [{JS}]}}', [S]),
    "bare, action": ('{"action": "search", "action_input": "rain"}', [TextCall("search", "rain")]),
    "bare, thought": (f'{{"thought": "hm", {JS[1:]}', [S]),
    "bare, cut": ('{"name": "search", "arguments": {"query": "ra', [cut("search", {"query": "ra"})]),
    "bare, a brace too many": (f"{JS}}}", [S]),
}

ANSWERS = {
    "nothing": "",
    "prose": "The weather in Oslo is rainy.",
    "prose with braces": "Use {x} and [y] for the set {1, 2}.",
    "a tag in backticks": "Write `<tool_call>` before the call.",
    "a call in backticks": f"The model writes `<tool_call>{JS}</tool_call>` to call it.",
    "a call in an xml fence": f"Like this:\n```xml\n<tool_call>\n{JS}\n</tool_call>\n```\nThat is all.",
    "a call in an xml fence, alone": f"```xml\n<tool_call>\n{JS}\n</tool_call>\n```",
    "a call in a fence at the end": f"Like this:\n```\n<tool_call>\n{JS}\n</tool_call>\n```",
    "a tag with nothing": "The tag <tool_call> starts a call.",
    "a tag with prose": "<tool_call>I do not know</tool_call>",
    "a mistral tag in prose": "Mistral writes [TOOL_CALLS] first.",
    "json of no tool": '{"name": "Ada", "arguments": {"age": 36}}',
    "json without arguments": '{"name": "search"}',
    "json of a schema": '{"name": "search", "parameters": {"type": "object", "properties": {"query": {}}}}',
    "json with more": '{"name": "search", "arguments": {"query": "rain"}, "result": "sunny"}',
    "json amid prose": f"The call was {JS} and it worked.",
    "json before prose": f"{JS}\nis how it is called.",
    "fence amid prose": f"An example:\n```json\n{JS}\n```\nIt returns the weather.",
    "fence of code": '```python\nsearch(query="rain")\n```',
    "fences, one of them code": f"```python\nx = 1\n```\n```json\n{JS}\n```",
    "fence of no tool": '```json\n{"name": "fly", "arguments": {}}\n```',
    "fence tool_code of no tool": "```tool_code\nfly(x=1)\n```",
    "list of strings": '["search", "clock"]',
    "pythonic, unknown": "[fly(x=1)]",
    "pythonic, one unknown": '[search(query="rain"), fly(x=1)]',
    "pythonic amid prose": 'Call [search(query="rain")] first.',
    "pythonic code": "[f(x) for x in y]",
    "pythonic, not literal": "[search(query=open('/etc/passwd').read())]",
    "one line of code": 'print("hello")',
    "react without a tool": "Action: none\nAction Input: nothing",
    "react final": "Thought: done\nFinal Answer: 4",
    "react explained": "```\nAction: search\nAction Input: {}\n```\nis the form.",
    "action in prose": "Action: search the archive tomorrow.",
    "thoughts only": f"<think>\n<tool_call>{JS}</tool_call>\n</think>\nDone.",
    "thoughts without end": f"<think>\n<tool_call>{JS}</tool_call>",
    "python tag with code": "<|python_tag|>print(2 + 2)",
    "tools described": '<tools>{"type": "function", "function": {"name": "search", "parameters": {"type": "object", '
    '"properties": {"query": {"type": "string"}}}}}</tools>',
    "markdown table": "| a | b |\n| - | - |\n| `x` | {y} |",
    "html": "<p>hello</p><function>x</function>",
    "nan": '{"name": "search", "arguments": {"query": NaN}}',
}


@pytest.mark.parametrize("case", CALLS)
def test_a_call_is_found(case: str) -> None:
    text, calls = CALLS[case]
    found = find_calls(text, NAMES)
    assert found is not None
    assert found.calls == calls


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_stays_an_answer(case: str) -> None:
    assert find_calls(ANSWERS[case], NAMES) is None


def test_there_are_enough_cases() -> None:
    assert len(CALLS) >= 80
    assert len(ANSWERS) >= 30


@pytest.mark.parametrize(
    ("text", "before"),
    [
        (f"I look it up.\n<tool_call>\n{JS}\n</tool_call>", "I look it up."),
        (f"<think>hm</think>One.\n<tool_call>{JS}</tool_call>\nTwo.", "One.\nTwo."),
        (f"<tool_call>{JS}</tool_call>\n<tool_response>sunny</tool_response>It is sunny.", ""),
        (f"I look it up.\n```json\n{JS}\n```", "I look it up."),
        ('Thought: hm\nAction: search\nAction Input: {"query": "rain"}\nObservation: sunny', "Thought: hm"),
        (f"<tool_call>{JS}</tool_", ""),
        (JS, ""),
    ],
)
def test_before_is_the_text_outside(text: str, before: str) -> None:
    found = find_calls(text, NAMES)
    assert found is not None
    assert found.before == before


def test_without_tools_only_tags_are_calls() -> None:
    assert find_calls(JS, ()) is None
    assert find_calls(f"<tool_call>{JS}</tool_call>", ()) == Found([S], "")


def test_arguments_are_never_evaluated(tmp_path: Any) -> None:
    mark = tmp_path / "mark"
    source = f"[search(query=__import__('pathlib').Path({str(mark)!r}).touch())]"
    for text in (source, f"<tool_call>{source}</tool_call>", f"```tool_code\n{source}\n```", f"Action: {source[1:-1]}"):
        find_calls(text, NAMES)
    assert not mark.exists()


def test_numbers_beyond_the_finite_are_not_passed_on() -> None:
    assert find_calls("[search(query=1e999)]", NAMES) is None
    found = find_calls('<tool_call>{"name": "search", "arguments": {"query": Infinity}}</tool_call>', NAMES)
    assert found == Found([TextCall("search", '{"query": Infinity}}')], "")


def test_the_number_of_calls_is_bounded() -> None:
    found = find_calls(f"<tool_call>{JS}</tool_call>" * 500, NAMES)
    assert found is not None
    assert len(found.calls) <= MAX_CALLS


PIECES = [
    *(
        "<tool_call>",
        "</tool_call>",
        "<think>",
        "</think>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "<function=search>",
        "</function>",
    ),
    *(
        "<parameter=a>",
        "</parameter>",
        "<|python_tag|>",
        "```",
        "```json\n",
        "`",
        "Action: ",
        "search",
        "\nAction Input: ",
    ),
    *(
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        '"',
        "'",
        ":",
        ",",
        "\\",
        "\n",
        " ",
        "name",
        "arguments",
        "=",
        "1",
        "<｜tool▁call▁begin｜>",
    ),
    *(
        '{"name": "search", "arguments": ',
        "search(",
        "Observation:",
        "<arg_key>",
        "<arg_value>",
        "null",
        "NaN",
        "\ud800",
        "é",
    ),
]


def check(found: Found | None) -> None:
    if found is None:
        return
    assert found.calls
    for call in found.calls:
        assert call.name or call.cut
        assert isinstance(call.arguments, str) or json.dumps(call.arguments, allow_nan=False)


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
@example('<tool_call>{"name": "search", "arguments": {"a": "\ud800"}}')
def test_markup_in_any_order_never_raises(text: str) -> None:
    check(find_calls(text, NAMES))


@given(st.text(max_size=300))
def test_text_never_raises(text: str) -> None:
    check(find_calls(text, NAMES))


@given(st.text(st.characters(exclude_characters="{}[]<>`()", exclude_categories=["Cs"]), max_size=300))
def test_prose_is_never_a_call(text: str) -> None:
    found = find_calls(text, NAMES)
    assert found is None or re.search(r"Action *:", text)


@given(st.text(st.characters(exclude_characters="`"), max_size=200), st.sampled_from(["python", "c", "xml", "sh"]))
@example(f"<tool_call>{JS}</tool_call>", "xml")
@example('search(query="rain")', "python")
def test_code_is_never_a_call(code: str, label: str) -> None:
    assert find_calls(f"Here is the code:\n\n```{label}\n{code}\n```\n\nIt does that.", NAMES) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=4), st.booleans())
def test_json_comes_back_as_it_was(arguments: dict[str, Any], ascii_only: bool) -> None:
    text = json.dumps({"name": "search", "arguments": arguments}, ensure_ascii=ascii_only)
    for wrapped in (text, f"<tool_call>\n{text}\n</tool_call>", f"[TOOL_CALLS][{text}]", f"<|python_tag|>{text}"):
        found = find_calls(wrapped, NAMES)
        described = arguments.get("type") == "object" or "properties" in arguments
        assert described or found == Found([TextCall("search", arguments)], "")


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), json_values, min_size=1))
def test_python_literals_come_back_as_they_were(arguments: dict[str, Any]) -> None:
    source = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    assert find_calls(f"[search({source})]", NAMES) == Found([TextCall("search", arguments)], "")


ADVERSE = [
    "{",
    "[",
    "(",
    '"',
    "'",
    "`",
    "``",
    "```",
    "\\",
    "<",
    "<tool_call>",
    "<tool_call>{",
    '<tool_call>{"a":"',
    "</tool_call>",
    '<tool_call>{"name": "search", "arguments": {"a": "',
    "<tool_call>{'",
    "<function=a>",
    "<function=a><parameter=b>",
    "<function=a>\n<parameter=b>",
    "<tool_call>a<arg_key>b</arg_key><arg_value>",
    "[TOOL_CALLS]a{",
    "[TOOL_CALLS]",
    "a{",
    "<|python_tag|>a(",
    "search(",
    "[search(",
    "Action: search\n",
    "Action: search(",
    "Action:\n```",
    "<think>",
    "</think>",
    "<think></think>",
    "```json\n",
    "```json\n{",
    "```tool_call\n",
    "to=functions.a",
    "<｜tool▁call▁begin｜>",
    " ",
    "\n",
    "a ",
    "functools[ ",
    "-",
    "not ",
    "{}",
    "{//\n}",
    '{"a":1,}',
    '{"name":',
    "{'",
    "x{ ",
    '"}',
    "/*",
    "{/*",
    '{"a":"/*"',
    "Observation:\n",
    "Thought:\nAction: search\nAction Input: {",
]


@pytest.mark.parametrize("unit", ADVERSE)
@pytest.mark.parametrize("head", ["", '<tool_call>{"a": "'])
def test_a_hundred_kilobytes_of_anything_come_to_an_end(unit: str, head: str) -> None:
    """The time limit of the suite is the only clock: work that grows with the square would run into it."""
    check(find_calls(head + unit * (100_000 // len(unit)), NAMES))


def test_the_number_of_attempts_at_json_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[int] = []
    read = text_calls.read_value

    def counted(text: str, start: int, limit: int | None = None) -> Any:
        attempts.append(start)
        return read(text, start, limit)

    monkeypatch.setattr(text_calls, "read_value", counted)
    find_calls('<tool_call>{"a":"' * 5000, NAMES)
    assert 0 < len(attempts) <= 2 * MAX_CALLS


def test_a_text_beyond_the_limit_is_an_answer() -> None:
    assert find_calls(" " * 1_000_000 + f"<tool_call>{JS}</tool_call>", NAMES) is None
