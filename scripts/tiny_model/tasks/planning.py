"""Conversations of the planner, of the orchestrator and of its merging step."""

from __future__ import annotations

import json
from typing import Any

from scripts.tiny_model import words
from scripts.tiny_model.conversation import Conversation
from scripts.tiny_model.split import Draw, pool
from scripts.tiny_model.tasks import calculate, files
from scripts.tiny_model.tasks.coding import (
    block,
    broken,
    conversation,
    function,
    numbered,
    reviewed,
    steps,
    task,
)

Plan = tuple[str, str, list[str]]
SubTask = tuple[str, str, list[int]]

TOPIC_FORMS = ("{a}", "{a} and {b}", "the {a}", "the {a} of {N}", "{a} in {C}")


def topic(draw: Draw) -> str:
    """What a text can be about."""
    a, b = words.things(draw, 2)
    return draw.rng.choice(TOPIC_FORMS).format(a=a, b=b, N=words.name(draw), C=draw.invented().capitalize())


def plan_function(draw: Draw) -> Plan:
    """Write a function."""
    wanted = function(draw)
    return task(draw, wanted), f"{wanted.signature} {wanted.does}", steps(wanted)


def plan_rename(draw: Draw) -> Plan:
    """Rename something in a file."""
    a, b = words.things(draw, 2)
    p = words.path(draw)
    asked = draw.pick(
        "[Rename|Please rename|Change the name] {a} to {b} in [the file |]{p}[.|]",
        "[In {p}, rename|In the file {p} rename] {a} to {b}[.|]",
        "[Replace|Exchange] {a} [by|with] {b} in {p}[.|]",
    )
    goal = f"{p} says {b} instead of {a}"
    return (
        asked.format(a=a, b=b, p=p),
        goal,
        [f"Read {p}", f"Replace {a} by {b} in {p}", f"Check that {a} is gone from {p}"],
    )


def plan_text(draw: Draw) -> Plan:
    """Write a text about a topic for somebody."""
    kind = draw.rng.choice(("report", "summary", "letter", "speech", "guide", "page", "talk"))
    about, name = topic(draw), words.name(draw)
    asked = draw.pick(
        "[Write|Prepare|Please write|Draft|Make] a {k} about {t} for {N}[.|]",
        "{N} needs a {k} about {t}[.|. Write it.]",
        "[I need|We need] a {k} about {t} for {N}[.|]",
    )
    lines = [f"Collect facts about {about}", f"Write the {kind} about {about}", f"Send the {kind} to {name}"]
    return asked.format(k=kind, t=about, N=name), f"A {kind} about {about} for {name}", lines


def plan_fix(draw: Draw) -> Plan:
    """Repair a fault in a file."""
    p, a = words.path(draw), words.thing(draw)
    what = draw.rng.choice(("the wrong {a}", "the missing {a}", "the broken {a}", "the {a} bug", "the {a}")).format(a=a)
    asked = draw.pick(
        "[Fix|Repair|Please fix|Mend] {w} in [the file |]{p}[.|]", "[In {p}, fix|Look into {p} and fix] {w}[.|]"
    )
    return (
        asked.format(w=what, p=p),
        f"{p} works without {what}",
        [f"Read {p}", f"Find {what} in {p}", f"Repair {what}", "Run the tests"],
    )


def plan_move(draw: Draw) -> Plan:
    """Move a file."""
    p, d = words.path(draw), words.folder(draw)
    asked = draw.pick(
        "[Move|Please move|Copy] [the file |]{p} [to|into] [the folder |]{d}[.|]", "[Put|Bring] {p} into {d}[.|]"
    )
    return asked.format(p=p, d=d), f"{p} is in {d}", [f"Read {p}", f"Write it into {d}", f"List the files in {d}"]


