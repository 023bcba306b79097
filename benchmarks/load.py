"""What is asked of a server, and what came of asking it for a while."""

from dataclasses import dataclass

from latency import Latency

HOST = "127.0.0.1"
BOUNDARY = "benchmark-7f3a51c2"


@dataclass(frozen=True)
class Body:
    """What a request carries: an encoded picture, by itself or as a field of a form."""

    kind: str
    content_type: str
    data: bytes

    def head(self, port: int, path: str) -> bytes:
        """The request line and the headers of a POST, with the empty line."""
        return (
            f"POST {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.data)}\r\n\r\n"
        ).encode()


@dataclass(frozen=True)
class Load:
    """`answered` are answers with a status below 400, `failed` all others and those that never came.

    `latency` is of the answers that came; None if there were none. `generator_cpu_s` is what asking cost.
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
    """As a browser or `curl -F` sends a file."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="picture"\r\n'
        f"Content-Type: {content_type}\r\n\r\n"
    ).encode()
    end = f"\r\n--{BOUNDARY}--\r\n".encode()
    return Body("multipart", f"multipart/form-data; boundary={BOUNDARY}", head + data + end)


def raw(data: bytes) -> Body:
    return Body("raw", "application/octet-stream", data)
