"""Somebody's own photographs, in a folder per class and others, to measure a version on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app import imaging
from app.errors import PictureError
from training.errors import DataError

OTHER = -1


@dataclass(frozen=True, eq=False)
class Photographs:
    """Pixels uint8 ``[N, H, W, 3]`` as a service sees them, with labels ``[N]``; -1 is no class."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    unreadable: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


def read_photographs(folder: Path, class_names: tuple[str, ...], size: tuple[int, int]) -> Photographs:
    """All pictures of the folders in ``folder``, in the order of their names, brought to (height, width).

    A folder by the name of a class holds pictures of it; any other, of none. What cannot be read is listed.

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise DataError(f"--photos {folder} is not a folder. Give one with a folder of pictures per class.")
    images, labels, unreadable = [], [], []
    for path in sorted(path for path in folder.glob("*/*") if path.is_file()):
        try:
            images.append(imaging.decode(path.read_bytes(), size=size).pixels)
        except (PictureError, OSError):
            unreadable.append(path)
            continue
        name = path.parent.name
        labels.append(class_names.index(name) if name in class_names else OTHER)
    if not images:
        raise DataError(
            f"--photos {folder} has no picture in its folders that can be read. Put pictures into folders "
            f"named as classes ({', '.join(class_names[:3])}, ...), and those of other things into any other."
        )
    return Photographs(np.stack(images), np.array(labels, np.int64), tuple(unreadable))
