"""Requests at the times of a schedule, whether or not the earlier ones are answered, as independent users do.

    python benchmarks/open_loop.py --port 8000 --path /predict --body examples/cat.jpg --rate 100

`--body` is one file, which is sent again and again; `--pack`, for the other benchmarks, holds several bodies,
which are sent in turn.

The latency of an answer counts from the moment at which its request should have been sent, so a server that
stalls, and a generator that falls behind, are both charged for everybody who would have waited. Each request
takes a free connection or opens one, up to a bound; beyond it, requests wait, which counts too. It runs in a
process of its own, looks every millisecond at what is due and what has come (so requests leave in groups, and
latencies are 1 to 2 ms too long, or more if it had to wait for a processor, which `most_late_ms` tells), and
says what it took of the processor.
"""

import argparse
import json
import random
import select
import socket
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from http import HTTPStatus
from itertools import cycle
from pathlib import Path
from typing import Final

from latency import Latency
from load import HOST, Body, unpacked

NO_ANSWER: Final = 0  # in place of a status
_HEAD_END: Final = b"\r\n\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"

_READ_BYTES: Final = 64 * 1024
_AHEAD_S: Final = 0.01  # of the first moment
# Between two looks at what is due and what has come. A program that wakes up for each of thousands of
# requests a second stops a server on the same cores as often; what that takes is in nobody's processor time.
_REST_S: Final = 0.001


def schedule(rate: float, seconds: float, *, even: bool = False, seed: int = 0) -> Iterator[float]:
    """Ascending times in 0..`seconds`: at equal distances, or at random (Poisson), which makes crowds."""
    moments = random.Random(seed)  # noqa: S311  # load, not secrets
    at = 0.0
    while (at := at + (1 / rate if even else moments.expovariate(rate))) < seconds:
        yield at


class Connection:
    """One connection of HTTP/1.1 with at most one request on it; nothing here waits for the other side.

    `due` is when the request that is on it should have been sent, None if there is none. `is_usable` says
    whether another may follow, `retry_after` is that header of the last answer as it came, "" without it.
    """

    def __init__(self, port: int) -> None:
        self.due: float | None = None
        self.retry_after = ""
        self.is_usable = True
        self._unsent = memoryview(b"")
        self._received = b""
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.connect_ex((HOST, port))  # whether that worked, the first request tells

    @property
    def is_sent(self) -> bool:
        """Whether the system has taken all of the request."""
        return not self._unsent

    def fileno(self) -> int:
        return self._socket.fileno()

    def begin(self, request: bytes, due: float) -> None:
        """Sends of it what the system takes now, and `go_on` what it takes later.

        Raises:
            OSError: there is no connection, or not any longer.
        """
        self.due, self._received, self._unsent = due, b"", memoryview(request)
        self.go_on()

    def go_on(self) -> None:
        """See `begin`."""
        with suppress(BlockingIOError):
            self._unsent = self._unsent[self._socket.send(self._unsent) :]

    def receive(self) -> int | None:
        """The status of a whole answer, NO_ANSWER if the connection has ended; None if more is to come."""
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        self.is_usable = False
        if not data:
            return NO_ANSWER
        self._received += data
        try:
            return self._status()
        except (ValueError, IndexError):  # it is no HTTP
            return NO_ANSWER

    def _status(self) -> int | None:
        head, end, rest = self._received.partition(_HEAD_END)
        fields = head.lower()
        if not end or not _is_complete(fields, rest):
            return None
        # The rest of a request that was answered early would be read as the next one.
        self.is_usable = self.is_sent and b"\r\nconnection: close" not in fields
        self.retry_after = _field(fields, b"retry-after").decode("latin-1")
        return int(head.split(b" ", 2)[1])

    def close(self) -> None:
        self.is_usable = False
        self._socket.close()


def _is_complete(head: bytes, rest: bytes) -> bool:
    if b"\r\ntransfer-encoding: chunked" in head:
        return rest.endswith(_LAST_CHUNK)
    return len(rest) >= int(_field(head, b"content-length") or 0)


def _field(head: bytes, name: bytes) -> bytes:
    """The value of a header, of a head in small letters; empty without it."""
    return head.partition(b"\r\n%b:" % name)[2].partition(b"\r\n")[0].strip()


