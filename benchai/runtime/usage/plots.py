"""Plots of a line of text: bars and sparklines."""

from __future__ import annotations

from collections.abc import Sequence

#: From nothing to full, for a bar's last cell and for a sparkline's cells.
_PARTS = " ▏▎▍▌▋▊▉█"
_LEVELS = " ▁▂▃▄▅▆▇█"
#: For terminals that lack the signs above.
_PLAIN_LEVELS = " .:-=+*#@"


def can_show_blocks(encoding: str | None) -> bool:
    """Whether a stream of that encoding can show the signs of plots."""
    try:
        (_PARTS + _LEVELS).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def bar(value: float | None, top: float, width: int, *, plain: bool = False) -> str:
    """A bar as long as ``value`` is of ``top``; what is there at all is seen, what exceeds ``top`` is cut.

    Args:
        value: What to show; None and what is not above 0 are no bar.
        top: The value of a bar of full length.
        width: Cells of that.
        plain: ASCII only.
    """
    if value is None or not value > 0 or not top > 0:
        return ""
    eighths = max(1, round(min(value / top, 1.0) * width * 8))
    if plain:
        return "#" * max(1, round(eighths / 8))
    return (_PARTS[8] * (eighths // 8) + _PARTS[eighths % 8]).rstrip()


def sparkline(values: Sequence[float | None], *, plain: bool = False) -> str:
    """A cell for each value, higher for a greater one; nothing for 0 and None."""
    levels = _PLAIN_LEVELS if plain else _LEVELS
    top = max((value for value in values if value is not None), default=0.0)
    return "".join(_level(value, top, levels) for value in values)


def _level(value: float | None, top: float, levels: str) -> str:
    if value is None or not value > 0:
        return levels[0]
    return levels[max(1, round(min(value / top, 1.0) * (len(levels) - 1)))]
