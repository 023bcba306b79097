"""The calls in an OpenAPI document, as a reader looks for them: by tag, each once with all its addresses."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_METHODS: Final = ("get", "head", "post", "put", "patch", "delete", "options", "trace")
_PLACES: Final = ("path", "query", "header", "cookie")


@dataclass
class Call:
    """What the same words are said of, at one address or several."""

    method: str
    operation: Mapping[str, Any]
    paths: list[str] = field(default_factory=list)
    _parameters: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As people call it: `POST /predict`."""
        return f"{self.method} {self.paths[0]}"

    @property
    def anchor(self) -> str:
        """Its place in a page; the same as long as its first address is."""
        return "-".join(re.findall(r"\w+", self.name)).lower()

    @property
    def parameters(self) -> list[Mapping[str, Any]]:
        """Those of every address, in the order in which a request has them."""
        return sorted(self._parameters.values(), key=lambda each: _PLACES.index(each["in"]))

    def add(self, path: str, parameters: Iterable[Mapping[str, Any]]) -> None:
        """One more address, and what it takes."""
        self.paths.append(path)
        self._parameters.update(((each["in"], each["name"]), each) for each in parameters)


def by_tag(document: Mapping[str, Any]) -> dict[str, list[Call]]:
    """In the order of the document."""
    found: dict[str, dict[object, Call]] = {}
    for path, item in document["paths"].items():
        for method in (each for each in item if each in _METHODS):
            operation = item[method]
            alike = found.setdefault(operation["tags"][0], {})
            words = (method, operation["summary"], operation["description"])
            call = alike.setdefault(words, Call(method.upper(), operation))
            call.add(path, _parameters(document, item, operation))
    return {tag: list(alike.values()) for tag, alike in found.items()}


def _parameters(
    document: Mapping[str, Any], item: Mapping[str, Any], operation: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """Those of all calls at this path, then those of this one, which come before them; and its keys."""
    yield from item.get("parameters", ())
    yield from operation.get("parameters", ())
    for name in (name for way in operation.get("security", ()) for name in way):
        meaning = document["components"]["securitySchemes"][name]["description"]
        yield {
            "name": "Authorization",
            "in": "header",
            "required": True,
            "description": meaning,
            "schema": {},
        }
