"""The messages of Open Inference Protocol over gRPC: the names and numbers of fields that it publishes.

They lie in a pool of their own. Modules that a compiler makes register their names for the whole process, and
two that know the same protocol, such as those of a client, do not load into one.
"""

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool

PACKAGE: Final = "inference"
SERVICE: Final = f"{PACKAGE}.GRPCInferenceService"

# The fields of each message by their numbers from 1, a name and a type each. Of those of a message that begin
# with "=" at most one is set.
_MESSAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ("live bool",),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ("ready bool",),
    "ModelReadyRequest": ("name string", "version string"),
    "ModelReadyResponse": ("ready bool",),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": ("name string", "version string", "extensions repeated string"),
    "ModelMetadataRequest": ("name string", "version string"),
    "ModelMetadataResponse": (
        "name string",
        "versions repeated string",
        "platform string",
        "inputs repeated TensorMetadata",
        "outputs repeated TensorMetadata",
    ),
    "TensorMetadata": ("name string", "datatype string", "shape repeated int64"),
    "ModelInferRequest": (
        "model_name string",
        "model_version string",
        "id string",
        "parameters map InferParameter",
        "inputs repeated InferInputTensor",
        "outputs repeated InferRequestedOutputTensor",
        "raw_input_contents repeated bytes",
    ),
    "InferInputTensor": (
        "name string",
        "datatype string",
        "shape repeated int64",
        "parameters map InferParameter",
        "contents InferTensorContents",
    ),
    "InferRequestedOutputTensor": ("name string", "parameters map InferParameter"),
    "ModelInferResponse": (
        "model_name string",
        "model_version string",
        "id string",
        "parameters map InferParameter",
        "outputs repeated InferOutputTensor",
        "raw_output_contents repeated bytes",
    ),
    "InferOutputTensor": (
        "name string",
        "datatype string",
        "shape repeated int64",
        "parameters map InferParameter",
        "contents InferTensorContents",
    ),
    "InferParameter": (
        "=bool_param bool",
        "=int64_param int64",
        "=string_param string",
        "=double_param double",
        "=uint64_param uint64",
    ),
    "InferTensorContents": (
        "bool_contents repeated bool",
        "int_contents repeated int32",
        "int64_contents repeated int64",
        "uint_contents repeated uint32",
        "uint64_contents repeated uint64",
        "fp32_contents repeated float",
        "fp64_contents repeated double",
        "bytes_contents repeated bytes",
    ),
    "RepositoryIndexRequest": ("repository_name string", "ready bool"),
    "RepositoryIndexResponse": ("models repeated ModelIndex",),
    "ModelIndex": ("name string", "version string", "state string", "reason string"),
}

NAMES: Final = tuple(_MESSAGES)
_FieldType: Final = descriptor_pb2.FieldDescriptorProto


def _file() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="open_inference_protocol.proto", package=PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field in enumerate(fields, 1):
            _add_field(message, number, *field.split())
    return file


def _add_field(message: Any, number: int, name: str, *kind: str) -> None:
    field = message.field.add(name=name.removeprefix("="), number=number)
    field.label = _FieldType.LABEL_OPTIONAL if len(kind) == 1 else _FieldType.LABEL_REPEATED
    if kind[0] == "map":
        field.type, field.type_name = _FieldType.TYPE_MESSAGE, _add_entry(message, field.name, kind[1])
    else:
        _set_type(field, kind[-1])
    if name.startswith("="):
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0


def _add_entry(message: Any, name: str, kind: str) -> str:
    """A map is a repeated message of a key and a value, marked as one; gives its name."""
    entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
    entry.options.map_entry = True
    _add_field(entry, 1, "key", "string")
    _add_field(entry, 2, "value", kind)
    return f".{PACKAGE}.{message.name}.{entry.name}"


def _set_type(field: Any, kind: str) -> None:
    if kind in _MESSAGES:
        field.type, field.type_name = _FieldType.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = getattr(_FieldType, f"TYPE_{kind.upper()}")


_POOL: Final = DescriptorPool()
_POOL.Add(_file())
_CLASSES: Final[Mapping[str, Any]] = {
    name: message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))
    for name in _MESSAGES
}


def message(name: str) -> Any:
    """The class of a message, such as `ModelInferRequest`."""
    return _CLASSES[name]
