"""The trials of a search on disk, so that it can go on where it was stopped: a line of JSON each.

In: trials. Out: those made before. Never: trials of another question (the first line says which one was asked), a
half-written line taken for a trial.
"""

from pathlib import Path

import msgspec

from services.backtest.optimise.trial import Trial
from shared.errors import ConfigError


class Question(msgspec.Struct, frozen=True):
    """Say what the trials answer: two searches may share a file only when all of this is the same."""

    space: list[list[str]]
    settings: str
    candles: str


class TrialStore:
    """Keep trials, in a file if one is given; `trials` are those known, by point."""

    def __init__(self, path: Path | None, question: Question) -> None:
        self.trials: dict[tuple[str, ...], Trial] = {}
        self._path = path
        if path is None:
            return
        try:
            self._open(path, question)
        except OSError as error:
            raise ConfigError(f"--storage {path}: {error.strerror}: choose a file that can be written") from error

    def add(self, trial: Trial) -> None:
        """Remember a trial."""
        if trial.point in self.trials:
            return
        self.trials[trial.point] = trial
        if self._path is not None:
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(trial) + b"\n")

    def _open(self, path: Path, question: Question) -> None:
        content = path.read_bytes() if path.exists() else b""
        lines = content.split(b"\n")
        whole, rest = lines[:-1], lines[-1]
        if not whole:
            if rest:
                raise ConfigError(f"--storage {path} holds something else: choose another file")
            path.write_bytes(msgspec.json.encode(question) + b"\n")
            return
        try:
            asked = msgspec.json.decode(whole[0], type=Question)
            found = [msgspec.json.decode(line, type=Trial) for line in whole[1:]]
        except msgspec.DecodeError as error:
            raise ConfigError(f"--storage {path} holds something else ({error}): choose another file") from error
        if asked != question:
            parts = [name for name in Question.__struct_fields__ if getattr(asked, name) != getattr(question, name)]
            raise ConfigError(
                f"--storage {path} holds trials of a search with other {' and '.join(parts)}: choose another file, or "
                "give the same options and candles as then"
            )
        self.trials = {trial.point: trial for trial in found}
        if rest:
            # A line that was cut off when the search was stopped: that trial is made again.
            path.write_bytes(b"\n".join(whole) + b"\n")
