"""Tiny programs that behave like services, well or badly, and a stack to run them in."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from services.cli.supervisor.child import ProcessSpec
from services.cli.supervisor.policy import RestartPolicy
from services.cli.supervisor.runner import Supervisor, Timing

PATIENCE_S = 20.0
PREFERRED_PORT = 1  # nobody may bind it: the programs choose for themselves
QUICK = RestartPolicy(delay_first_s=0.02, delay_max_s=0.05, ends_max=3, stable_after_s=60.0)

GOOD = """
import http.server, os, signal, sys, threading
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"service": "x", "healthy": true, "ready": true, "detail": "fine"}'
        self.send_response(200); self.end_headers(); self.wfile.write(body)
    def log_message(self, *_): pass
name = sys.argv[1]
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ready)
with open(os.environ["CASCADE_PORT_FILE"], "w") as chosen: chosen.write(str(server.server_address[1]))
def note(text):
    with open(os.environ["NOTES"], "a") as notes: notes.write(f"{text} {name}\\n")
def stop(*_):
    note("drained")
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
note("started")
server.serve_forever()
"""
DEAF = GOOD.replace("signal.signal(signal.SIGTERM, stop)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
CRASHING = "import sys; print('boom'); sys.exit(1)"
MISCONFIGURED = "import sys; print('risk: risk.notional_max must be positive, got -1'); sys.exit(2)"


class Stack:
    """Run programs under a supervisor and remember what it said."""

    def __init__(self, tmp_path: Path) -> None:
        self.notes_path = tmp_path / "notes"
        self.logs_dir = tmp_path / "logs"
        self.said: list[str] = []
        self._specs: list[ProcessSpec] = []
        self.supervisor: Supervisor | None = None

    def add(self, name: str, program: str = GOOD, *, after: tuple[str, ...] = (), **options: object) -> None:
        """Add a program to the stack."""
        env = {**os.environ, "NOTES": str(self.notes_path)}
        argv = (sys.executable, "-c", program, name)
        spec = ProcessSpec(name=name, argv=argv, env=env, after=after, port=PREFERRED_PORT, **options)  # type: ignore[arg-type]
        self._specs.append(spec)

    def start(
        self, *, timing: Timing | None = None, on_change: Callable[[], None] = lambda: None
    ) -> "asyncio.Task[object]":
        """Start the supervisor and return the task that ends with its outcome."""
        self.supervisor = Supervisor(
            self._specs,
            logs_dir=self.logs_dir,
            jitter=lambda: 0.5,
            policy=QUICK,
            timing=timing,
            say=self.said.append,
            on_change=on_change,
        )
        return asyncio.create_task(self.supervisor.run())

    def phases(self) -> dict[str, str]:
        """Return every program's phase."""
        assert self.supervisor is not None
        return {status.name: status.phase.value for status in self.supervisor.statuses()}

    def pid(self, name: str) -> int | None:
        """Return a program's process id."""
        assert self.supervisor is not None
        return next(status.pid for status in self.supervisor.statuses() if status.name == name)

    def notes(self) -> list[str]:
        """Return what the programs noted, in order."""
        return self.notes_path.read_text().splitlines() if self.notes_path.exists() else []


async def until(condition: Callable[[], bool], *, what: str, patience_s: float = PATIENCE_S) -> None:
    """Poll until the condition holds; fails with what was waited for."""
    try:
        async with asyncio.timeout(patience_s):
            while not condition():  # noqa: ASYNC110 - other processes set no event
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never happened: {what}") from None


def is_alive(pid: int) -> bool:
    """Tell whether a process runs (a zombie that nobody reaps does not)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")
