"""A real QuestDB for tests: free ports, its own directory, killed and started again at will.

Import the fixture `questdb_server` (one a session) into a conftest. Where neither a jar nor Maven nor a Java can be
had the tests are skipped with the reason; CASCADE_REQUIRE=questdb makes that a failure.
"""

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import ConfigError
from shared.store.questdb.reader import QuestdbReader
from shared.store.questdb.server import (
    HTTP_PASSWORD,
    PG_PASSWORD,
    USER,
    ServerPorts,
    find_jar,
    find_java,
    password_file,
    prepare,
    start_command,
)
from shared.store.questdb.sink import QuestdbSink
from shared.testing.nats import free_port
from shared.testing.parts import require

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0


class RealQuestdb:
    """Run one server; its rows outlive kills and restarts. Dev mode lets a test suspend a table."""

    def __init__(self, directory: Path, java: Path, jar: Path) -> None:
        self.directory = directory
        self.ports = ServerPorts(http=free_port(), pg=free_port(), health=free_port())
        prepare(directory, self.ports, {"dev.mode.enabled": "true"})
        self._command = start_command(java, jar, directory)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return where rows are written."""
        return f"http://127.0.0.1:{self.ports.http}"

    @property
    def pid(self) -> int:
        """Return the process's id."""
        assert self._process is not None
        return self._process.pid

    def sink(self, timeout_s: float = 10.0) -> QuestdbSink:
        """Return a way to write."""
        return QuestdbSink(self.url, USER, password_file(self.directory, HTTP_PASSWORD), timeout_s=timeout_s)

    def reader(self) -> QuestdbReader:
        """Return a way to read."""
        return QuestdbReader("127.0.0.1", self.ports.pg, USER, password_file(self.directory, PG_PASSWORD))

    def start(self) -> None:
        """Start the server and return when it answers."""
        with (self.directory / "questdb.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = (self.directory / "questdb.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"QuestDB did not start:\n{tail}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End the server as a power cut ends a process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(STOP_TIMEOUT_S)

    def stop(self) -> None:
        """End the server in good order."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT_S)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/ping", timeout=1) as answer:  # noqa: S310 - our own server
                return bool(answer.status == 204)
        except (urllib.error.URLError, OSError):
            return False


@pytest.fixture(scope="session")
def questdb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealQuestdb]:
    """Run one server for the session."""
    try:
        java, jar = find_java(), find_jar()
    except ConfigError as error:
        require("questdb", False, str(error))
        raise
    server = RealQuestdb(tmp_path_factory.mktemp("questdb"), java, jar)
    try:
        server.start()
        yield server
    finally:
        server.kill()
