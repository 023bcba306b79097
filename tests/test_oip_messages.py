"""The messages of ours against those that another project compiled from the protocol's own description."""

import pytest
from tritonclient.grpc import service_pb2

from app.api import oip_messages

THEIRS = {
    "TensorMetadata": "ModelMetadataResponse.TensorMetadata",
    "InferInputTensor": "ModelInferRequest.InferInputTensor",
    "InferRequestedOutputTensor": "ModelInferRequest.InferRequestedOutputTensor",
    "InferOutputTensor": "ModelInferResponse.InferOutputTensor",
    "ModelIndex": "RepositoryIndexResponse.ModelIndex",
}


def fields(message: type) -> dict[str, tuple[object, ...]]:
    """Of each field what decides about its bytes."""
    found: dict[str, tuple[object, ...]] = {}
    for field in message.DESCRIPTOR.fields:  # type: ignore[attr-defined]
        inner = field.message_type
        is_map = inner is not None and inner.GetOptions().map_entry
        choice = field.containing_oneof is not None
        found[field.name] = (field.number, field.type, field.is_repeated, is_map, choice)
    return found


@pytest.mark.parametrize("name", oip_messages.NAMES)
def test_names_numbers_and_types_are_those_that_are_published(name: str) -> None:
    theirs: type = service_pb2
    for part in THEIRS.get(name, name).split("."):
        theirs = getattr(theirs, part)
    assert fields(oip_messages.message(name)) == fields(theirs)


def test_the_service_has_the_published_name() -> None:
    assert service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name == oip_messages.SERVICE
