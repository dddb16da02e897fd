"""A real nats-server for tests: free ports, its own directory, killed and started again at will.

Import the fixtures `nats_server` (open) and `secured_nats_server` (the stack's users) into a conftest. Without a
binary the tests are skipped with the reason; CASCADE_REQUIRE=nats makes that a failure.
"""

import asyncio
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.bus.permissions import Role, roles
from shared.bus.server import ServerSettings, find_server, prepare, seed_file, start_command
from shared.errors import ConfigError
from shared.testing.parts import require

READY_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0


def free_port() -> int:
    """Return a loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def nats_binary() -> Path:
    """Return the server's binary, or skip (or fail) the test."""
    try:
        return find_server()
    except ConfigError as error:
        require("nats", False, str(error))
        raise


class RealNats:
    """Run one server; its store outlives kills and restarts."""

    def __init__(self, directory: Path, binary: Path, users: tuple[Role, ...] = ()) -> None:
        self.directory = directory
        self.settings = ServerSettings(store_dir=directory / "jetstream", port=free_port(), http_port=free_port())
        self._command = start_command(binary, prepare(directory, self.settings, users))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return where clients connect."""
        return f"nats://127.0.0.1:{self.settings.port}"

    def seed(self, user: str) -> Path:
        """Return the seed file of a user."""
        return seed_file(self.directory, user)

    def start(self) -> None:
        """Start the server and return when JetStream is ready."""
        with (self.directory / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nats-server did not start:\n{(self.directory / 'nats.log').read_text()[-2000:]}")
            time.sleep(0.01)

    def kill(self) -> None:
        """End the server as a power cut ends a process."""
        self._end(by_force=True)

    def stop(self) -> None:
        """End the server in good order."""
        self._end(by_force=False)

    async def kill_while_running(self) -> None:
        """Kill the server while the caller's loop goes on."""
        await asyncio.to_thread(self.kill)

    async def start_while_running(self) -> None:
        """Start the server while the caller's loop goes on."""
        await asyncio.to_thread(self.start)

    def _end(self, *, by_force: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill() if by_force else process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT_S)

    def _is_ready(self) -> bool:
        health = f"http://127.0.0.1:{self.settings.http_port}/healthz?js-enabled-only=true"
        try:
            with urllib.request.urlopen(health, timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[RealNats]:
    """Run an open server in the test's directory."""
    yield from _running(RealNats(_directory(tmp_path), nats_binary()))


@pytest.fixture
def secured_nats_server(tmp_path: Path) -> Iterator[RealNats]:
    """Run a server with the stack's users and permissions; `seed(user)` gives their keys."""
    yield from _running(RealNats(_directory(tmp_path), nats_binary(), roles()))


def _directory(tmp_path: Path) -> Path:
    directory = tmp_path / "nats"
    directory.mkdir()
    return directory


def _running(server: RealNats) -> Iterator[RealNats]:
    server.start()
    try:
        yield server
    finally:
        server.kill()
