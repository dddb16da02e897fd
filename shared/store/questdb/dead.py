"""Rows that QuestDB can never take, kept for a person, with the reason.

In: rows as plain values. Out: one JSON object a line in `dead-letters.jsonl`. Never: more bytes than the bound: a full
file becomes `dead-letters.1.jsonl`, and the one before it goes, counted.
"""

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

BYTES_MAX = 32 * 1024 * 1024
NAME = "dead-letters.jsonl"
OLDER = "dead-letters.1.jsonl"


class DeadLetters:
    """Append to a file of mode 0600 under `directory`."""

    def __init__(self, directory: Path, *, bytes_max: int = BYTES_MAX) -> None:
        self._path, self._older = directory / NAME, directory / OLDER
        self._bytes_max = bytes_max
        self.files_dropped = 0

    @property
    def path(self) -> Path:
        """Return where the newest rows lie."""
        return self._path

    def write(self, table: str, reason: str, rows: Sequence[object], at_ns: int) -> None:
        """Keep rows; a disk that refuses them is no reason to stop, they are counted by the caller anyway."""
        lines = "".join(
            json.dumps({"table": table, "reason": reason, "at_ns": at_ns, "row": row}, default=str) + "\n"
            for row in rows
        )
        with contextlib.suppress(OSError):
            if self._path.exists() and self._path.stat().st_size + len(lines) > self._bytes_max:
                self.files_dropped += self._older.exists()
                self._path.replace(self._older)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(lines)
