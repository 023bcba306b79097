"""The routes that classify, by whatever protocol: told from the address alone, before anything is routed."""

import re
from functools import lru_cache
from typing import Final, NamedTuple

from starlette.types import Scope

_VERSION: Final = r"(?:/versions/[0-9]+)?"
_CLASSIFY: Final = re.compile(
    r"/predict(?:/batch)?"
    rf"|/v1/models/[^/:]+(?:{_VERSION}|/labels/[^/:]+):(?:predict|classify)"
    rf"|/v2/models/[^/:]+{_VERSION}/infer"
)
# The fixed words in a path of TensorFlow Serving's, whose case it ignores.
_WORDS: Final = re.compile(
    r"^/v1(?:/models(?=/|$))?|/(?:versions|labels)(?=/[^/]+(?:/metadata)?$)|/metadata$"
    r"|:(?:predict|classify|regress)$",
    re.IGNORECASE,
)
_REMEMBERED: Final = 256  # addresses
_NAMED: Final = re.compile(r"/(models|versions|labels)/([^/:]+)")
_PLACEHOLDERS: Final = {"models": "{name}", "versions": "{version}", "labels": "{label}"}


class Reference(NamedTuple):
    """What a path says about who is to answer."""

    name: str
    number: int | None = None
    label: str | None = None


def folded(scope: Scope) -> Scope:
    """The same with the fixed words of its path as the framework's routes have them."""
    path = scope["path"]
    if path[:3] not in ("/v1", "/V1"):
        return scope
    return {**scope, "path": _WORDS.sub(lambda word: word[0].lower(), path)}


def reference(scope: Scope) -> Reference | None:
    """The version that a request to classify names, None if it names no model."""
    if "/models/" not in scope["path"]:
        return None
    named = dict(_NAMED.findall(scope["path"]))
    version = named.get("versions")
    number = None if version is None else int(version[:20]) or None
    return Reference(named["models"], number, named.get("labels"))


def template(scope: Scope) -> str | None:
    """The template of the route if this is a request to classify something, None otherwise."""
    return _template(scope["path"]) if scope["method"] == "POST" else None


@lru_cache(_REMEMBERED)
def _template(path: str) -> str | None:
    if not _CLASSIFY.fullmatch(path):
        return None
    return (
        _NAMED.sub(lambda named: f"/{named[1]}/{_PLACEHOLDERS[named[1]]}", path)
        if "/models/" in path
        else path
    )
