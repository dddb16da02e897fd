"""The few things that the store does to a disk, each durable when it returns.

Never: a file that is in place before its content is on the platter.
"""

import os
from pathlib import Path
from typing import Protocol

import pyarrow as pa

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0)


class Disk(Protocol):
    """Change a directory tree; every method raises OSError when the disk refuses."""

    def make_directory(self, path: Path) -> None:
        """Create a directory and its parents, durably."""
        ...

    def write(self, path: Path, data: pa.Buffer) -> None:
        """Write a whole file durably; a failed one is removed."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Put `source` in the place of `target` at once; durable after `sync_directory`."""
        ...

    def sync_directory(self, path: Path) -> None:
        """Make renames and removals in a directory durable."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a file; a missing one is no error."""
        ...


class LocalDisk:
    """Use the machine's file system."""

    def make_directory(self, path: Path) -> None:
        """Create a directory and its parents, durably."""
        if path.is_dir():
            return
        self.make_directory(path.parent)
        path.mkdir(exist_ok=True)
        self.sync_directory(path.parent)

    def write(self, path: Path, data: pa.Buffer) -> None:
        """Write a whole file durably; a failed one is removed."""
        try:
            descriptor = os.open(path, _NEW_FILE, 0o644)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            # After a failed fsync nobody knows what is on disk: the next try begins with a new file.
            self.remove(path)
            raise

    def rename(self, source: Path, target: Path) -> None:
        """Put `source` in the place of `target` at once."""
        source.replace(target)

    def sync_directory(self, path: Path) -> None:
        """Make renames and removals in a directory durable."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, path: Path) -> None:
        """Remove a file; a missing one is no error."""
        path.unlink(missing_ok=True)
