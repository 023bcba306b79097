"""What is asked of every server in its turn, and what is written down about it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import closed_loop
import placement
import processes
from latency import Latency
from load import Body, Load, packed
from pictures import PICTURES, Picture
from server import Server

OPEN_LOOP: Final = Path(__file__).with_name("open_loop.py")
WARM_UP_S: Final = 1
GRACE_S: Final = 30.0
CAPACITY_CLIENTS: Final = 32


@dataclass(frozen=True)
class Cell:
    """One measurement. `clients` is 0 for an open loop, whose `rate` is in requests per second.

    `cpu_ms` is the processor time that the server took for an answer, in all its processes.
    """

    picture: str
    body: str
    clients: int
    load: Load
    cpu_ms: float
    rate: float = 0.0
    even: bool = False


@dataclass(frozen=True)
class Round:
    """One measurement of this service, and what the engine alone did just before it and just after it."""

    before_per_s: float
    cell: Cell
    after_per_s: float

    @property
    def raw_per_s(self) -> float:
        return (self.before_per_s + self.after_per_s) / 2

    def generator(self, cores: int) -> float:
        """The share of the cores that the generator took, which the engine alone had to itself."""
        return self.cell.load.generator_cpu_s / (cores * self.cell.load.seconds)

    def share(self, cores: int) -> float:
        """Of what the engine alone would do on what the generator left."""
        return self.cell.load.per_s / (self.raw_per_s * (1 - self.generator(cores)))


@dataclass
class Turn:
    """A server's turn: `reason` says why it has no cells, `raw_per_s` what the engine alone did around it.

    `rounds` were measured in turn with the engine alone; peers have none.
    """

    name: str
    title: str
    engine: str
    settings: dict[str, str]
    raw_per_s: float = 0.0
    ready_s: float = 0.0
    resident_mib: float = 0.0
    cells: list[Cell] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    reason: str = ""

    def cell(self, picture: str, clients: int, body: str = "") -> Cell | None:
        """Of a closed loop; in the kind of body that it was measured with first, unless told."""
        return next(
            (
                cell
                for cell in self.cells
                if cell.picture == picture and cell.clients == clients and body in ("", cell.body)
            ),
            None,
        )

    @property
    def capacity(self) -> float:
        """Images per second of 32 clients with the smallest picture; 0 where that was not measured."""
        cell = self.cell(PICTURES[0].name, CAPACITY_CLIENTS)
        return cell.load.per_s if cell else 0.0

    def document(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """Seconds for each measurement; clients by picture; kinds of bodies ("" for the main one alone).

    `shares` are the rates of the open loop, as shares of what 32 clients got; `rounds` are those of this
    service in turn with the engine alone.
    """

    seconds: float
    clients: dict[str, tuple[int, ...]]
    every_body: bool
    shares: tuple[float, ...]
    rounds: int


EVERY_CLIENTS: Final = (1, 8, 32, 128)
FULL: Final = Plan(
    10.0,
    {picture.name: EVERY_CLIENTS for picture in PICTURES},
    every_body=True,
    shares=(0.5, 0.7, 0.9),
    rounds=7,
)
QUICK: Final = Plan(2.0, {"png32": (1, 32)}, every_body=False, shares=(0.7,), rounds=3)


def closed(server: Server, plan: Plan) -> Iterator[Cell]:
    """Every picture, kind of body and number of clients of the plan."""
    kinds = list(server.contender.routes) if plan.every_body else [server.contender.main_body]
    for picture in PICTURES:
        for kind in kinds:
            for clients in plan.clients.get(picture.name, ()):
                yield closed_cell(server, picture, kind, clients, plan.seconds)


def closed_cell(server: Server, picture: Picture, kind: str, clients: int, seconds: float) -> Cell:
    bodies = server.bodies(kind, picture)
    server.ask(kind, PICTURES[0])  # what the load before left behind is answered first
    with _Cost(server) as cost:
        load = closed_loop.run(server.port, server.path(kind), bodies, clients=clients, seconds=seconds)
    return Cell(picture.name, kind, clients, load, cost.ms_per(load.answered))


def warm_up(server: Server) -> None:
    closed_cell(server, PICTURES[0], server.contender.main_body, CAPACITY_CLIENTS, WARM_UP_S)


def opened(server: Server, plan: Plan, capacity: float) -> Iterator[Cell]:
    """The smallest picture at shares of what the server can do, at random moments and at even distances."""
    kind = server.contender.main_body
    bodies = server.bodies(kind, PICTURES[0])
    for share in plan.shares:
        for even in (False, True):
            rate = share * capacity
            server.ask(kind, PICTURES[0])
            with _Cost(server) as cost:
                load = open_loop(server.port, server.path(kind), bodies, rate, 2 * plan.seconds, even=even)
            yield Cell(PICTURES[0].name, kind, 0, load, cost.ms_per(load.answered), rate, even)


def in_turn(count: int, probe: Callable[[], float], serve: Callable[[], Cell]) -> Iterator[Round]:
    """Neighbours take from both what they take: each measurement lies between two probes of the engine."""
    before = probe()
    for _ in range(count):
        cell, after = serve(), probe()
        yield Round(before, cell, after)
        before = after


def open_loop(
    port: int, path: str, bodies: Sequence[Body], rate: float, seconds: float, *, even: bool
) -> Load:
    """One run of `open_loop.py`. The latency is that of the answers with a status below 400."""
    found = generate(port, path, bodies, rate, seconds, ["--even"] if even else [])
    count = {int(status): each["count"] for status, each in found["statuses"].items()}
    good = {status: number for status, number in count.items() if 0 < status < 400}
    first = next((found["statuses"][str(status)]["latency"] for status in good), None)
    return Load(
        seconds=found["seconds"],
        answered=sum(good.values()),
        failed=sum(count.values()) - sum(good.values()),
        latency=Latency(**first) if first else None,
        generator_cpu_s=found["cpu_s"],
    )


def generate(
    port: int, path: str, bodies: Sequence[Body], rate: float, seconds: float, options: Sequence[str] = ()
) -> dict[str, Any]:
    """What the generator of `open_loop.py` reports; `cpu_s` is what it took from those who serve."""
    with packed(bodies) as file:
        numbers = {"--port": port, "--rate": rate, "--seconds": seconds, "--grace": GRACE_S}
        given = [str(part) for pair in numbers.items() for part in pair]
        texts = ["--path", path, "--pack", str(file), *options]
        command = [*placement.for_load(), sys.executable, str(OPEN_LOOP), *given, *texts]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"cpu_s": placement.taken_s(found["cpu_s"])}


class _Cost:
    """The processor time of a server between entering and leaving."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._before_s = self._spent_s = 0.0

    def __enter__(self) -> "_Cost":
        self._before_s = processes.cpu_s(self._server.own)
        return self

    def __exit__(self, *_: object) -> None:
        self._spent_s = processes.cpu_s(self._server.own) - self._before_s

    def ms_per(self, answers: int) -> float:
        return 1000 * self._spent_s / max(1, answers)
