"""Any bytes become a picture or one of our refusals, at bounded cost."""

from contextlib import suppress
from time import thread_time

import corpus
import numpy as np
import pytest
from corpus import sample
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import PictureError, PictureTooComplexError
from app.imaging import FILTER, Picture, decode

ALL = sorted(corpus.GOOD) + sorted(corpus.REFUSED)
REFUSAL_S = 0.1
# Far above what a damaged small picture takes, far below what an unbounded one would.
DECODE_S = 1.0

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


def picture_or_refusal(data: bytes) -> Picture | None:
    began = thread_time()
    picture = None
    with suppress(PictureError):
        picture = decode(data)
        assert picture.pixels.shape == (32, 32, 3)
        assert picture.pixels.dtype == np.uint8
    assert thread_time() - began < DECODE_S
    return picture


@pytest.mark.parametrize("name", corpus.GOOD)
def test_the_same_picture_in_any_format_gives_the_same_pixels(name: str) -> None:
    good = corpus.GOOD[name]
    picture = decode(sample(name))
    expected = np.asarray(good.looks.resize((32, 32), FILTER), dtype=int)
    assert np.abs(picture.pixels - expected).max() <= good.levels
    assert (picture.width, picture.height) == good.looks.size
    assert set(picture.notes) == good.notes


@pytest.mark.parametrize("name", corpus.REFUSED)
def test_a_refusal_is_quick_and_says_why(name: str) -> None:
    data, code = sample(name), corpus.REFUSED[name][1]
    began = thread_time()
    with pytest.raises(PictureError) as refused:
        decode(data)
    assert thread_time() - began < REFUSAL_S
    assert refused.value.code == code
    assert "0x" not in str(refused.value)
    if code in ("image_too_large", "image_too_complex"):
        assert refused.value.limit is not None
        assert refused.value.received is None or refused.value.received > refused.value.limit


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"\xff\xd8" + b"\xff" * 20_000_000,
        lambda: b"\xff\xd8" + b"\xff\xfe\0\2" * 5_000_000,
        lambda: sample("jpeg-rgb")[:-2] + b"\xff\xda" * 10_000_000,
        lambda: sample("png-rgb")[:33] + corpus.png_chunk(b"abCd") * 1_600_000,
        lambda: corpus.gif(9, 9, b"!\xfe" + b"\1a" * 10_000_000),
        lambda: corpus.gif(9, 9, b"\1" * 20_000_000),
    ],
    ids=["filler", "segments", "scans", "chunks", "blocks", "junk"],
)
def test_twenty_megabytes_of_little_pieces_are_refused_as_quickly(make: corpus.Make) -> None:
    data = make()
    assert min(refused_in_s(data) for _ in range(3)) < REFUSAL_S  # a busy machine makes any one slower


def refused_in_s(data: bytes) -> float:
    began = thread_time()
    with pytest.raises(PictureTooComplexError):
        decode(data)
    return thread_time() - began


@pytest.mark.parametrize("name", corpus.GOOD)
def test_a_file_cut_anywhere_is_a_picture_or_a_refusal(name: str) -> None:
    data = sample(name)
    for end in np.linspace(0, len(data) - 1, 20).astype(int):
        picture_or_refusal(data[:end])


@pytest.mark.parametrize("name", corpus.GOOD)
def test_a_flipped_bit_anywhere_is_a_picture_or_a_refusal(name: str) -> None:
    data = sample(name)
    random = np.random.default_rng(len(data))
    for place in [*range(min(32, len(data))), *random.integers(0, len(data), 32)]:
        changed = bytearray(data)
        changed[place] ^= 1 << random.integers(8)
        picture_or_refusal(bytes(changed))


@given(name=st.sampled_from(ALL), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=200)
def test_whatever_happened_to_a_file_it_is_a_picture_or_a_refusal(name: str, seed: int) -> None:
    picture_or_refusal(corpus.mutated(sample(name), np.random.default_rng(seed)))


@given(
    start=st.sampled_from([sample(name)[:48] for name in sorted(corpus.GOOD)]), rest=st.binary(max_size=300)
)
def test_a_good_beginning_and_any_bytes_are_a_picture_or_a_refusal(start: bytes, rest: bytes) -> None:
    picture_or_refusal(start + rest)
