"""The reader of winograd takes the networks it was made for, and refuses every other with a sentence."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import int8_networks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_networks import Block, Plan

from app.engines import QUANTIZED, winograd
from app.engines.winograd import WinogradEngine, network
from app.engines.winograd.network import Network
from app.errors import EngineUnavailableError

Xml = ET.Element
BLOCKS = (Block(32), Block(64, 2))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound file, whose text and bytes the tests change."""
    made = int8_networks.made_up(Plan(4, 4, BLOCKS))
    return int8_networks.write(made, tmp_path_factory.mktemp("version"))


@pytest.fixture
def path(written: Path, tmp_path: Path) -> Path:
    """A copy to harm."""
    shutil.copytree(written.parent, tmp_path / QUANTIZED.parent)
    return tmp_path / QUANTIZED


def harm(path: Path, edit: Callable[[Xml], object]) -> None:
    root = ET.parse(path).getroot()  # noqa: S314 - it is ours
    edit(root)
    path.write_bytes(ET.tostring(root))


def layers(root: Xml, kind: str) -> list[Xml]:
    return [layer for layer in root.iter("layer") if layer.get("type") == kind]


def data(root: Xml, kind: str, number: int) -> Xml:
    found = layers(root, kind)[number].find("data")
    assert found is not None
    return found


def edges_to(root: Xml, layer: Xml) -> list[Xml]:
    """Those of its inputs, in their order."""
    found = [edge for edge in root.iter("edge") if edge.get("to-layer") == layer.get("id")]
    return sorted(found, key=lambda edge: int(edge.get("to-port", "")))


def assert_equal(found: object, expected: object) -> None:
    """Field by field, arrays element by element."""
    if isinstance(expected, np.ndarray):
        assert isinstance(found, np.ndarray)
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
    elif isinstance(expected, tuple):
        assert isinstance(found, tuple)
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    elif hasattr(expected, "__dataclass_fields__"):
        for name in expected.__dataclass_fields__:
            assert_equal(getattr(found, name), getattr(expected, name))
    else:
        assert found == expected


@given(
    blocks=st.lists(
        st.builds(
            Block,
            channels=st.sampled_from([32, 64]),
            stride=st.sampled_from([1, 2]),
            has_sum=st.booleans(),
            shortcut_first=st.booleans(),
        ),
        min_size=1,
        max_size=4,
    ).map(tuple),
    classes=st.integers(1, 13),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    bias_first=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=25)
def test_what_was_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory,
    blocks: tuple[Block, ...],
    classes: int,
    temperature: float,
    bias_first: bool,
    seed: int,
) -> None:
    made = int8_networks.made_up(Plan(16, 32, blocks, classes=classes, seed=seed))
    folder = tmp_path_factory.mktemp("version")
    path = int8_networks.write(made, folder, temperature=temperature, bias_first=bias_first)
    assert_equal(network.read(path), made)


# ---- other networks ----------------------------------------------------------------------------------------


def setting(kind: str, number: int, name: str, value: str) -> Callable[[Xml], None]:
    """One attribute of one layer."""
    return lambda root: data(root, kind, number).set(name, value)


def another_kind(kind: str, number: int, other: str) -> Callable[[Xml], None]:
    return lambda root: layers(root, kind)[number].set("type", other)


def without_input(kind: str, number: int, port: int) -> Callable[[Xml], None]:
    def edit(root: Xml) -> None:
        edges = root.find("edges")
        assert edges is not None
        edges.remove(edges_to(root, layers(root, kind)[number])[port])

    return edit


def reading_the_input_of_another(
    kind: str, number: int, port: int, of: int, of_port: int
) -> Callable[[Xml], None]:
    """One input of a layer is that of another layer of its kind."""

    def edit(root: Xml) -> None:
        found = layers(root, kind)
        source = edges_to(root, found[of])[of_port].get("from-layer", "")
        edges_to(root, found[number])[port].set("from-layer", source)

    return edit


def another_relu(root: Xml) -> None:
    """Behind the ReLU of the stem, which all convolutions then read."""
    parent, edges = root.find("layers"), root.find("edges")
    assert parent is not None
    assert edges is not None
    first = layers(root, "ReLU")[0]
    for edge in edges:
        if edge.get("from-layer") == first.get("id"):
            edge.set("from-layer", "more")
    parent.insert(list(parent).index(first) + 1, ET.Element("layer", {"id": "more", "type": "ReLU"}))
    ends = {"from-layer": first.get("id", ""), "from-port": "0", "to-layer": "more", "to-port": "0"}
    ET.SubElement(edges, "edge", ends)


