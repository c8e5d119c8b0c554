"""Pools of words that conversations are filled with. `Draw` decides which lie on which side of the split."""

from __future__ import annotations

import builtins
import json
import keyword
from functools import cache
from pathlib import Path

from scripts.tiny_model.split import Draw, pool

NAMES = pool(
    "Mara Jonas Priya Tomas Elena Yusuf Ingrid Pavel Noor Felix Amara Diego Hanna Kenji Lucia Omar Petra Samir Tessa "
    "Viktor Wanda Xavier Yara Zane Anton Bianca Carlos Dalia Emil Farah Goran Helga Igor Jasmin Karim Leila Marco "
    "Nadia Otto Paula Quentin Rosa Stefan Tara Ulrich Vera Willem Ximena Yannick Zoe Alice Bob Carol Dave Erin Frank "
    "Grace Heidi Ivan Judy Mallory Niaj Olivia Peggy Rupert Sybil Trent Ursula Victor Walter Anna Ben Clara David "
    "Eva Fritz Greta Hugo Iris Jan Kai Lena Max Nina Oskar Pia Robin Sara Tim Uma"
)
WORDS = pool(
    "lantern river garden harbour copper window bridge forest candle orchard marble needle ocean paper quartz ribbon "
    "silver temple umbrella valley winter yarn anchor basket castle desert engine feather glacier hammer island jacket "
    "kettle ladder mirror nest oven pocket quilt rocket saddle tunnel village whistle acorn blanket cactus dragon "
    "eagle falcon guitar honey insect jungle kitten lemon magnet nectar onion pepper rabbit salmon tiger violin walnut "
    "zebra apple bread cheese coffee dinner flower ginger idea journey kitchen market office "
    "planet school summer theory travel uncle vision water weather year budget "
    "server battery camera database keyboard network printer router sensor monitor cable signal storage turbine solar "
    "music painting poetry theatre tennis football chess swimming cycling sailing climbing running dancing cooking"
)
STEMS = pool(
    "notes plan readme todo main index setup config data users orders prices log summary draft invoice "
    "budget agenda minutes recipe ideas changes backlog roadmap guide manual license intro chapter totals "
    "contacts inventory schedule settings utils helpers models views routes server client parser lexer engine "
    "scores weights limits cities animals songs books films travel shopping diary journal memo story poem essay "
    "design spec review feedback survey sizes events metrics costs sales"
)
FOLDERS = pool(
    "src app docs notes data lib config scripts assets images archive backup build public private "
    "home projects drafts logs static templates modules core api web shared examples inbox plans "
    "samples pages content media input output old new misc temp users finance legal team"
)
EXTENSIONS = ("txt", "md", "txt", "md", "py", "json", "csv", "yaml", "toml", "log", "html")
# Names that a user is likely to try; they are shown in training and never asked for as held-out values.
USUAL_FILES = pool(
    "README.md pyproject.toml Makefile main.py report.md results.txt tasks.md LICENSE package.json requirements.txt "
    "Dockerfile test_main.py setup.py .gitignore CHANGELOG.md names.txt numbers.txt questions.md tests/test_app.py"
)
ZONES = pool(
    "Europe/Berlin Europe/Paris Europe/London Europe/Madrid Europe/Rome Europe/Vienna Europe/Zurich Europe/Lisbon "
    "Europe/Dublin Europe/Oslo Europe/Stockholm Europe/Helsinki Europe/Warsaw Europe/Prague Europe/Budapest "
    "Europe/Athens Europe/Istanbul Europe/Moscow Europe/Kyiv Europe/Amsterdam Europe/Brussels Europe/Copenhagen "
    "Asia/Tokyo Asia/Seoul Asia/Shanghai Asia/Singapore Asia/Kolkata Asia/Dubai Asia/Bangkok Asia/Jakarta Asia/Manila "
    "Asia/Karachi Asia/Tehran Asia/Kathmandu Asia/Hong_Kong Asia/Taipei Australia/Sydney Australia/Perth "
    "Australia/Melbourne Pacific/Auckland Pacific/Honolulu America/New_York America/Chicago America/Denver "
    "America/Los_Angeles America/Toronto America/Vancouver America/Mexico_City America/Bogota America/Lima "
    "America/Sao_Paulo America/Santiago America/Buenos_Aires America/Halifax America/Anchorage Africa/Cairo "
    "Africa/Lagos Africa/Nairobi Africa/Johannesburg Africa/Casablanca Africa/Accra Atlantic/Reykjavik UTC"
)
CITIES = pool(
    "Berlin Paris London Madrid Rome Vienna Zurich Lisbon Tokyo Seoul Singapore Dubai Sydney Chicago "
    "Toronto Cairo Moscow Istanbul Oslo Amsterdam"
)
_CITY_ZONES = {zone.split("/")[-1]: zone for zone in ZONES}
CITY_ZONES = {city: _CITY_ZONES[city] for city in CITIES} | {"New York": "America/New_York"}


