"""`cascade questdb start | status | stop`, and `cascade up --questdb`, as processes of their own."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.cli.errors import EXIT_NOT_RUNNING
from services.cli.questdb_local import questdb_spec
from services.recorder.config import RecorderConfig
from shared.config import Settings
from shared.errors import ConfigError, StoreUnavailableError
from shared.store.questdb.server import HTTP_PASSWORD, ServerPorts, find_jar, find_java, password_file
from shared.store.questdb.sink import QuestdbSink
from shared.testing.nats import free_port
from shared.testing.parts import require
from shared.testing.questdb import RealQuestdb
from tests.integration.questdb.conftest import until

pytestmark = pytest.mark.timeout(150)


@pytest.fixture(autouse=True)
def questdb_can_be_had() -> None:
    try:
        find_java(), find_jar()
    except ConfigError as error:
        require("questdb", False, str(error))


def cascade(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_a_server_is_started_asked_and_stopped(tmp_path: Path) -> None:
    directory = ("--dir", str(tmp_path / "questdb"))
    ports = ("--http-port", str(free_port()), "--pg-port", str(free_port()))
    asked = cascade("questdb", "status", *directory)
    assert asked.returncode == EXIT_NOT_RUNNING, asked
    assert "cascade questdb start" in asked.stderr
    started = cascade("questdb", "start", *directory, *ports, "--json")
    assert started.returncode == 0, started.stderr
    told = json.loads(started.stdout)
    try:
        for name in ("http_password_file", "pg_password_file"):
            path = Path(told[name])
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert path.read_text() not in ("quest", "")
            assert path.read_text() not in started.stdout + started.stderr
        assert len(set(told["ports"].values())) == len(ServerPorts.__struct_fields__)
        again = cascade("questdb", "start", *directory)
        assert again.returncode == 2
        assert "already runs" in again.stderr
        healthy = cascade("questdb", "status", *directory, "--json")
        assert healthy.returncode == 0, healthy.stderr
        assert json.loads(healthy.stdout)["healthy"] is True
        os.kill(told["pid"], 0)
    finally:
        stopped = cascade("questdb", "stop", *directory)
    assert stopped.returncode == 0, stopped.stderr
    asked_ps = ["ps", "-o", "stat=", "-p", str(told["pid"])]
    # Its command line is gone before it is, and nobody waits for an orphan in some containers.
    deadline = time.monotonic() + 20
    while (state := subprocess.run(asked_ps, capture_output=True, text=True, check=False).stdout.strip())[
        :1
    ] not in "Z":
        assert time.monotonic() < deadline, state
        time.sleep(0.05)
    assert cascade("questdb", "stop", *directory).returncode == EXIT_NOT_RUNNING


def test_a_process_that_only_has_the_servers_number_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(
        json.dumps({"pid": os.getpid(), "ports": {"http": 1, "pg": 2, "health": 3}, "command": ["java", "-p", "x"]})
    )
    assert cascade("questdb", "stop", "--dir", str(tmp_path)).returncode == EXIT_NOT_RUNNING


def test_the_stacks_recorder_learns_where_its_server_is_and_keeps_its_own_settings(tmp_path: Path) -> None:
    settings = Settings({"recorder": {"flush_interval_s": 1, "questdb_spool_bytes_ticks": 2**20}})
    spec, changed = questdb_spec(tmp_path, settings, {"PATH": os.environ["PATH"]})
    recorder = changed.section("recorder", RecorderConfig)
    assert recorder.questdb_url == f"http://127.0.0.1:{spec.port}"
    assert Path(recorder.questdb_password_file).read_text() not in ("", "quest")
    assert (recorder.flush_interval_s, recorder.questdb_spool_bytes_ticks) == (1, 2**20)
    assert Path(recorder.questdb_password_file).read_text() not in " ".join(spec.argv)


def test_make_run_questdb_records_into_a_server_of_its_own_and_leaves_nothing_behind(tmp_path: Path) -> None:
    arguments = ["up", "--questdb", "--state-dir", str(tmp_path / "run"), "--set", "stack.mode=replay",
                 "--set", "dashboard.port=0", "--speed", "36000", "--json"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "services.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        seen: list[str] = []
        for line in process.stderr:
            seen.append(line)
            if "questdb is ready" in line:
                break
        metrics = _until_rows_are_sent(tmp_path / "run")
        assert metrics > 0
    finally:
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=90)
    text = "".join(seen) + rest + "".join(path.read_text() for path in (tmp_path / "run" / "logs").glob("*.log"))
    assert "Event loop is closed" not in text
    assert "Traceback" not in text
    password = (tmp_path / "run" / "questdb" / "secrets" / "http.password").read_text()
    assert password not in text
    assert subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False).stdout == b""


def _until_rows_are_sent(state_dir: Path) -> int:
    """Return how many bars the stack's own QuestDB holds, once there are some."""
    settings = json.loads((state_dir / "settings.json").read_text())["recorder"]
    sink = QuestdbSink(settings["questdb_url"], settings["questdb_user"], Path(settings["questdb_password_file"]))

    def bars() -> int:
        try:
            return int(str(sink._query("SELECT count() FROM bars")[0][0]))
        except StoreUnavailableError:  # the recorder has not made it yet
            return 0

    until(lambda: sink.condition().is_healthy and bars() > 0, timeout_s=60)
    return bars()


