"""From bytes to text, and whether there is any: byte order marks, UTF-8, UTF-16, else a guess that is told."""

from __future__ import annotations

import codecs
import re
from unicodedata import category

from benchai.errors import SourceError

_SAMPLE = 1 << 16
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before that of UTF-16, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")  # a text may hold form feeds and escapes
_LINE_ENDS = re.compile("\r\n?")
# Codecs of text; Python has others, some slow and some no text at all
_CODECS = re.compile(
    r"utf-(8|16(-[lb]e)?)|ascii|iso8859-\d+|cp(125\d|866|874|932|949|950)|koi8-[rut]|mac-(roman|cyrillic)"
    r"|gbk|gb2312|gb18030|big5(hkscs)?|shift_jis|euc_(jp|kr)|iso2022_jp"
)


def text_of(data: bytes, source: str, charset: str = "") -> tuple[str, str]:
    r"""The text, its line ends as \n, and a notice where the encoding is a guess ("" where it is not).

    Args:
        data: Of the source, whole.
        source: For the message.
        charset: What the sender calls it; "" or an unknown one does not count.

    Raises:
        SourceError: the data is no text.
    """
    text, notice = _decoded(data, source, charset)
    return (_LINE_ENDS.sub("\n", text) if "\r" in text else text), notice


def _decoded(data: bytes, source: str, charset: str) -> tuple[str, str]:
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return _told(data[len(mark) :], codec)
    if wide := _wide(data[:_SAMPLE]):
        return _told(data, wide)
    if is_binary(data):
        raise SourceError(f"{source!r} is no text", hint="save it as text, Markdown, HTML, PDF or DOCX")
    if codec := known_codec(charset):
        return _told(data, codec)
    return _guessed(data)


def known_codec(charset: str) -> str:
    """Python's name of a character set that pages and documents use; "" for others."""
    try:
        name = codecs.lookup(charset.strip("'\" ")).name if charset.isascii() else ""
    except (LookupError, ValueError):
        return ""
    return name if _CODECS.fullmatch(name) else ""


def is_binary(data: bytes) -> bool:
    """Whether the beginning of the data is that of no text in UTF-8 or an encoding of one byte a letter."""
    sample = data[:_SAMPLE]
    control = len(_CONTROL.findall(sample))
    if not control:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return control * 500 > len(sample)
    return control * 10 > len(sample)


def _told(data: bytes, codec: str) -> tuple[str, str]:
    text = data.decode(codec, "replace")
    bad = text.count("\ufffd")
    return text, f"not everywhere {codec}" if bad else ""


def _wide(sample: bytes) -> str:
    """UTF-16 without a mark: Western text has a zero in every second place, nowhere else, and no odd characters."""
    sample = sample[: len(sample) // 2 * 2]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    few, many, codec = (even, odd, "utf-16-le") if even < odd else (odd, even, "utf-16-be")
    if many * 5 <= len(sample) or few * 50 >= many:
        return ""
    text = sample.decode(codec, "replace")
    return codec if sum(map(_is_odd, text)) * 100 <= len(text) else ""


def _is_odd(letter: str) -> bool:
    return letter == "\ufffd" or not (letter.isprintable() or letter.isspace() or category(letter) == "Cf")


def _guessed(data: bytes) -> tuple[str, str]:
    try:
        return data.decode("utf-8"), ""
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    others = sum(len(run) for run in re.findall("[^\x00-\x7f]+", text)) - bad
    if bad * 10 <= others:
        return text, "not everywhere utf-8"
    try:
        return data.decode("cp1252"), "no utf-8: read as cp1252, which is a guess"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "no utf-8: read as latin-1, which is a guess"
