from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from app.api import protobuf
from app.api.oip_messages import message
from app.errors import MalformedBodyError

REQUEST = message("ModelInferRequest")

names = st.text(max_size=5)
parameters = st.dictionaries(
    names,
    st.builds(service_pb2.InferParameter, int64_param=st.integers(-(2**63), 2**63 - 1))
    | st.builds(service_pb2.InferParameter, string_param=names)
    | st.builds(service_pb2.InferParameter, bool_param=st.booleans()),
    max_size=3,
)
contents = st.builds(
    service_pb2.InferTensorContents,
    uint_contents=st.lists(st.integers(0, 2**32 - 1), max_size=5),
    fp64_contents=st.lists(st.floats(allow_nan=False), max_size=3),
    bytes_contents=st.lists(st.binary(max_size=9), max_size=3),
)
inputs = st.builds(
    service_pb2.ModelInferRequest.InferInputTensor,
    name=names,
    datatype=names,
    shape=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
    parameters=parameters,
    contents=contents,
)
requests = st.builds(
    service_pb2.ModelInferRequest,
    model_name=names,
    id=names,
    parameters=parameters,
    inputs=st.lists(inputs, max_size=3),
    raw_input_contents=st.lists(st.binary(max_size=200), max_size=3),
)


def count_of(told: Any) -> int:
    """Fields that were sent, those inside of fields too."""
    count = 0
    for field, value in told.ListFields():
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if is_map:
            count += sum(3 + count_of(inner) for inner in value.values())  # the entry, its key and its value
        elif field.message_type is not None:
            count += sum(1 + count_of(inner) for inner in (value if field.is_repeated else [value]))
        else:
            is_packed = field.is_repeated and field.cpp_type != field.CPPTYPE_STRING
            count += len(value) if field.is_repeated and not is_packed else 1
    return count


@given(requests)
def test_what_a_client_sends_is_read_as_it_was_meant(sent: Any) -> None:
    read = protobuf.parse(sent.SerializeToString(), REQUEST, elements=0)
    assert read.SerializeToString(deterministic=True) == sent.SerializeToString(deterministic=True)


@given(requests)
def test_fields_are_counted_wherever_they_stand(sent: Any) -> None:
    most = count_of(sent)
    data = memoryview(sent.SerializeToString())
    protobuf.Meter(most).add(data, REQUEST.DESCRIPTOR)
    if most:
        with pytest.raises(MalformedBodyError, match=f"more than {most - 1} fields"):
            protobuf.Meter(most - 1).add(data, REQUEST.DESCRIPTOR)


@given(st.binary(max_size=300), requests, st.data())
def test_no_bytes_whatsoever_are_more_than_a_malformed_message(
    data: bytes, sent: Any, draw: st.DataObject
) -> None:
    whole = sent.SerializeToString()
    at = draw.draw(st.integers(0, len(whole)))
    for hostile in (data, whole[:at], whole[:at] + data + whole[at:]):
        with suppress(MalformedBodyError):
            protobuf.parse(hostile, REQUEST, elements=0)


def one_input(**fields: Any) -> bytes:
    tensor = service_pb2.ModelInferRequest.InferInputTensor(**fields)
    whole: bytes = service_pb2.ModelInferRequest(inputs=[tensor]).SerializeToString()
    return whole


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("inputs", b"\x2a\x00" * 2_000_000),
        ("raw contents", b"\x3a\x00" * 2_000_000),
        ("parameters", b"\x22\x03\x0a\x01a" * 1_000_000),
        ("fields that nobody knows", b"\xf8\x07\x01" * 1_000_000),
        ("files in an input", one_input(contents={"bytes_contents": [b""] * 300_000})),
        ("sizes in a shape", one_input(shape=[1] * 4_300_000)),
    ],
)
def test_a_message_that_would_fill_the_memory_is_refused_before_it_is_read(what: str, data: bytes) -> None:
    class Unread:
        DESCRIPTOR = REQUEST.DESCRIPTOR

        def __init__(self) -> None:
            pytest.fail(f"{what}: the parser was reached")

    with pytest.raises(MalformedBodyError, match="Send fewer pictures per call"):
        protobuf.parse(data, Unread, elements=256)


@pytest.mark.parametrize("data", [b"\xff" * 1_000_000, b"\x0b" * 1_000_000], ids=["a number", "groups"])
def test_what_has_no_end_costs_nothing(data: bytes) -> None:
    with pytest.raises(MalformedBodyError, match="is no ModelInferRequest"):
        protobuf.parse(data, REQUEST, elements=256)