class Generator:
    """Sends the next of the requests at each moment.

    `seconds` holds what answers took, by status; `retry_after` counts refusals by what they say of when to
    try again.
    """

    def __init__(self, port: int, requests: Sequence[bytes], max_connections: int) -> None:
        self.seconds: dict[int, list[float]] = defaultdict(list)
        self.retry_after: Counter[str] = Counter()
        self.most_late_s = 0.0
        self._port = port
        self._requests = cycle(requests)
        self._max_connections = max_connections
        self._connections: dict[int, Connection] = {}  # by their files' numbers
        self._free: list[Connection] = []
        self._due: deque[float] = deque()
        self._unsettled = 0
        self._epoll = select.epoll()

    def run(self, moments: Sequence[float], grace_s: float) -> None:
        """Sends them all and waits for the answers, for so long after the last moment at most."""
        began = time.monotonic() + _AHEAD_S
        ahead = deque(began + moment for moment in moments)
        ends_at = max(ahead, default=began) + grace_s
        self._unsettled = len(ahead)
        with self._epoll:
            while self._unsettled and (now := time.monotonic()) < ends_at:
                self._send(ahead, now)
                time.sleep(_REST_S)
                if self._unsettled:
                    self._receive((ahead[0] if ahead else ends_at) - time.monotonic())
        self.seconds[NO_ANSWER] += [grace_s] * self._unsettled
        for connection in self._connections.values():
            connection.close()

    def _send(self, ahead: deque[float], now: float) -> None:
        """What is due goes to connections that have nothing to do, and what finds none waits."""
        if ahead and ahead[0] <= now:
            self.most_late_s = max(self.most_late_s, now - ahead[0])
        while ahead and ahead[0] <= now:
            self._due.append(ahead.popleft())
        while self._due and (connection := self._free_connection()):
            try:
                connection.begin(next(self._requests), self._due.popleft())
            except OSError:
                self._settle(connection, NO_ANSWER, now)
            else:
                if not connection.is_sent:
                    self._epoll.modify(connection, select.EPOLLIN | select.EPOLLOUT)

    def _free_connection(self) -> Connection | None:
        """One that the server did not close meanwhile, as servers do with those that are idle for long."""
        while self._free:
            connection = self._free.pop()
            if connection.is_usable:
                return connection
        if len(self._connections) == self._max_connections:
            return None
        try:
            connection = Connection(self._port)
        except OSError:  # too many files are open
            return None
        self._connections[connection.fileno()] = connection
        self._epoll.register(connection, select.EPOLLIN)
        return connection

    def _receive(self, within_s: float) -> None:
        """Whatever there is; if there is nothing yet, waits for it."""
        ready = self._epoll.poll(max(0.0, within_s))
        now = time.monotonic()
        for number, events in ready:
            connection = self._connections[number]
            if not connection.is_sent and events & select.EPOLLOUT:
                self._go_on(connection)
            if events & ~select.EPOLLOUT and (status := connection.receive()) is not None:
                self._settle(connection, status, now)

    def _go_on(self, connection: Connection) -> None:
        with suppress(OSError):  # which receiving will find out as well
            connection.go_on()
        if connection.is_sent:
            self._epoll.modify(connection, select.EPOLLIN)

    def _settle(self, connection: Connection, status: int, now: float) -> None:
        due, connection.due = connection.due, None
        is_answer = due is not None and status != NO_ANSWER
        if due is not None:
            self.seconds[status].append(now - due)
            self._unsettled -= 1
            if status == HTTPStatus.SERVICE_UNAVAILABLE:
                self.retry_after[connection.retry_after] += 1
        if is_answer and connection.is_usable:
            self._free.append(connection)
        else:
            del self._connections[connection.fileno()]
            connection.close()


def report(generator: Generator, spent_s: float, cpu_s: float) -> str:
    """As JSON: by status how many answers there were and what they took, by Retry-After how many."""
    statuses = {
        str(status): {"count": len(each), "latency": asdict(Latency.of(each))}
        for status, each in sorted(generator.seconds.items())
        if each
    }
    found = {
        "seconds": spent_s,
        "statuses": statuses,
        "retry_after": generator.retry_after,
        "most_late_ms": 1000 * generator.most_late_s,
        "cpu_s": cpu_s,
    }
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
    command.add_argument(
        "--timeout-ms", type=int, metavar="N", help="the deadline that each request asks this service for"
    )
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


def generate(options: argparse.Namespace) -> str:
    port, path, timeout_ms = options.port, options.path, options.timeout_ms
    requests = [body.head(port, path, timeout_ms) + body.data for body in chosen(options)]
    generator = Generator(port, requests, options.connections)
    moments = list(schedule(options.rate, options.seconds, even=options.even, seed=options.seed))
    began, before_s = time.perf_counter(), time.process_time()
    generator.run(moments, options.grace)
    spent_s, cpu_s = time.perf_counter() - began, time.process_time() - before_s
    return report(generator, spent_s, cpu_s)


def main() -> int:
    print(generate(parser().parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
