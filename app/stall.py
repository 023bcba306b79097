"""Notices an engine that never comes back from a batch: its thread cannot be ended, only the process can."""

from collections.abc import Iterable

from app.model import Model


class StallWatch:
    """Counts the looks, one every `every_s` seconds, at which an engine was still at the same batch.

    Looks are counted and not the time between two moments, so that a process that was stopped for a while,
    or a machine that slept, is not taken for one that hangs.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._same: dict[Model, tuple[int, int]] = {}

    def look(self, models: Iterable[Model]) -> None:
        """To be called every `every_s` with all that there are."""
        before, self._same = self._same, {}
        for model in models:
            batch = model.batch
            if batch is None:
                continue
            seen, looks = before.get(model, (batch, 0))
            self._same[model] = batch, looks + 1 if seen == batch else 1

    def stalled(self, for_s: float) -> list[Model]:
        """Those that have been at the same batch for so long."""
        # The first look may come at any moment of a batch, so it counts for nothing.
        return [model for model, (_, looks) in self._same.items() if (looks - 1) * self._every_s >= for_s]
