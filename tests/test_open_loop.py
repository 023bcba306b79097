"""The generator of fixed rates: it charges a server for everybody who would have waited."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load import Body, packed, raw, unpacked
from measurement import generate
from open_loop import NO_ANSWER, Generator, chosen, parser, schedule

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
FULL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
SECONDS = 0.05

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


@given(
    st.floats(min_value=1, max_value=500),
    st.floats(min_value=0.1, max_value=5),
    st.booleans(),
    st.integers(0, 99),
)
def test_moments_ascend_within_the_time_and_repeat_with_the_seed(
    rate: float, seconds: float, even: bool, seed: int
) -> None:
    moments = list(schedule(rate, seconds, even=even, seed=seed))
    assert moments == sorted(moments)
    assert all(0 < moment < seconds for moment in moments)
    assert moments == list(schedule(rate, seconds, even=even, seed=seed))


def test_both_kinds_of_moments_keep_the_rate() -> None:
    even = list(schedule(100, 10, even=True))
    assert even[:3] == pytest.approx([0.01, 0.02, 0.03])
    assert len(even) in (999, 1000)
    assert len(list(schedule(100, 100))) == pytest.approx(10_000, rel=0.05)


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[int]:
    tasks: list[asyncio.Task[None]] = []
    writers: list[asyncio.StreamWriter] = []

    async def remembered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        tasks.append(asyncio.create_task(serve(reader, writer)))

    async with await asyncio.start_server(remembered, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*tasks)
        for (
            writer
        ) in writers:  # or some would outlive their event loop, and warn in the middle of another test
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()


def answering(*answers: bytes, wait_s: float = 0.0) -> Serve:
    """Each request on a connection gets the next of the answers, in pieces; then the connection ends."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            for answer in answers:
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(wait_s)
                writer.write(answer[:20])
                await writer.drain()
                writer.write(answer[20:])
        writer.close()

    return serve


async def generated(
    port: int, moments: list[float], max_connections: int = 10, request: bytes = REQUEST, grace_s: float = 5
) -> dict[int, list[float]]:
    generator = Generator(port, [request], max_connections)
    await asyncio.to_thread(generator.run, moments, grace_s)
    return {status: sorted(seconds) for status, seconds in generator.seconds.items() if seconds}


@pytest.mark.anyio
async def test_requests_that_wait_for_a_connection_are_charged_from_when_they_were_due() -> None:
    async with serving(answering(*[OK] * 4, wait_s=SECONDS)) as port:
        seconds = await generated(port, [0.0] * 4, max_connections=1)
    assert list(seconds) == [200]
    assert all(took >= turn * SECONDS for turn, took in enumerate(seconds[200], start=1))


@pytest.mark.anyio
async def test_statuses_are_counted_and_closed_connections_opened_again() -> None:
    async with serving(answering(CHUNKED, FULL)) as port:
        seconds = await generated(port, [0.0] * 6, max_connections=1)
    assert {status: len(each) for status, each in seconds.items()} == {200: 3, 503: 3}


@pytest.mark.anyio
async def test_refusals_are_counted_by_what_they_say_of_another_try() -> None:
    later, never = FULL.replace(b"Connection", b"retry-after:  12\r\nConnection"), FULL
    async with serving(answering(OK.replace(b"\r\n\r\n", b"\r\nRetry-After: 7\r\n\r\n"), later)) as port:
        generator = Generator(port, [REQUEST], 1)
        await asyncio.to_thread(generator.run, [0.0] * 4, 5)
    async with serving(answering(never)) as port:
        found = await asyncio.to_thread(generate, port, "/", [raw(b"")], 10, 0.35, ["--even"])
    assert generator.retry_after == {"12": 2}
    assert found["retry_after"] == {"": found["statuses"]["503"]["count"]}


@pytest.mark.anyio
async def test_a_connection_that_was_closed_meanwhile_costs_no_request() -> None:
    async with serving(answering(OK)) as port:
        seconds = await generated(port, [0.0, 0.05, 0.1], max_connections=1)
    assert {status: len(each) for status, each in seconds.items()} == {200: 3}


