"""A contender that runs: started, asked until it answers, measured as a tree of processes, ended."""

import base64
import http.client
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import processes
from contenders import PEERS, PORTS, ROOT, Contender
from load import HOST, Body, multipart, raw
from numpy.typing import NDArray
from pictures import Picture, encoded

READY_WITHIN_S: Final = 120.0
ANSWER_WITHIN_S: Final = 60.0
POLL_S: Final = 0.05


class ServerError(Exception):
    """A server did not start or gave no answer; the text says which, and how its log ends."""


@dataclass
class Server:
    """A ready server; `ready_s` went from its start to its first answer, `own` are all its processes.

    `process` is the one that was started.
    """

    contender: Contender
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    ready_s: float = 0.0
    others: set[int] = field(default_factory=set)

    @property
    def own(self) -> set[int]:
        return processes.descendants(os.getpid()) - self.others

    def path(self, kind: str) -> str:
        return self.contender.routes[kind].path

    def bodies(self, kind: str, picture: Picture) -> list[Body]:
        """Every different picture in a body of this kind."""
        return [self.body(kind, picture, number) for number in range(picture.different)]

    def body(self, kind: str, picture: Picture, number: int = 0) -> Body:
        """The picture in a body of this kind, as this server wants it."""
        data = encoded(picture, number)
        if kind == "multipart":
            return multipart(data, self.contender.routes[kind].field, picture.content_type)
        return raw(data) if kind == "raw" else _inference_request(data)

    def ask(self, kind: str, picture: Picture) -> NDArray[np.float32]:
        """The probabilities it gives, float32 [K].

        Raises:
            ServerError: it answers with something else.
            OSError: it does not answer.
        """
        return _probabilities(self.answer(kind, picture))

    def answer(self, kind: str, picture: Picture) -> Any:
        """The document that it answers with.

        Raises:
            ServerError: it answers with something else.
            OSError: it does not answer.
        """
        body = self.body(kind, picture)
        connection = http.client.HTTPConnection(HOST, self.port, timeout=ANSWER_WITHIN_S)
        try:
            connection.request("POST", self.path(kind), body.data, {"Content-Type": body.content_type})
            reply = connection.getresponse()
            answer = reply.read()
        finally:
            connection.close()
        if reply.status != http.HTTPStatus.OK:
            raise ServerError(f"{self.contender.name} answered {reply.status}: {answer[:200]!r}")
        return json.loads(answer)


@contextmanager
def running(contender: Contender, version: Path, environments: Path, picture: Picture) -> Iterator[Server]:
    """Ready for `picture`, alone on the machine as far as this program is concerned.

    Raises:
        ServerError: it was not ready in time or ended before.
    """
    ports = _free_ports()
    server = Server(contender, ports[0], others=processes.descendants(os.getpid()))
    with ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        began = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603  # our own command
            [contender.python(environments), *contender.program],
            cwd=ROOT,
            env=_environment(folder) | contender.variables(version, ports),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        server.process = process
        stack.callback(_end, server, process)
        try:
            _wait(server, process, picture)
        except ServerError as error:
            log.seek(0)
            last = log.read().decode(errors="replace").strip().splitlines()[-5:]
            raise ServerError(f"{error} Its log ends: {' | '.join(last)}") from error
        server.ready_s = time.perf_counter() - began
        yield server


def _end(server: Server, process: subprocess.Popen[bytes]) -> None:
    processes.end(server.own)
    process.wait()


def _wait(server: Server, process: subprocess.Popen[bytes], picture: Picture) -> None:
    name = server.contender.name
    deadline = time.monotonic() + READY_WITHIN_S
    reason: Exception | None = None
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerError(f"{name} ended with {process.returncode} before it answered.")
        try:
            server.ask(server.contender.main_body, picture)
        except (OSError, http.client.HTTPException, ServerError) as error:
            reason = error
            time.sleep(POLL_S)
        else:
            return
    raise ServerError(f"{name} gave no answer within {READY_WITHIN_S:g} s: {reason}.")


def _environment(folder: str) -> dict[str, str]:
    """`folder` takes what a server leaves behind."""
    paths = os.pathsep.join(map(str, (PEERS, ROOT)))
    # Nothing of the caller's may configure one side of a comparison.
    own = {name: value for name, value in os.environ.items() if not name.startswith("CLASSIFIER_")}
    quiet = {"PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    return own | quiet | {"PYTHONPATH": paths, "TMPDIR": folder, "RAY_TMPDIR": folder}


def _free_ports() -> list[int]:
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(PORTS)]
        return [each.getsockname()[1] for each in held]


def _inference_request(data: bytes) -> Body:
    """As the Open Inference Protocol carries a file in JSON."""
    picture = {
        "name": "image",
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"content_type": "base64"},
        "data": [base64.b64encode(data).decode()],
    }
    return Body("v2", "application/json", json.dumps({"inputs": [picture]}).encode())


def _probabilities(answer: Any) -> NDArray[np.float32]:
    document = answer[0] if isinstance(answer, list) else answer
    if "outputs" in document:
        return np.array(document["outputs"][0]["data"], np.float32)
    return np.array(list(document["probabilities"].values()), np.float32)
