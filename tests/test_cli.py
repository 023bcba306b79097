import pytest

from training.cli import main


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--batch-size", "0"], "batch_size is 0; it must be between 1 and"),
        (["--phases", "5"], "EPOCHSxPIXELS"),
        (["--phases", "0x32"], "1 or more epochs"),
        (["--epoch", "3"], "--epoch"),
        (["--epochs", "3"], "4x16@0.75,3x24@0.75,1x32"),
        (["--recipe", "fulll"], "quick"),
    ],
)
def test_what_the_caller_can_mend_is_one_clear_sentence(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(options) == 2
    assert words in capsys.readouterr().err


def exit_code(options: list[str]) -> int:
    try:
        return main(options)
    except SystemExit as refused:  # by the parser
        return int(str(refused.code))