def transposed_once_more(root: Xml) -> None:
    """Somewhere else."""
    parent = root.find("layers")
    assert parent is not None
    parent.append(ET.Element("layer", {"id": "more", "type": "Transpose"}))


def reading_itself(kind: str, number: int, port: int) -> Callable[[Xml], None]:
    def edit(root: Xml) -> None:
        layer = layers(root, kind)[number]
        edges_to(root, layer)[port].set("from-layer", layer.get("id", ""))

    return edit


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (setting("Convolution", 1, "strides", "3, 3"), "a convolution has the strides 3 and 3"),
        (setting("Convolution", 1, "strides", "1, 2"), "a convolution has the strides 1 and 2"),
        (setting("Convolution", 0, "strides", "2, 2"), "its first convolution is not 3x3 over all pixels"),
        (setting("Convolution", 1, "auto_pad", "valid"), "dilated, or padded in another way"),
        (setting("Convolution", 1, "auto_pad", "explicit"), "dilated, or padded in another way"),
        (setting("Convolution", 1, "dilations", "2, 2"), "dilated, or padded in another way"),
        (setting("Convolution", 0, "auto_pad", "same_lower"), "dilated, or padded in another way"),
        (setting("FakeQuantize", 0, "levels", "16"), "not quantised in 256 steps from 0"),
        (setting("FakeQuantize", 1, "levels", "255"), "not quantised in 256 steps from 0"),
        (reading_the_input_of_another("FakeQuantize", 0, 1, 0, 2), "not quantised in 256 steps from 0"),
        (reading_the_input_of_another("FakeQuantize", 0, 4, 0, 1), "not quantised in 256 steps from 0"),
        (setting("Parameter", 0, "element_type", "f32"), "its input is not pixels of 8 bits"),
        (setting("Parameter", 0, "shape", "?,4,4,1"), "its input is not pixels of 8 bits"),
        (setting("Parameter", 0, "shape", "?,4,4"), "is damaged"),
        (setting("Parameter", 0, "shape", "?,?,?,3"), "is damaged"),
        (another_kind("ReLU", 0, "Sigmoid"), "a Add is read by Sigmoid and not by one ReLU"),
        (another_kind("ReLU", 1, "Sigmoid"), "a Add is read by Sigmoid and not by one ReLU"),
        (another_kind("Convolution", 0, "GroupConvolution"), "no network that is computed here"),
        (another_kind("Convolution", 2, "GroupConvolution"), "no network that is computed here"),
        (another_kind("FakeQuantize", 0, "Sigmoid"), "a Sigmoid stands where a FakeQuantize is expected"),
        (another_kind("Transpose", 0, "Softmax"), "its pixels go through a Softmax"),
        (transposed_once_more, "its pixels are put in another order"),
        (setting("SoftMax", 0, "axis", "0"), "probabilities are not those of the classes of a picture"),
        (setting("StridedSlice", 0, "new_axis_mask", "1, 0"), "a StridedSlice is another than one"),
        (setting("StridedSlice", 0, "begin_mask", "0, 0"), "a StridedSlice is another than one"),
        (another_kind("ReduceMean", 0, "ReduceMax"), "no network that is computed here"),
        (another_kind("ReduceMin", 0, "ReduceMax"), "no network that is computed here"),
        (another_kind("SoftMax", 0, "Sigmoid"), "no network that is computed here"),
        (another_kind("Power", 0, "Sqrt"), "a Sqrt stands where a Power is expected"),
        (another_kind("StridedSlice", 0, "Reshape"), "no network that is computed here"),
        (setting("MatMul", 0, "transpose_a", "true"), "a product is not one by a matrix"),
        (setting("MatMul", 1, "transpose_a", "true"), "a product is not one by a matrix"),
        (another_relu, "no network that is computed here"),
        (without_input("Convolution", 1, 0), "is damaged"),
        (without_input("FakeQuantize", 0, 4), "is damaged"),
        (without_input("Add", 1, 1), "is damaged"),
        (without_input("ReduceMean", 0, 1), "is damaged"),
        (reading_itself("Add", 0, 0), "a layer reads one that comes after it"),
        (reading_itself("Multiply", 0, 1), "a layer reads one that comes after it"),
        (reading_itself("ReLU", 0, 0), "a layer reads one that comes after it"),
        (lambda root: root.remove(root[0]), "no network that is computed here"),
        (lambda root: root.remove(root[1]), "no network that is computed here"),
    ],
)
def test_another_network_is_refused_with_what_it_has(
    path: Path, edit: Callable[[Xml], None], sentence: str
) -> None:
    network.read(path)
    harm(path, edit)
    with pytest.raises(EngineUnavailableError, match=sentence) as refused:
        network.read(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "number", "values", "sentence"),
    [
        ("Transpose", 0, [0, 3, 2, 1], "its pixels are put in another order"),
        ("ReduceMean", 0, [1, 2], "a ReduceMean is taken over other axes"),
        ("ReduceSum", 0, [0], "a ReduceSum is taken over other axes"),
        ("ReduceSum", 1, [1], "a ReduceSum is taken over other axes"),
        ("ReduceMin", 0, [0], "a ReduceMin is taken over other axes"),
    ],
)
def test_what_is_computed_over_other_axes_is_refused(
    path: Path, kind: str, number: int, values: list[int], sentence: str
) -> None:
    weights = path.with_suffix(".bin")
    behind = len(weights.read_bytes())

    def edit(root: Xml) -> None:
        source = edges_to(root, layers(root, kind)[number])[1].get("from-layer")
        (axes,) = [each for each in layers(root, "Const") if each.get("id") == source]
        described = axes.find("data")
        assert described is not None
        described.set("offset", str(behind))
        kind_of_number = np.dtype(described.get("element_type", "").replace("i", "int"))
        weights.write_bytes(weights.read_bytes() + np.array(values, kind_of_number).tobytes())

    harm(path, edit)
    with pytest.raises(EngineUnavailableError, match=sentence):
        network.read(path)


