"""Change single keys in YAML text and leave the rest as it is: comments, order, quotes, line ends.

PyYAML tells where nodes and tokens stand; only the characters of a changed key are touched. What comes out is parsed
again and has to be what was meant, so a form that is not understood here is refused, never spoilt.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import yaml

from benchai.config.source import Loc, parse_yaml
from benchai.config.yaml_text import EditedText, Pair, has_block_text, has_breaks, span
from benchai.errors import ConfigError

WIDE = 2**31
HINT = "change it by hand"


def edited(text: str, name: str, at: Loc, changes: Mapping[str, Any], note: str) -> str:
    """YAML text with other values for some keys of one mapping.

    Args:
        text: The whole of the YAML text.
        name: What stands for it in errors.
        at: Where the mapping is (``("models", "code")``).
        changes: Value by key; a dot leads into a mapping (``"draft.max_tokens"``), None takes the key away.
        note: Who changes it, and when; stands in a comment beside the old value.

    Raises:
        ConfigError: the text is no YAML, or the change cannot be made surely.
    """
    before = parse_yaml(text, name).data
    wanted = copy.deepcopy(before)
    done = EditedText(name, text, list(yaml.scan(text, Loader=yaml.SafeLoader)))
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    done.gone = {(*at, *key.split(".")) for key, value in changes.items() if value is None}
    for key, value in changes.items():
        *inner, last = key.split(".")
        loc = (*at, *inner)
        if _put(wanted, loc, last, value):
            _change(done, _mapping_at(done, root, loc), (*loc, last), value, note)
    _add_notes(done, note)
    after = _applied(done)
    _prove(after, name, wanted)
    return after


def _put(data: Any, loc: Loc, key: str, value: Any) -> bool:
    """Make the change in plain data; False where nothing changes."""
    for part in loc:
        data = data.get(part) if isinstance(data, dict) else None
    if not isinstance(data, dict):
        return True
    if value is None:
        there = key in data
        data.pop(key, None)
        return there
    if key in data and _same(data[key], value):
        return False
    data[key] = value
    return True


def _same(one: Any, other: Any) -> bool:
    """Equal in value and type: YAML tells 1 from 1.0 and from true."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _mapping_at(done: EditedText, root: yaml.Node | None, loc: Loc) -> yaml.MappingNode:
    node = root
    for depth, part in enumerate(loc, 1):
        where = ".".join(map(str, loc[:depth]))
        pair = _pair(node, part) if isinstance(node, yaml.MappingNode) else None
        if pair is None:
            raise _refused(done, f"{where} does not stand there itself")
        key, node = pair
        if node.start_mark.index < key.end_mark.index:
            raise _refused(done, f"{where} is an alias of what stands elsewhere")
    if not isinstance(node, yaml.MappingNode):
        raise _refused(done, f"{'.'.join(map(str, loc))} is no mapping")
    return node


def _pair(mapping: yaml.MappingNode, name: str | int) -> Pair | None:
    return next((pair for pair in mapping.value if _name(pair) == name), None)


def _name(pair: Pair) -> Any:
    return pair[0].value if isinstance(pair[0], yaml.ScalarNode) else None


def _refused(done: EditedText, why: str) -> ConfigError:
    return ConfigError(f"{done.name}: cannot be changed surely: {why}", hint=HINT)


def _change(done: EditedText, mapping: yaml.MappingNode, loc: Loc, value: Any, note: str) -> None:
    pair = _pair(mapping, loc[-1])
    if pair is None:
        if value is None:
            raise _refused(done, f"{'.'.join(map(str, loc))} comes from a merge (<<)")
        _insert(done, mapping, loc, value, note)
        return
    if has_block_text(pair[1]):
        raise _refused(done, f"{'.'.join(map(str, loc))} is a block of text")
    start, end = span(done, pair)
    if value is not None and not has_breaks(done.text[pair[0].start_mark.index : end]):
        _replace(done, mapping, pair, start, end, value)
    elif mapping.flow_style:
        _take_from_flow(done, mapping, pair, end, value)
    else:
        _comment_out(done, pair, end, value, note)


def _replace(done: EditedText, mapping: yaml.MappingNode, pair: Pair, start: int, end: int, value: Any) -> None:
    old = done.text[start:end]
    blank = "" if done.text[start - 1 : start].isspace() else " "
    done.cuts.append((start, end, blank + _written(value)))
    told = old or "empty"
    _tell(done, end, f"{pair[0].value}: {told}" if mapping.flow_style else told, "was")


def _tell(done: EditedText, at: int, what: str, verb: str) -> None:
    done.notes.setdefault(done.comment_place(at), []).append(f"{verb} {what}")


