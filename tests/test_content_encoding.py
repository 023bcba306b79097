import gzip
import zlib

import pytest
from fastapi import Response
from hypothesis import given
from hypothesis import strategies as st

from app.api import content_encoding
from app.errors import BodyTooLargeError, MalformedBodyError


@given(st.binary(max_size=300), st.integers(-15, -9))
def test_what_was_compressed_comes_out_again(data: bytes, window: int) -> None:
    for packed, encoding in (
        (gzip.compress(data), "gzip"),
        (zlib.compress(data), "deflate"),
        (zlib.compress(data, wbits=window), " Deflate "),
    ):
        assert content_encoding.decode(packed, encoding, 300) == data


@pytest.mark.parametrize("limit", [999, 1000])
def test_the_limit_is_what_comes_out(limit: int) -> None:
    packed = gzip.compress(bytes(1000))
    if limit == 1000:
        assert content_encoding.decode(packed, "gzip", limit) == bytes(1000)
    else:
        with pytest.raises(BodyTooLargeError, match="at most 999 bytes"):
            content_encoding.decode(packed, "gzip", limit)


@given(st.binary(max_size=100), st.sampled_from(["gzip", "deflate"]))
def test_garbage_is_refused_or_data(data: bytes, encoding: str) -> None:
    try:
        content_encoding.decode(data, encoding, 1000)
    except (MalformedBodyError, BodyTooLargeError):
        return
    assert encoding == "deflate" or data[:2] == b"\x1f\x8b"


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br", "gzip"),
        ("gzip;q=0.2, deflate;q=0.9", "deflate"),
        ("gzip;q=0", None),
        ("*", "gzip"),
        ("gzip;q=0, *", "deflate"),
        ("gzip;q=nan", None),
        ("gzip;" + "x" * 5000, None),
    ],
)
def test_an_answer_is_compressed_as_its_reader_prefers(accepted: str, expected: str | None) -> None:
    response = content_encoding.compress(Response(bytes(2000)), accepted)
    assert response.headers.get("content-encoding") == expected
    assert int(response.headers["content-length"]) == len(response.body)
    assert content_encoding.decode(bytes(response.body), expected or "", 2000) == bytes(2000)


def test_a_short_answer_is_left_alone() -> None:
    response = content_encoding.compress(Response(bytes(100)), "gzip")
    assert "content-encoding" not in response.headers
