import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.errors import RecipeError
from training.split import Pictures, Split, stratified


def numbered(labels: list[int]) -> Pictures:
    """Pictures of one pixel, each with its own number in it."""
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return Pictures(images, np.array(labels, np.int64))


def numbers(pictures: Pictures) -> set[int]:
    return set(pictures.images.ravel().tolist())


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=10),
    st.floats(0.05, 1),
    st.integers(0, 5),
)
def test_every_class_keeps_its_share(sizes: list[int], share: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    count = max(1, round(share * len(labels)))
    rows = stratified(labels, count, seed)
    assert len(rows) == count
    assert np.all(np.diff(rows) > 0)
    drawn = np.bincount(labels[rows], minlength=len(sizes))
    assert np.abs(drawn - count / len(labels) * np.array(sizes)).max() < 2


def test_another_seed_draws_others_and_the_same_the_same() -> None:
    labels = np.arange(1000) % 10
    assert np.array_equal(stratified(labels, 100), stratified(labels, 100))
    assert not np.array_equal(stratified(labels, 100), stratified(labels, 100, seed=1))


def test_what_is_held_out_is_not_trained_on() -> None:
    split = Split.of(numbered([0, 1] * 50), 20, seed=1)
    assert (len(split.train), len(split.held_out)) == (80, 20)
    assert numbers(split.train) | numbers(split.held_out) == set(range(100))
    assert np.bincount(split.held_out.labels).tolist() == [10, 10]
    assert numbers(split.held_out) != numbers(Split.of(numbered([0, 1] * 50), 20, seed=2).held_out)


def test_thresholds_rest_on_pictures_that_no_choice_was_made_on() -> None:
    split = Split.of(numbered([0, 1] * 50), 20, seed=1)
    assert numbers(split.for_choices()) | numbers(split.for_thresholds()) == numbers(split.held_out)
    assert not numbers(split.for_choices()) & numbers(split.for_thresholds())


def test_a_recipe_that_holds_nothing_out_compares_precisions_on_what_it_trained_on() -> None:
    split = Split.of(numbered([0, 1] * 50), 0, seed=0)
    assert numbers(split.for_choices()) == numbers(split.train) == set(range(100))
    assert len(split.for_thresholds()) == 0


def test_more_than_half_cannot_be_held_out() -> None:
    with pytest.raises(RecipeError, match=r"held_out is 51 of 100 .* --held-out 50"):
        Split.of(numbered([0, 1] * 50), 51, seed=0)
