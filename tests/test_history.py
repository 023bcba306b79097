from pathlib import Path

from training.history import Epoch, History


def epoch(number: int, loss: float = 1.0) -> Epoch:
    return Epoch(number=number, image_size=16, learning_rate=0.1, loss=loss, accuracy=0.5)


def test_epochs_come_back_in_their_order_and_the_later_record_counts(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    assert history.epochs() == ()
    for each in (epoch(1), epoch(2, loss=0.9), epoch(2, loss=0.8), epoch(3)):
        history.record(each)
    assert history.epochs() == (epoch(1), epoch(2, loss=0.8), epoch(3))


def test_a_line_that_a_crash_cut_short_is_left_out(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.record(epoch(1))
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"number": 2, "image_s')
    assert history.epochs() == (epoch(1),)
    history.forget()
    assert history.epochs() == ()


def test_an_epoch_may_end_before_anything_else_made_the_folder(tmp_path: Path) -> None:
    history = History(tmp_path / "run" / "history.jsonl")
    history.record(epoch(1))
    assert history.epochs() == (epoch(1),)
