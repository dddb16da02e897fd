"""One supervised process: start it in its own process group, signal it, wait for it.

In: what to run. Out: its end. Never: a process that outlives the supervisor (see `guard`) or shares its terminal.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from services.cli.supervisor import guard, logfiles
from services.cli.supervisor.order import Phase
from services.cli.supervisor.policy import History
from services.cli.supervisor.probe import Probe, http_ready

KILL_WAIT_S = 5.0
GUARD_SCRIPT = str(Path(guard.__file__).resolve())


class ProcessSpec(msgspec.Struct, frozen=True):
    """Say what to run. `after` names what must be ready first; `once_ready` runs before it first counts as ready.

    A `port` other than 0 is the one it should listen on, handed over as CASCADE_HTTP_PORT. Unless `port_is_fixed`, the
    process takes another one where that is taken, and writes its choice to CASCADE_PORT_FILE: only who binds a port
    knows that it is free. `stop_timeout_s` is how long it may drain before it is killed.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    after: tuple[str, ...] = ()
    port: int = 0
    port_is_fixed: bool = False
    probe: Probe = http_ready
    once_ready: Callable[[], Awaitable[None]] | None = None
    stop_timeout_s: float = 12.0
    essential: bool = False


class ChildStatus(msgspec.Struct, frozen=True):
    """Say how a supervised process does, for people and for run.json."""

    name: str
    phase: Phase
    pid: int | None
    port: int
    restarts: int
    started_at_ns: int | None
    detail: str
    command: str


class Guard:
    """Feed the guard process, which stops the children if this process dies."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._listed: dict[int, bool] = {}
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Start the guard before the first child, so that this process may die at once after starting that."""
        async with self._turn:
            await self._start()

    async def add(self, pid: int, *, last: bool) -> None:
        """Put a process group on the list."""
        # Children start side by side. A second guard would never hear of their ends, and would signal who has their
        # process ids by then.
        async with self._turn:
            self._listed[pid] = last
            if self._process is None or self._process.returncode is not None:
                await self._start()
            else:
                self._say(f"{'>' if last else '+'} {pid}\n")

    def remove(self, pid: int) -> None:
        """Take an ended process group off the list."""
        self._listed.pop(pid, None)
        self._say(f"- {pid}\n")

    async def close(self) -> None:
        """Let the guard end; call it when every child has ended."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()

    async def _start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", GUARD_SCRIPT, stdin=asyncio.subprocess.PIPE, start_new_session=True
        )
        for pid, last in self._listed.items():
            self._say(f"{'>' if last else '+'} {pid}\n")

    def _say(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(ConnectionError, RuntimeError):
                self._process.stdin.write(line.encode())


class Child:
    """Hold one process and what is known about it."""

    def __init__(self, spec: ProcessSpec, logs_dir: Path) -> None:
        self.spec = spec
        self.log_path = logs_dir / f"{spec.name}.log"
        self.port_path = logs_dir.parent / "ports" / spec.name
        self.phase = Phase.WAITING
        self.port = spec.port
        self.restarts = 0
        self.is_prepared = False
        self.history = History()
        self.started_s = 0.0
        self.started_at_ns: int | None = None
        self.detail = ""
        self.process: asyncio.subprocess.Process | None = None
        self.log_start = 0

    @property
    def is_running(self) -> bool:
        """Tell whether the process lives."""
        return self.process is not None and self.process.returncode is None

    def status(self) -> ChildStatus:
        """Return how it does."""
        pid = self.process.pid if self.process is not None and self.is_running else None
        return ChildStatus(
            name=self.spec.name,
            phase=self.phase,
            pid=pid,
            port=self.port,
            restarts=self.restarts,
            started_at_ns=self.started_at_ns,
            detail=self.detail,
            command=" ".join(self.spec.argv),
        )

    async def spawn(self) -> asyncio.subprocess.Process:
        """Start the process; raises OSError when the program cannot be run."""
        env = dict(self.spec.env)
        if self.spec.port:
            env |= {"CASCADE_HTTP_PORT": str(self.spec.port)}
        if not self.spec.port_is_fixed:
            self.port_path.parent.mkdir(parents=True, exist_ok=True)
            self.port_path.unlink(missing_ok=True)
            env |= {"CASCADE_PORT_FILE": str(self.port_path)}
        log = logfiles.open_log(self.log_path)
        try:
            self.log_start = logfiles.size(self.log_path)
            self.process = await asyncio.create_subprocess_exec(
                *self.spec.argv,
                env=env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
        return self.process

    def find_port(self) -> int | None:
        """Return the port that this run of the process listens on, or None while it has not said so."""
        if self.spec.port and not self.spec.port_is_fixed:
            try:
                self.port = int(self.port_path.read_text(encoding="ascii"))
            except (OSError, ValueError):
                return None
        return self.port

    def kill(self) -> None:
        """End the process and whatever it started, at once."""
        self._signal(signal.SIGKILL)

    async def stop(self, hurry: asyncio.Event) -> bool:
        """Ask the process to end, kill it when it takes too long or `hurry` is set; True when it ended by itself."""
        if self.process is None or not self.is_running:
            return True
        self._signal(signal.SIGTERM)
        ended = asyncio.ensure_future(self.process.wait())
        hurried = asyncio.ensure_future(hurry.wait())
        try:
            await asyncio.wait({ended, hurried}, timeout=self.spec.stop_timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurried.cancel()
        if ended.done():
            return True
        self.kill()
        await asyncio.wait({ended}, timeout=KILL_WAIT_S)
        return False

    def last_lines(self, limit: int = 5) -> list[str]:
        """Return the last lines of this run."""
        return logfiles.last_lines(self.log_path, since=self.log_start, limit=limit)

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.is_running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)
