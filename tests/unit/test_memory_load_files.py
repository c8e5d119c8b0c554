"""PDF and DOCX: pages, headings, and the broken, locked and malicious ones."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
import zlib

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from benchai.errors import SourceError
from benchai.memory.loaders import load, pdf

_TYPES = (
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/><Override PartName="/word/document.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
_RELATIONS = (
    '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
    'Target="word/document.xml"/></Relationships>'
)
_CORE = (
    '<cp:coreProperties xmlns:cp="x" xmlns:dc="y"><dc:title>The plan</dc:title>'
    "<dc:creator>Ada</dc:creator></cp:coreProperties>"
)
_STYLES = (
    '<?xml version="1.0"?><w:styles xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
    '<w:style w:type="paragraph" w:styleId="Heading1"><w:name w:val="heading 1"/></w:style></w:styles>'
)
_STYLED = _RELATIONS.replace('officeDocument"', 'styles"').replace("word/document.xml", "styles.xml")


def paragraph(text: str, style: str = "") -> str:
    kind = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{kind}<w:r><w:t>{text}</w:t></w:r></w:p>"


def docx(body: str, head: str = '<?xml version="1.0"?>', **others: bytes) -> bytes:
    main = (
        f'{head}<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
        f"<w:body>{body}</w:body></w:document>"
    )
    files = {
        "[Content_Types].xml": _TYPES,
        "_rels/.rels": _RELATIONS,
        "docProps/core.xml": _CORE,
        "word/document.xml": main,
        "word/styles.xml": _STYLES,
        "word/_rels/document.xml.rels": _STYLED,
        **{name.replace("__", "/").replace("_dot_", "."): data for name, data in others.items()},
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def made_pdf(pages: list[str], password: str | None = None, owner: str = "owner") -> bytes:
    writer = PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for text in pages:
        page = writer.add_blank_page(300, 300)
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode())
        fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        page[NameObject("/Contents")] = writer._add_object(stream)
    writer.add_metadata({"/Title": "A paper", "/Author": "Ada"})
    if password is not None:
        writer.encrypt(user_password=password, owner_password=owner, algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def test_a_pdf_is_read_page_by_page() -> None:
    document = load("/x/paper.pdf", made_pdf(["First page.", "", "Third page."]))
    assert (document.title, document.media) == ("A paper", "pdf")
    assert document.meta == {"author": "Ada", "pages": 3}
    assert [(piece.text, piece.page, piece.line) for piece in document.pieces] == [
        ("First page.", 1, None),
        ("Third page.", 3, None),
    ]


def test_an_encrypted_pdf_is_refused_with_the_mend() -> None:
    with pytest.raises(SourceError, match=r"'/x/paper\.pdf' is encrypted") as caught:
        load("/x/paper.pdf", made_pdf(["Secret."], password="secret"))
    assert "qpdf --decrypt" in (caught.value.hint or "")


def test_a_pdf_that_anybody_may_open_is_read() -> None:
    assert load("/x/paper.pdf", made_pdf(["Open."], password="")).pieces[0].text == "Open."


@pytest.mark.parametrize("data", [b"%PDF-1.7\n", b"%PDF-1.7\nrubbish %%EOF", made_pdf(["A page."])[:200]])
def test_a_broken_pdf_is_refused(data: bytes) -> None:
    with pytest.raises(SourceError, match=r"/x/paper\.pdf") as caught:
        load("/x/paper.pdf", data)
    assert caught.value.hint


def test_a_pdf_without_text_and_what_is_no_pdf_are_refused() -> None:
    with pytest.raises(SourceError, match="without text"):
        load("/x/scan.pdf", made_pdf([""]))
    with pytest.raises(SourceError, match="is no PDF"):
        load("/x/page.pdf", b"<html>not found</html>")


def test_a_page_that_draws_too_much_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "_CONTENTS", 100)
    document = load("/x/paper.pdf", made_pdf(["Short.", "Long. " * 100]))
    assert [piece.page for piece in document.pieces] == [1]
    assert document.meta["notice"] == "pages that can't be read: 2"


def test_a_pdf_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "_SECONDS", -1.0)
    monkeypatch.setattr(pdf, "_SECONDS_PER_PAGE", 0.0)
    with pytest.raises(SourceError, match=r"takes longer than -1 s"):
        load("/x/paper.pdf", made_pdf(["A page."]))


def test_a_docx_is_read_with_its_headings() -> None:
    body = (
        paragraph("One", "Heading1") + paragraph("Text &amp; more.") + paragraph("Two", "Heading1") + paragraph("End.")
    )
    document = load("/x/plan.docx", docx(body, word__vbaProject_dot_bin=b"Sub AutoOpen()"))
    assert (document.title, document.media, document.meta) == ("The plan", "docx", {"author": "Ada"})
    assert [(piece.heading, piece.text) for piece in document.pieces] == [
        ("One", "# One\n\nText & more."),
        ("Two", "# Two\n\nEnd."),
    ]


def test_a_docx_that_unpacks_to_much_more_is_refused_before_it_is() -> None:
    bomb = docx(paragraph("x") + " " * 50_000_000)
    assert len(bomb) < 100_000
    with pytest.raises(SourceError, match="more than 200 times its size"):
        load("/x/bomb.docx", bomb)


def test_a_docx_that_lies_about_its_sizes_is_refused() -> None:
    honest = docx(paragraph("x") + " " * 50_000_000)
    size = next(
        entry.file_size for entry in zipfile.ZipFile(io.BytesIO(honest)).infolist() if "document" in entry.filename
    )
    lying = honest.replace(size.to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    assert lying != honest
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match="broken DOCX: BadZipFile"):
            load("/x/bomb.docx", lying)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_entities_are_refused() -> None:
    head = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]>'
    with pytest.raises(SourceError, match="defines entities"):
        load("/x/a.docx", docx(paragraph("&a;"), head))


def test_many_entries_and_much_text_are_refused() -> None:
    crowd = {f"word__n{number}": b"" for number in range(10_001)}
    with pytest.raises(SourceError, match="more than 10000"):
        load("/x/a.docx", docx(paragraph("x"), **crowd))


@pytest.mark.parametrize("data", [b"PK\x03\x04rubbish", docx(paragraph("x"))[:400], b"\xd0\xcf\x11\xe0" + bytes(600)])
def test_a_broken_or_locked_docx_is_refused(data: bytes) -> None:
    with pytest.raises(SourceError, match=r"'/x/a\.docx' is") as caught:
        load("/x/a.docx", data)
    assert caught.value.hint


def test_an_archive_that_is_no_document_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(SourceError, match="broken DOCX"):
        load("/x/a.docx", buffer.getvalue())


def test_a_bomb_within_a_pdf_does_not_fill_the_memory() -> None:
    writer = PdfWriter()
    page = writer.add_blank_page(100, 100)
    stream = DecodedStreamObject()
    stream.set_data(zlib.compress(b" " * 100_000_000, 9))
    stream[NameObject("/Filter")] = NameObject("/FlateDecode")
    page[NameObject("/Contents")] = writer._add_object(stream)
    buffer = io.BytesIO()
    writer.write(buffer)
    with pytest.raises(SourceError, match="no page"):
        load("/x/bomb.pdf", buffer.getvalue())
