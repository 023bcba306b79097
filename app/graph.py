"""What the graphs of a version may do: compute, and nothing else. Looked at before any engine loads them.

A SavedModel is a program: TensorFlow has operations that read and write files, run Python or open
connections, and runs whatever a graph holds. So a graph passes only if every operation in it is on a list.
Those that store weights are in every SavedModel, for saving it again: they may stand in functions that
nothing but the graph's saver calls, and nothing here ever runs a saver.
"""

from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final
from xml.parsers import expat

from app import wire
from app.errors import GraphError, WireError
from app.operations import COMPUTING, LAYERS, SAVING, STARTING

SAVED_MODEL: Final = "saved_model.pb"

_LONGEST_BYTES: Final = 256 * 1024 * 1024
_MOST_SAVING: Final = 16
_SHOWN: Final = 60
_MOST_SHOWN: Final = 5

# Field numbers of TensorFlow's messages: they never change, or old models could not be read any more.
_META_GRAPH: Final = 2
_GRAPH, _SAVER, _COLLECTIONS, _SIGNATURES, _OBJECTS = 2, 3, 4, 5, 7
_NODE, _FUNCTION = 1, (2, 1)
_NAME, _OPERATION, _INPUT = 1, 2, 3
_FUNCTION_NAME, _FUNCTION_NODE = (1, 1), 3
_CALLED: Final = (5, 2, 10, 1)
_SAVE_TENSOR, _RESTORE_NODE = 2, 3
_MAP_VALUE: Final = 2
_COLLECTED: Final = ((1, 1), (2, 1))
_SIGNATURE_TENSORS: Final = ((1, _MAP_VALUE), (2, _MAP_VALUE))
_TENSOR_NAME, _TENSOR_PARTS = 1, (4, 5)


def check(folder: Path) -> None:
    """Looks at every graph in the folder of a version.

    Raises:
        GraphError: one holds an operation that is not on the list, or is not what its name says.
    """
    for path in sorted(folder.glob("saved_model.*")):
        if path.name != SAVED_MODEL:
            raise GraphError(
                f"{path} may not be there: TensorFlow would read it, and {SAVED_MODEL} is checked."
            )
        _check_file(path, check_saved_model)
    for path in sorted(folder.glob("openvino/*.xml")):
        _check_file(path, check_layers)


def check_saved_model(data: bytes) -> None:
    """That a SavedModel, as in `saved_model.pb`, computes and does nothing else.

    Raises:
        GraphError: it does, or is none.
    """
    try:
        graphs = list(wire.messages(memoryview(data), _META_GRAPH))
        if not graphs:
            raise GraphError("it holds no graph")
        for graph in graphs:
            _check_graph(graph)
    except WireError as error:
        raise GraphError(str(error)) from error


def check_layers(data: bytes) -> None:
    """That a network in OpenVINO's XML has only layers that compute.

    Raises:
        GraphError: it has others, or is none.
    """
    parser = expat.ParserCreate()
    kinds: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "layer":
            kinds.append(attributes.get("type", ""))

    def refuse(*_: object) -> None:
        raise GraphError("it declares a document type, which no network needs")

    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise GraphError(f"it is no XML: {error}") from error
    _check_listed(kinds, LAYERS, "the network")
    if not kinds:
        raise GraphError("it has no layers")


@dataclass(frozen=True, slots=True)
class _Function:
    name: str
    operations: frozenset[str]
    data: memoryview

    @property
    def is_saving(self) -> bool:
        return not self.operations <= COMPUTING


def _check_file(path: Path, check_data: Callable[[bytes], None]) -> None:
    try:
        size = path.stat().st_size
        if size > _LONGEST_BYTES:
            raise GraphError(f"it has {size:,} bytes; a graph may have at most {_LONGEST_BYTES:,}")
        check_data(path.read_bytes())
    except OSError as error:
        raise GraphError(f"Cannot read {path}: {error.strerror}.") from error
    except GraphError as error:
        raise GraphError(f"{path} is refused: {error}. Publish the version again without it.") from error


