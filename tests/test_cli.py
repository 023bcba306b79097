from pathlib import Path

import pytest

from training.cli import chosen_recipe, main, parser
from training.recipe import Phase
from training.sources import Source


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--batch-size", "0"], "batch_size is 0; it must be between 1 and"),
        (["--phases", "5"], "EPOCHSxPIXELS"),
        (["--phases", "0x32"], "1 or more epochs"),
        (["--epoch", "3"], "--epoch"),
        (["--epochs", "3"], "6x16@0.75,4x24@0.75,1x32"),
        (["--recipe", "fulll"], "quick"),
        (["--name", "No Good"], "'No Good' is not made of a-z"),
        (["--image-size", "4"], "not between 8 and 1024"),
        (["--image-size", "64"], "the pictures of CIFAR-10 have 32 pixels"),
        (["--stem", "imagenet", "--whitened-stem"], "whitened_stem fits the stem cifar"),
    ],
)
def test_what_the_caller_can_mend_is_one_clear_sentence(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(options) == 2
    assert words in capsys.readouterr().err


def test_a_folder_of_ones_own_needs_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["--data", str(tmp_path)]) == 2
    assert "--name flowers" in capsys.readouterr().err


def test_numbers_follow_the_size_of_the_pictures_but_not_what_is_given() -> None:
    source = Source(Path(), folder=True, name="mine", image_size=64)
    recipe, _ = chosen_recipe(parser().parse_args([]), source)
    assert [phase.image_size for phase in recipe.phases] == [32, 48, 64]
    recipe, _ = chosen_recipe(parser().parse_args(["--phases", "2x40", "--translate", "3"]), source)
    assert recipe.phases == (Phase(2, 40),)
    assert recipe.translate == 3


def test_the_stem_for_large_pictures_brings_their_size_and_no_whitening() -> None:
    options = parser().parse_args(["--stem", "imagenet"])
    recipe, overrides = chosen_recipe(options, Source(Path(), folder=True, name="mine", image_size=224))
    assert (recipe.stem, recipe.phases[-1].image_size) == ("imagenet", 224)
    assert overrides == {"stem": "imagenet", "whitened_stem": False}


def exit_code(options: list[str]) -> int:
    try:
        return main(options)
    except SystemExit as refused:  # by the parser
        return int(str(refused.code))