@pytest.mark.anyio
@pytest.mark.parametrize("answer", [b"", OK[:30], b"no HTTP\r\n\r\n", OK.replace(b"2\r\n", b"two\r\n")])
async def test_a_connection_that_ends_without_a_whole_answer_is_one_failed_request(answer: bytes) -> None:
    async with serving(answering(answer)) as port:
        seconds = await generated(port, [0.0, 0.0, 0.01], max_connections=2)
    assert {status: len(each) for status, each in seconds.items()} == {NO_ANSWER: 3}


@pytest.mark.anyio
async def test_nobody_listening_is_no_answer() -> None:
    async with serving(answering()) as port:
        pass
    assert {status: len(each) for status, each in (await generated(port, [0.0, 0.01])).items()} == {
        NO_ANSWER: 2
    }


@pytest.mark.anyio
async def test_who_never_answers_is_waited_for_as_long_as_was_said() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with serving(serve) as port:
        seconds = await generated(port, [0.0] * 3, max_connections=2, grace_s=0.2)
    assert seconds == {NO_ANSWER: [0.2] * 3}


@pytest.mark.anyio
async def test_what_the_system_does_not_take_at_once_follows() -> None:
    received: list[tuple[bytes, bytes]] = []
    large = raw(bytes(range(256)) * 40_000)
    async with serving(recording(received)) as port:
        request = large.head(port, "/") + large.data
        seconds = await generated(port, [0.0] * 3, max_connections=1, request=request)
    assert {status: len(each) for status, each in seconds.items()} == {200: 3}
    assert [data for _, data in received] == [large.data] * 3


@pytest.mark.anyio
async def test_what_nobody_asked_for_ends_a_connection() -> None:
    requests = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        with suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                requests += 1
                writer.write(OK)
                await asyncio.sleep(SECONDS)
                writer.write(OK)
        writer.close()

    async with serving(serve) as port:
        seconds = await generated(port, [0.0, 4 * SECONDS, 4 * SECONDS], max_connections=2)
    assert {status: len(each) for status, each in seconds.items()} == {200: 3}
    assert requests == 3


@pytest.mark.anyio
async def test_no_request_follows_one_that_was_answered_before_all_of_it_was_sent() -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        await reader.read()
        writer.close()

    large = raw(bytes(10_000_000))
    async with serving(serve) as port:
        request = large.head(port, "/") + large.data
        seconds = await generated(port, [0.0] * 2, max_connections=1, request=request)
    assert {status: len(each) for status, each in seconds.items()} == {200: 2}
    assert heads == [large.head(port, "/")] * 2


def recording(received: list[tuple[bytes, bytes]]) -> Serve:
    """Answers everything and appends the content type and the body of each request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.split(b": ", 1) for line in head.strip().split(b"\r\n")[1:])
                data = await reader.readexactly(int(fields[b"Content-Length"]))
                received.append((fields[b"Content-Type"], data))
                writer.write(OK)
        writer.close()

    return serve


@pytest.mark.anyio
async def test_the_program_sends_each_of_the_bodies_in_turn_as_it_is() -> None:
    received: list[tuple[bytes, bytes]] = []
    bodies = [raw(b"one"), Body("v2", "application/json", b"{}"), raw(b"3 text/plain\nabc")]
    async with serving(recording(received)) as port:
        found = await asyncio.to_thread(
            generate, port, "/", bodies, 33, 0.2, ["--even", "--connections", "1"]
        )
    sent = [(body.content_type.encode(), body.data) for body in bodies]
    assert received == [*sent, *sent]
    assert found["statuses"]["200"]["count"] == 6


def test_a_pack_that_ends_too_early_is_an_error(tmp_path: Path) -> None:
    bodies = [raw(b"first\n"), raw(b"second")]
    with packed(bodies) as file:
        assert [(each.content_type, each.data) for each in unpacked(file)] == [
            (each.content_type, each.data) for each in bodies
        ]
        cut = tmp_path / "pack"
        cut.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="ends within a body"):
        unpacked(cut)


@pytest.mark.parametrize(
    ("option", "content"), [("--body", None), ("--pack", None), ("--pack", b"no pack\n")]
)
def test_what_cannot_be_sent_is_told_in_a_sentence(
    tmp_path: Path, option: str, content: bytes | None
) -> None:
    file = tmp_path / "sent"
    if content is not None:
        file.write_bytes(content)
    options = parser().parse_args(["--port", "1", "--rate", "1", option, str(file)])
    with pytest.raises(SystemExit, match="What is to be sent cannot be read"):
        chosen(options)
