"""The state directory of a run: go on where it stopped, begin anew, or refuse what does not fit.

In: what this run is, what the directory holds. Out: a directory that is ready to use. Never: a run continued with other
markets or another history than it began with; state that is deleted without a copy kept.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from services.cli.resolve import differences
from services.cli.runfile import LOCK_FILE, RUN_FILE
from shared.errors import ConfigError
from shared.whole_file import write_whole

IDENTITY_FILE = "identity.json"
FINISHED_FILE = "finished.json"
# Settings that a running account may change from one start to the next; of a finished history nothing may change.
CHANGEABLE = ("rebalancer.", "risk.", "execution.", "recorder.", "dashboard.")
CHANGEABLE_KEYS = frozenset(
    f"market_data.{key}"
    for key in (
        "end",
        "steps_max",
        "missing_bars",
        "participants",
        "notional_min",
        "jump_factor_max",
        "bar_factor_max",
        "bar_grace_ms",
        "book_interval_ms",
        "book_levels",
        "catch_up_steps_max",
        "candles_timeout_s",
    )
)


def prepare_state_dir(state_dir: Path, identity: Mapping[str, str], *, fresh: bool, is_replay: bool) -> str:
    """Make the directory ready and return a sentence about it; the caller holds its lock.

    Raises ConfigError when it holds a run that differs in what cannot change.
    """
    state_dir.chmod(0o700)  # what is owned and traded is nobody else's business
    sentence = f"state in {state_dir}"
    if fresh and (state_dir / IDENTITY_FILE).exists():
        sentence = f"begins anew; the run before is kept in {_set_aside(state_dir)}"
    elif (state_dir / FINISHED_FILE).exists():
        sentence = f"the last run was finished: begins anew; that run is kept in {_set_aside(state_dir)}"
    elif (known := _read_identity(state_dir / IDENTITY_FILE)) is not None:
        _refuse_differences(state_dir, known, identity, is_replay=is_replay)
        sentence = f"goes on where it stopped, state in {state_dir}"
    # Half an identity would cost the run.
    write_whole(state_dir / IDENTITY_FILE, msgspec.json.format(msgspec.json.encode(identity), indent=2))
    return sentence


def mark_finished(state_dir: Path, summary: bytes) -> None:
    """Keep the summary of a run that has come to its end; the next start begins anew."""
    (state_dir / FINISHED_FILE).write_bytes(summary)


def _refuse_differences(
    state_dir: Path, known: Mapping[str, str], identity: Mapping[str, str], *, is_replay: bool
) -> None:
    def counts(name: str) -> bool:
        return is_replay or not (name.startswith(CHANGEABLE) or name in CHANGEABLE_KEYS)

    changed = differences(
        {name: value for name, value in known.items() if counts(name)},
        {name: value for name, value in identity.items() if counts(name)},
    )
    if changed:
        raise ConfigError(
            f"{state_dir} holds a run that cannot go on so: {'; '.join(changed)}. Set it back, begin anew with "
            "--fresh (make run FRESH=1), or choose another place with --state-dir"
        )


def _set_aside(state_dir: Path) -> Path:
    """Move everything but the lock, which we hold, to `<name>.previous`; what was there before is removed."""
    kept = state_dir.with_name(f"{state_dir.name}.previous")
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    for path in state_dir.iterdir():
        if path.name not in (LOCK_FILE, RUN_FILE):
            path.rename(kept / path.name)
    return kept


def _read_identity(path: Path) -> dict[str, str] | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path} is damaged ({error}): begin anew with --fresh") from error
