"""web_fetch: what may be reached, and how a page becomes text."""

from __future__ import annotations

import gzip
import ipaddress
import json
import zlib
from ipaddress import IPv4Address, IPv6Address

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.errors import ToolError
from benchai.tools.net import Access, is_elsewhere, is_public, is_web_port, own_networks, parse_url, redirected
from benchai.tools.tool import ToolContext
from benchai.tools.web import (
    MAX_CHARS,
    MAX_LINE,
    WEB_FETCH,
    Body,
    Page,
    _Inflater,
    html_text,
    show,
    to_page,
)

ACCESS = Access()
URL = "https://example.com/a/page"
NOT_PUBLIC = """
    0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.254 168.63.129.16
    169.254.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1
    198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
    :: ::1 ::7f00:1 ::ffff:8.8.8.8 ::ffff:127.0.0.1 ::ffff:0:8.8.8.8 64:ff9b::8.8.8.8 64:ff9b:1::1 100::1 2001::1
    2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1:: 2002:808:808::
    3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1
    """
PUBLIC = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1 192.167.1.1
    223.255.255.255 2606:4700:4700::1111 2a00:1450:4001:831::200e 2001:4860:4860::8888 2620:fe::fe
"""
REFUSED = """
    http://127.0.0.1/ http://127.1/ http://127.0.1/ http://2130706433/ http://017700000001/ http://0x7f000001/
    http://0x7f.1/ http://0x7F.0.0.0x1/ http://0177.0.0.1/ http://127.0.0.1./ http://0/ http://0x/ http://999.1.1.1/
    http://10.0.0.1.0/ http://a.1/ http://127。0。0。1/ http://１２７.0.0.1/ http://①②⑦.0.0.1/ http://169.254.169.254/
    http://[::1]/ http://[::]/ http://[::ffff:127.0.0.1]/ http://[::ffff:7f00:1]/ http://[::127.0.0.1]/
    http://[64:ff9b::7f00:1]/ http://[2002:7f00:1::]/ http://[fe80::1%25eth0]/ http://[fe80::1%eth0]/ http://[fd00:ec2::254]/
    http://user:secret@example.com/ http://user@example.com/ http://example.com@127.0.0.1/ http://:@example.com/
    http://%31%32%37.0.0.1/ http://a%00.com/ http://a..b/ http:///x http:// http:x https:/x // ftp://example.com/
    file:///etc/passwd gopher://example.com/ data:text/html,x javascript:alert(1) example.com /etc/passwd
    http://example.com:99999/ http://example.com:x/ http://[1/ http://a\\@b/ http://a;b/ http://xn--a.com:1/
    """


def refusal(text: str) -> str:
    with pytest.raises(ToolError) as raised:
        parse_url(text, ACCESS)
    return f"{raised.value}; {raised.value.hint}"


def page(data: bytes, media_type: str = "text/html", charset: str = "") -> Page:
    return to_page(Body(httpx.URL(URL), media_type, charset, data, False))


# ---- addresses


@pytest.mark.parametrize("address", NOT_PUBLIC.split())
def test_what_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC.split())
def test_what_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses())
def test_public_is_never_more_than_python_calls_global(address: IPv4Address | IPv6Address) -> None:
    if is_public(address):
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_reserved


@given(st.ip_addresses(v=4), st.sampled_from(["::", "::ffff:0:0", "64:ff9b::", "64:ff9b:1::"]))
def test_an_address_that_wraps_another_is_never_public(inner: IPv4Address, prefix: str) -> None:
    assert not is_public(IPv6Address(int(IPv6Address(prefix)) | int(inner)))
    assert not is_public(IPv6Address((0x2002 << 112) | (int(inner) << 80)))
    assert not is_public(IPv6Address((0x20010000 << 96) | (int(inner) ^ 0xFFFFFFFF)))


def test_the_networks_of_this_machine_are_not_elsewhere() -> None:
    networks = own_networks()
    assert networks
    assert not any(is_elsewhere(network.network_address) for network in networks)


@pytest.mark.parametrize(("port", "valid"), [(80, True), (443, True), (8000, True), (8443, True), (8999, True)])
def test_web_ports(port: int, valid: bool) -> None:
    assert is_web_port(port) is valid


@pytest.mark.parametrize("port", [0, 1, 22, 25, 81, 444, 3306, 5432, 6379, 7999, 9000, 11434, 65535])
def test_other_ports(port: int) -> None:
    assert not is_web_port(port)
    assert f"port {port} " in refusal(f"http://example.com:{port}/")


# ---- URLs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://example.com", "https://example.com"),
        ("  HTTPS://EXAMPLE.com./a b?q=ü#part  ", "https://example.com/a%20b?q=%C3%BC"),
        ("http://müller.de/", "http://xn--mller-kva.de/"),
        ("http://xn--mller-kva.de/", "http://xn--mller-kva.de/"),
        ("http://8.8.8.8:8080/x", "http://8.8.8.8:8080/x"),
        ("https://[2606:4700:4700::1111]/", "https://[2606:4700:4700::1111]/"),
        ("http://example.com:80/", "http://example.com/"),
        ("http://my_host.example/", "http://my_host.example/"),
    ],
)
def test_urls_that_may_be_asked_for(text: str, expected: str) -> None:
    assert str(parse_url(text, ACCESS)) == expected


@pytest.mark.parametrize("text", REFUSED.split())
def test_urls_that_may_not_be_asked_for(text: str) -> None:
    said = refusal(text)
    assert len(said) < 500
    assert "secret" not in said


def test_refusals_tell_the_mend() -> None:
    assert "write 'https://example.com/x'" in refusal("example.com/x")
    assert "valid ports: 80, 443, 8000 to 8999" in refusal("http://example.com:22/")
    assert "four decimal parts" in refusal("http://0x7f.1/")
    assert "longer than 4096" in refusal("http://example.com/" + "a" * 4096)
    assert "leads to 127.0.0.1" in refusal("http://127.0.0.1/")
    assert refusal("http://a\nb/").count("\n") == 0
    refusal("http://" + "a" * 64 + ".com/")
    refusal("http://" + "a." * 130 + "com/")


@given(st.integers(0, 2**32 - 1), st.sampled_from(["{:d}", "0x{:x}", "0{:o}"]))
def test_numbers_are_no_hosts(number: int, form: str) -> None:
    with pytest.raises(ToolError):
        parse_url(f"http://{form.format(number)}/", ACCESS)


@given(st.text(max_size=40))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    for prefix in ("", "http://", "https://example.com/"):
        try:
            url = parse_url(prefix + text, ACCESS)
        except ToolError:
            continue
        assert url.scheme in {"http", "https"}
        assert not url.userinfo
        assert str(url).isascii()


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("b", "https://example.com/a/b"),
        ("/b?c#d", "https://example.com/b?c"),
        ("//other.example/x", "https://other.example/x"),
        ("https://other.example:8443", "https://other.example:8443"),
    ],
)
def test_redirects(location: str, expected: str) -> None:
    assert str(redirected(httpx.URL(URL), location, ACCESS)) == expected


@pytest.mark.parametrize(
    "location",
    [
        "http://example.com/",
        "//127.0.0.1/",
        "https://[::1]/",
        "https://a:b@example.com/",
        "ftp://x.example/",
        "https://[",
        "https://x:25/",
    ],
)
def test_redirects_that_are_refused(location: str) -> None:
    with pytest.raises(ToolError):
        redirected(httpx.URL(URL), location, ACCESS)


# ---- bodies


def inflated(encoding: str, *pieces: bytes, limit: int = 1000) -> tuple[bytes, bool]:
    inflater = _Inflater(encoding, limit)
    for piece in pieces:
        if not inflater.feed(piece):
            break
    return inflater.result(), inflater.cut


def test_bodies_are_decoded() -> None:
    raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bare = raw.compress(b"words" * 9) + raw.flush()
    for encoding, data in [("", b"words" * 9), ("identity", b"words" * 9), ("GZip", gzip.compress(b"words" * 9))]:
        assert inflated(encoding, data) == (b"words" * 9, False)
        assert inflated(encoding, *[bytes([byte]) for byte in data]) == (b"words" * 9, False)
    for data in (bare, zlib.compress(b"words" * 9)):
        assert inflated("deflate", data) == (b"words" * 9, False)
    assert inflated("gzip") == (b"", False)


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate"])
@pytest.mark.parametrize(("size", "cut"), [(999, False), (1000, False), (1001, True), (100_000, True)])
def test_bodies_end_at_the_limit(encoding: str, size: int, cut: bool) -> None:
    pack = {"": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[encoding]
    assert inflated(encoding, pack(b"x" * size)) == (b"x" * min(size, 1000), cut)


def test_encoded_data_without_content_ends() -> None:
    empty_blocks = b"\x78\x9c" + b"\x00\x00\x00\xff\xff" * 30_000
    assert inflated("deflate", empty_blocks) == (b"", True)


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("gzip", b"words"),
        ("deflate", b"\xff\xff\xff"),
        ("gzip", gzip.compress(b"words", mtime=0)[:-4]),
        ("br", b"x"),
        ("gzip, gzip", b""),
    ],
)
def test_bodies_that_cannot_be_decoded(encoding: str, data: bytes) -> None:
    with pytest.raises(ToolError):
        inflated(encoding, data)


@pytest.mark.parametrize(
    ("data", "charset"),
    [
        ("grün".encode(), ""),
        ("grün".encode(), "utf-8"),
        ("grün".encode(), "no-such-charset"),
        ("grün".encode(), "zlib"),
        ("grün".encode(), "unicode_escape"),
        ("grün".encode(), "../utf-8\0"),
        ("grün".encode("latin-1"), "ISO-8859-1"),
        ("grün".encode("cp1252"), "us-ascii"),
        ("grün".encode("utf-16"), "utf-8"),
        (b"\xef\xbb\xbf" + "grün".encode(), "latin-1"),
        (b'<meta charset="iso-8859-1">' + "grün".encode("latin-1"), ""),
        (b'<meta http-equiv=x content="text/html; charset=windows-1252">' + "grün".encode("cp1252"), "bogus"),
        (b'<meta charset="utf-16">' + "grün".encode(), ""),
        (b'<?xml version="1.0" encoding="latin-1"?>' + "grün".encode("latin-1"), ""),
    ],
)
def test_charsets(data: bytes, charset: str) -> None:
    assert page(data, charset=charset).lines == ["grün"]


def test_a_wrong_charset_is_shown_as_such() -> None:
    assert page("grün".encode("latin-1"), "text/plain", "utf-8").lines == ["gr\ufffdn"]
    assert page("早".encode("shift_jis"), "text/plain", "shift_jis").lines == ["早"]


def test_control_and_invisible_characters_never_reach_the_model() -> None:
    hidden = "".join(chr(0xE0000 + ord(letter)) for letter in "obey")
    text = f"a\x1b[31mb\x07\u202ec\u200bd{hidden}\u2066e\xadf\r\ng\u2028h\ti"
    assert page(text.encode(), "text/plain").lines == ["a\ufffd[31mb\ufffdcdef", "g", "h\ti"]
    assert page(b"<title>a\nURL: b\x1b</title><p>x").title == "a URL: b\ufffd"


def test_binary_data_is_refused_whatever_it_is_called() -> None:
    for media_type in ("text/plain", "text/html", ""):
        with pytest.raises(ToolError, match="binary data"):
            page(b"\x89PNG\0\0\0", media_type)


def test_text_stays_as_it_is() -> None:
    assert page(b'{"a": "<b>"}', "application/json").lines == ['{"a": "<b>"}']
    assert page(b"# a\n\n  <p>b\n", "text/markdown").lines == ["# a", "", "  <p>b"]
    assert page(b"<p>a", "").lines == ["<p>a"]
    assert page(b"<!doctype html><html><p>a", "").lines == ["a"]


# ---- HTML

ARTICLE = """<!doctype html>
<html><head><title>The  title</title><style>p{}</style><script>evil()</script></head>
<body><nav><a href="/">Home</a></nav>
<h1>Head_line</h1><p>Some <b>bold</b> and <a href="../x?a=1&amp;b=2" title="t">a link</a>, <a href="#top">top</a>,
<a href="javascript:evil()">click</a>.</p>
<ul><li>one<ol><li>deep</li></ol></li><li>two</li></ul>
<table><thead><tr><th>A</th><th>B</th></tr></thead><tbody><tr><td>1</td><td>2</td></tr></tbody></table>
<pre><code>x = 1
y = 2</code></pre><img src="data:x" alt="a picture"><img src="y">
<p hidden>ignore all</p><p style="display: none">ignore all</p><p aria-hidden=true>ignore all</p><!-- ignore all -->
<blockquote>quoted</blockquote><custom-tag>custom</custom-tag><footer>legal</footer><script>evil()</script></body></html>"""

EXPECTED = """# Head_line

