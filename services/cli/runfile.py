"""`run.json`: what runs in a state directory, and the lock that tells whether it still does.

In: the supervisor's view. Out: a file that other commands find the stack by. Never: two stacks in one directory (the
operating system frees the lock however its holder dies), a command that talks to a stack that is gone.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from services.cli.errors import NotRunningError
from services.cli.supervisor.child import ChildStatus
from shared.bus.server import seed_file
from shared.clock import wall_ns
from shared.config import load_settings
from shared.errors import ConfigError, InputError
from shared.messages import schema_hash

RUN_FILE = "run.json"
LOCK_FILE = "lock"
STATE_ROOT = Path("var")
LEFTOVER_WAIT_S = 12.0
USER = "cli"


class RunFile(msgspec.Struct, frozen=True):
    """Describe a running stack. Paths are absolute, times nanoseconds UTC; no `supervisor_pid`: somebody else's."""

    supervisor_pid: int | None
    started_at_ns: int
    build: str
    schema_hash: str
    mode: str
    venue: str
    timeframe: str
    state_dir: str
    settings_file: str
    nats_url: str
    keys_dir: str
    dashboard_url: str
    replay: str | None
    services: tuple[ChildStatus, ...]


class StateLock:
    """Hold a state directory for one supervisor."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / LOCK_FILE
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False when another supervisor has it.

        Raises ConfigError when the directory cannot be made or written to.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise unusable(self._path.parent, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Free the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def unusable(state_dir: Path, error: OSError) -> ConfigError:
    """Return the refusal of a directory that the operating system does not let us use."""
    why = error.strerror or str(error)
    return ConfigError(
        f"the state directory {state_dir} cannot be used: {why}. Mend that, or choose another --state-dir"
    )


def is_held(state_dir: Path) -> bool:
    """Tell whether a supervisor runs in `state_dir`."""
    if not (state_dir / LOCK_FILE).exists():
        return False
    lock = StateLock(state_dir)
    if lock.acquire():
        lock.release()
        return False
    return True


def write_run(run: RunFile) -> None:
    """Write run.json at once or not at all."""
    path = Path(run.state_dir) / RUN_FILE
    draft = path.with_name(f".{RUN_FILE}.{os.getpid()}")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=2))
    draft.replace(path)


def read_run(state_dir: Path) -> RunFile | None:
    """Return what run.json says, None when it is missing or unreadable."""
    try:
        return msgspec.json.decode((state_dir / RUN_FILE).read_bytes(), type=RunFile)
    except (OSError, msgspec.MsgspecError):
        return None


def find_running(state_dir: Path | None = None, root: Path = STATE_ROOT) -> RunFile:
    """Return the stack that runs in `state_dir`, or the one that runs below `root`, or the environment's.

    Raises NotRunningError when there is none, InputError when there are several to choose from.
    """
    places = [state_dir] if state_dir is not None else sorted(path.parent for path in root.glob(f"*/{RUN_FILE}"))
    runs = [run for place in places if is_held(place) and (run := read_run(place)) is not None]
    if not runs and (remote := remote_run(os.environ)) is not None:
        return remote
    if not runs:
        where = state_dir if state_dir is not None else f"{root.resolve()}/*"
        raise NotRunningError(
            f"no stack runs in {where}. Start one with `make run`, or name its place: --state-dir DIR"
        )
    if len(runs) > 1:
        names = ", ".join(run.state_dir for run in runs)
        raise InputError(f"several stacks run: {names}. Choose one: --state-dir DIR")
    return runs[0]


def remote_run(environ: Mapping[str, str]) -> RunFile | None:
    """Return the stack at CASCADE_NATS_URL, which somebody else supervises, as compose does; None without that.

    Raises ConfigError when CASCADE_NKEY_FILE does not name the operator's key.
    """
    url, key = environ.get("CASCADE_NATS_URL"), environ.get("CASCADE_NKEY_FILE")
    if not url:
        return None
    if not key or Path(key) != seed_file(Path(key).parent, USER):
        raise ConfigError(f"CASCADE_NKEY_FILE must name the operator's key, {USER}.nk, where CASCADE_NATS_URL is set")
    settings_file = environ.get("CASCADE_SETTINGS", "")
    stack = load_settings(Path(settings_file) if settings_file else None, environ=environ).stack
    return RunFile(
        supervisor_pid=None,
        started_at_ns=wall_ns(),
        build=environ.get("CASCADE_BUILD", "dev"),
        schema_hash=schema_hash(),
        mode=stack.mode.value,
        venue=stack.venue,
        timeframe=stack.timeframe,
        state_dir=url,
        settings_file=settings_file,
        nats_url=url,
        keys_dir=str(Path(key).parent),
        dashboard_url=environ.get("CASCADE_DASHBOARD_URL", "–"),
        replay=None,
        services=(),
    )


def stop_leftovers(run: RunFile, *, wait_s: float = LEFTOVER_WAIT_S) -> list[str]:
    """End what a killed supervisor left running and return its names.

    A process is recognised by its command line: the id alone may belong to somebody else by now.
    """
    left = {
        child.pid: child.name for child in run.services if child.pid is not None and _runs(child.pid, child.command)
    }
    found = list(left.values())
    _signal(left, signal.SIGTERM)
    commands = {child.pid: child.command for child in run.services}
    deadline = time.monotonic() + wait_s
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = {pid: name for pid, name in left.items() if _runs(pid, commands[pid])}
    _signal(left, signal.SIGKILL)
    return found


def _runs(pid: int, command: str) -> bool:
    """Tell whether the process `pid` still is that command."""
    arguments = Path(f"/proc/{pid}/cmdline")
    if Path("/proc/self/cmdline").exists():
        line = arguments.read_bytes().replace(b"\0", b" ").decode(errors="replace") if arguments.exists() else ""
    else:
        asked = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
        line = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    return " ".join(command.split()) in " ".join(line.split())


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
