"""The second store: QuestDB behind the Parquet files, when the settings name one.

In: settings. Out: a store that writes both, its state in metrics, log and health. Never: a recorder that is not ready
because of QuestDB: trading does not depend on it.
"""

import asyncio
import contextlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

from services.recorder.config import RecorderConfig
from shared.errors import ConfigError
from shared.lifecycle import Runtime
from shared.store.port import Store
from shared.store.questdb.mirror import MirroredStore
from shared.store.questdb.sink import QuestdbSink
from shared.store.questdb.writer import QuestdbWriter

STARTING_S = 2.0


class Health:
    """Say how the recorder is, and beside it how QuestDB is; only the recorder itself decides whether it is ready."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._own, self._mirror = "running", ""

    def recorder(self, ready: bool, detail: str) -> None:
        """Take the recorder's own state."""
        self._own, self._runtime.is_ready = detail, ready
        self._show()

    def mirror(self, ready: bool, detail: str) -> None:
        """Take QuestDB's state; called in the event loop."""
        self._mirror = "" if ready else detail
        if ready:
            self._runtime.log.info("questdb_healthy")
        else:
            self._runtime.log.error("questdb_not_healthy", error=detail)
        if self._runtime.is_ready:
            self._show()
        else:
            # Until the service runs its detail is the lifecycle's.
            asyncio.get_running_loop().call_later(STARTING_S, self._show_when_ready)

    def _show_when_ready(self) -> None:
        if self._runtime.is_ready:
            self._show()

    def _show(self) -> None:
        self._runtime.detail = f"{self._own}; {self._mirror}" if self._mirror else self._own


def mirrored(primary: Store, config: RecorderConfig, runtime: Runtime, health: Health) -> Store:
    """Return `primary` with QuestDB behind it, or `primary` where no `questdb_url` is set; raises ConfigError."""
    if not config.questdb_url:
        return primary
    for name in ("questdb", "pandas"):
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"recorder.questdb_url needs the package {name}: install this project's extra 'questdb'")
    loop = asyncio.get_running_loop()

    def tell(ready: bool, detail: str) -> None:
        _in_loop(loop, lambda: health.mirror(ready, detail))

    def fail(error: BaseException) -> None:
        _in_loop(loop, lambda: runtime.fail(error))

    writer = QuestdbWriter(
        QuestdbSink(config.questdb_url, config.questdb_user, Path(config.questdb_password_file)),
        runtime.state_dir / "questdb-spool",
        config.writer_options,
        on_change=tell,
        on_failure=fail,
    )
    _measure(writer, runtime)
    return MirroredStore(
        primary, writer, lambda rows, reason: runtime.log.error("questdb_spool_refuses", rows=rows, error=reason)
    )


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    # A thread that waits for a server which is gone can outlive the loop by seconds.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call)


def _measure(writer: QuestdbWriter, runtime: Runtime) -> None:
    metrics = runtime.metrics
    metrics.gauge("questdb_ready", "1 while rows reach QuestDB and become visible there").set_function(
        lambda: float(writer.status.ready)
    )
    metrics.gauge("questdb_spool_rows", "Rows on disk that QuestDB has not got").set_function(
        lambda: float(writer.status.spool_rows)
    )
    metrics.gauge("questdb_spool_bytes", "Size of the spool").set_function(lambda: float(writer.status.spool_bytes))

    def rows() -> dict[str, int]:
        status = writer.status
        return {
            "sent": status.sent_rows,
            "refused": status.refused_rows,
            "dropped": status.dropped_rows,
            "damaged": status.damaged_rows,
        }

    metrics.plain_counters("questdb_rows", "Rows for QuestDB, by what became of them", rows)
