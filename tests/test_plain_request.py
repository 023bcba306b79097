"""What is read without the parser is what the parser would have read."""

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.plain_request import MAX_HEAD_BYTES, Head, read

WHOLE = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 4\r\n\r\nbody"
HEAD, LINES = WHOLE.split(b"\r\n", 1)


class Parsed:
    """One request as uvicorn's parser reports it."""

    def __init__(self, data: bytes) -> None:
        self.url = self.body = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = 0
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(data)
        self.method = parser.get_method()
        self.keeps_alive = parser.should_keep_alive()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1


def agrees(data: bytes, head: Head) -> None:
    parsed = Parsed(data)
    assert (parsed.complete, parsed.method, parsed.keeps_alive) == (1, b"POST", True)
    assert (parsed.url, parsed.headers) == (head.raw_path, list(head.headers.items()))
    assert parsed.body == data[head.size_bytes :]
    assert head.path == parsed.url.decode()
    assert head.size_bytes + head.body_bytes == len(data)


def test_a_plain_request_is_read() -> None:
    head = read(WHOLE)
    assert head is not None
    assert (head.path, head.body_bytes) == ("/predict", 4)
    agrees(WHOLE, head)


@pytest.mark.parametrize(
    "line",
    [
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b"Connection: close",
        b"Proxy-Connection: close",
        b"Upgrade: h2c",
        b"Host: another",
        b"Content-Length: 4",
        b"Content-type: image/jpeg",
        b" folded: line",
        b"no colon",
        b"Empty: ",
        b"Space-behind: two ",
        b"Tab:\tseparated",
        b"Bad Name: x",
        b"Control: \x01",
    ],
)
def test_whatever_else_there_is_goes_to_the_parser(line: bytes) -> None:
    assert read(HEAD + b"\r\n" + line + b"\r\n" + LINES) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        WHOLE[:-1],
        WHOLE + b"G",
        WHOLE + WHOLE,
        WHOLE.replace(b"\r\n", b"\n"),
        WHOLE.replace(b"POST", b"GET"),
        WHOLE.replace(b"1.1", b"1.0"),
        WHOLE.replace(b"/predict", b"/predict?top_k=1"),
        WHOLE.replace(b"/predict", b"/%70redict"),
        WHOLE.replace(b"/predict", b"http://x/predict"),
        WHOLE.replace(b"Host: x\r\n", b""),
        WHOLE.replace(b": 4", b": +4"),
        WHOLE.replace(b": 4", b": 0000004"),
        WHOLE.replace(b"image/png", b"x" * MAX_HEAD_BYTES),
    ],
)
def test_what_is_not_one_whole_plain_request_goes_to_the_parser(data: bytes) -> None:
    assert read(data) is None


@given(
    lines=st.lists(
        st.sampled_from(
            [
                b"Accept: */*",
                b"X-A:  two",
                b"X-D: two ",
                b"X-B: a:b",
                b"Host: y",
                b"te: x",
                b"X-C: \xe9",
                b"-: -",
            ]
        )
    ),
    at=st.integers(0, len(WHOLE) - 1),
    byte=st.none() | st.integers(0, 255),
)
def test_whatever_is_read_is_read_as_the_parser_reads_it(
    lines: list[bytes], at: int, byte: int | None
) -> None:
    data = bytearray(HEAD + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + LINES)
    if byte is not None:
        data[at] = byte
    head = read(bytes(data))
    if head is not None:
        agrees(bytes(data), head)
