"""A plain page: one column, dark or light as the reader has it, nothing from another host."""

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from typing import Final

from fastapi.responses import HTMLResponse

_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
h2 { border-top: 1px solid #8886; margin-top: 2.5rem; padding-top: 1rem; }
code, pre { font: .875rem/1.45 ui-monospace, monospace; }
code { overflow-wrap: anywhere; }
pre { background: #8882; border-radius: .4rem; overflow-x: auto; padding: .75rem; }
:target { background: #fc36; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border: 1px solid #8884; padding: .2rem .5rem; text-align: right; }
th:first-child, td.word { text-align: left; }
.share1 { background: #27f1; } .share2 { background: #27f3; } .share3 { background: #27f6; }
.share4 { background: #27f9; }
svg { max-width: 100%; height: auto; }
"""
_POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'"
)


def page(title: str, body: Iterable[str]) -> HTMLResponse:
    """The answer to a browser; `body` is HTML, `title` is text."""
    title = escape(title)
    head = f'<meta name="viewport" content="width=device-width"><title>{title}</title><style>{_STYLE}</style>'
    main = f"<main><h1>{title}</h1>{''.join(body)}</main>"
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8">{head}{main}',
        headers={"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"},
    )
