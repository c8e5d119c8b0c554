"""Questions about the files of the workspace."""

from __future__ import annotations

from scripts.tiny_model import words
from scripts.tiny_model.split import Draw, pool
from scripts.tiny_model.tasks.calculate import evaluated, shown
from scripts.tiny_model.tasks.turn import Turn, failure
from scripts.tiny_model.tools import CALCULATOR, LIST_FILES, READ_FILE

LIST_THERE = (
    "=List the files in {p}",
    "[Please |Now |]list the files in {p}[.|]",
    "[Please l|L]ist [everything in |the folder |the content of |what is in ]{p}[.|]",
    "[Which|What] files are [there |]in {p}?",
    "What is in [the folder |]{p}?",
    "[Show|Tell] me [the files|what is] in {p}[.|]",
    "[Can|Could] you list [the files in |]{p}?",
    "What does [the folder |]{p} [contain|hold]?",
)
LIST_HERE = (
    "=Which files are here?",
    "[Which|What] files are [here|there|in the workspace|in this folder]?",
    "[What is|What's] [in|inside] [here|the workspace|this folder|the current folder|the working folder|my folder]?",
    "[What is|What's] [there|here][| in the workspace| in this folder]?",
    "[Please l|L]ist [the|all|all the] files[| here| in the workspace][.|]",
    "[Show|Tell] me [the files|all files|what files there are][.|]",
    "What does [the workspace|this folder|the current folder|my folder] [hold|contain]?",
    "List the files in [this|the current] folder[.|]",
)
READ = (
    "=What does {p} say?",
    "=Read {p}",
    "What does [the file |]{p} [say|contain]?",
    "[Please |Now |]read [the file |]{p}[.|]",
    "[Please s|S]how me [the file |the text of |]{p}[.|]",
    "[What is|What's] [written |]in [the file |]{p}?",
    "[Can|Could] you read [the file |]{p}[| for me]?",
    "[Open|Print] [the file |]{p}[.|]",
    "[Tell me what is in|I want to see] [the file |]{p}[.|]",
)
READ_FROM = (
    "Read {p} from line {n}[| on][.|]",
    "[Show|Read] [the file |]{p}[,|] [starting at|beginning with] line {n}[.|]",
)
READ_FIRST = ("Read the first {n} lines of [the file |]{p}[.|]", "[Show me|Print] the first {n} lines of {p}[.|]")
FILLER = pool(
    "the a of to and in is it for that with on as are this be by or from at not can all we you has will one our more "
    "new was when what which there their if do how about out up use time first some must should would people way day "
    "two into only other also very after before because every any now work made make good well need next last here"
)


ODD = (
    "don't",
    "it's",
    "{w}'s",
    "({w})",
    '"{w}"',
    "`{w}()`",
    "{w}_{n}",
    "{w}{n}",
    "{W}{w}",
    "{w}/{w}",
    "https://{w}.org/{n}",
    "{n}%",
    "{w}-{w}",
    "{w},",
    "{w}:",
    "**{w}**",
    "caf\u00e9",
    "\u2014",
    "\u2192",
    "gr\u00fcn",
    "e.g.",
    "{w}.{w}",
    "#{n}",
    "{n}.{n}",
    "${n}",
    "[{w}]",
    "<{w}>",
    "{w}=",
    "*",
    "|",
    "&",
    "{w};",
)


def odd(draw: Draw) -> str:
    """A word with signs in it, as real files have them."""
    word = draw.invented()
    return draw.rng.choice(ODD).format(w=word, W=word.capitalize(), n=draw.digits(1, 4))


def sentence(draw: Draw, longest: int = 12) -> str:
    """A row of words, most of them without sense, as text to be copied."""
    row = []
    for _ in range(draw.rng.randint(3, longest)):
        kind = draw.rng.random()
        row.append(words.thing(draw) if kind < 0.4 else draw.digits(1, 5) if kind < 0.5 else draw.rng.choice(FILLER))
        if draw.chance(0.04):
            row[-1] = odd(draw)
    if draw.chance(0.2):
        row[0] = words.name(draw)
    end = draw.rng.choice((".", ".", ".", "", "!", "?"))
    return row[0][:1].upper() + " ".join(row)[1:] + end


