"""Reads multipart/form-data into memory; what it may take there is bounded by `BodyLimits`.

Most forms are one small file that arrives in one piece, which is taken apart at once. The parser for all that
the standard allows takes several times as long; it reads every other.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import MalformedBodyError

DEFAULT_MAX_PARTS: Final = 16
_MULTIPART: Final = re.compile(r"multipart/form-data; boundary=([0-9A-Za-z'()+_./-]{1,70})")
_HEADERS: Final = re.compile(rb"(?:[A-Za-z-]+: [!-~][ -~]{0,999}\r\n){1,4}\r\n")
# As nearly every client writes it.
_PLAIN: Final = re.compile(rb'form-data; name="([^"\\\r\n;]+)"(; filename="[^"\\\r\n;]*")?')


@dataclass(slots=True)
class Part:
    """One field; `is_file` if it came with a file name, whatever that was. Text is not kept."""

    name: bytes = b""
    is_file: bool = False
    data: bytes | bytearray = field(default_factory=bytearray)


class _Collector:
    """Is told of headers and data bit by bit, as they arrive."""

    def __init__(self, max_parts: int) -> None:
        self.parts: list[Part] = []
        self._max_parts = max_parts
        self.ended = False
        self._header = self._value = b""

    def on_part_begin(self) -> None:
        if len(self.parts) == self._max_parts:
            raise MalformedBodyError(
                f"The form has more than {self._max_parts} parts.",
                limit=self._max_parts,
                received=self._max_parts + 1,
            )
        self.parts.append(Part())

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self.parts[-1].name, self.parts[-1].is_file = _disposition(self._value)
        self._header = self._value = b""

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self.parts[-1].is_file:
            self.parts[-1].data += memoryview(data)[start:end]

    def on_end(self) -> None:
        self.ended = True


def _disposition(value: bytes) -> tuple[bytes, bool]:
    """The name of a field and whether it is a file."""
    if plain := _PLAIN.fullmatch(value):
        return plain[1], plain[2] is not None
    _, options = parse_options_header(value)
    return options.get(b"name", b""), b"filename" in options


async def read_form(
    content_type: str, stream: AsyncIterator[bytes], max_parts: int = DEFAULT_MAX_PARTS
) -> list[Part]:
    """The parts of a form, in order.

    Raises:
        MalformedBodyError: the body is no such form, ends early, or has too many parts.
    """
    begin = [await anext(stream, b""), await anext(stream, b"")]
    if not begin[1] and (only := only_file(content_type, begin[0])):
        return [only]
    return await _parsed(content_type, begin, stream, max_parts)


def only_file(content_type: str, body: bytes) -> Part | None:
    """The file of a whole form that holds nothing else, as browsers, curl and most libraries write it.

    None for every other body; `read_form` says what is in it, or wrong with it.
    """
    announced = _MULTIPART.fullmatch(content_type)
    if announced is None:
        return None
    delimiter = b"--" + announced[1].encode()
    headers = _HEADERS.match(body, len(delimiter) + 2)
    if headers is None or not body.startswith(delimiter + b"\r\n"):
        return None
    lines = headers[0].split(b"\r\n")
    dispositions = [line for line in lines if line[:20].lower() == b"content-disposition:"]
    plain = _PLAIN.fullmatch(dispositions[0], 21) if len(dispositions) == 1 else None
    end = body.find(b"\r\n" + delimiter, headers.end())
    if plain is None or plain[2] is None or end < 0:
        return None
    if body[end + 2 + len(delimiter) :] not in (b"--\r\n", b"--"):
        return None
    return Part(plain[1], is_file=True, data=body[headers.end() : end])


async def _parsed(
    content_type: str, begin: list[bytes], stream: AsyncIterator[bytes], max_parts: int
) -> list[Part]:
    """What the parser finds in `begin` and then in `stream`."""
    _, options = parse_options_header(content_type)
    collector = _Collector(max_parts)
    try:
        parser = MultipartParser(
            options.get(b"boundary", b""),
            {
                "on_part_begin": collector.on_part_begin,
                "on_header_field": collector.on_header_field,
                "on_header_value": collector.on_header_value,
                "on_header_end": collector.on_header_end,
                "on_part_data": collector.on_part_data,
                "on_end": collector.on_end,
            },
        )
        for chunk in begin:
            parser.write(chunk)
        async for chunk in stream:
            parser.write(chunk)
    except FormParserError as error:
        raise MalformedBodyError(
            "The body is not the multipart form that its content type announces. Let your HTTP library write "
            "both."
        ) from error
    if not collector.ended:
        raise MalformedBodyError("The form ends before its closing boundary: part of it did not arrive.")
    return collector.parts