def of_kind(kind: str, element: str, number: int = 0) -> Callable[[Xml], Xml]:
    """The description of one of the constants of this type."""

    def found(root: Xml) -> Xml:
        described = [each.find("data") for each in layers(root, "Const")]
        return [each for each in described if each is not None and each.get(kind) == element][number]

    return found


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("element_type", "f32", "weights of float32|is damaged"),
        ("element_type", "f16", "weights of float16|is damaged"),
        ("element_type", "u8", "is damaged"),
        ("element_type", "i4", "is damaged"),
        ("shape", "32, 32, 9", "is damaged"),
        ("shape", "32, 32, 1, 3, 3", "is damaged"),
        ("shape", "32, 32, 1, 9", "a window of 1 x 9"),
        ("shape", "32, 32, 5, 5", "a window of 5 x 5"),
        ("shape", "", "is damaged"),
        ("shape", "a", "is damaged"),
        ("shape", "9" * 400, "is damaged"),
        ("shape", "4294967296, 4294967296, 3, 3", "is damaged"),
        ("offset", "-1", "is damaged"),
        ("offset", "1000000000", "is damaged"),
        ("offset", "9" * 400, "is damaged"),
        ("offset", "9" * 5000, "is damaged"),
        ("offset", "", "is damaged"),
    ],
)
def test_weights_that_are_not_there_are_refused(path: Path, name: str, value: str, sentence: str) -> None:
    harm(path, lambda root: of_kind("element_type", "i8")(root).set(name, value))
    with pytest.raises(EngineUnavailableError, match=sentence):
        network.read(path)


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_file_of_which_the_end_is_missing_is_refused(path: Path, suffix: str, share: float) -> None:
    harmed = path.with_suffix(suffix)
    content = harmed.read_bytes()
    harmed.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(EngineUnavailableError, match="is damaged"):
        network.read(path)


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
def test_a_file_that_is_missing_or_a_folder_is_named(path: Path, suffix: str) -> None:
    path.with_suffix(suffix).unlink()
    with pytest.raises(EngineUnavailableError, match=r"cannot be read: No such file"):
        network.read(path)
    path.with_suffix(suffix).mkdir()
    with pytest.raises(EngineUnavailableError, match=r"cannot be read: Is a directory"):
        network.read(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\xff",
        b"<net>",
        b"<net/>",
        b"<net></net><net></net>",
        b'<?xml version="1.0" encoding="no-such-encoding"?><net/>',
        b'<?xml version="1.0" encoding="utf-7"?><net/>',
        b"<net><data/><layer/></net>",
        b'<net><layer id="0"/></net>',
        b'<net><edge from-layer="0" to-layer="1" to-port="0"/></net>',
        b'<net><layer id="0" type="Convolution"/><layer id="1" type="Convolution"/></net>',
        b"<net>" * 100_000,
        b'<!DOCTYPE net [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><net>&b;</net>',
    ],
)
def test_what_is_no_network_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(EngineUnavailableError, match="no network that is computed here"):
        network.read(path)


