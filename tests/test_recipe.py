import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.errors import RecipeError
from training.recipe import QUICK, RECIPES, SEED, Phase


def test_seed_is_the_textbook() -> None:
    assert (SEED.optimizer, SEED.peak_learning_rate, SEED.batch_size, SEED.epochs) == ("adam", 0.01, 128, 10)
    assert SEED.input_scaling() == ((0, 0, 0), (1, 1, 1))
    assert not SEED.flip
    assert not SEED.translate
    assert SEED.learning_rate(0, 100) == SEED.learning_rate(99, 100) == 0.01


def test_phases_follow_each_other() -> None:
    recipe = dataclasses.replace(QUICK, phases=(Phase(2, 16), Phase(1, 32)))
    assert [recipe.phase(epoch).image_size for epoch in range(recipe.epochs)] == [16, 16, 32]
    with pytest.raises(IndexError):
        recipe.phase(3)


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_the_triangle_rises_to_its_peak_and_falls_to_zero(steps: int, warmup: float, start: float) -> None:
    recipe = dataclasses.replace(QUICK, warmup=warmup, start_learning_rate=start)
    rates = [recipe.learning_rate(step, steps) for step in range(steps)]
    assert all(0 <= rate <= recipe.peak_learning_rate for rate in rates)
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert recipe.learning_rate(steps, steps) == 0


@pytest.mark.parametrize(
    "change",
    [{"batch_size": 0}, {"momentum": 1.0}, {"dropout": -0.1}, {"phases": ()}, {"peak_learning_rate": 0.0}],
)
def test_numbers_out_of_range_are_named(change: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=next(iter(change))):
        dataclasses.replace(QUICK, **change)


@pytest.mark.parametrize("phase", [(0, 32, 1.0), (1, 4, 1.0), (1, 32, 0.0)])
def test_impossible_phases_are_refused(phase: tuple[int, int, float]) -> None:
    with pytest.raises(RecipeError, match="phase"):
        Phase(*phase)


def test_every_recipe_goes_by_its_name() -> None:
    assert all(name == recipe.name for name, recipe in RECIPES.items())


def test_phases_and_moves_grow_with_the_pictures() -> None:
    larger = QUICK.at_size(224)
    assert [phase.image_size for phase in larger.phases] == [112, 168, 224]
    assert larger.translate == 14
    assert QUICK.at_size(32) == QUICK


@given(st.integers(8, 1024))
def test_every_phase_can_be_halved_three_times_but_the_last_which_is_as_asked_for(size: int) -> None:
    *earlier, last = QUICK.at_size(size).phases
    assert last.image_size == size
    assert all(phase.image_size % 8 == 0 for phase in earlier)


def test_the_stem_for_large_pictures_is_not_whitened() -> None:
    with pytest.raises(RecipeError, match="whitened_stem"):
        dataclasses.replace(QUICK, stem="imagenet")


@pytest.mark.parametrize(
    ("pictures", "held_out"), [(50_000, 2_500), (10_000, 1_000), (5_000, 500), (4_999, 0)]
)
def test_a_tenth_of_few_pictures_is_held_out_and_none_of_too_few(pictures: int, held_out: int) -> None:
    assert QUICK.for_pictures(pictures).held_out == held_out
