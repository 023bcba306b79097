import io
import json
import logging
import multiprocessing
import os
import re
import subprocess
import sys
import threading
from typing import Any

import httpx2 as httpx
import pytest
from asgi import WAYS_IN, call, classify, ready, sent, until
from conftest import Encode
from fakes import FakeEngine

from app.logs import FIELDS, MAX_LINES, Collecting, JsonFormatter, TextFormatter, log
from app.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def listening(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="app.requests")


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [getattr(record, FIELDS) for record in caplog.records if record.name == "app.requests"]


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("app", logging.WARNING, "", 0, message, (), None)
    setattr(made, FIELDS, fields)
    return made


def test_json_is_one_object_per_line_whatever_is_in_it() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        made = record('a "word"\nand another', status=200)
        made.exc_info = sys.exc_info()
    line = JsonFormatter().format(made)
    entry = json.loads(line)
    assert "\n" not in line
    assert (entry["level"], entry["message"], entry["status"]) == ("warning", 'a "word"\nand another', 200)
    assert "ValueError: two\nlines" in entry["traceback"]
    assert entry["time"].endswith("Z")
    assert entry["pid"] == os.getpid()


def test_words_for_a_terminal_end_with_the_fields() -> None:
    line = TextFormatter().format(record("request", status=200, ms=1.5))
    assert re.fullmatch(r"\S+ [0-9:]+,\d\d\d WARNING request status=200 ms=1.5", line)


def test_words_of_one_process_among_several_say_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "the supervisor")
    assert TextFormatter().format(record("request", ms=1)).endswith(f"request ms=1 pid={os.getpid()}")


def test_words_for_a_terminal_are_what_python_makes_of_the_same_form() -> None:
    ours = TextFormatter()
    for made in (record("request", status=200), record("%d of %s")):
        made.args = (1, "x") if "%d" in made.msg else ()
        expected = logging.Formatter("%(asctime)s %(levelname)s %(message)s").format(made)
        assert ours.format(made).removesuffix(" status=200") == expected
    try:
        raise ValueError("two\nlines")
    except ValueError:
        made = record("fault", status=500)
        made.exc_info = sys.exc_info()
    assert "ValueError: two\nlines" in ours.format(made)