def plan_event(draw: Draw) -> Plan:
    """Organise an event."""
    kind = draw.rng.choice(("party", "meeting", "dinner", "trip", "workshop", "concert"))
    n, city = draw.digits(1, 3), draw.invented().capitalize()
    asked = draw.pick(
        "[Organise|Plan|Prepare|Please plan|Arrange] a {k} for {n} people in {C}[.|]",
        "[We want|I want|We need] a {k} in {C} for {n} people[.|]",
    )
    lines = [f"Find a place in {city} for {n} people", "Choose a date", f"Invite {n} people to the {kind}"]
    return asked.format(k=kind, n=n, C=city), f"A {kind} for {n} people in {city}", lines


def plan_calculation(draw: Draw) -> Plan:
    """Calculate something, which needs no more than a tool."""
    asked, wanted = calculate.question(draw)
    return asked, f"The value of {wanted}", [f"Calculate {wanted}", "Report the result"]


def plan_file(draw: Draw) -> Plan:
    """Find out what a file says, and do something with it."""
    p, name = words.path(draw), words.name(draw)
    verb, done = draw.rng.choice(
        (("summarise", "Summarise"), ("translate", "Translate"), ("check", "Check"), ("explain", "Explain"))
    )
    asked = draw.pick(
        "[Read {p} and|Please read {p} and|Open {p} and] {v} it for {N}[.|]",
        "[{V}|Please {v}] [the file |]{p} for {N}[.|]",
    )
    text = asked.format(p=p, v=verb, V=done, N=name)
    return text, f"{name} knows what {p} says", [f"Read {p}", f"{done} the text", f"Send the result to {name}"]


def plan_two(draw: Draw) -> Plan:
    """Two actions of any kind, one after the other."""
    first, second = (f"{draw.rng.choice(VERBS)} the {words.thing(draw)}" for _ in range(2))
    if draw.chance(0.5):
        first += f" in {draw.invented().capitalize()}"
    if draw.chance(0.5):
        second += f" for {words.name(draw)}"
    asked = draw.pick("{A}[ and then|, then| and| and afterwards] {b}[.|]", "[First|Please] {a}, then {b}[.|]")
    first_line, second_line = calculate.sentence_case(first), calculate.sentence_case(second)
    return (
        asked.format(A=first_line, a=first, b=second),
        f"{first_line} and {second}",
        [first_line, second_line, "Check the result"],
    )


def plan_any(draw: Draw) -> Plan:
    """Any other request: its own words make the plan."""
    what = f"{draw.rng.choice(VERBS)} {draw.rng.choice(('the', 'a', 'my', 'our', 'every'))} {words.thing(draw)}"
    if draw.chance(0.7):
        what += " " + draw.rng.choice(
            ("in {C}", "with {N}", "for {N}", "before {C} closes", "of the {t}", "with {n} {t}s")
        ).format(C=draw.invented().capitalize(), N=words.name(draw), t=words.thing(draw), n=draw.digits(1, 3))
    asked = draw.pick("{A}[.|]", "[Please|Can you|I want to|Help me to|We have to] {a}[.|]")
    line = calculate.sentence_case(what)
    return asked.format(A=line, a=what), line, [f"Find out how to {what}", line, "Check the result"]


VERBS = pool(
    "clean paint sell buy build learn cook wash water test measure draw count visit collect describe improve "
    "design install update teach deliver pack load open close remove sort grow record"
)
PLANS = (
    plan_function,
    plan_function,
    plan_rename,
    plan_text,
    plan_fix,
    plan_move,
    plan_event,
    plan_calculation,
    plan_file,
    plan_two,
    plan_any,
)


def plan(draw: Draw) -> Conversation:
    """A JSON plan."""
    asked, goal, lines = draw.rng.choice(PLANS)(draw)
    return conversation(
        draw, "planner", "planner", asked, json.dumps({"goal": goal, "steps": lines}, ensure_ascii=False)
    )