def test_a_backfill_is_the_catalogue_and_twice_is_once(
    questdb_server: RealQuestdb, sink: QuestdbSink, tmp_path: Path
) -> None:
    bars = tmp_path / "AAAUSDT_1h.csv"
    lines = [f"{1_767_225_600_000 + at * 3_600_000},1.5,{2 + at},1.25,1.75,{at + 0.5}\n" for at in range(200)]
    bars.write_text("timestamp,open,high,low,close,volume\n" + "".join(lines))
    trades = tmp_path / "BBBUSDT-trades.json"
    trades.write_text(
        json.dumps(
            [
                [1_767_225_600_123 + at // 3, str(at), None, "buy" if at % 2 else "sell", 2.5, 0.5, 1.25]
                for at in range(99)
            ]
        )
    )
    catalogue = ("--catalogue", str(tmp_path / "catalogue"))
    for path in (bars, trades):
        imported = cascade("data", "import", str(path), "--venue", "backfilled", *catalogue)
        assert imported.returncode == 0, imported.stderr + imported.stdout
    secret = password_file(questdb_server.directory, HTTP_PASSWORD)
    arguments = ("questdb", "backfill", *catalogue, "--url", questdb_server.url, "--password-file", str(secret))
    for _ in range(2):
        done = cascade(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        assert sorted((one["table"], one["rows"]) for one in json.loads(done.stdout)) == [("bars", 200), ("trades", 99)]

    def found(what: str) -> list[list[object]]:
        return sink._query(f"SELECT {what} WHERE venue = 'backfilled'")

    until(lambda: found("count(), sum(high), sum(volume) FROM bars") == [[200, 20_300.0, 20_000.0]])
    until(lambda: found("count(), count_distinct(trade_id), sum(quantity) FROM trades") == [[99, 99, 49.5]])
    assert found("min(CAST(ts AS LONG)), max(CAST(ts AS LONG)) FROM bars") == [
        [1_767_229_200_000_000_000, 1_767_229_200_000_000_000 + 199 * 3_600_000_000_000]
    ]


def test_a_backfill_needs_a_server_and_a_password(tmp_path: Path) -> None:
    asked = cascade("questdb", "backfill", "--dir", str(tmp_path), "--catalogue", str(tmp_path))
    assert asked.returncode == EXIT_NOT_RUNNING
    asked = cascade("questdb", "backfill", "--url", "http://127.0.0.1:1", "--catalogue", str(tmp_path))
    assert asked.returncode == 2
    assert "--password-file" in asked.stderr
