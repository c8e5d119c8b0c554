"""How facts are compared: keys of subjects, relations and values, and which relations hold one value at a time."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from benchai.memory.lexical import STOP_WORDS

#: Of these, a subject has one value at a time: another one supersedes it.
SINGLE: Final = frozenset(
    (  # noqa: SIM905 - as a text it can be read
        "name full_name nickname pronouns age birthday birthplace lives_in home_address works_at works_as studies_at "
        "married_to partner email phone timezone locale native_language operating_system editor shell status version "
        "deadline located_in owner maintainer default_branch main_language licence preferred_language goal"
    ).split()
)
#: Beginnings of relations that are of that sort, too: favourite_colour, preferred_units.
SINGLE_BEGINNINGS: Final = ("favourite_", "preferred_", "current_")
#: Relations that hold any number of values; whatever is in neither list does so, too.
MULTIPLE: Final = (
    "likes", "dislikes", "owns", "uses", "knows", "speaks", "plans", "did", "has_child", "has_pet", "allergic_to",
    "works_on", "decided", "note",
)  # fmt: skip
_SAME: Final = {
    "live_in": "lives_in", "lives": "lives_in", "resides_in": "lives_in", "home": "lives_in", "city": "lives_in",
    "work_at": "works_at", "works_for": "works_at", "employer": "works_at", "employed_by": "works_at",
    "job": "works_as", "occupation": "works_as", "profession": "works_as", "job_title": "works_as",
    "is_called": "name", "called": "name", "date_of_birth": "birthday", "born_on": "birthday", "born_in": "birthplace",
    "spouse": "married_to", "husband": "married_to", "wife": "married_to", "e-mail": "email", "mail": "email",
    "phone_number": "phone", "time_zone": "timezone", "license": "licence", "os": "operating_system",
    "like": "likes", "loves": "likes", "enjoys": "likes", "dislike": "dislikes", "hates": "dislikes",
    "own": "owns", "use": "uses", "know": "knows", "plans_to": "plans", "allergy": "allergic_to",
}  # fmt: skip
_NEGATIONS: Final = frozenset(("no", "nor", "not"))
_WORD: Final = re.compile(r"\w+")
_SPACE_OR_DASH: Final = re.compile(r"[\s-]+")


def folded(text: str) -> str:
    """A text by which texts are compared: case, width and white space aside."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def value_key(value: str) -> str:
    """A value by which values are compared: as ``folded``, without a full stop at its end."""
    key = folded(value)
    return key.rstrip(".!,; ") or key


def relation_key(relation: str) -> str:
    """A relation as it is kept: ``lives_in``; the names of one relation become one."""
    key = _SPACE_OR_DASH.sub("_", folded(relation)).strip("_.")
    key = f"favourite_{key.removeprefix('favorite_')}" if key.startswith("favorite_") else key
    return _SAME.get(key, key)


def line_key(subject: str, relation: str) -> str:
    """What the facts have in common of which one may supersede the other."""
    return f"{subject_key(subject)}\t{relation_key(relation)}"


def subject_key(subject: str) -> str:
    """A subject by which subjects are compared; whoever speaks is ``user``."""
    key = value_key(subject)
    return "user" if key in ("user", "the user", "i", "me", "myself") else key


def is_single(relation: str) -> bool:
    """Whether a subject has one value of it at a time."""
    key = relation_key(relation)
    return key in SINGLE or key.startswith(SINGLE_BEGINNINGS)


def says(text: str) -> frozenset[str]:
    """The words that count in the text of a fact; two texts with the same ones say the same."""
    words = frozenset(_WORD.findall(folded(text)))
    return words - (STOP_WORDS - _NEGATIONS) or words