def test_a_chain_of_many_thousand_layers_is_refused(path: Path) -> None:
    """Though not by the end of Python's stack."""

    def lengthen(root: Xml) -> None:
        parent, edges = root.find("layers"), root.find("edges")
        assert parent is not None
        assert edges is not None
        (_, shift) = edges_to(root, layers(root, "Add")[0])
        latest, place = shift.get("from-layer", ""), list(parent).index(layers(root, "Add")[0])
        for number in range(20_000):
            layer = ET.Element("layer", {"id": f"more-{number}", "type": "Convert"})
            parent.insert(place + number, layer)
            ends = {"from-layer": latest, "from-port": "0", "to-layer": f"more-{number}", "to-port": "0"}
            ET.SubElement(edges, "edge", ends)
            latest = f"more-{number}"
        shift.set("from-layer", latest)

    harm(path, lengthen)
    with pytest.raises(EngineUnavailableError, match="no network that is computed here"):
        network.read(path)


# ---- whatever becomes of a file ----------------------------------------------------------------------------

VALUES = st.sampled_from(
    [
        *("", "0", "1", "-1", "2", "3", "16", "255", "256", "1, 1", "2, 2", "0, 0", "64", "32, 32, 1, 1"),
        *("32, 64, 3, 3", "64, 32, 3, 3", "64, 32, 1, 1", "96, 32, 3, 3", "1, 96", "3, 64", "?,8,8,3"),
        *("?,0,4,3", "?,-4,4,3", "?,5,5,3", "?,2,2,3", "?,1,1,3", "?,4,4,3", "f16", "f32", "i8", "u8", "i64"),
        *("true", "false", "valid", "same_upper", "?", "1e9", "99999999999999999999"),
    ]
)


class Harm:
    """What may happen to a network's description, as drawn."""

    def __init__(self, data: st.DataObject) -> None:
        self._draw = data.draw

    def _one(self, among: list[Xml]) -> Xml:
        return among[self._draw(st.integers(0, len(among) - 1))]

    def change(self, root: Xml) -> None:
        getattr(self, self._draw(st.sampled_from(["attribute", "layer", "edge", "detour", "kind", "swap"])))(
            root
        )

    def attribute(self, root: Xml) -> None:
        chosen = self._one([each for each in root.iter("data") if each.attrib])
        chosen.set(self._draw(st.sampled_from(sorted(chosen.attrib))), self._draw(VALUES))

    def layer(self, root: Xml) -> None:
        root[0].remove(self._one(list(root[0])))

    def edge(self, root: Xml) -> None:
        root[1].remove(self._one(list(root[1])))

    def detour(self, root: Xml) -> None:
        edges = list(root.iter("edge"))
        self._one(edges).set("from-layer", self._one(edges).get("from-layer", ""))

    def kind(self, root: Xml) -> None:
        self._one(list(root[0])).set("type", self._one(list(root[0])).get("type", ""))

    def swap(self, root: Xml) -> None:
        """Two constants take each other's place."""
        constants = [each for each in layers(root, "Const") if each.find("data") is not None]
        one, other = (self._one(constants).find("data") for _ in range(2))
        assert one is not None
        assert other is not None
        one.attrib, other.attrib = dict(other.attrib), dict(one.attrib)


def copy_of(written: Path, factory: pytest.TempPathFactory) -> Path:
    path = factory.mktemp("version") / QUANTIZED
    shutil.copytree(written.parent, path.parent)
    return path


@given(draw=st.data(), changes=st.integers(1, 3))
@settings(max_examples=100)
def test_a_network_of_which_anything_was_changed_is_refused_or_computed(
    written: Path, tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject, changes: int
) -> None:
    path = copy_of(written, tmp_path_factory)
    for _ in range(changes):
        harm(path, Harm(draw).change)
    refused_or_computed(path)


@given(draw=st.data(), suffix=st.sampled_from([".xml", ".xml", ".bin"]))
@settings(max_examples=100)
def test_a_file_of_which_bytes_were_changed_is_refused_or_computed(
    written: Path, tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject, suffix: str
) -> None:
    path = copy_of(written, tmp_path_factory)
    harmed = path.with_suffix(suffix)
    content = bytearray(harmed.read_bytes())
    for _ in range(draw.draw(st.integers(1, 4))):
        place = draw.draw(st.integers(0, len(content) - 1))
        content[place] = draw.draw(st.one_of(st.integers(0, 255), st.sampled_from(b'0123456789<>"/=-, ')))
    harmed.write_bytes(content)
    refused_or_computed(path)


def refused_or_computed(path: Path) -> None:
    """No other error than one, and what is taken can be computed."""
    try:
        found: Network = network.read(path)
        engine = WinogradEngine(path.parent.parent, 2) if winograd.is_usable() else None
    except EngineUnavailableError as error:
        sentence = str(error)
        assert re.fullmatch(r"[^\n]+\.", sentence)
        return
    if engine:
        for count in (1, 3):
            answer = engine.predict(int8_networks.pictures(found, count))
            assert answer.probabilities.shape == (count, len(found.head.weights))
        engine.close()
