"""How a training went, epoch by epoch, in a file beside its checkpoint."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Epoch:
    """Loss (nats) and accuracy are means over the augmented pictures of the epoch, as it went on learning."""

    number: int  # from 1
    image_size: int  # pixels
    learning_rate: float  # at its end
    loss: float
    accuracy: float


class History:
    """One line of JSON per epoch; an epoch that was trained again after a crash replaces what came of it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)

    def record(self, epoch: Epoch) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)  # an epoch may end before the first checkpoint
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(epoch)) + "\n")

    def epochs(self) -> tuple[Epoch, ...]:
        """In their order; none where nothing was recorded. A line that a crash cut short is left out."""
        if not self._path.exists():
            return ()
        found = {}
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                epoch = Epoch(**json.loads(line))
            except (ValueError, TypeError):
                continue
            found[epoch.number] = epoch
        return tuple(found[number] for number in sorted(found))
