"""A stop of the training; `test_stop` is about the service's."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from training import precisions, stop


@pytest.fixture(autouse=True)
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(stop, "_is_asked_for", False)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    stop.listen()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_interrupt(number: signal.Signals) -> None:
    stop.heed()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


def test_a_stop_that_a_converter_swallows_ends_the_export_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def swallow(*_: Any) -> dict[str, Any]:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException as error:
            raise ValueError("The model cannot be converted.") from error
        return {}

    monkeypatch.setattr(precisions, "_float32", swallow)
    nothing: Any = None
    with pytest.raises(KeyboardInterrupt):
        precisions.derive(tmp_path, nothing, nothing, lambda _: None)