# Words that mean something in the functions of the coder, so they can't be names there.
TAKEN = {*keyword.kwlist, *dir(builtins), "first", "second", "result", "answer", "i", "x"}
COMMON = pool("in to is it the on or of for as at and a an my me by be re un file read list what who now can all one")
#: How byte-level tokenizers write a blank.
BLANK = "\u0120"
TOKENIZER = Path(__file__).with_name("tokenizer.json")


@cache
def token_texts() -> tuple[str, ...]:
    """The tokens that are pieces of words; a token that is never copied in training is not copied later either."""
    if not TOKENIZER.exists():
        return ("a",)
    merges = json.loads(TOKENIZER.read_text(encoding="utf-8"))["merges"]
    return tuple(text for left, right in merges if (text := left + right).isascii() and text.isalpha())


@cache
def beginnings() -> tuple[str, ...]:
    """Words of prose: common ones, and those that have a token with a blank before them."""
    merges = json.loads(TOKENIZER.read_text(encoding="utf-8"))["merges"] if TOKENIZER.exists() else []
    joined = [right for left, right in merges if left == BLANK and right.isascii() and right.islower()]
    return (*COMMON * 4, *joined)


def token_word(draw: Draw) -> str:
    """A word made of random tokens.

    Some begin with a token that prose is full of, as "helpers" and "forest" do: after a blank they are cut in another
    way than after a slash, and words go astray that are copied by what followed the same token before, unless
    training shows many.
    """
    while True:
        tokens = [draw.rng.choice(token_texts()) for _ in range(draw.rng.choice((1, 2, 2, 3)))]
        if draw.chance(0.3):
            tokens.insert(0, draw.rng.choice(beginnings()))
        word = "".join(tokens)
        if word.lower() not in TAKEN and draw.allowed_word(word):
            return word


def name(draw: Draw) -> str:
    """A first name, invented in one draw of three."""
    if not draw.held_out and draw.chance(0.18):
        return token_word(draw).capitalize()
    return draw.invented().capitalize() if draw.chance(0.35) or draw.exhausted(NAMES) else draw.word(NAMES)


def thing(draw: Draw) -> str:
    """A noun, invented in one draw of four."""
    if not draw.held_out and draw.chance(0.22):
        return token_word(draw).lower()
    return draw.invented() if draw.chance(0.25) or draw.exhausted(WORDS) else draw.word(WORDS)


def things(draw: Draw, count: int) -> list[str]:
    """Different nouns."""
    found: list[str] = []
    while len(found) < count:
        word = thing(draw)
        if word not in found:
            found.append(word)
    return found


def file_name(draw: Draw) -> str:
    """A file name without a folder, such as budget_plan.md."""
    if not draw.held_out and draw.chance(0.08):
        return draw.rng.choice(USUAL_FILES)
    stem = draw.invented() if draw.chance(0.3) or draw.exhausted(STEMS) else draw.word(STEMS)
    if not draw.held_out and draw.chance(0.2):
        stem = token_word(draw)
    if draw.chance(0.2):
        stem += draw.rng.choice("_-") + (draw.word(STEMS) if draw.chance(0.6) else draw.digits(1, 4))
    if draw.chance(0.1):
        stem = stem.capitalize() if draw.chance(0.5) else stem.upper() if stem == "readme" else stem
    return f"{stem}.{draw.rng.choice(EXTENSIONS)}"


def folder(draw: Draw) -> str:
    """A folder of one to three parts, such as src/app."""
    return "/".join(_folder(draw) for _ in range(draw.rng.choice((1, 1, 2, 2, 3))))


def _folder(draw: Draw) -> str:
    if not draw.held_out and draw.chance(0.26):
        return token_word(draw).lower()
    return draw.invented() if draw.chance(0.3) or draw.exhausted(FOLDERS) else draw.word(FOLDERS)


def path(draw: Draw) -> str:
    """A file with or without a folder before it."""
    return file_name(draw) if draw.chance(0.4) else f"{folder(draw)}/{file_name(draw)}"
