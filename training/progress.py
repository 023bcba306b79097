"""Progress bars on the terminal; a plain line now and then where output is not a terminal."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

LINE_SECONDS = 30.0


@dataclass(frozen=True)
class Step:
    """What a training knows after a step; loss and accuracy are running means over the epoch."""

    epoch: int  # counted from 0
    step: int  # steps taken
    total_steps: int
    loss: float
    accuracy: float
    images_per_second: float


@contextmanager
def byte_progress(title: str, total_bytes: int | None) -> Iterator[Callable[[int], None]]:
    """Yields a function that takes the number of bytes that just arrived."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task(title, total=total_bytes)
        yield lambda count: progress.advance(task, count)


@contextmanager
def decoding_progress(pictures: int) -> Iterator[Callable[[], None]]:
    """Yields a function that is called for every picture read."""
    columns = (TextColumn("reading pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("", total=pictures)
        yield lambda: progress.advance(task)


@contextmanager
def training_progress(console: Console, epochs: int, total_steps: int) -> Iterator[Callable[[Step], None]]:
    """Yields a function that shows a step: a moving bar on a terminal, a line every half minute elsewhere."""
    columns = (
        TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total_steps, epoch=1, figures="")
        said = 0.0

        def show(step: Step) -> None:
            nonlocal said
            bar.update(task, completed=step.step, epoch=step.epoch + 1, figures=_figures(step))
            last_of_all = step.step == step.total_steps
            if not console.is_terminal and (time.monotonic() - said > LINE_SECONDS or last_of_all):
                said = time.monotonic()
                console.print(
                    f"epoch {step.epoch + 1}/{epochs}, step {step.step}/{total_steps}, {_figures(step)}"
                )

        yield show


def _figures(step: Step) -> str:
    return f"loss {step.loss:.3f}, accuracy {step.accuracy:.1%}, {step.images_per_second:.0f} images/s"
