"""A disk that loses power: at any step, before or after it, with everything undone that was not synced.

In: the number of the step to die at. Out: the real file system as it would be found afterwards.
"""

import errno
from pathlib import Path

import pyarrow as pa

from shared.store.disk import LocalDisk


class PowerCut(BaseException):
    """End the process."""


class MortalDisk(LocalDisk):
    """Die at step `dies_at` (from 1), `after` it or before; `steps` counts them."""

    def __init__(self, dies_at: int = 0, *, after: bool = False) -> None:
        self.steps = 0
        self._dies_at, self._after = dies_at, after
        # What a power cut would undo, by directory: how to get each file back as it was.
        self._unsynced: list[tuple[Path, bytes | None]] = []

    def write(self, path: Path, data: pa.Buffer) -> None:
        """Write a whole file, or half of it."""
        self._step(lambda: path.write_bytes(memoryview(data)[: data.size // 2]))
        super().write(path, data)
        self._end_step()

    def rename(self, source: Path, target: Path) -> None:
        """Rename, not durably."""
        self._step()
        self._remember(target)
        self._remember(source)
        super().rename(source, target)
        self._end_step()

    def remove(self, path: Path) -> None:
        """Remove, not durably."""
        self._step()
        self._remember(path)
        super().remove(path)
        self._end_step()

    def sync_directory(self, path: Path) -> None:
        """Make durable what was done in a directory."""
        self._step()
        super().sync_directory(path)
        self._unsynced = [(file, content) for file, content in self._unsynced if file.parent != path]
        self._end_step()

    def _step(self, half_done: "object" = None) -> None:
        self.steps += 1
        if self.steps == self._dies_at and not self._after:
            if callable(half_done):
                half_done()
            self._die()

    def _end_step(self) -> None:
        if self.steps == self._dies_at and self._after:
            self._die()

    def _remember(self, path: Path) -> None:
        self._unsynced.append((path, path.read_bytes() if path.exists() else None))

    def _die(self) -> None:
        for path, content in reversed(self._unsynced):
            if content is None:
                path.unlink(missing_ok=True)
            elif path.parent.is_dir():
                path.write_bytes(content)
        raise PowerCut


class SickDisk(LocalDisk):
    """Refuse what `fails` names (`write`, `rename`, `sync`), with an error number, while it is set."""

    def __init__(self) -> None:
        self.fails: frozenset[str] = frozenset()
        self.errno = errno.ENOSPC

    def write(self, path: Path, data: pa.Buffer) -> None:
        """Write a whole file."""
        self._check("write")
        super().write(path, data)

    def rename(self, source: Path, target: Path) -> None:
        """Rename."""
        self._check("rename")
        super().rename(source, target)

    def sync_directory(self, path: Path) -> None:
        """Make durable what was done in a directory."""
        self._check("sync")
        super().sync_directory(path)

    def _check(self, what: str) -> None:
        if what in self.fails:
            raise OSError(self.errno, "no space left on device" if self.errno == errno.ENOSPC else "input/output error")
