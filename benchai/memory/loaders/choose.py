"""Which loader reads a source: by its suffix or media type, checked against its content."""

from __future__ import annotations

import importlib
import re

from benchai.errors import SourceError
from benchai.memory.loaders.base import Loader, Raw
from benchai.memory.loaders.code import LANGUAGES
from benchai.memory.loaders.decode import is_binary

FORMATS = {
    **dict.fromkeys(LANGUAGES, "code"),
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd", ".mdx", ".qmd", ".rmd"), "markdown"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    ".pdf": "pdf",
    **dict.fromkeys((".docx", ".docm", ".dotx"), "docx"),
    **dict.fromkeys((".csv", ".tsv"), "table"),
    ".ipynb": "notebook",
}
_MEDIA = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/markdown": ".md",
    "application/pdf": ".pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/x-ipynb+json": ".ipynb",
}
_BINARY_SUFFIXES = """
    .png .jpg .jpeg .gif .webp .bmp .tif .tiff .ico .icns .psd .heic .avif .mp3 .wav .flac .ogg .opus .m4a .aac .mp4
    .mkv .mov .avi .webm .m4v .zip .gz .tgz .bz2 .xz .zst .lz4 .7z .rar .tar .jar .war .whl .egg .iso .dmg .deb .rpm
    .exe .dll .so .dylib .a .o .obj .lib .pdb .class .pyc .pyo .pyd .wasm .bin .dat .db .sqlite .sqlite3 .mdb
    .parquet .feather .arrow .npy .npz .h5 .hdf5 .pkl .pickle .pt .pth .onnx .gguf .safetensors .ckpt .ttf .otf
    .woff .woff2 .eot .swf .blend .fbx .glb .doc .xls .ppt .xlsx .pptx .odt .ods .odp .epub .mobi .pack .idx
"""
#: Files of these are no documents: a folder's are passed over.
BINARY = frozenset(_BINARY_SUFFIXES.split())
_BEGINS = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\xd0\xcf\x11\xe0", "a file of an old office program, or an encrypted one"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"\x1f\x8b", "a packed file"),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3\x00", "a database"),
    (b"GGUF", "a model"),
)
_PAGE = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype html|html)\b", re.IGNORECASE | re.DOTALL)


# Bytes from which on a document is read in a process of its own. Code of 0.5 MB can hold Python's lock for 3 s and take
# 1.6 GB; what PDF and DOCX unpack to, their size does not tell.
_LARGE = 256 << 10
_RISKY = {"code": 32 << 10, "html": 64 << 10, "notebook": 64 << 10, "pdf": 0, "docx": 0}


def is_risky(raw: Raw) -> bool:
    """Whether its parser may keep others waiting, or run out of memory."""
    return len(raw.data) >= _RISKY.get(_format(raw), _LARGE)


def suffix_of(raw: Raw, media_type: str) -> str:
    """The suffix that stands for what the source is; a media type of HTTP counts more than the name."""
    return _MEDIA.get(media_type, raw.suffix)


def loader_of(raw: Raw) -> Loader:
    """The function that reads it.

    Raises:
        SourceError: the content is not what the name says, or nothing that can be read.
    """
    name = _format(raw)
    _check(raw, name)
    loader: Loader = importlib.import_module(f"benchai.memory.loaders.{name}").load
    return loader


def _format(raw: Raw) -> str:
    return FORMATS.get(raw.suffix) or _by_content(raw)


def _by_content(raw: Raw) -> str:
    """Of a source whose suffix tells nothing; one that calls itself a text has to be one."""
    if raw.suffix in ("", ".bin", ".dat", ".php", ".aspx", ".tmp"):
        if _is_pdf(raw.data):
            return "pdf"
        if raw.data.startswith(b"PK\x03\x04") and b"word/document.xml" in raw.data:
            return "docx"
        if _PAGE.match(raw.data, 0, 4096):
            return "html"
    return "plain"


def _is_pdf(data: bytes) -> bool:
    return b"%PDF-" in data[:1024]


def _check(raw: Raw, name: str) -> None:
    if name == "pdf":
        if not _is_pdf(raw.data):
            raise SourceError(f"{raw.source!r} is no PDF", hint="give it the suffix of what it is, or fetch it anew")
    elif name == "docx":
        if not raw.data.startswith(b"PK"):
            raise SourceError(f"{raw.source!r} is no DOCX, or an encrypted one", hint="save it anew without a password")
    else:
        _check_text(raw)


def _check_text(raw: Raw) -> None:
    begins = next((what for begin, what in _BEGINS if raw.data.startswith(begin)), "")
    if not begins and _is_pdf(raw.data[:16]):
        begins = "a PDF"
    if begins and (begins == "a PDF" or is_binary(raw.data)):
        raise SourceError(f"{raw.source!r} is {begins}, no text", hint="give it the suffix of what it is")