def split_functions(draw: Draw) -> tuple[str, list[SubTask]]:
    """One or two functions and a review of each."""
    wanted = [function(draw) for _ in range(draw.rng.choice((1, 1, 2)))]
    parts = [f"{one.signature} that {one.does}" for one in wanted]
    asked = draw.pick(
        "[Write|Implement|Please write] a function {p}[, and review it|, then review it| and review it][.|]",
        "[Write and review|Implement and review] a function {p}[.|]",
    )
    if len(wanted) == 2:
        asked = draw.pick(
            "[Write|Implement|Please write] a function {p}[ and| and also|, and] a function {q}[.|. Review both.]",
            "[Write|Implement] two functions: {p}, and {q}[.|]",
        )
    tasks: list[SubTask] = [("code", f"Write a function {part}.", []) for part in parts]
    tasks += [("review", f"Review {one.name}.", [place]) for place, one in enumerate(wanted, 1)]
    return asked.format(p=parts[0], q=parts[-1]), tasks


def split_calculations(draw: Draw) -> tuple[str, list[SubTask]]:
    """Two or three calculations, sometimes added up."""
    pairs = [calculate.expression(draw, 0.1) for _ in range(draw.rng.choice((2, 2, 3)))]
    add = draw.chance(0.4)
    if len(pairs) == 2:
        asked = draw.pick(
            "[Calculate|Compute|Please calculate|Work out] {a}[ and| and also|, and] {b}",
            "What is {a}[, and what is| and what is| and] {b}",
        )
    else:
        asked = draw.pick("[Calculate|Compute|Please calculate|Work out] {a}, {b} and {c}", "What is {a}, {b} and {c}")
    text = asked.format(**dict(zip("abc", (said for said, _ in pairs), strict=False)))
    end = (
        draw.pick("[, then|, and then| and] add [the results|them up][.|]")
        if add
        else "?"
        if text.startswith("What")
        else "."
    )
    tasks: list[SubTask] = [("general", f"Calculate {wanted}.", []) for _, wanted in pairs]
    if add:
        tasks.append(("general", "Add the results.", list(range(1, len(pairs) + 1))))
    return text + end, tasks


def split_research(draw: Draw) -> tuple[str, list[SubTask]]:
    """Facts about two or three things, then a comparison or a summary."""
    found = words.things(draw, draw.rng.choice((2, 2, 3)))
    listed = ", ".join(found[:-1]) + " and " + found[-1]
    if draw.chance(0.5):
        asked = draw.pick(
            "[Compare|Please compare|Make a comparison of] {l}[.|]",
            "[Research|Look into|Find out about] {l}[, then| and| and then] compare them[.|]",
        )
        last = f"Compare {listed}."
    else:
        name = words.name(draw)
        asked = draw.pick(
            "[Research|Look into|Find out about] {l}[, then| and| and then] write a summary for {N}[.|]",
            "[Write|Prepare] a summary of {l} for {N}[.|]",
        ).replace("{N}", name)
        last = f"Write a summary of {listed} for {name}."
    tasks: list[SubTask] = [("research", f"Collect facts about {one}.", []) for one in found]
    return asked.format(l=listed), [*tasks, ("general", last, list(range(1, len(found) + 1)))]


def split_files(draw: Draw) -> tuple[str, list[SubTask]]:
    """Read files, then work with what they say."""
    paths = [words.path(draw) for _ in range(draw.rng.choice((1, 2, 2)))]
    listed = " and ".join(paths)
    verb = (
        draw.rng.choice(("Summarise", "Compare", "Translate"))
        if len(paths) == 2
        else draw.rng.choice(("Summarise", "Translate"))
    )
    asked = draw.pick(
        "[Read|Please read|Open] {l}[ and|, then| and then] {v} [them|it|the text][.|]", "[{V}|Please {v}] {l}[.|]"
    )
    tasks: list[SubTask] = [("general", f"Read {path}.", []) for path in paths]
    return asked.format(l=listed, v=verb.lower(), V=verb), [
        *tasks,
        ("general", f"{verb} {listed}.", list(range(1, len(paths) + 1))),
    ]


