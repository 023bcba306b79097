import hashlib
import re
from pathlib import Path

import httpx2 as httpx
import pytest
from fastapi import Request

from app.api import address
from app.main import create_app
from app.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
WEB = ROOT / "app/web"
FILES = sorted(path.relative_to(WEB).as_posix() for path in WEB.rglob("*") if path.is_file())
OURS = [name for name in FILES if not name.startswith("vendor/") and name.endswith((".css", ".html", ".js"))]
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def directives(answer: httpx.Response) -> dict[str, list[str]]:
    policy = answer.headers["content-security-policy"]
    return {name: rest for name, *rest in (directive.split() for directive in policy.split(";"))}


def test_a_browser_gets_the_page_and_programs_get_directions(client: httpx.Client) -> None:
    page, directions = client.get("/", headers=BROWSER), client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<main" in page.text
    assert directions.json()["predict"]["path"] == "/predict"
    assert directions.json()["management"] is directions.json()["feedback"] is False
    for answer in (page, directions):
        assert "Accept" in answer.headers["vary"].split(", ")


HERE = ("127.0.0.1:81", "[::1]:9000", "pictures.example", "PICTURES.example:8443", "my_service:80")
NOWHERE = (
    "",
    "a b",
    "a;id",
    "$(id)",
    "`id`",
    "'a'",
    "a/b",
    "a@b",
    "a:b",
    "[::1",
    "<b>",
    "a:800000",
    "a" * 300,
)


@pytest.mark.parametrize("host", HERE)
def test_commands_go_to_where_the_service_was_reached(client: httpx.Client, host: str) -> None:
    sample = client.get("/", headers={"Host": host}).json()["predict"]["try"]
    assert sample == f"curl -F file=@cat.jpg http://{host}/predict"
    page = client.get("/docs", headers={"Host": host}).text
    assert sample in page
    assert "127.0.0.1:8000" not in page


@pytest.mark.parametrize("host", NOWHERE)
def test_a_host_that_is_none_is_not_repeated(client: httpx.Client, host: str) -> None:
    sample = f"curl -F file=@cat.jpg {str(client.base_url).rstrip('/')}/predict"
    assert client.get("/", headers={"Host": host}).json()["predict"]["try"] == sample
    assert sample in client.get("/docs", headers={"Host": host}).text


def test_behind_a_socket_without_a_port_commands_have_the_port_of_the_settings() -> None:
    app = create_app(Settings(port=81))
    scope = {"type": "http", "scheme": "https", "headers": [], "server": ("/run/socket", None), "app": app}
    assert address.of(Request(scope)) == "https://127.0.0.1:81"


def test_the_policy_lets_nothing_in_but_files_of_ours(client: httpx.Client) -> None:
    allowed = directives(client.get("/", headers=BROWSER))
    assert allowed["default-src"] == ["'none'"]
    assert allowed["script-src"] == allowed["style-src"] == allowed["connect-src"] == ["'self'"]
    assert allowed["require-trusted-types-for"] == ["'script'"]
    sources = {source for name, sources in allowed.items() if name.endswith("-src") for source in sources}
    assert sources <= {"'none'", "'self'", "blob:", "data:"}


@pytest.mark.parametrize("path", ["/", "/web/js/main.js"])
def test_the_page_is_nobodys_frame_and_no_type_is_guessed(client: httpx.Client, path: str) -> None:
    answer = client.get(path, headers=BROWSER)
    assert directives(answer)["frame-ancestors"] == ["'none'"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_as_it_is(client: httpx.Client, name: str) -> None:
    answer = client.get(f"/web/{name}")
    assert answer.status_code == 200
    assert answer.content == (WEB / name).read_bytes()
    kinds = {"js": "text/javascript", "css": "text/css", "html": "text/html", "woff2": "font/woff2"}
    assert answer.headers["content-type"].startswith(kinds.get(name.rpartition(".")[2], ""))


def test_what_a_browser_has_already_is_not_sent_again(client: httpx.Client) -> None:
    first = client.get("/web/js/main.js")
    tag = first.headers["etag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        again = client.get("/web/js/main.js", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    changed = client.get("/web/js/main.js", headers={"If-None-Match": '"other"'})
    assert changed.content == first.content


def test_text_is_compressed_under_a_tag_of_its_own(client: httpx.Client) -> None:
    packed = client.get("/web/css/base.css", headers={"Accept-Encoding": "gzip"})
    plain = client.get("/web/css/base.css", headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(plain.content) / 2
    assert packed.content == plain.content
    assert packed.headers["etag"] != plain.headers["etag"]
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"


def test_head_says_what_get_would(client: httpx.Client) -> None:
    for path in ("/", "/web/js/main.js"):
        asked, got = client.head(path, headers=BROWSER), client.get(path, headers=BROWSER)
        assert (asked.status_code, asked.content) == (200, b"")
        assert asked.headers["etag"] == got.headers["etag"]


@pytest.mark.parametrize("path", ["nothing.js", "../main.py", "%2e%2e/main.py", "js", "js/", ""])
def test_nothing_else_is_served(client: httpx.Client, path: str) -> None:
    answer = client.get(f"/web/{path}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


@pytest.mark.parametrize("name", OURS)
def test_no_file_of_ours_names_another_host_or_needs_inline_code(name: str) -> None:
    text = (WEB / name).read_text().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|[\"'(]//", text)
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|innerHTML|\beval\(", text)


@pytest.mark.parametrize("name", ["fonts/inter-latin.woff2", "vendor/uplot/uPlot.esm.js", "examples/cat.jpg"])
def test_what_others_made_ships_with_its_licence(name: str) -> None:
    folder = (WEB / name).parent
    about = (folder / "README.md").read_text()
    assert Path(name).name in about
    assert (folder / "LICENSE").exists() or "CC0" in about


@pytest.mark.parametrize("folder", ["fonts", "vendor/uplot"])
def test_what_others_made_is_unchanged(folder: str) -> None:
    about = (WEB / folder / "README.md").read_text()
    for path in (WEB / folder).iterdir():
        if path.suffix not in {"", ".md"}:
            assert hashlib.sha256(path.read_bytes()).hexdigest() in about
