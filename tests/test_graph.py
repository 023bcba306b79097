import asyncio
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from fakes import FakeEngine, publish
from hypothesis import given
from hypothesis import strategies as st

from app import graph, wire
from app.errors import GraphError
from app.model import State
from app.repository import Repository, Version
from app.serving import Serving
from app.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = sorted((ROOT / "model").glob("*/*/saved_model.pb"))


def field(number: int, *contents: bytes) -> bytes:
    """One field of a message as it is on the wire; its contents must be short."""
    content = b"".join(contents)
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def saved_model_of(*operations: bytes) -> bytes:
    """A SavedModel whose graph has nodes of these operations and nothing else."""
    return field(2, field(2, *(field(1, field(1, b"node"), field(2, each)) for each in operations)))


def network_of(*kinds: str) -> bytes:
    layers = "".join(f'<layer id="0" type="{kind}"/>' for kind in kinds)
    return f'<?xml version="1.0"?><net><layers>{layers}</layers></net>'.encode()


@pytest.fixture(scope="session")
def exported(saved_model: Version) -> bytes:
    """What TensorFlow wrote for the tiny model of the fixtures."""
    return (saved_model.path / graph.SAVED_MODEL).read_bytes()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_what_ships_only_computes(path: Path) -> None:
    graph.check(path.parent)


@pytest.mark.timeout(180)  # the fixture quantises
def test_what_training_exports_and_converts_only_computes(openvino_model: Version) -> None:
    assert list(openvino_model.path.glob("openvino/*.xml"))
    graph.check(openvino_model.path)


def test_operations_are_read_as_tensorflow_reads_them(exported: bytes) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    theirs = saved_model_pb2.SavedModel.FromString(exported).meta_graphs[0].graph_def
    ours = memoryview(exported)
    assert wire.texts(ours, 2, 2, 1, 2) == [node.op for node in theirs.node]
    assert wire.texts(ours, 2, 2, 2, 1, 3, 2) == [
        node.op for function in theirs.library.function for node in function.node_def
    ]


def reads_a_file(images: Any) -> Any:
    import tensorflow as tf

    return tf.strings.length(tf.io.read_file("/etc/hostname")) + tf.shape(images)[0]


def writes_a_file(images: Any) -> Any:
    import tensorflow as tf

    with tf.control_dependencies([tf.io.write_file("/tmp/written", "by a model")]):  # noqa: S108
        return tf.shape(images)[0]


def runs_python(images: Any) -> Any:
    import tensorflow as tf

    return tf.numpy_function(lambda x: x, [tf.shape(images)[0]], tf.int32)