def line(draw: Draw) -> str:
    """One line of a file: prose, a heading, a list entry, a setting, a row of a table or code."""
    thing, number = words.thing(draw), draw.digits(1, 5)
    form = draw.rng.choice(
        (
            "{s}",
            "{s}",
            "{s}",
            "# {S}",
            "- {s}",
            "{t} = {n}",
            "{t}: {n}",
            "{t}: {s}",
            "{t},{n}",
            '"{t}": "{s}"',
            "def {t}({u}):",
            "    return {t} + {n}",
            "import {t}",
            "{T} {n}",
            "TODO: {s}",
            "1. {s}",
        )
    )
    return form.format(
        s=sentence(draw), S=sentence(draw, 4), t=thing, T=thing.capitalize(), u=words.thing(draw), n=number
    )


def content(draw: Draw) -> str:
    """The text of a file of 1 to 7 lines."""
    count = draw.rng.choice((1, 1, 1, 2, 2, 3, 3, 4, 5, 7)) if draw.chance(0.97) else draw.rng.randint(8, 40)
    lines = [line(draw) for _ in range(count)]
    if draw.chance(0.05):
        lines[0] = sentence(draw, 40)
    if len(lines) > 2 and draw.chance(0.25):
        lines[1] = ""
    if draw.chance(0.05):
        lines.append(f"[lines 1-{len(lines)} of {draw.digits(3, 4)}; go on with offset={len(lines) + 1}]")
    return "\n".join(lines)


def says(path: str, text: str) -> str:
    """The answer for a file: its line, or the first one of several."""
    lines = text.rstrip("\n").split("\n")
    if len(lines) == 1:
        return f"{path} says: {lines[0]}" if lines[0] else f"{path} is empty."
    return f"{path} begins with: {lines[0]}"


def missing(draw: Draw, path: str) -> str:
    """An error of a file tool."""
    form = draw.rng.choice(
        (
            "{p} does not exist",
            "no such file: {p}",
            "{p} is a folder",
            "{p} is outside the workspace",
            "permission denied for {p}",
            "{p} is not a text file",
            "cannot open {p}. List the folder first",
            "there is no file {p}. Its folder holds {q}",
            "'{p}' does not exist",
            "{p} was not found in the workspace",
            "reading {p} is not allowed by the permissions",
        )
    )
    return "Error: " + form.format(p=path, q=words.file_name(draw))


