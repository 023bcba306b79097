"""`python -m app classify`: files and folders through the same decoder, model and batching as the service."""

import argparse
import asyncio
import os
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.text import Text

from app import folder, results
from app.api import answers
from app.classification import classify
from app.decoding import Decoder
from app.errors import EngineError, FileError, OverloadedError, PictureError, ServiceError, UploadError
from app.loading import Choose
from app.model import Model
from app.results import Lines, Results
from app.rows import Row, answered_by
from app.serving import Serving
from app.settings import PREFIX, Settings, add_options

SKIPPED: Final = 1
CANNOT: Final = 2
INTERRUPTED: Final = 130

_SETTINGS: Final = (
    "model_root",
    "model_name",
    "model_version",
    "coverage",
    "engine",
    "engine_threads",
    "engine_streams",
    "max_batch_pictures",
    "decode_threads",
    "max_body_bytes",
    "max_pixels",
    "max_side_pixels",
    "max_jpeg_scans",
    "accept_tiff",
    "queue_pictures",
    "queue_bytes",
)
_EXAMPLES: Final = f"""\
examples:
  python -m app classify cat.jpg                         a line per picture: path, label, probability
  python -m app classify photos --out results.csv        a row per picture; run again to go on after a stop
  python -m app classify a b c.png --out all.parquet     several folders and files
  python -m app classify photos --strict || echo "some could not be read"

Folders are searched to any depth; what is hidden in them is left out, links to folders are skipped. The
format of a picture is found from its bytes, never from its name. What cannot be read is named and skipped.

exit codes: 0 done, 1 with --strict when files were skipped, 2 something that you can mend, said in one
sentence, 130 stopped by Ctrl-C; what was written is kept then. Options can also be set in the environment:
--engine as {PREFIX}ENGINE.
"""


@dataclass(slots=True)
class Tally:
    """What became of the files; `known` had a row already."""

    classified: int = 0
    skipped: int = 0
    known: int = 0


