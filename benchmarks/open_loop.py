"""Requests at the times of a schedule, whether or not the earlier ones are answered, as independent users do.

    python benchmarks/open_loop.py --port 8000 --path /predict --body examples/cat.jpg --rate 100

`--body` is one file, which is sent again and again; `--pack`, for the other benchmarks, holds several bodies,
which are sent in turn.

The latency of an answer counts from the moment at which its request should have been sent, so a server that
stalls, and a generator that falls behind, are both charged for everybody who would have waited. Each request
takes a free connection or opens one, up to a bound; beyond it, requests wait, which counts too. It runs in a
process of its own (uvloop, raw sockets) and says what it took of the processor: some 0.1 ms a request.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Final

import uvloop
from latency import Latency
from load import HOST, Body, unpacked

NO_ANSWER: Final = 0  # in place of a status
_HEAD_END: Final = b"\r\n\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"

Answered = Callable[[int], None]


def schedule(rate: float, seconds: float, *, even: bool = False, seed: int = 0) -> Iterator[float]:
    """Ascending times in 0..`seconds`: at equal distances, or at random (Poisson), which makes crowds."""
    moments = random.Random(seed)  # noqa: S311  # load, not secrets
    at = 0.0
    while (at := at + (1 / rate if even else moments.expovariate(rate))) < seconds:
        yield at


class Connection(asyncio.Protocol):
    """One connection of HTTP/1.1 with at most one request on it; `answered` gets the status of each."""

    def __init__(self) -> None:
        self.reusable = True
        self._transport: asyncio.Transport | None = None
        self._answered: Answered | None = None
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = transport  # type: ignore[assignment]  # TCP has no other kind

    @property
    def is_open(self) -> bool:
        return self.reusable and self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes, answered: Answered) -> None:
        self._answered = answered
        self._received.clear()
        if self._transport is None or self._transport.is_closing():
            self.connection_lost(None)
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._received += data
        head, end, rest = self._received.partition(_HEAD_END)
        if not end:
            return
        fields = head.lower()
        if _is_complete(fields, rest):
            self.reusable = b"\r\nconnection: close" not in fields
            self._settle(int(head.split(b" ", 2)[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.reusable = False
        self._settle(NO_ANSWER)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _settle(self, status: int) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(status)


def _is_complete(head: bytearray, rest: bytearray) -> bool:
    if b"\r\ntransfer-encoding: chunked" in head:
        return rest.endswith(_LAST_CHUNK)
    _, found, after = head.partition(b"\r\ncontent-length:")
    return len(rest) >= (int(after.partition(b"\r\n")[0]) if found else 0)


class Generator:
    """Sends the next of the requests at each moment; `seconds` holds what answers took, by status."""

    def __init__(self, port: int, requests: Sequence[bytes], max_connections: int) -> None:
        self.seconds: dict[int, list[float]] = defaultdict(list)
        self.most_late_s = 0.0
        self._port = port
        self._requests = cycle(requests)
        self._max_connections = max_connections
        self._free: list[Connection] = []
        self._due: deque[float] = deque()
        self._open = 0
        self._settled = 0
        self._wanted = -1
        self._done = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()

    async def run(self, moments: Sequence[float], grace_s: float) -> None:
        """Sends them all and waits for the answers, for so long after the last moment at most."""
        began = self._loop.time() + 0.01
        for moment in moments:
            if (ahead := began + moment - self._loop.time()) > 0:
                await asyncio.sleep(ahead)
            self.most_late_s = max(self.most_late_s, self._loop.time() - began - moment)
            self._due.append(began + moment)
            self._send_due()
        self._wanted = len(moments)
        self._check_done()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._done.wait(), grace_s)
        self.seconds[NO_ANSWER] += [grace_s] * (len(moments) - self._settled)

    def _record(self, status: int, due: float) -> None:
        self.seconds[status].append(self._loop.time() - due)
        self._settled += 1
        self._check_done()

    def _check_done(self) -> None:
        if self._settled == self._wanted:
            self._done.set()

    def _send_due(self) -> None:
        while self._due and (connection := self._free_connection()):
            self._send(connection, self._due.popleft())
        # Those that are being opened take what is due when they are open.
        if len(self._due) > len(self._opening) and self._open < self._max_connections:
            self._open += 1
            task = self._loop.create_task(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _free_connection(self) -> Connection | None:
        """One that the server did not close meanwhile, as servers do with those that are idle for long."""
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                return connection
            self._open -= 1
        return None

    async def _connect(self) -> None:
        try:
            _, connection = await self._loop.create_connection(Connection, HOST, self._port)
        except OSError:
            self._open -= 1
            if self._due:
                self._record(NO_ANSWER, self._due.popleft())
            return
        self._free.append(connection)
        self._send_due()

    def _send(self, connection: Connection, due: float) -> None:
        def answered(status: int) -> None:
            self._record(status, due)
            if connection.reusable:
                self._free.append(connection)
            else:
                self._open -= 1
                connection.close()
            self._send_due()

        connection.send(next(self._requests), answered)


def report(seconds: dict[int, list[float]], spent_s: float, most_late_s: float, cpu_s: float) -> str:
    """As JSON: for each status the number of answers and what they took."""
    statuses = {
        str(status): {"count": len(each), "latency": asdict(Latency.of(each))}
        for status, each in sorted(seconds.items())
        if each
    }
    found = {"seconds": spent_s, "statuses": statuses, "most_late_ms": 1000 * most_late_s, "cpu_s": cpu_s}
    return json.dumps(found)


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    command.add_argument("--port", type=int, required=True, metavar="N", help=f"on {HOST}")
    command.add_argument("--path", default="/predict", help="route that takes pictures")
    sent = command.add_mutually_exclusive_group(required=True)
    sent.add_argument("--body", type=Path, metavar="FILE", help="what is sent")
    sent.add_argument("--pack", type=Path, metavar="FILE", help="several bodies, as load.py packs them")
    command.add_argument(
        "--content-type",
        default="application/octet-stream",
        metavar="TYPE",
        help="of --body (default: %(default)s)",
    )
    command.add_argument("--rate", type=float, required=True, metavar="N", help="requests per second")
    command.add_argument("--seconds", type=float, default=10.0, metavar="N", help="how long (default: 10)")
    command.add_argument("--even", action="store_true", help="at equal distances, not at random")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the random moments")
    command.add_argument("--connections", type=int, default=1000, metavar="N", help="at most (default: 1000)")
    command.add_argument(
        "--grace", type=float, default=30.0, metavar="SECONDS", help="wait for the last answers (default: 30)"
    )
    return command


def chosen(options: argparse.Namespace) -> list[Body]:
    """What to send; where it cannot be read, the program ends with a sentence."""
    try:
        if options.pack:
            return unpacked(options.pack)
        return [Body("file", options.content_type, options.body.read_bytes())]
    except (OSError, ValueError) as error:
        sys.exit(f"What is to be sent cannot be read: {error}. --body takes one file, as examples/cat.jpg.")


async def generate(options: argparse.Namespace) -> str:
    requests = [body.head(options.port, options.path) + body.data for body in chosen(options)]
    generator = Generator(options.port, requests, options.connections)
    moments = list(schedule(options.rate, options.seconds, even=options.even, seed=options.seed))
    began, before_s = time.perf_counter(), time.process_time()
    await generator.run(moments, options.grace)
    spent_s, cpu_s = time.perf_counter() - began, time.process_time() - before_s
    return report(generator.seconds, spent_s, generator.most_late_s, cpu_s)


def main() -> int:
    print(uvloop.run(generate(parser().parse_args())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
