"""Reads multipart/form-data into memory; what it may take there is bounded by `BodyLimit`."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import MalformedBodyError

DEFAULT_MAX_PARTS: Final = 16
# As nearly every client writes it; the parser for all that the standard allows takes ten times as long.
_PLAIN: Final = re.compile(rb'form-data; name="([^"\\\r\n;]+)"(; filename="[^"\\\r\n;]*")?')


@dataclass(slots=True)
class Part:
    """One field; `is_file` if it came with a file name, whatever that was. Text is not kept."""

    name: bytes = b""
    is_file: bool = False
    data: bytearray = field(default_factory=bytearray)


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