def _take_from_flow(done: EditedText, mapping: yaml.MappingNode, pair: Pair, end: int, value: Any) -> None:
    start = pair[0].start_mark.index
    old = done.text[start:end]
    if has_breaks(old) or value is not None:
        raise _refused(done, f"{pair[0].value} goes over several lines within braces")
    _tell(done, end, old, "was")
    after = end + len(done.text[end:]) - len(done.text[end:].lstrip(" "))
    if done.text[after : after + 1] == ",":
        after += 1
        after += len(done.text[after:]) - len(done.text[after:].lstrip(" "))
        done.cuts.append((start, after, ""))
        return
    before = done.text[:start].rstrip(" ")
    if before.endswith(","):
        start = len(before) - 1
    done.cuts.append((start, end, ""))


def _comment_out(done: EditedText, pair: Pair, end: int, value: Any, note: str) -> None:
    at = pair[0].start_mark.index
    start = done.line_start(at)
    if done.text[start:at].strip(" "):
        raise _refused(done, f"{pair[0].value} does not stand in a line of its own")
    indent = done.text[start:at]
    if value is not None:
        done.cuts.append((start, start, f"{indent}{pair[0].value}: {_written(value)} # {note}{done.newline()}"))
    line = start
    while line <= end and line < len(done.text):
        place = line + len(indent)
        if done.text[line:place] != indent:
            place = line
        if done.text[line : done.line_end(line)].strip():
            done.cuts.append((place, place, "# "))
        line = done.next_line(line)
    _tell(done, end, "taken away" if value is None else "was so", "")


def _insert(done: EditedText, mapping: yaml.MappingNode, loc: Loc, value: Any, note: str) -> None:
    key = loc[-1]
    kept = [pair for pair in mapping.value if (*loc[:-1], _name(pair)) not in done.gone]
    if not kept:
        raise _refused(done, f"{key} would go into an empty mapping")
    first, last = kept[0][0], kept[-1] if mapping.flow_style else mapping.value[-1]
    if mapping.flow_style:
        end = span(done, last)[1]
        done.cuts.append((end, end, f", {key}: {_written(value)}"))
        _tell(done, end, f"{key}: not set", "was")
        return
    start = done.line_start(first.start_mark.index)
    indent = done.text[start : first.start_mark.index]
    if indent.strip(" "):
        raise _refused(done, f"the first key, {first.value!r}, does not stand in a line of its own")
    line = f"{indent}{key}: {_written(value)} # was not set ({note})"
    if has_block_text(last[1]):
        # where a block of text ends is told by no mark
        done.cuts.append((start, start, line + done.newline()))
        return
    end = done.line_end(done.comment_place(span(done, last)[1]))
    done.lines.append((end, end, done.newline() + line))


def _written(value: Any) -> str:
    # in a list, so that commas and braces are quoted as a value within braces needs it
    text = yaml.safe_dump([value], default_flow_style=True, width=WIDE, allow_unicode=True, sort_keys=False)
    return text.strip()[1:-1]


def _add_notes(done: EditedText, note: str) -> None:
    for at, told in done.notes.items():
        said = ", ".join(told).replace(", was ", ", ").strip()
        rest = done.text[at : done.line_end(at)].strip()
        done.cuts.append((at, at, f" # {said} ({note})" + (" " if rest and done.text[at : at + 1] != " " else "")))


def _applied(done: EditedText) -> str:
    text = done.text
    pieces, at = [], 0
    # stable, so of two at one place the later comes behind the earlier
    # a line that is further in belongs to the mapping that ends first
    lines = sorted(done.lines, key=lambda cut: len(cut[2].lstrip()) - len(cut[2]))
    for start, end, new in sorted(_joined(done.cuts) + lines, key=lambda cut: cut[0]):
        pieces += [text[at:start], new]
        at = end
    return "".join(pieces) + text[at:]


def _joined(cuts: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Neighbours within braces that are both taken away share the comma between them."""
    done: list[tuple[int, int, str]] = []
    for start, end, new in sorted(cuts, key=lambda cut: cut[:2]):
        if done and not new and not done[-1][2] and start < done[-1][1]:
            done[-1] = (done[-1][0], max(end, done[-1][1]), "")
        else:
            done.append((start, end, new))
    return done


def _prove(after: str, name: str, wanted: Any) -> None:
    try:
        same = _same(parse_yaml(after, name).data, wanted)
    except ConfigError as error:
        raise ConfigError(f"{name}: cannot be changed surely: {error.message}", hint=HINT) from error
    if not same:
        why = "something else would change with it (an anchor, a merge)"
        raise ConfigError(f"{name}: cannot be changed surely: {why}", hint=HINT)
