"""A contender's turn, from its installation to its end."""

import time
from dataclasses import replace
from functools import partial
from http.client import HTTPException
from io import BytesIO
from pathlib import Path
from subprocess import SubprocessError
from typing import Final

import measurement
import numpy as np
import processes
from contenders import FASTEST, OURS, Contender
from environments import InstallationError, prepare
from measurement import CAPACITY_CLIENTS, Cell, Plan, Turn
from numpy.typing import NDArray
from pictures import PICTURES, encoded
from PIL import Image
from raw_engine import RawEngine
from server import Server, ServerError, running

from app.repository import Version

SETTLE_S: Final = 2.0  # before memory is looked at: what it needed for the load may go back by then
AGREEMENT: Final = 0.15  # in probability: int8 against float32, and a reduced decode against a full one

# One server that misbehaves must not cost the others their turn.
FAILURES: Final = (
    HTTPException,
    InstallationError,
    OSError,
    ServerError,
    SubprocessError,
    ValueError,
)

say = partial(print, flush=True)


class Runner:
    """Takes one contender after another through its turn, with the same version, on the same cores."""

    def __init__(self, plan: Plan, found: Version, environments: Path) -> None:
        self.plan = plan
        self.environments = environments
        self.version = found.path
        size = found.manifest.input
        self.raw = RawEngine(FASTEST, found.path, (size.height, size.width, size.channels))
        self.expected = [self._expected(encoded(picture), (size.width, size.height)) for picture in PICTURES]

    def turn(self, contender: Contender) -> Turn:
        """Everything about one server; one that cannot be measured has a reason instead."""
        if contender.engine == FASTEST and contender.name != OURS:
            contender = replace(contender, engine=self.raw.name)
        turn = Turn(contender.name, contender.title, contender.engine, dict(contender.settings))
        before = self.raw.last()  # the one that ended the turn before
        try:
            prepare(contender.environment, self.environments)
            with running(contender, self.version, self.environments, PICTURES[0]) as server:
                self._measure(server, turn)
        except FAILURES as error:
            turn.reason = str(error)
            say(f"{contender.name} is left out: {error}")
        turn.raw_per_s = (before + self.raw.probe()) / 2
        return turn

    def _measure(self, server: Server, turn: Turn) -> None:
        turn.ready_s = server.ready_s
        turn.engine = _engine_of(server) or turn.engine
        self._check(server)
        measurement.warm_up(server)
        for cell in measurement.closed(server, self.plan):
            turn.cells.append(cell)
            say(f"{turn.name:<20} {line(cell)}")
        if turn.capacity and (turn.name == OURS or self.plan.every_body):
            for cell in measurement.opened(server, self.plan, turn.capacity):
                turn.cells.append(cell)
                say(f"{turn.name:<20} {line(cell)}")
        time.sleep(SETTLE_S)
        turn.resident_mib = processes.resident_bytes(server.own) / 2**20
        if turn.name == OURS:
            self._measure_in_turn(server, turn)

    def _measure_in_turn(self, server: Server, turn: Turn) -> None:
        """This service and the engine alone."""
        kind, seconds = server.contender.main_body, self.plan.seconds

        def probe() -> float:
            server.ask(kind, PICTURES[0])  # when this is answered, nothing of the load before is left
            return self.raw.probe()

        serve = partial(measurement.closed_cell, server, PICTURES[0], kind, CAPACITY_CLIENTS, seconds)
        for each in measurement.in_turn(self.plan.rounds, probe, serve):
            turn.rounds.append(each)
            say(f"{turn.name:<20} {line(each.cell)}  engine alone {each.raw_per_s:.1f}/s")

    def _check(self, server: Server) -> None:
        """A server that answers something else does another job.

        Raises:
            ServerError: for a picture its probabilities are not those of the engine.
        """
        for picture, expected in zip(PICTURES, self.expected, strict=True):
            for kind in server.contender.routes:
                apart = float(np.abs(server.ask(kind, picture) - expected).max())
                if apart > AGREEMENT:
                    raise ServerError(f"Its answer for the {picture.title} is off by {apart:.2f}.")

    def _expected(self, data: bytes, size: tuple[int, int]) -> NDArray[np.float32]:
        image = Image.open(BytesIO(data)).convert("RGB").resize(size)
        probabilities: NDArray[np.float32] = self.raw.predict(np.asarray(image)[np.newaxis])[0]
        return probabilities


def _engine_of(server: Server) -> str:
    """What this service says that it runs on; peers run on what they are told."""
    answer = server.answer(server.contender.main_body, PICTURES[0])
    model = answer.get("model", {}) if isinstance(answer, dict) else {}
    return "-".join(filter(None, (model.get("engine"), model.get("precision"))))


def line(cell: Cell) -> str:
    """One measurement, for whoever watches."""
    how = (
        f"{cell.clients:>3} clients"
        if cell.clients
        else f"{cell.rate:.0f}/s {'even' if cell.even else 'random'}"
    )
    latency = cell.load.latency
    times = f"p50 {latency.p50:7.1f} ms  p99 {latency.p99:7.1f} ms" if latency else "no answer"
    spent = f"CPU {cell.cpu_ms:6.1f} ms"
    failed = f"  {cell.load.failed} FAILED" if cell.load.failed else ""
    return f"{cell.picture:<9} {cell.body:<10} {how:<15} {cell.load.per_s:7.1f}/s  {times}  {spent}{failed}"
