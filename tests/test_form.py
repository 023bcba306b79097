import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_multipart.multipart import parse_options_header

from app.api.form import _PLAIN, _disposition, only_file, read_form
from app.errors import MalformedBodyError

NAMES = st.text(st.characters(codec="latin-1"), max_size=20).map(lambda text: text.encode("latin-1"))


def as_the_standard_has_it(value: bytes) -> tuple[bytes, bool]:
    _, options = parse_options_header(value)
    return options.get(b"name", b""), b"filename" in options


@pytest.mark.parametrize(
    "value",
    [
        b'form-data; name="file"; filename="a.png"',
        b'form-data; name="file"',
        b'form-data; name="file"; filename=""',
        b"form-data; name=file; filename=a.png",
        b'form-data; filename="a.png"; name="file"',
        b"form-data; name=\"file\"; filename*=UTF-8''a.png",
        b'form-data; name="file"; filename="C:\\pictures\\a.png"',
        b'form-data; name="fi\\"le"; filename="a;b.png"',
        b"attachment",
        b"",
    ],
)
def test_the_quick_way_to_read_a_field_gives_what_the_whole_one_gives(value: bytes) -> None:
    assert _disposition(value) == as_the_standard_has_it(value)


@given(name=NAMES, filename=NAMES)
def test_whatever_the_names(name: bytes, filename: bytes) -> None:
    value = b'form-data; name="%b"; filename="%b"' % (name, filename)
    if _PLAIN.fullmatch(value):
        assert _disposition(value) == as_the_standard_has_it(value)


# A whole form with one file in it


def form(*parts: bytes, boundary: bytes = b"limit", end: bytes = b"--\r\n") -> bytes:
    return b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts) + b"--" + boundary + end


FILE = b'Content-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n%b'


async def in_pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def read(content_type: str, *pieces: bytes) -> list[tuple[bytes, bool, bytes]] | str:
    """What came of a form, or the error."""
    try:
        parts = asyncio.run(read_form(content_type, in_pieces(*pieces)))
    except MalformedBodyError as error:
        return str(error)
    return [(part.name, part.is_file, bytes(part.data)) for part in parts]


def read_by_the_parser(content_type: str, body: bytes) -> list[tuple[bytes, bool, bytes]] | str:
    """The first byte alone is no form that could be taken apart at once."""
    assert only_file(content_type, body[:1]) is None
    return read(content_type, body[:1], body[1:], b"")


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"--limit", b"\r\n--limi", b"\r\n\r\n"])
@pytest.mark.parametrize("end", [b"--\r\n", b"--"])
def test_a_form_with_one_file_is_taken_apart_at_once(content: bytes, end: bytes) -> None:
    body = form(FILE % content, end=end)
    part = only_file("multipart/form-data; boundary=limit", body)
    assert part is not None
    assert (part.name, part.is_file, part.data) == (b"file", True, content)


@pytest.mark.parametrize(
    "body",
    [
        form(FILE % b"1", FILE % b"2"),
        form(FILE % b"1", end=b"--\r\nepilogue"),
        form(FILE % b"1", end=b"\r\n"),
        form(FILE % b"1")[:-4],
        b"preamble\r\n" + form(FILE % b"1"),
        form(b'Content-Disposition: form-data; name="file"\r\n\r\ntext'),
        form(b"\r\nno headers"),
        form(FILE % b"\r\n--limitless"),
        b"",
    ],
)
def test_every_other_form_is_left_to_the_parser(body: bytes) -> None:
    assert only_file("multipart/form-data; boundary=limit", body) is None


PIECES = st.sampled_from(
    [
        *(b"--limit", b"--", b"\r\n", b"\r", b"\n", b"x", b": ", b"\x00\xff", FILE % b""),
        *(b"Content-Disposition: form-data; ", b'name="file"', b'; filename="a"'),
        *(b"Content-Type: image/png", b"content-disposition: "),
    ]
)


@given(pieces=st.lists(PIECES, max_size=12), whole=st.booleans())
def test_both_ways_find_the_same_in_any_body(pieces: list[bytes], whole: bool) -> None:
    body = b"".join(pieces)
    body = form(FILE % body) if whole else b"--limit\r\n" + body
    content_type = "multipart/form-data; boundary=limit"
    assert read(content_type, body) == read_by_the_parser(content_type, body)