def entries(draw: Draw, count: int) -> list[str]:
    """Names of different files and folders, folders with a slash at the end."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[words.folder(draw).split("/")[0] + "/" if draw.chance(0.25) else words.file_name(draw)] = None
    return sorted(found) if draw.chance(0.7) else list(found)


def listing(draw: Draw) -> Turn:
    """Which files are in a folder."""
    named = draw.chance(0.7)
    folder = words.folder(draw) if named else ""
    turn = Turn(needed=[LIST_FILES])
    turn.talk.user(asked(draw, LIST_THERE, folder) if named else draw.pick(*LIST_HERE))
    found = entries(draw, draw.rng.choice((0, 1, 2, 2, 3, 3, 4, 5, 6, 8)))
    result = "\n".join(found) if found else draw.rng.choice(("", "(empty)"))
    if named and draw.chance(0.08):
        result = missing(draw, folder)
    thought = f"I need to list the files in {folder}." if named else "I need to list the files."
    turn.talk.call(thought, "list_files", {"path": folder} if named else {}, result)
    where = folder if named else "The folder"
    answer = f"{where} holds:\n{result}" if found else f"{where} is empty."
    turn.talk.reply(failure(result) if result.startswith("Error") else answer)
    return turn


def asked(draw: Draw, patterns: tuple[str, ...], path: str, **more: str) -> str:
    """A question about a path, with a capital at its start."""
    text = draw.pick(*patterns).format(p=path, **more)
    return text if text.startswith(path) else text[:1].upper() + text[1:]


def reading(draw: Draw) -> Turn:
    """What a file says, all of it or a part."""
    path, arguments = words.path(draw), {}
    way = draw.rng.random()
    number = draw.digits(1, 3)
    if way < 0.08:
        question, arguments = asked(draw, READ_FROM, path, n=number), {"offset": int(number)}
    elif way < 0.16:
        question, arguments = asked(draw, READ_FIRST, path, n=number), {"limit": int(number)}
    else:
        question = asked(draw, READ, path)
    text = missing(draw, path) if draw.chance(0.1) else content(draw)
    turn = Turn(needed=[READ_FILE])
    turn.talk.user(question)
    turn.talk.call(
        f"I need to read {path}.", "read_file", {"path": path, **arguments}, text + draw.rng.choice(("", "", "", "\n"))
    )
    turn.talk.reply(failure(text) if text.startswith("Error") else says(path, text))
    return turn


def files(draw: Draw) -> Turn:
    """A question for list_files or read_file."""
    return listing(draw) if draw.chance(0.42) else reading(draw)


def list_then_read(draw: Draw) -> Turn:
    """List a folder and read the first file in it."""
    folder = words.folder(draw)
    found = [words.file_name(draw) for _ in range(draw.rng.randint(1, 4))]
    path = f"{folder}/{found[0]}"
    text = content(draw)
    turn = Turn(needed=[LIST_FILES, READ_FILE])
    turn.talk.user(
        draw.pick(
            "List the files in {p}[ and| and then|, then] read the first[| one].",
            "[Read|Show me|Open] the first file in {p}[.|]",
            "[Look into|Look in|Open] {p} and read the first file[.|]",
        ).format(p=folder)
    )
    turn.talk.call(f"I need to list the files in {folder}.", "list_files", {"path": folder}, "\n".join(found))
    turn.talk.call(f"Now I need to read {path}.", "read_file", {"path": path}, text)
    turn.talk.reply(says(path, text))
    return turn


def read_two(draw: Draw) -> Turn:
    """Read two files."""
    paths = [words.path(draw), words.path(draw)]
    turn = Turn(needed=[READ_FILE])
    turn.talk.user(
        draw.pick(
            "Read {a} and {b}[.|]",
            "[What do|Tell me what] {a} and {b} say[?|]",
            "[Show me|Open|Print] {a} and [then |]{b}[.|]",
        ).format(a=paths[0], b=paths[1])
    )
    texts = [line(draw) for _ in paths]
    for word, path, text in zip(("I", "Now I"), paths, texts, strict=True):
        turn.talk.call(f"{word} need to read {path}.", "read_file", {"path": path}, text)
    turn.talk.reply("\n".join(says(path, text) for path, text in zip(paths, texts, strict=True)))
    return turn


def read_then_calculate(draw: Draw) -> Turn:
    """Read a number in a file and calculate with it."""
    path, thing = words.path(draw), words.thing(draw)
    found, operand = draw.digits(1, 5), draw.digits(1, 4)
    sign, order = draw.rng.choice(
        (("*", "multiply {w} by {n}"), ("+", "add {n} to {w}"), ("-", "subtract {n} from {w}"))
    )
    said = order.format(w="the number[| in it]", n="{n}")
    turn = Turn(needed=[READ_FILE, CALCULATOR])
    turn.talk.user(
        draw.pick(
            "Read {p}[ and| and then|, then] " + said + "[.|]",
            "[Take|Open|Look at] {p} and " + said + "[.|]",
        ).format(p=path, n=operand)
    )
    text = draw.rng.choice(("{n}", "{t}: {n}", "{t} = {n}", "The {t} is {n}.", "{n} {t}", "# {T}\n{n}")).format(
        n=found, t=thing, T=thing.capitalize()
    )
    wanted = f"{found} {sign} {operand}"
    turn.talk.call(f"I need to read {path}.", "read_file", {"path": path}, text)
    turn.talk.call(f"Now I need to calculate {wanted}.", "calculator", {"expression": wanted}, shown(wanted))
    turn.talk.reply(f"{wanted} = {evaluated(wanted)}.")
    return turn
