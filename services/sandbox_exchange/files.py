"""Files that are whole or not there: written beside, brought to the disk, and renamed.

In: a path, its content. Out: a file that its owner alone can read. Never: half of it under its name.
"""

import os
from pathlib import Path


def write_file(path: Path, data: bytes) -> None:
    """Write a file for its owner alone, whole or not at all, and on the disk when this returns."""
    beside = new_file_beside(path)
    with beside.open("r+b") as file:
        file.write(data)
    move_over(beside, path)


def new_file_beside(path: Path) -> Path:
    """Make an empty file for its owner alone in the folder of `path`, and return where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    # What a crash, or somebody else, left there keeps its mode and its target: the file must be a new one.
    beside.unlink(missing_ok=True)
    os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    return beside


def move_over(beside: Path, path: Path) -> None:
    """Give a finished file its name, on the disk when this returns."""
    _sync(beside)
    beside.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
