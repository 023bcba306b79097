"""What is asked of a server, and what came of asking it for a while."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from latency import Latency

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Body:
    """What a request carries: an encoded picture, by itself or as a field of a form."""

    kind: str
    content_type: str
    data: bytes

    def head(self, port: int, path: str, timeout_ms: int | None = None) -> bytes:
        """The request line and the headers of a POST, with the empty line."""
        deadline = "" if timeout_ms is None else f"X-Request-Timeout-Ms: {timeout_ms}\r\n"
        return (
            f"POST {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Type: {self.content_type}\r\n"
            f"{deadline}Content-Length: {len(self.data)}\r\n\r\n"
        ).encode()


@dataclass(frozen=True)
class Load:
    """`answered` are answers with a status below 400, `failed` all others and those that never came.

    `latency` is of the answers that came; None if there were none. `generator_cpu_s` is what asking took
    from those who serve: nothing where it has cores of its own.
    """

    seconds: float
    answered: int
    failed: int
    latency: Latency | None
    generator_cpu_s: float

    @property
    def per_s(self) -> float:
        return self.answered / self.seconds


def multipart(data: bytes, field: str, content_type: str) -> Body:
    """As a browser or `curl -F` sends a file: they make up a boundary for each form, so each has another."""
    return form([data], field, content_type)


def form(files: Sequence[bytes], field: str, content_type: str) -> Body:
    """The same with several files, all in fields of the same name."""
    boundary = f"benchmark-{crc32(b''.join(files)):08x}"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="picture"\r\n'
        f"Content-Type: {content_type}\r\n\r\n"
    ).encode()
    end = f"--{boundary}--\r\n".encode()
    parts = b"".join([head + data + b"\r\n" for data in files])
    return Body("multipart", f"multipart/form-data; boundary={boundary}", parts + end)


def raw(data: bytes) -> Body:
    return Body("raw", "application/octet-stream", data)


@contextmanager
def packed(bodies: Sequence[Body]) -> Iterator[Path]:
    """A file with all of them, for the generators of load, which are programs of their own.

    Of each it has a line with the length and the content type, and then the data.
    """
    with tempfile.NamedTemporaryFile() as file:
        for body in bodies:
            file.write(f"{len(body.data)} {body.content_type}\n".encode())
            file.write(body.data)
        file.flush()
        yield Path(file.name)


def unpacked(path: Path) -> list[Body]:
    """What `packed` wrote; `wrk.lua` reads the same.

    Raises:
        ValueError: it is something else, or not whole.
    """
    bodies = []
    with path.open("rb") as file:
        while line := file.readline():
            length, content_type = line.decode().rstrip("\n").split(" ", 1)
            data = file.read(int(length))
            if len(data) != int(length):
                raise ValueError(f"{path} ends within a body.")
            bodies.append(Body("packed", content_type, data))
    return bodies
