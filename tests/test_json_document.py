import json
import math
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api import json_document
from app.api.json_document import Budget
from app.errors import MalformedBodyError

PLENTY = Budget(10_000_000, 10_000_000)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values)
def test_what_json_can_hold_comes_through(value: object) -> None:
    assert json_document.parse(json.dumps(value).encode(), PLENTY) == value


@given(st.binary(max_size=60))
def test_no_bytes_are_more_than_a_malformed_body(data: bytes) -> None:
    try:
        json_document.parse(data, PLENTY)
    except MalformedBodyError:
        return
    json.loads(data)


@given(values)
def test_a_value_is_shown_in_short_and_in_ascii(value: object) -> None:
    shown = json_document.shown(value)
    assert shown.isascii()
    assert len(shown) <= 100


def test_integers_that_no_64_bits_hold_are_floating_point() -> None:
    assert json_document.parse(b"[18446744073709551615, -9223372036854775808]", PLENTY) == [
        2**64 - 1,
        -(2**63),
    ]
    assert json_document.parse(b"1" + b"0" * 200, PLENTY) == 1e200
    assert math.isinf(json_document.parse(b"9" * 5000, PLENTY))


def test_the_place_of_a_mistake_counts_bytes() -> None:
    with pytest.raises(MalformedBodyError, match=r"offset: 7$"):
        json_document.parse('["ü", x]'.encode(), PLENTY)


@pytest.mark.parametrize("values_allowed", [3, 4])
def test_values_are_counted_before_they_are_made(values_allowed: int) -> None:
    budget = Budget(values_allowed, 1)
    if values_allowed == 4:
        assert json_document.parse(b"[1,2,3]", budget) == [1, 2, 3]
    else:
        with pytest.raises(MalformedBodyError, match="up to 4 values in 1 lists"):
            json_document.parse(b"[1,2,3]", budget)


def test_a_budget_has_room_for_the_pictures_that_it_is_for() -> None:
    for count, shape in ((1, (32, 32, 3)), (20_000, (1, 1, 3)), (5, (224, 224, 3))):
        row = [[0] * shape[2]] * shape[1]
        document = json.dumps({"instances": [{"images": [row] * shape[0]}] * count}).encode()
        assert json_document.parse(document, Budget.of_pictures(count, shape))


def test_other_threads_get_their_turn_while_numbers_are_read() -> None:
    document = b"[" + b"10," * 1_000_000 + b"1]"
    gaps, done = [0.0], threading.Event()

    def tick() -> None:
        last = time.perf_counter()
        while not done.is_set():
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    ticking = threading.Thread(target=tick)
    ticking.start()
    began = time.perf_counter()
    json_document.parse(document, PLENTY)
    took = time.perf_counter() - began
    done.set()
    ticking.join()
    assert max(gaps) < took / 2, "the parser held the interpreter from beginning to end"
