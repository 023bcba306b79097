"""The page at `/`, and under `/web/` the files it is made of: in the package, none from another host."""

import gzip
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.api import address
from app.api.accept import prefers_html
from app.settings import Settings

router = APIRouter(include_in_schema=False)

_FOLDER: Final = Path(__file__).resolve().parent.parent / "web"
_INDEX: Final = "index.html"
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
_PLAIN: Final = "text/plain; charset=utf-8"  # licences, which have no suffix
# Code is asked for again each time, so that a page never mixes two versions of it; a 304 costs nothing.
_CHECK_EACH_TIME: Final = "no-cache"
_KEEP_A_DAY: Final = "public, max-age=86400"
_KEPT: Final = frozenset({".jpg", ".woff2"})
# No script and no style but files from here, nothing that is made into markup from text, nobody else's frame.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_SMALLEST_GZIP: Final = 1024


class _File(NamedTuple):
    content: bytes
    compressed: bytes
    media_type: str
    cache_control: str
    digest: str


@router.head("/")
@router.get("/")
async def index(request: Request) -> Response:
    """The page for browsers, JSON that says where to go for others."""
    if prefers_html(request):
        answer = _respond(_files()[_INDEX], request)
    else:
        answer = JSONResponse(_directions(request))
    answer.headers["Vary"] = "Accept, Accept-Encoding"
    return answer


@router.head("/web/{path:path}")
@router.get("/web/{path:path}")
async def file(request: Request, path: str) -> Response:
    found = _files().get(path)
    if found is None:
        raise HTTPException(404)
    return _respond(found, request)


def _directions(request: Request) -> dict[str, Any]:
    settings: Settings = request.app.state.settings
    sample = f"curl -F file=@cat.jpg {address.of(request)}/predict"
    return {
        "service": request.app.title,
        "predict": {"method": "POST", "path": "/predict", "try": sample},
        "explain": {"method": "POST", "path": "/explain"},
        "models": "/models",
        "management": settings.admin_key is not None,
        "feedback": settings.feedback_file is not None,
        "docs": "/docs",
        "openapi": request.app.openapi_url,
        "live": "/livez",
        "ready": "/readyz",
    }


def _respond(found: _File, request: Request) -> Response:
    is_packed = bool(found.compressed) and "gzip" in request.headers.get("accept-encoding", "")
    tag = f'"{found.digest}-gzip"' if is_packed else f'"{found.digest}"'
    headers = _HEADERS | {"Cache-Control": found.cache_control, "ETag": tag, "Vary": "Accept-Encoding"}
    if _is_known(tag, request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    if is_packed:
        headers["Content-Encoding"] = "gzip"
    content = found.compressed if is_packed else found.content
    return Response(content, headers=headers, media_type=found.media_type)


def _is_known(tag: str, given: str) -> bool:
    return given.strip() == "*" or tag in re.findall(r'"[^"]*"', given)


@cache
def _files() -> dict[str, _File]:
    """Every file by its path, read once: half a megabyte, and no path from outside ever reaches a disk."""
    paths = (path for path in _FOLDER.rglob("*") if path.is_file())
    return {path.relative_to(_FOLDER).as_posix(): _read(path) for path in paths}


def _read(path: Path) -> _File:
    content, suffix = path.read_bytes(), path.suffix
    is_text = len(content) >= _SMALLEST_GZIP and suffix not in _KEPT
    return _File(
        content=content,
        compressed=gzip.compress(content, mtime=0) if is_text else b"",
        media_type=_TYPES.get(suffix, _PLAIN),
        cache_control=_KEEP_A_DAY if suffix in _KEPT else _CHECK_EACH_TIME,
        digest=hashlib.sha256(content).hexdigest()[:32],
    )
