"""The recorder as a process of its own, to be killed and started again over a real server."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from shared.testing.nats import RealNats, free_port

READY_TIMEOUT_S = 30.0
EXIT_TIMEOUT_S = 20.0


class RecorderProcess:
    """Run `python -m services.recorder` with its key, on a state directory that outlives it."""

    def __init__(self, server: RealNats, state_dir: Path, *, flush_interval_s: float, user: str | None = "recorder"):
        self.store_root = state_dir / "store"
        self.log_path = state_dir / "recorder.log"
        self._port = free_port()
        state_dir.mkdir(parents=True, exist_ok=True)
        self._environment = os.environ | {
            "CASCADE_NATS_URL": server.url,
            "CASCADE_STATE_DIR": str(state_dir),
            "CASCADE_HTTP_PORT": str(self._port),
            "CASCADE_RECORDER__FLUSH_INTERVAL_S": str(flush_interval_s),
        }
        if user is not None:
            self._environment["CASCADE_NKEY_FILE"] = str(server.seed(user))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Return the process's id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and return when it is ready."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.recorder"], env=self._environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the recorder is not ready:\n{self.log_path.read_text()[-3000:]}")
            time.sleep(0.01)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """End it with SIGTERM and return its exit code."""
        return self._end(signal.SIGTERM)

    def metric(self, name: str, **labels: str) -> float:
        """Return one number of /metrics, 0 when it was never set."""
        inner = ",".join(f'{key}="{value}"' for key, value in labels.items())
        wanted = f"cascade_recorder_{name}{{{inner}}} " if inner else f"cascade_recorder_{name} "
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(wanted):
                    return float(line.rsplit(" ", 1)[1])
        return 0.0

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait(EXIT_TIMEOUT_S)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