def test_a_line_of_ours_has_all_that_a_record_of_python_has(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("app.some")
    with caplog.at_level(logging.INFO):
        logger.info("request", extra={FIELDS: {}})
        for _ in range(2):
            log(logger, logging.INFO, "request", {"n": 1})
    theirs, *ours = (vars(each) for each in caplog.records)
    for each in ours:
        assert each.keys() == theirs.keys()
        assert (each["name"], each["levelname"], each["msg"]) == ("app.some", "INFO", "request")
        assert (each["message"], each[FIELDS]) == ("request", {"n": 1})
        for name in ("created", "relativeCreated"):
            assert each[name] >= theirs[name]
        assert each["msecs"] == int(1000 * each["created"]) % 1000


async def test_every_request_has_a_line_that_says_how_it_ended(
    settings: Settings, encode: Encode, caplog: pytest.LogCaptureFixture
) -> None:
    async with ready(settings, FakeEngine()) as app:
        answer = await classify(app, WAYS_IN[0], encode(), x_request_id="mine")
        assert answer.status == 200
        await classify(app, WAYS_IN[0], b"no picture")
        app.state.decoder = None
        with pytest.raises(AttributeError):
            await classify(app, WAYS_IN[0], encode())
    good, bad, fault = lines(caplog)
    assert good["request_id"] == "mine"
    assert (good["method"], good["path"], good["status"], "code" in good) == ("POST", "/predict", 200, False)
    assert (good["body_bytes"], good["ms"] > 0) == (len(encode()), True)
    assert (bad["status"], bad["code"]) == (415, "unsupported_format")
    assert (fault["status"], fault["code"]) == (500, "internal_error")


async def test_probes_have_a_line_only_when_all_is_wanted_or_they_fail(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="app.requests")
    async with ready(settings, FakeEngine()) as app:
        for path in ("/livez", "/readyz", "/metrics"):
            await call(app, path, sent(b""), method="GET")
        assert lines(caplog) == []
        app.state.serving.drain()
        await call(app, "/readyz", sent(b""), method="GET")
    assert [(line["path"], line["status"]) for line in lines(caplog)] == [("/readyz", 503)]


def test_what_stands_behind_the_question_mark_stays_out_of_the_log(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.get("/some%0Aw%C3%B6rd?token=hush")
    # A line is written after its answer is sent, and before the next request of the connection is taken.
    client.get("/livez")
    assert "/some%0Aw%C3%B6rd" in [line["path"] for line in lines(caplog)]
    assert "hush" not in str(lines(caplog))


class SlowReader(io.StringIO):
    """Takes nothing until `gate` opens."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def write(self, text: str) -> int:
        assert self.gate.wait(timeout=20)
        return super().write(text)


def collecting(stream: io.StringIO) -> tuple[logging.Logger, Collecting]:
    handler = Collecting(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.Logger("collected", logging.DEBUG)  # noqa: LOG001  # one that no other test knows
    logger.addHandler(handler)
    return logger, handler


async def test_lines_are_written_soon_and_in_order() -> None:
    stream = io.StringIO()
    logger, _ = collecting(stream)
    for number in range(100):
        logger.info("line %d", number)
    await until(lambda: stream.getvalue().count("\n") == 100)
    assert stream.getvalue().split("\n")[:-1] == [f"line {number}" for number in range(100)]


def test_an_error_is_written_at_once_with_what_came_before() -> None:
    stream = io.StringIO()
    logger, _ = collecting(stream)
    logger.info("before")
    logger.error("it broke")
    assert stream.getvalue() == "before\nit broke\n"


def logged(form: str, statement: str) -> str:
    """What a process writes that is set up as the service is, does this and ends."""
    code = (
        "import logging.config\nfrom app import logs\n"
        f"logging.config.dictConfig(logs.configuration({form!r}, 'info'))\n{statement}"
    )
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stderr


def test_the_end_writes_what_is_left() -> None:
    assert logged("text", "logging.getLogger('app').info('the last line')").endswith("INFO the last line\n")


UNREAD = """
import logging.config, sys, time
from app import logs
logging.config.dictConfig(logs.configuration("text", "info"))
log = logging.getLogger("app")
for _ in range(2000):
    log.info("x" * 100)
time.sleep(0.3)  # the pipe is full, and the thread waits for it
began = time.monotonic()
for _ in range(100):
    log.error("an error")
    logging.getLogger("asyncio").error("another")
print(time.monotonic() - began)
"""


def test_a_log_that_nobody_reads_stops_neither_who_has_an_error_nor_the_end() -> None:
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", UNREAD], check=True, stdout=subprocess.PIPE, stderr=writing, timeout=30
        )
    finally:
        os.close(writing)
        os.close(reading)
    assert float(done.stdout) < 2  # one wait of a tenth of a second, not one for each error


def test_what_others_log_has_the_same_form() -> None:
    entry = json.loads(
        logged("json", "logging.getLogger('asyncio').error('Task exception was never retrieved')")
    )
    assert (entry["logger"], entry["message"]) == ("asyncio", "Task exception was never retrieved")


async def test_nobody_waits_for_a_log_that_is_not_read() -> None:
    stream = SlowReader()
    logger, _ = collecting(stream)
    logger.info("first")
    for number in range(2 * MAX_LINES + 7):
        logger.info("line %d", number)
    stream.gate.set()
    await until(lambda: "missing" in stream.getvalue())
    lost = re.search(r"([\d,]+) lines are missing here", stream.getvalue())
    assert lost
    assert int(lost[1].replace(",", "")) + stream.getvalue().count("line ") == 2 * MAX_LINES + 7