def _check_graph(meta_graph: memoryview) -> None:
    nodes = list(wire.messages(meta_graph, _GRAPH, _NODE))
    _check_listed([wire.text(node, _OPERATION) for node in nodes], COMPUTING | STARTING, "the graph")
    functions = [_function(data) for data in wire.messages(meta_graph, _GRAPH, *_FUNCTION)]
    for function in functions:
        where = f"the function {function.name[:_SHOWN]!r}"
        _check_listed(sorted(function.operations), COMPUTING | SAVING, where)
    _check_ends(functions)
    if any(function.is_saving for function in functions):
        _check_saver(meta_graph, nodes, functions)


def _function(data: memoryview) -> _Function:
    operations = (wire.text(node, _OPERATION) for node in wire.messages(data, _FUNCTION_NODE))
    return _Function(wire.text(data, *_FUNCTION_NAME), frozenset(operations), data)


def _check_listed(operations: Iterable[str], listed: Set[str], where: str) -> None:
    unlisted = sorted({operation[:_SHOWN] for operation in operations if operation not in listed})
    if unlisted:
        shown = ", ".join(map(repr, unlisted[:_MOST_SHOWN]))
        more = f" and {len(unlisted) - _MOST_SHOWN} more" if len(unlisted) > _MOST_SHOWN else ""
        raise GraphError(f"{where} holds what is not known to compute and do nothing else: {shown}{more}")


def _check_ends(functions: list[_Function]) -> None:
    calls = {one.name: wire.texts(one.data, _FUNCTION_NODE, *_CALLED) for one in functions}
    try:
        TopologicalSorter(calls).prepare()
    except CycleError as error:
        raise GraphError(
            f"the function {error.args[1][0][:_SHOWN]!r} calls itself, and may never end"
        ) from error


def _check_saver(meta_graph: memoryview, nodes: list[memoryview], functions: list[_Function]) -> None:
    """That what saves and restores is called by the two nodes of the saver, and they by nobody.

    A function can be called only by its name, so its bytes must be where it is called.
    """
    saver = {_node_name(wire.text(meta_graph, _SAVER, field)) for field in (_SAVE_TENSOR, _RESTORE_NODE)} - {
        ""
    }
    saving = [function for function in functions if function.is_saving]
    if len(saving) > _MOST_SAVING:
        raise GraphError(f"{len(saving)} functions of it save or restore; at most {_MOST_SAVING} may")
    others = [node for node in nodes if wire.text(node, _NAME) not in saver]
    places = [*others, *(function.data for function in functions if not function.is_saving)]
    for field in (_COLLECTIONS, _SIGNATURES, _OBJECTS):
        places += wire.messages(meta_graph, field)
    for name in (function.name.encode() for function in saving):
        if any(name in bytes(place) for place in places):
            raise GraphError(f"more than its saver calls {name[:_SHOWN]!r}, which reads or writes files")
    if reaching := saver.intersection(map(_node_name, _referred(meta_graph, others))):
        raise GraphError(
            f"more than its saver runs the node {min(reaching)[:_SHOWN]!r}, which is the saver's"
        )


def _referred(meta_graph: memoryview, nodes: list[memoryview]) -> Iterator[str]:
    """Nodes that these nodes, a signature or a collection take something from, or run."""
    for node in nodes:
        yield from wire.texts(node, _INPUT)
    for path in _COLLECTED:
        yield from wire.texts(meta_graph, _COLLECTIONS, _MAP_VALUE, *path)
    for path in _SIGNATURE_TENSORS:
        for tensor in wire.messages(meta_graph, _SIGNATURES, _MAP_VALUE, *path):
            yield from wire.texts(tensor, _TENSOR_NAME)
            if any(True for field in _TENSOR_PARTS for _ in wire.messages(tensor, field)):
                raise GraphError("a signature has a tensor of several parts, which no classifier needs")


def _node_name(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]
