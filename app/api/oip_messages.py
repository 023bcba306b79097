"""The messages of Open Inference Protocol over gRPC: the names and numbers of fields that it publishes."""

from collections.abc import Mapping
from typing import Any, Final

from app.api import protobuf_schema

PACKAGE: Final = "inference"
SERVICE: Final = f"{PACKAGE}.GRPCInferenceService"

_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
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

NAMES: Final = tuple(_FIELDS)
_CLASSES: Final = protobuf_schema.classes(PACKAGE, _FIELDS)


def message(name: str) -> Any:
    """The class of a message, such as `ModelInferRequest`."""
    return _CLASSES[name]
