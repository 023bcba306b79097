"""What docs/api.md promises about other protocols, read from there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fakes import MODEL

_DOCUMENT = Path(__file__).resolve().parent.parent / "docs/api.md"
_ROW = re.compile(r"^\| (\d{3}) \| `([A-Z]+) (/v\S+)` \| (?:`(.*?)`)? ?\| `(.*)` \|$", re.MULTILINE)


class Refusal(NamedTuple):
    """A row of a table of refusals, for the model of the tests."""

    status: int
    method: str
    path: str
    body: str
    message: str

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.body}"[:100]


def section(title: str) -> str:
    """The text under a heading of the second level."""
    return _DOCUMENT.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


def refusals(title: str) -> list[Refusal]:
    found = [
        Refusal(int(status), *(text.replace("resnet18-cifar10", MODEL) for text in rest))
        for status, *rest in _ROW.findall(section(title))
    ]
    assert len(found) == len(re.findall(r"^\| \d{3} \| `[A-Z]", section(title), re.MULTILINE))
    return found


def curl_lines(title: str) -> list[str]:
    return re.findall(r"^ {4}(.*\bcurl .*)$", section(title), re.MULTILINE)


def request_examples(openapi: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Path and body of every example of a request to a path with this prefix."""
    for path, methods in openapi["paths"].items():
        if path.startswith(prefix):
            for operation in methods.values():
                content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
                yield from ((path, example["value"]) for example in content.get("examples", {}).values())