def split_chain(draw: Draw) -> tuple[str, list[SubTask]]:
    """Facts, a text, its translation or check: each needs the one before."""
    about, name = topic(draw), words.name(draw)
    kind = draw.rng.choice(("report", "letter", "speech", "guide"))
    asked = draw.pick(
        "[Write|Prepare|Please write] a {k} about {t} for {N}[.|]",
        "[I need|We need|{N} needs] a {k} about {t} for {N}[.|]",
    )
    tasks: list[SubTask] = [
        ("research", f"Collect facts about {about}.", []),
        ("general", f"Write a {kind} about {about} for {name}.", [1]),
        ("general", f"Check the {kind}.", [2]),
    ]
    return asked.format(k=kind, t=about, N=name), tasks


def split_single(draw: Draw) -> tuple[str, list[SubTask]]:
    """A task that needs no splitting: time, a file, a listing."""
    kind = draw.rng.random()
    if kind < 0.4:
        asked, _, lines = plan_any(draw)
        return asked, [("general", lines[1] + ".", [])]
    if kind < 0.7:
        path = words.path(draw)
        return files.asked(draw, files.READ, path), [("general", f"Read {path}.", [])]
    asked, wanted = calculate.question(draw)
    return asked, [("general", f"Calculate {wanted}.", [])]


SPLITS = (
    split_functions,
    split_functions,
    split_calculations,
    split_calculations,
    split_research,
    split_files,
    split_chain,
    split_single,
)


def orchestrate(draw: Draw) -> Conversation:
    """A task split into sub-tasks, as JSON."""
    asked, parts = draw.rng.choice(SPLITS)(draw)
    tasks: list[dict[str, Any]] = [
        {"id": place, "role": role, "task": what, "depends_on": needs}
        for place, (role, what, needs) in enumerate(parts, 1)
    ]
    return conversation(draw, "orchestrator", "orchestrator", asked, json.dumps({"tasks": tasks}, ensure_ascii=False))


def result(draw: Draw) -> str:
    """What an agent may have answered to a sub-task, one line."""
    kind = draw.rng.random()
    if kind < 0.4:
        _, wanted = calculate.expression(draw)
        return f"{wanted} = {calculate.evaluated(wanted).removeprefix('Error: ')}."
    if kind < 0.55:
        return f"{words.path(draw)} says: {ended(files.sentence(draw, 8))}"
    if kind < 0.65:
        return f"It is {draw.rng.randint(0, 23):02d}:{draw.rng.randint(0, 59):02d} in {draw.word(words.ZONES)}."
    return ended(files.sentence(draw, 10))


def ended(text: str) -> str:
    """The text with a sign at its end: where two are joined, it can be seen where one ends."""
    return text if text[-1] in ".!?" else f"{text}."


def joined(results: list[str]) -> str:
    """The merged answer: all results in their order, code on lines of its own."""
    text = ""
    for one in results:
        line_break = "```" in one or text.endswith("```")
        text += ("\n" if line_break else " ") * bool(text) + one
    return text


def merge(draw: Draw) -> Conversation:
    """Results of sub-tasks made into one answer."""
    asked, _ = draw.rng.choice(SPLITS)(draw)
    results = [result(draw) for _ in range(draw.rng.choice((1, 2, 2, 3, 3, 4)))]
    if draw.chance(0.15):
        wanted = [function(draw) for _ in range(draw.rng.choice((1, 1, 2)))]
        results = [block(one.code(one.family.body)) for one in wanted]
        results += [draw.rng.choice(("APPROVED", "APPROVED", reviewed(one, broken(draw, one)[0])[1])) for one in wanted]
    return conversation(draw, "merge", "merge", f"Task: {asked}\n\nResults:\n{numbered(results)}", joined(results))