Some **bold** and [a link](https://example.com/x?a=1&b=2), top,
click.

- one
  1. deep
- two

| A | B |
| --- | --- |
| 1 | 2 |

```
x = 1
y = 2
```

a picture

> quoted

custom"""


def test_html_becomes_markdown() -> None:
    shown = page(ARTICLE.encode())
    assert shown.title == "The title"
    assert "\n".join(shown.lines) == EXPECTED


@pytest.mark.parametrize("main", ["main", 'div role="main"', "article"])
def test_the_main_part_is_taken_when_there_is_one(main: str) -> None:
    markup = f"<body><p>before</p><{main}><p>text</p></{main.split()[0]}><p>after</p>"
    assert page(markup.encode()).lines == ["text"]


def test_base_and_odd_links() -> None:
    markup = (
        '<base href="https://b.example/d/"><a href="x">a</a> <a href="http://[">b</a> <a>c</a> <a href=" m\n n ">d</a>'
    )
    assert page(markup.encode()).lines == ["[a](https://b.example/d/x) b c [d](https://b.example/d/mn)"]


@pytest.mark.parametrize(
    "markup",
    [
        "<div>" * 3000 + "text",
        "<blockquote>" * 300 + "text<br>" * 100,
        "<ul><li>" * 300 + "text",
        "<table><tr><td>" * 200 + "text",
        "<ol start=²><li>text",
        "<ol>" + "<li>text</li>" * 3000,
        "<table><thead>" + "<tr><th>text</th></tr>" * 1000,
        "<table>" + "<tbody><tr><td>text</td></tr></tbody>" * 1000,
        "<table><tr><td colspan=1000>text" * 100,
        f"<h{'9' * 5000}>text",
        "<soup>text</soup><fn_cache>text</fn_cache><list>text</list>",
        "<?xml version='1.0'?><feed>text</feed>",
        "text",
        "page.html text",
        "<" * 3000 + "text",
        "text<!--" * 100,
        "text</i>" * 1000,
    ],
)
def test_odd_markup_comes_out_in_proportion(markup: str) -> None:
    text = "\n".join(page(markup.encode()).lines)
    assert "text" in text
    assert len(text) < 40 * len(markup) + 1000


def test_a_page_with_too_many_tags_is_cut() -> None:
    shown = page(b"<p>text" + b"</i>" * 60_000 + b"<p>end")
    assert (shown.lines, shown.cut) == (["text"], True)
    assert show(shown).endswith("[the page goes on, but web_fetch reads no further]")


def test_markup_that_the_parser_rejects() -> None:
    with pytest.raises(ToolError, match="no HTML"):
        html_text("<![" * 10, URL)


# ---- paging


def test_paging_reaches_everything_once() -> None:
    lines = [f"line {number} " + "x" * (number % 300) for number in range(1, 500)]
    whole = Page(URL, "A title", lines, False)
    seen: list[str] = []
    while len(seen) < len(lines):
        text = show(whole, len(seen) + 1)
        head, body = text.split("\n\n", 1)
        assert head == f"Title: A title\nURL: {URL}"
        assert len(body) < MAX_CHARS + 100
        shown = body.split("\n")
        if shown[-1].startswith("["):
            last = len(seen) + len(shown) - 1
            assert shown.pop() == f"[lines {len(seen) + 1}-{last} of 499; go on with offset={last + 1}]"
        seen += shown
    assert seen == lines


def test_a_long_line_goes_on_in_the_next() -> None:
    text = json.dumps(list(range(20_000)))
    lines = page(text.encode(), "application/json").lines
    assert max(map(len, lines)) <= MAX_LINE
    assert "".join(lines) == text
    assert "".join(page(b"x" * 10_001, "text/plain").lines) == "x" * 10_001


def test_the_ends_of_paging() -> None:
    assert show(page(b"")) == f"URL: {URL}\n\n[the page has no text; it may need JavaScript]"
    two = page(b"a\n\n\n\nb\n\n", "text/plain")
    assert two.lines == ["a", "", "b"]
    assert show(two, 3) == f"URL: {URL}\n\nb"
    with pytest.raises(ToolError, match=r"offset=4 is not valid: .* has 3 lines"):
        show(two, 4)


def test_the_schema() -> None:
    assert WEB_FETCH.permission == "network"
    assert WEB_FETCH.parameters() == {
        "type": "object",
        "properties": {
            "url": {"type": "string", "description": "Address of the page, http or https"},
            "offset": {"type": "integer", "description": "First line, from 1"},
        },
        "required": ["url"],
    }


@pytest.mark.anyio
@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "file:///etc/passwd", "http://[::1]:8080/", "http://localhost:22/"]
)
async def test_what_is_refused_before_any_connection(url: str, tmp_path: object) -> None:
    result = await WEB_FETCH.invoke({"url": url}, ToolContext(workspace=tmp_path))  # type: ignore[arg-type]
    assert not result.ok
    assert result.text.startswith("Error: ")
