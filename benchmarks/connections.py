"""Which connections a process holds, as the system sees them; read from /proc, so Linux and IPv4 alone."""

from contextlib import suppress
from pathlib import Path
from typing import Final

from processes import PROC

_ESTABLISHED: Final = "01"
_LISTENING: Final = "0A"


def held(process: int, port: int) -> set[int]:
    """The ports of the clients whose connections to this port it has taken; empty once it has ended.

    One that waits to be taken belongs to nobody.
    """
    own = set(_sockets(process).values())
    rows = _rows()
    return {
        _port(row[2]) for row in rows if _port(row[1]) == port and row[3] == _ESTABLISHED and row[9] in own
    }


def takes(process: int, port: int) -> bool:
    """Whether it waits for connections to this port, which is more than to have inherited the socket."""
    listening = {row[9] for row in _rows() if _port(row[1]) == port and row[3] == _LISTENING}
    numbers = {number for number, inode in _sockets(process).items() if inode in listening}
    return bool(numbers & _watched(process))


def _rows() -> list[list[str]]:
    return [line.split() for line in (PROC / "net" / "tcp").read_text().splitlines()[1:]]


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def _sockets(process: int) -> dict[str, str]:
    """The inode of each socket that is open, by the number of the file."""
    found = {}
    for entry in _entries(process, "fd"):
        with suppress(OSError):  # closed meanwhile
            kind, _, rest = str(entry.readlink()).partition(":[")
            if kind == "socket":
                found[entry.name] = rest.rstrip("]")
    return found


def _watched(process: int) -> set[str]:
    """The numbers of the files of which it wants to be told that something has come."""
    lines: list[str] = []
    for entry in _entries(process, "fdinfo"):
        with suppress(OSError):
            lines += entry.read_text().splitlines()
    return {line.split()[1] for line in lines if line.startswith("tfd:")}


def _entries(process: int, folder: str) -> list[Path]:
    try:
        return list((PROC / str(process) / folder).iterdir())
    except OSError:  # it has ended
        return []
