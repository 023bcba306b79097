"""Classes for messages of Protocol Buffers, made from the names and types of their fields.

They lie in pools of their own. Modules that a compiler makes register their names for the whole process, and
two that know the same protocol, such as those of a client, do not load into one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool

CHOICE: Final = "choice"
_FieldType: Final = descriptor_pb2.FieldDescriptorProto


def classes(package: str, fields: Mapping[str, Sequence[str]]) -> Mapping[str, Any]:
    """A class for each message, given its fields by their numbers from 1: a name and a type each.

    Types are `string`, `repeated int64`, another message, `map` and the type of its values. Of the fields
    that begin with `=`, together called `CHOICE`, at most one is set.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, described in fields.items():
        message = file.message_type.add(name=name)
        for number, field in enumerate(described, 1):
            _add_field(message, number, *field.split(), package=package)
    pool = DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in fields
    }


def _add_field(message: Any, number: int, name: str, *kind: str, package: str) -> None:
    field = message.field.add(name=name.removeprefix("="), number=number)
    field.label = _FieldType.LABEL_OPTIONAL if len(kind) == 1 else _FieldType.LABEL_REPEATED
    if kind[0] == "map":
        field.type = _FieldType.TYPE_MESSAGE
        field.type_name = _add_entry(message, field.name, kind[1], package)
    elif kind[-1][0].isupper():
        field.type, field.type_name = _FieldType.TYPE_MESSAGE, f".{package}.{kind[-1]}"
    else:
        field.type = getattr(_FieldType, f"TYPE_{kind[-1].upper()}")
    if name.startswith("="):
        if not message.oneof_decl:
            message.oneof_decl.add(name=CHOICE)
        field.oneof_index = 0


def _add_entry(message: Any, name: str, kind: str, package: str) -> str:
    """A map is a repeated message of a key and a value, marked as one; gives its name."""
    entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
    entry.options.map_entry = True
    _add_field(entry, 1, "key", "string", package=package)
    _add_field(entry, 2, "value", kind, package=package)
    return f".{package}.{message.name}.{entry.name}"
