"""The whole stack as a user starts it, for end-to-end tests: `cascade up` in a process of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from shared.testing.nats import free_port

PATIENCE_S = 120.0


def cascade_command() -> list[str]:
    """Return the `cascade` command of this environment."""
    found = shutil.which("cascade", path=str(Path(sys.executable).parent))
    return [found] if found else [sys.executable, "-m", "services.cli"]


def run_cascade(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run one command to its end and return what it said."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CASCADE_")} | (env or {})
    return subprocess.run(
        [*cascade_command(), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=cwd,
        env=environ,
        check=False,
    )


class StackRun:
    """Run `cascade up --json` with a state directory of its own; leaving the block stops it."""

    def __init__(self, folder: Path, options: Sequence[str]) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        self._options = options
        self._page_port = free_port()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def process(self) -> "subprocess.Popen[str]":
        """Return the supervisor's process."""
        assert self._process is not None
        return self._process

    def start(self) -> None:
        """Start the stack, or start it again on the same state."""
        self.folder.mkdir(parents=True, exist_ok=True)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("CASCADE_")}
        # Another stack on this machine may want the usual port in the same moment.
        page = ("--set", f"dashboard.port={self._page_port}")
        with (self.folder / "out.json").open("w") as out, (self.folder / "log.txt").open("a") as log:
            self._process = subprocess.Popen(
                [*cascade_command(), "up", "--json", "--state-dir", str(self.state_dir), *page, *self._options],
                stdout=out,
                stderr=log,
                text=True,
                cwd=self.folder,
                env=environ,
            )

    def stop(self) -> int:
        """Press Ctrl-C and wait; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_S)

    def finish(self) -> dict[str, object]:
        """Wait for the end of the market and return the summary."""
        code = self.process.wait(PATIENCE_S)
        if code != 0:
            pytest.fail(f"the stack ended with {code}:\n{self.log()[-4_000:]}")
        summary: dict[str, object] = json.loads((self.folder / "out.json").read_text())
        return summary

    def log(self) -> str:
        """Return what the supervisor said."""
        return (self.folder / "log.txt").read_text()

    def services(self) -> dict[str, dict[str, object]]:
        """Return the supervised processes by name, as run.json says."""
        try:
            found = json.loads((self.state_dir / "run.json").read_text())
        except (OSError, ValueError):
            return {}
        return {service["name"]: service for service in found["services"]}

    def kill(self, name: str) -> None:
        """SIGKILL one service and wait until another process does its work."""
        pid = self.services()[name]["pid"]
        assert isinstance(pid, int)
        os.kill(pid, signal.SIGKILL)
        self.until(lambda: self._is_back(name, pid), what=f"{name} is back")

    def until(self, condition: Callable[[], bool], *, what: str) -> None:
        """Poll until the condition holds; fails with the supervisor's log, at once when it has ended by itself."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline or (self.process.poll() is not None and not condition()):
                pytest.fail(f"never happened: {what} (exit code {self.process.poll()})\n{self.log()[-4_000:]}")
            time.sleep(0.05)

    def is_ready(self) -> bool:
        """Tell whether every service is ready."""
        services = self.services()
        return len(services) > 1 and all(service["phase"] == "ready" for service in services.values())

    def ask(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a `cascade` command against this stack."""
        return run_cascade(*arguments, "--state-dir", str(self.state_dir), cwd=self.folder)

    def _is_back(self, name: str, old_pid: int) -> bool:
        service = self.services().get(name, {})
        return service.get("phase") == "ready" and service.get("pid") not in (None, old_pid)
