"""A plain page: one column, dark or light as the reader has it, nothing from another host."""

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from typing import Final

from fastapi.responses import HTMLResponse

_STYLE: Final = """
:root { color-scheme: light dark; }
body { background: Canvas; color: CanvasText; font: 1rem/1.5 system-ui, sans-serif; }
body { max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
h2 { border-top: 1px solid #8886; margin-top: 2.5rem; padding-top: 1rem; }
h3 { margin: 2.5rem 0 1rem; }
h2 + section h3 { margin-top: 1.5rem; }
h3:has(+ details) { margin: 1.25rem 0 .25rem; }
h4 { margin: 1.5rem 0 .5rem; }
code, pre { font: .875rem/1.45 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { background: #8882; border-radius: .4rem; padding: .75rem; white-space: pre-wrap; }
[id] { scroll-margin-top: 1rem; }
:target:not(nav) { background: #fc36; }
summary { cursor: pointer; padding: .125rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border: 1px solid #8884; padding: .2rem .5rem; text-align: right; }
th:first-child, td.word { text-align: left; }
.share1 { background: #27f1; } .share2 { background: #27f3; } .share3 { background: #27f6; }
.share4 { background: #27f9; }
.words :is(th, td) { text-align: left; vertical-align: top; }
.words th code { font-weight: 600; overflow-wrap: normal; }
nav p { font-weight: 600; margin: 1rem 0 .25rem; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav li { padding: .125rem 0; }
.up { background: Canvas; border: 1px solid; border-radius: 2rem; bottom: 1rem; display: block;
  margin-left: auto; padding: .5rem 1rem; position: sticky; width: fit-content; }
@media (max-width: 40rem) {
  .words, .words tbody { display: block; }
  .words thead { clip-path: inset(50%); position: absolute; }
  .words tr { border-bottom: 1px solid #8884; display: flex; flex-wrap: wrap; gap: 0 1rem; padding: .5rem 0; }
  .words :is(th, td) { border: 0; padding: 0; }
  .words td:last-child { flex-basis: 100%; }
}
@media (max-width: 72rem) { html:has(.up) { scroll-padding-bottom: 4rem; } }
@media (min-width: 72rem) {
  body:has(nav) { max-width: 76rem; }
  main:has(nav) { column-gap: 3rem; display: grid; grid-template-columns: 24rem minmax(0, 1fr); }
  main:has(nav) > * { grid-column: 2; margin-top: 0; }
  main > nav { align-self: start; font-size: .875rem; grid-column: 1; grid-row: 1 / 4; max-height: 100vh;
    overflow-y: auto; position: sticky; top: 0; }
  nav code { font-size: .8125rem; }
  .up { display: none; }
}
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
