"""The path that the runs of a thread took through their graphs, drawn as a mermaid flowchart. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from benchai.graphs.history import Point

LABEL_CHARS = 60
_ESCAPED = {"#": "#35;", "&": "#amp;", '"': "#quot;", "<": "#lt;", ">": "#gt;"}
_INDENT = "    "


def draw_path(points: Sequence[Point], state: str) -> str:
    """The nodes in the order they ran, parallel ones side by side; a nested run stands inside its node.

    Args:
        points: All checkpoints of the thread, nested runs included, the oldest first.
        state: How the thread's last run ended.
    """
    drawing = _Drawing(points)
    drawing.level("", None, 1)
    last = next((point for point in reversed(points) if not point.namespace), None)
    if last is not None and not (last.next or last.source == "input"):
        drawing.end(last, state)
    return "\n".join(["flowchart TD", *drawing.lines, *drawing.style()])


class _Drawing:
    """Lines of a flowchart; ``_exits`` are the shapes that a next step comes after, by checkpoint."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.lines: list[str] = []
        self._points = points
        self._by_id = {(point.namespace, point.checkpoint_id): point for point in points}
        self._exits: dict[tuple[str, str], list[str]] = {}
        self._unfinished: list[str] = []
        self._count = 0

    def level(self, namespace: str, above: str | None, depth: int) -> None:
        """Draw the run itself, or one nested in a node."""
        for point in self._points:
            if point.namespace == namespace and point.above == above:
                self._exits[namespace, point.checkpoint_id] = self._shapes_of(point, depth)
                if point.next and not any(child.source == "loop" for child in self._children(point)):
                    self._unfinished += self._tasks(point, point.next, (), depth)

    def end(self, last: Point, state: str) -> None:
        """Say how it ended."""
        self._shape(f'ended(["{label(state)}"])', "ended", last, 1)

    def style(self) -> list[str]:
        """How what did not finish looks."""
        if not self._unfinished:
            return []
        names = ",".join(self._unfinished)
        return [f"{_INDENT}classDef unfinished stroke-dasharray: 4 4", f"{_INDENT}class {names} unfinished"]

    def _shapes_of(self, point: Point, depth: int) -> list[str]:
        parent = self._by_id.get((point.namespace, point.parent or ""))
        if point.source == "input" and not point.namespace:
            said = next((child.last for child in self._children(point) if child.last), "input")
            name = self._name()
            return [self._shape(f'{name}(["{label(said)}"])', name, parent, depth)]
        if parent is None:
            return []
        if point.source != "loop" or not point.nodes:
            return self._exits.get((point.namespace, parent.checkpoint_id), [])
        return self._tasks(parent, point.nodes, point.tools, depth)

    def _tasks(self, before: Point, nodes: Sequence[str], tools: Sequence[str], depth: int) -> list[str]:
        """The shapes of the nodes that ran, or were to run, after a checkpoint."""
        nested = self._nested(before)
        shapes = []
        for node in nodes:
            name = self._name()
            inside = nested[node].pop(0) if nested[node] else None
            if inside is None:
                text = label(node) + "".join(f"<br/>{label(tool)}" for tool in tools if len(nodes) == 1)
                shapes.append(self._shape(f'{name}["{text}"]', name, before, depth))
                continue
            self.lines.append(f'{_INDENT * depth}subgraph {name} ["{label(node)}"]')
            self.level(inside, before.checkpoint_id, depth + 1)
            self.lines.append(f"{_INDENT * depth}end")
            shapes.append(self._shape(None, name, before, depth))
        return shapes

    def _nested(self, before: Point) -> dict[str, list[str]]:
        """The runs that were nested in the nodes after a checkpoint, by node, in the order they began."""
        found: dict[str, list[str]] = defaultdict(list)
        start = f"{before.namespace}|" if before.namespace else ""
        for point in self._points:
            inside = point.namespace.removeprefix(start)
            if point.above == before.checkpoint_id and point.namespace.startswith(start) and "|" not in inside:
                node = inside.rpartition(":")[0]
                if point.namespace not in found[node]:
                    found[node].append(point.namespace)
        return found

    def _shape(self, shape: str | None, name: str, after: Point | None, depth: int) -> str:
        if shape is not None:
            self.lines.append(_INDENT * depth + shape)
        if after is not None:
            arrow = "-. fork .->" if after.source == "fork" else "-->"
            for exit_ in self._exits.get((after.namespace, after.checkpoint_id), []):
                self.lines.append(f"{_INDENT * depth}{exit_} {arrow} {name}")
        return name

    def _children(self, point: Point) -> list[Point]:
        family = (child for child in self._points if child.namespace == point.namespace)
        return [child for child in family if child.parent == point.checkpoint_id]

    def _name(self) -> str:
        self._count += 1
        return f"n{self._count}"


def label(text: str) -> str:
    """A text as mermaid takes it between quotes: on one line, not too long, nothing in it read as markup."""
    line = " ".join(text.split())
    line = line if len(line) <= LABEL_CHARS else f"{line[: LABEL_CHARS - 3]}..."
    return "".join(_ESCAPED.get(char, char) for char in line if char.isprintable())