class Run:
    """One run of the command: from paths to rows, with a tally."""

    def __init__(self, options: argparse.Namespace, settings: Settings, console: Console) -> None:
        self.tally = Tally()
        self._paths: list[Path] = options.paths
        self._out: Path | None = options.out
        self._restart: bool = options.restart
        self._settings = settings
        self._console = console

    async def __call__(self, choose: Choose | None) -> None:
        """Loads the model and works through the files.

        Raises:
            ServiceError: the model cannot be loaded or has stopped, or the results cannot be written.
        """
        async with _loaded(self._settings, choose) as (model, decoder):
            with self._rows(model) as rows, self._progress() as progress:
                total = None if progress.disable else sum(1 for _ in self._files(report=False))
                task = progress.add_task("", total=total)
                async with aclosing(self._outcomes(rows, model, decoder)) as outcomes:
                    async for path, outcome in outcomes:
                        self._settle(path, outcome, rows)
                        progress.update(task, completed=sum(_counts(self.tally)))
                rows.finish()

    def _rows(self, model: Model) -> Results | Lines:
        if self._out is None:
            return Lines()
        manifest, engine = model.manifest, model.engine
        reference = {"name": manifest.name, "version": manifest.version}
        reference |= {"engine": engine.name, "precision": engine.precision}
        return results.open_results(
            self._out, manifest.class_names, answered_by({"model": reference}), restart=self._restart
        )

    def _progress(self) -> Progress:
        """A bar, unless nobody sees it or the lines themselves show how far it is."""
        lines_are_seen = self._out is None and sys.stdout.isatty()
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        return Progress(
            *columns,
            console=self._console,
            disable=lines_are_seen or not self._console.is_terminal,
            redirect_stdout=False,
        )

    def _files(self, *, report: bool = True) -> Iterator[Path]:
        """The files to look at, without those that this command writes itself."""
        for path in folder.find(self._paths, self._skip if report else _ignore):
            if self._out is None or not _belongs_to(path, self._out):
                yield path

    async def _outcomes(
        self, rows: Results | Lines, model: Model, decoder: Decoder
    ) -> AsyncGenerator[tuple[Path, Row | ServiceError]]:
        """Each file's row or what is wrong with it, in order; several are worked on at the same time."""
        settings = self._settings
        # Encoded pictures take up to `max_body_bytes` each until they are decoded, rows next to nothing.
        at_once = min(settings.queue_pictures, max(1, settings.queue_bytes // settings.max_body_bytes))
        turn = asyncio.Semaphore(at_once)

        async def outcome(path: Path) -> tuple[Path, Row | ServiceError]:
            async with turn:
                return path, await _row(path, settings, model, decoder)

        begun: deque[asyncio.Task[tuple[Path, Row | ServiceError]]] = deque()
        try:
            for path in self._files():
                if folder.shown(path) in rows:
                    self.tally.known += 1
                    continue
                if len(begun) == settings.queue_pictures:
                    yield await begun.popleft()
                begun.append(asyncio.create_task(outcome(path)))
            while begun:
                yield await begun.popleft()
        finally:
            for task in begun:
                task.cancel()
            await asyncio.gather(*begun, return_exceptions=True)

    def _settle(self, path: Path, outcome: Row | ServiceError, rows: Results | Lines) -> None:
        if isinstance(outcome, ServiceError):
            self._skip(path, outcome)
        else:
            rows.add(outcome)
            self.tally.classified += 1

    def _skip(self, path: Path, error: ServiceError) -> None:
        self.tally.skipped += 1
        say(self._console, f"Skipped {folder.shown(path)}: {error}")


async def _row(path: Path, settings: Settings, model: Model, decoder: Decoder) -> Row | ServiceError:
    try:
        data = await asyncio.to_thread(folder.read, path, settings.max_body_bytes)
        classified = await classify(data, model, decoder)
    except (FileError, UploadError, PictureError, OverloadedError, EngineError) as error:
        if isinstance(error, EngineError) and not model.alive:
            raise
        return error
    return {
        "path": folder.shown(path),
        **answers.plain(answers.classification(classified, settings.coverage)),
    }


@asynccontextmanager
async def _loaded(settings: Settings, choose: Choose | None) -> AsyncIterator[tuple[Model, Decoder]]:
    only_one = settings.model_copy(update={"models": None, "version_policy": "latest"})
    serving, decoder = Serving(only_one, choose), Decoder.configured(settings)
    try:
        await serving.start()
        with serving.live.held() as model:
            yield model, decoder
    finally:
        decoder.close()
        await serving.close()


def _belongs_to(path: Path, out: Path) -> bool:
    return path.name.startswith(out.name) and path.parent.resolve() == out.parent.resolve()


def _ignore(_path: Path, _error: ServiceError) -> None:
    pass


def _counts(tally: Tally) -> tuple[int, int, int]:
    return tally.classified, tally.skipped, tally.known


def say(console: Console, line: str) -> None:
    """Prints beside a progress bar, without reading anything into names of files."""
    console.print(Text(line), soft_wrap=True)


def main(arguments: Sequence[str], choose: Choose | None = None) -> int:
    """Runs the command and gives its exit code: 0, `SKIPPED`, `CANNOT` or `INTERRUPTED`."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True)
    try:
        _check(options)
        given = {name: value for name, value in vars(options).items() if name in _SETTINGS}
        run = Run(options, Settings.load(**given), console)
        return _finished(run, options, console, choose)
    except ServiceError as error:
        say(console, str(error))
        return CANNOT
    except BrokenPipeError:
        # Whoever reads our output has enough of it; without this, Python complains when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _finished(run: Run, options: argparse.Namespace, console: Console, choose: Choose | None) -> int:
    began, interrupted = perf_counter(), False
    try:
        asyncio.run(run(choose))
    except KeyboardInterrupt:
        interrupted = True
    tally, seconds = run.tally, perf_counter() - began
    known = f", {tally.known:,} were in {options.out} already" if tally.known else ""
    rate = tally.classified / seconds
    say(console, f"{tally.classified:,} classified ({rate:,.1f}/s), {tally.skipped:,} skipped{known}.")
    if interrupted:
        kept = ", and the same command goes on after what is written" if options.out else ""
        say(console, f"Stopped before the end{kept}.")
        return INTERRUPTED
    return SKIPPED if options.strict and tally.skipped else 0


def _check(options: argparse.Namespace) -> None:
    for path in options.paths:
        if not path.exists():
            raise FileError(f"There is no file or folder {folder.shown(path)}.")
    if options.out is not None:
        results.check(options.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app classify",
        usage="%(prog)s PATH... [--out FILE] [--restart] [--strict] [options]",
        description="Classify pictures in files and folders with the newest model, without a server.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="file or folder of pictures")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=f"where the results go, by its ending: {', '.join(results.SUFFIXES)}; what is there is gone on "
        "with (default: lines on standard output)",
    )
    parser.add_argument("--restart", action="store_true", help="replace what is in FILE")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if any file was skipped")
    add_options(parser.add_argument_group("model and limits").add_argument, _SETTINGS)
    return parser
