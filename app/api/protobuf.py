"""What a message in protobuf's wire format will cost, told before anything is made of it.

Two bytes can stand for an object of a hundred, and the parser lets no other thread run until it is done, so a
long message of empty fields would fill the memory and stop every other request.
"""

from typing import Any, Final

from google.protobuf.message import DecodeError

from app import wire
from app.errors import MalformedBodyError, WireError

_SPARE_FIELDS: Final = 10_000
_MOST_PACKED_BYTES: Final = 4 * 1024 * 1024  # of numbers, which take up to ten times as much in memory


def parse(data: bytes, kind: Any, elements: int) -> Any:
    """A message of this class, if it has no more fields than so many `elements` of a list need.

    Raises:
        MalformedBodyError: it has more, or is no such message.
    """
    try:
        Meter(elements + _SPARE_FIELDS).add(memoryview(data), kind.DESCRIPTOR)
        message = kind()
        message.ParseFromString(data)
    except (WireError, DecodeError) as error:
        raise MalformedBodyError(f"The message is no {kind.DESCRIPTOR.name}.") from error
    return message


class Meter:
    """Counts fields, those inside of fields too, and the bytes of packed numbers."""

    def __init__(self, most_fields: int) -> None:
        self._most_fields = most_fields
        self._fields = 0
        self._packed_bytes = 0

    def add(self, data: memoryview, kind: Any) -> None:
        for number, payload in wire.fields(data):
            self._fields += 1
            field = kind.fields_by_number.get(number)
            if payload is not None and field is not None:
                if field.message_type is not None:
                    self.add(payload, field.message_type)
                elif field.cpp_type != field.CPPTYPE_STRING:
                    self._packed_bytes += len(payload)
            if self._fields > self._most_fields or self._packed_bytes > _MOST_PACKED_BYTES:
                raise MalformedBodyError(
                    f"The message has more than {self._most_fields:,} fields, or more than "
                    f"{_MOST_PACKED_BYTES:,} bytes of numbers. Send fewer pictures per call, and pixels in "
                    "raw_input_contents."
                )