def never_ends(images: Any) -> Any:
    import tensorflow as tf

    return tf.while_loop(lambda x: x >= 0, lambda x: x * 1, [tf.shape(images)[0]])


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (reads_a_file, "ReadFile"),
        (writes_a_file, "WriteFile"),
        (runs_python, "PyFunc"),
        (never_ends, "StatelessWhile"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_graph_that_does_more_than_compute_is_refused_by_the_name_of_what_it_does(
    function: Callable[[Any], Any], operation: str, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow as tf

        module = tf.Module()
        module.serve = tf.function(function, input_signature=[tf.TensorSpec([None], tf.uint8)])
        tf.saved_model.save(module, str(tmp_path))
    with pytest.raises(GraphError, match=rf"saved_model\.pb is refused: .*{operation}"):
        graph.check(tmp_path)


# The functions of the saver, which every SavedModel has


def saver_of(meta_graph: Any) -> tuple[str, str]:
    """The name of the node that saves, and of the function that it calls."""
    node = meta_graph.saver_def.save_tensor_name.partition(":")[0]
    (called,) = (one.attr["f"].func.name for one in meta_graph.graph_def.node if one.name == node)
    return node, called


def call_it_from_a_signature(meta_graph: Any) -> None:
    _, saves = saver_of(meta_graph)
    wrapper = next(one for one in meta_graph.graph_def.library.function if "wrapper" in one.signature.name)
    call = next(node for node in wrapper.node_def if node.op == "StatefulPartitionedCall")
    call.attr["f"].func.name = saves


def call_it_from_another_node(meta_graph: Any) -> None:
    node = meta_graph.graph_def.node.add(name="more", op="StatefulPartitionedCall")
    node.attr["f"].func.name = saver_of(meta_graph)[1]


def offer_it_to_python(meta_graph: Any) -> None:
    _, saves = saver_of(meta_graph)
    meta_graph.object_graph_def.nodes.add().bare_concrete_function.concrete_function_name = saves


def run_it_when_the_graph_is_loaded(meta_graph: Any) -> None:
    node, _ = saver_of(meta_graph)
    meta_graph.collection_def["saved_model_main_op"].node_list.value.append(node)


def answer_with_it(meta_graph: Any) -> None:
    outputs = meta_graph.signature_def["serving_default"].outputs
    outputs["probabilities"].name = meta_graph.saver_def.save_tensor_name


def answer_with_part_of_it(meta_graph: Any) -> None:
    outputs = meta_graph.signature_def["serving_default"].outputs
    outputs["probabilities"].coo_sparse.values_tensor_name = meta_graph.saver_def.save_tensor_name


def take_something_from_it(meta_graph: Any) -> None:
    meta_graph.graph_def.node.add(name="more", op="Identity", input=[saver_of(meta_graph)[0]])


def wait_for_it(meta_graph: Any) -> None:
    meta_graph.graph_def.node.add(name="more", op="NoOp", input=["^" + saver_of(meta_graph)[0]])


def have_no_saver(meta_graph: Any) -> None:
    meta_graph.ClearField("saver_def")


def call_itself(meta_graph: Any) -> None:
    wrapper = next(one for one in meta_graph.graph_def.library.function if "wrapper" in one.signature.name)
    call = next(node for node in wrapper.node_def if node.op == "StatefulPartitionedCall")
    call.attr["f"].func.name = wrapper.signature.name


def save_outside_of_functions(meta_graph: Any) -> None:
    meta_graph.graph_def.node.add(name="more", op="SaveV2")


@pytest.mark.parametrize(
    "reach",
    [
        call_it_from_a_signature,
        call_it_from_another_node,
        offer_it_to_python,
        run_it_when_the_graph_is_loaded,
        answer_with_it,
        answer_with_part_of_it,
        take_something_from_it,
        wait_for_it,
        have_no_saver,
        save_outside_of_functions,
    ],
    ids=lambda reach: reach.__name__,
)
def test_nothing_but_the_saver_may_reach_what_saves(reach: Callable[[Any], None], exported: bytes) -> None:
    assert_refused_after(reach, exported)


def test_a_graph_that_may_never_end_is_refused(exported: bytes) -> None:
    assert_refused_after(call_itself, exported)


def assert_refused_after(change: Callable[[Any], None], exported: bytes) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    document = saved_model_pb2.SavedModel.FromString(exported)
    graph.check_saved_model(document.SerializeToString())
    change(document.meta_graphs[0])
    with pytest.raises(GraphError):
        graph.check_saved_model(document.SerializeToString())


@pytest.mark.parametrize("name", ["saved_model.pbtxt", "saved_model.cpb"])
def test_a_file_that_would_be_read_in_its_place_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / graph.SAVED_MODEL).write_bytes(saved_model_of(b"Relu"))
    graph.check(tmp_path)
    (tmp_path / name).touch()
    with pytest.raises(GraphError, match=f"{name} may not be there"):
        graph.check(tmp_path)


# Malformed


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x0b\x0c",
        b"\xff" * 100,
        saved_model_of(b"Relu")[:-1],
        saved_model_of(b"\xff\xfe"),
        saved_model_of(b""),
        field(2, field(2, field(1, field(2, b"Relu"), field(2, b"ReadFile")))),
        field(2, field(2, field(1, field(2, b"ReadFile"), field(2, b"Relu")))),
        b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x02\x00",
    ],
    ids=["empty", "groups", "no end", "cut", "no utf-8", "no name", "twice", "twice", "too long", "field 0"],
)
def test_what_is_no_graph_is_refused(data: bytes) -> None:
    with pytest.raises(GraphError):
        graph.check_saved_model(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_graph_or_refused(data: bytes) -> None:
    for check in (graph.check_saved_model, graph.check_layers):
        with pytest.raises(GraphError):
            check(data)


@hypothesis.settings(max_examples=40, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_graph_is_a_graph_or_refused(exported: bytes, data: st.DataObject) -> None:
    damaged = bytearray(exported)
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(exported) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        graph.check_saved_model(bytes(damaged[: data.draw(st.integers(0, len(exported)))]))
    except GraphError as error:
        assert "\n" not in str(error)  # noqa: PT017


BOMB = b"<!DOCTYPE net [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]><net><layer type='&b;'/></net>"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (network_of("Parameter", "Extension"), "'Extension'"),
        (network_of("Parameter", "Loop"), "'Loop'"),
        (network_of(), "no layers"),
        (b"<net><layer/></net>", "''"),
        (b"<net>", "no XML"),
        (b"not XML", "no XML"),
        (BOMB, "document type"),
    ],
    ids=["unknown layer", "loop", "no layers", "no type", "cut", "text", "entities"],
)
def test_a_network_that_does_more_or_is_none_is_refused(data: bytes, complaint: str) -> None:
    graph.check_layers(network_of("Parameter", "Convolution", "Result"))
    with pytest.raises(GraphError, match=complaint):
        graph.check_layers(data)


@pytest.mark.parametrize(
    ("name", "data"),
    [("saved_model.pb", saved_model_of(b"ReadFile")), ("openvino/model.xml", network_of("Evil"))],
    ids=["SavedModel", "OpenVINO"],
)
def test_no_engine_is_let_near_a_graph_that_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    def fill(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)

    def choose(*_: object) -> FakeEngine:
        raise AssertionError("an engine was asked for")

    version = publish(Repository(tmp_path), FakeEngine(), fill)
    serving = Serving(Settings(model_root=tmp_path, model_name=version.manifest.name), choose)
    with pytest.raises(GraphError, match="not known to compute"):
        asyncio.run(serving.start())
    assert serving.state is State.FAILED
