"""A disk of a few hundred kilobytes that really runs full. Only who may mount has one."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

BALLAST = "ballast"


@contextlib.contextmanager
def small_disk(folder: Path, *, size_kb: int) -> Iterator[Path]:
    """Mount a disk of `size_kb` on `folder`; skips the test where that is not allowed."""
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    folder.mkdir(parents=True, exist_ok=True)
    if mount is None or unmount is None:
        pytest.skip("no disk to fill: mount is not installed")
    command = [mount, "-t", "tmpfs", "-o", f"size={size_kb}k", "cascade-test", str(folder)]
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no disk to fill: {made.stderr.strip() or 'mount is not allowed'}")
    try:
        yield folder
    finally:
        subprocess.run([unmount, "--lazy", str(folder)], check=True)


def fill(disk: Path) -> None:
    """Write until nothing fits any more."""
    with contextlib.suppress(OSError), (disk / BALLAST).open("ab", buffering=0) as ballast:
        while ballast.write(bytes(4_096)):
            pass


def make_space(disk: Path) -> None:
    """Take away what filled it."""
    (disk / BALLAST).unlink()
