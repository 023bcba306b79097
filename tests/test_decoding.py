import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from conftest import Encode

from app import imaging
from app.decoding import Decoder
from app.errors import BrokenPictureError, OverloadedError
from app.geometry import Fit
from app.imaging import Picture
from app.picture_structure import is_quick

SIZE = (32, 32)

pytestmark = pytest.mark.anyio


class SlowDecode:
    """Takes until `gate` opens, and keeps what it was given."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.seen: list[bytes] = []

    def __call__(self, data: bytes, *, size: tuple[int, int], fit: Fit) -> Picture:
        self.seen.append(data)
        assert self.gate.wait(timeout=20), "the test never opened the gate"
        if data == b"broken":
            raise BrokenPictureError("The picture is broken.")
        return Picture(np.zeros((*size, 3), dtype=np.uint8), "PNG", len(data), 1)


@pytest.fixture
def slow() -> SlowDecode:
    return SlowDecode()


@pytest.fixture
def decoder(slow: SlowDecode) -> Iterator[Decoder]:
    decoder = Decoder(1, max_pictures=3, decode=slow)
    yield decoder
    slow.gate.set()
    decoder.close()


def start(decoder: Decoder, *pictures: bytes) -> list[asyncio.Task[Picture]]:
    return [asyncio.create_task(decoder.decode(data, SIZE)) for data in pictures]


async def test_the_event_loop_goes_on_while_a_picture_is_decoded(decoder: Decoder, slow: SlowDecode) -> None:
    (decoding,) = start(decoder, b"picture")
    for _ in range(10):
        await asyncio.sleep(0)
    assert not decoding.done()
    slow.gate.set()
    assert (await decoding).width == len(b"picture")


async def test_more_pictures_than_may_wait_are_refused(decoder: Decoder, slow: SlowDecode) -> None:
    waiting = start(decoder, b"1", b"2", b"3")
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match=r"3 pictures wait to be decoded and at most 3 may"):
        await decoder.decode(b"4", SIZE)
    slow.gate.set()
    await asyncio.gather(*waiting)
    await decoder.decode(b"4", SIZE)


async def test_the_bytes_that_wait_are_known(decoder: Decoder, slow: SlowDecode) -> None:
    waiting = start(decoder, bytes(60), bytes(7))
    await asyncio.sleep(0)
    assert (decoder.waiting, decoder.waiting_bytes) == (2, 67)
    slow.gate.set()
    await asyncio.gather(*waiting)
    assert (decoder.waiting, decoder.waiting_bytes) == (0, 0)


async def test_a_caller_that_leaves_before_its_turn_costs_nothing(decoder: Decoder, slow: SlowDecode) -> None:
    running, leaving, staying = start(decoder, b"running", b"leaving", b"staying")
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    more = start(decoder, b"more")
    slow.gate.set()
    await asyncio.gather(running, staying, *more)
    assert slow.seen == [b"running", b"staying", b"more"]


async def test_a_caller_that_leaves_in_the_middle_keeps_its_place_until_the_thread_is_free(
    decoder: Decoder, slow: SlowDecode
) -> None:
    leaving, *staying = start(decoder, b"leaving", b"1", b"2")
    while not slow.seen:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    leaving.cancel()
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await decoder.decode(b"more", SIZE)
    slow.gate.set()
    await asyncio.gather(*staying)
    await decoder.decode(b"more", SIZE)


async def test_a_broken_picture_costs_the_next_nothing(decoder: Decoder, slow: SlowDecode) -> None:
    slow.gate.set()
    for _ in range(10):
        with pytest.raises(BrokenPictureError):
            await decoder.decode(b"broken", SIZE)
        assert (await decoder.decode(b"good", SIZE)).format == "PNG"


async def test_the_wait_that_is_announced_grows_with_what_waits(decoder: Decoder, slow: SlowDecode) -> None:
    first = start(decoder, b"first")
    while not slow.seen:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    slow.gate.set()
    await asyncio.gather(*first)
    slow.gate.clear()
    assert (decoder.waiting, decoder.wait_s) == (0, 0)
    waiting = start(decoder, b"1", b"2", b"3")
    await asyncio.sleep(0)
    assert (decoder.waiting, decoder.wait_s > 3 * 0.2 * 0.04) == (3, True)
    slow.gate.set()
    await asyncio.gather(*waiting)


async def test_only_a_picture_that_is_quick_is_decoded_on_the_event_loop(encode: Encode) -> None:
    where: dict[bytes, int] = {}

    def decode(data: bytes, *, size: tuple[int, int], fit: Fit) -> Picture:
        where[data] = threading.get_ident()
        return imaging.decode(data, size=size, fit=fit)

    decoder = Decoder(1, max_pictures=9, decode=decode, is_quick=is_quick)
    quick, slow = encode("red"), encode("red", "JPEG")
    assert (await decoder.decode(quick, SIZE)).format == "PNG"
    assert (await decoder.decode(slow, SIZE)).format == "JPEG"
    assert where[quick] == threading.get_ident() != where[slow]
    assert decoder.wait_s == 0
    decoder.close()


async def test_where_the_system_gives_no_thread_nothing_is_counted_as_waiting(decoder: Decoder) -> None:
    """Or the service would refuse everything once that had happened often enough."""
    decoder.close()  # after which the pool gives none either
    for _ in range(4):
        with pytest.raises(OverloadedError, match="No thread can decode the picture"):
            await decoder.decode(b"picture", SIZE)
    assert (decoder.waiting, decoder.waiting_bytes) == (0, 0)
