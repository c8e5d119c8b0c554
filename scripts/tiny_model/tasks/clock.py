"""Questions about the time and the date."""

from __future__ import annotations

from datetime import datetime, timedelta

from scripts.tiny_model import words
from scripts.tiny_model.split import Draw, pool
from scripts.tiny_model.tasks.turn import Turn, failure
from scripts.tiny_model.tools import CURRENT_TIME

TIME = (
    "=What time is it?",
    "What time is it[ now| right now|, please]?",
    "What is the [|current |exact ][time|hour][| now| right now]?",
    "[Please t|T]ell me the [|current ]time[.|]",
    "[Can|Could] you tell me [the time|what time it is][| now]?",
    "Do you know [the time|what time it is]?",
    "[How late is it|What does the clock say][| now]?",
)
TIME_THERE = (
    "=What time is it in {z}?",
    "What time is it[| now| right now] in {z}[|, please]?",
    "What is the [|current |local ]time in {z}[| now]?",
    "[Please t|T]ell me the [|current ]time in {z}[.|]",
    "[Can|Could] you tell me the time in {z}?",
    "[How late is it|And what time is it|Do you know the time] in {z}?",
    "[I need|Give me|Show me] the [|current ]time in {z}[.|]",
)
DATE = (
    "=What day is it?",
    "What day is it[| today| now]?",
    "What is the [date|day][| today| now]?",
    "[Which day is it|What is today's date|What date is it][| today| now]?",
    "[Please t|T]ell me [the date|today's date|which day it is][.|]",
)
DATE_THERE = (
    "What day is it[| today| now] in {z}?",
    "What is the [date|day][| today| now] in {z}?",
    "[Which day is it|What date is it][| today| now] in {z}?",
    "[Please t|T]ell me [the date|which day it is] in {z}[.|]",
)
ABBREVIATIONS = pool("CET CEST GMT BST EST EDT PST PDT JST IST MSK AEST NZST WAT EAT SAST KST HKT")


def moment(draw: Draw, utc: bool, abbreviated: bool = False) -> tuple[datetime, str]:
    """A random moment and the tool's text for it; some zones have no abbreviation but their hours."""
    at = datetime(2024, 1, 1) + timedelta(seconds=draw.rng.randrange(4 * 365 * 86_400))
    hours = 0 if utc else draw.rng.randint(-11, 13)
    zone = "UTC" if utc else draw.rng.choice([*ABBREVIATIONS, *([] if abbreviated else [f"{hours:+03d}"])])
    return at, f"{at:%Y-%m-%d %H:%M:%S} {zone} (UTC{hours:+03d}:00), {at:%A}"


def place(draw: Draw) -> tuple[str, str]:
    """What the user calls a place and its IANA name; cities by their own name in training only."""
    if not draw.held_out and draw.chance(0.3):
        city = draw.rng.choice(list(words.CITY_ZONES))
        return city, words.CITY_ZONES[city]
    if draw.chance(0.3):
        zone = f"{draw.rng.choice(('Europe', 'Asia', 'America', 'Africa'))}/{draw.invented().capitalize()}"
    else:
        zone = draw.word(words.ZONES)
    return zone, zone


def elsewhere(draw: Draw) -> Turn:
    """The time or the date in a named place."""
    said, zone = place(draw)
    date = draw.chance(0.25)
    at, result = moment(draw, zone == "UTC")
    if draw.chance(0.08):
        result = "Error: " + draw.rng.choice(
            ("unknown timezone {z}", "{z} is not a known timezone. Use an IANA name", "no timezone is called {z}")
        ).format(z=zone)
    turn = Turn(needed=[CURRENT_TIME])
    turn.talk.user(draw.pick(*(DATE_THERE if date else TIME_THERE)).format(z=said))
    turn.talk.call(f"I need the {'date' if date else 'time'} in {zone}.", "current_time", {"timezone": zone}, result)
    answer = f"It is {at:%A}, {at:%Y-%m-%d}, in {zone}." if date else f"It is {at:%H:%M} in {zone}."
    turn.talk.reply(failure(result) if result.startswith("Error") else answer)
    return turn


def here(draw: Draw) -> Turn:
    """The time or the date with no place named."""
    date = draw.chance(0.35)
    at, result = moment(draw, draw.chance(0.7), abbreviated=True)
    turn = Turn(needed=[CURRENT_TIME])
    turn.talk.user(draw.pick(*(DATE if date else TIME)))
    turn.talk.call(f"I need the {'date' if date else 'time'}.", "current_time", {}, result)
    turn.talk.reply(f"It is {at:%A}, {at:%Y-%m-%d}." if date else f"It is {at:%H:%M} {result.split()[2]}.")
    return turn


def clock(draw: Draw) -> Turn:
    """Any question about time or date."""
    return elsewhere(draw) if draw.chance(0.65) else here(draw)
