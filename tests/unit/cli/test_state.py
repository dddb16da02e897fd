"""State directories: locks, leftovers, going on, beginning anew."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from services.cli.commands.operate import stop
from services.cli.commands.status import Heard, make_report, print_report
from services.cli.errors import NotRunningError
from services.cli.runfile import RunFile, StateLock, find_running, is_held, read_run, stop_leftovers, write_run
from services.cli.statedir import mark_finished, prepare_state_dir
from services.cli.supervisor.child import ChildStatus
from services.cli.supervisor.order import Phase
from shared.errors import ConfigError, InputError
from shared.messages import FeedState, Heartbeat, MarketStatus

SANDBOX = {"stack.assets": "('A', 'B')", "rebalancer.cooldown_minutes": "30", "market_data.steps_max": "None"}


def run_file(state_dir: Path, *services: ChildStatus) -> RunFile:
    return RunFile(
        supervisor_pid=os.getpid(),
        started_at_ns=1,
        build="b",
        schema_hash="s",
        mode="sandbox",
        venue="sandbox",
        timeframe="1h",
        state_dir=str(state_dir),
        settings_file="settings.json",
        nats_url="nats://127.0.0.1:1",
        keys_dir="keys",
        dashboard_url="http://127.0.0.1:2",
        replay=None,
        services=services,
    )


def child(pid: int | None, command: str) -> ChildStatus:
    return ChildStatus("risk", Phase.READY, pid, 1, 0, 1, "running", command)


def prepare(state_dir: Path, identity: dict[str, str], *, fresh: bool = False, is_replay: bool = False) -> str:
    state_dir.mkdir(exist_ok=True)
    return prepare_state_dir(state_dir, identity, fresh=fresh, is_replay=is_replay)


ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from services.cli.statedir import prepare_state_dir
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
prepare_state_dir(Path(sys.argv[1]), {"stack.assets": "('A', 'B')"}, fresh=False, is_replay=False)
"""


def test_a_start_on_a_full_disk_does_not_cost_the_run(tmp_path: Path) -> None:
    prepare(tmp_path / "a", SANDBOX)
    command = [sys.executable, "-c", ON_A_FULL_DISK, str(tmp_path / "a")]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "File too large" in failed.stderr
    assert "goes on" in prepare(tmp_path / "a", SANDBOX)


def test_lock_is_for_one(tmp_path: Path) -> None:
    first, second = StateLock(tmp_path / "a"), StateLock(tmp_path / "a")
    assert first.acquire()
    assert not second.acquire()
    assert is_held(tmp_path / "a")
    first.release()
    assert not is_held(tmp_path / "a")
    assert second.acquire()
    second.release()


def test_run_file_round_trip(tmp_path: Path) -> None:
    run = run_file(tmp_path, child(5, "x"))
    write_run(run)
    assert read_run(tmp_path) == run


def test_damaged_run_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    assert read_run(tmp_path) is None


def test_stack_without_its_lock_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_run(run_file(tmp_path / "a"))
    with pytest.raises(NotRunningError, match="make run"):
        find_running(root=tmp_path)
    with pytest.raises(NotRunningError):
        find_running(tmp_path / "a")


def test_stack_of_another_supervisor_is_found_by_the_operators_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CASCADE_NATS_URL", "nats://nats:4222")
    monkeypatch.setenv("CASCADE_STACK__VENUE", "binance")
    monkeypatch.setenv("CASCADE_NKEY_FILE", "/key/cli/cli.nk")
    run = find_running(tmp_path)
    assert (run.supervisor_pid, run.nats_url, run.keys_dir) == (None, "nats://nats:4222", "/key/cli")
    assert (run.mode, run.venue, run.timeframe) == ("sandbox", "binance", "15s")
    with pytest.raises(InputError, match="docker compose down"):
        stop(tmp_path)
    heard = Heard(beats={"risk": Heartbeat("risk", "0", "b", run.schema_hash, 7, False, "waits", 5, 9)})
    report = make_report(run, heard, bus_answers=True, now_ns=3_000_000_005)
    assert [(one.name, one.ready, one.pid, one.restarts, one.uptime_s) for one in report.services] == [
        ("risk", False, None, None, 3)
    ]
    assert (report.uptime_s, report.schemas_agree) == (3, True)


def test_markets_that_take_no_orders_are_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CASCADE_NATS_URL", "nats://nats:4222")
    monkeypatch.setenv("CASCADE_NKEY_FILE", "/key/cli/cli.nk")
    run = find_running(tmp_path)
    said = (
        ("COCOS-USDT", FeedState.FROZEN, "opened 1000 times above [the close before]"),
        ("H-USDT", FeedState.LIVE, "released by an operator"),
        ("BTC-USDT", FeedState.STALE, ""),
    )
    heard = Heard(markets={name: MarketStatus("mexc", name, state, why, 1) for name, state, why in said})
    report = make_report(run, heard, bus_answers=True, now_ns=2)
    assert [(one.instrument, one.state.value, one.reason) for one in report.markets] == [
        ("BTC-USDT", "stale", ""), ("COCOS-USDT", "frozen", "opened 1000 times above [the close before]"),
    ]  # fmt: skip
    print_report(report)
    shown = capsys.readouterr().out
    assert "frozen       COCOS-USDT: opened 1000 times above [the close before]" in shown
    assert "H-USDT:" not in shown


def test_key_of_a_service_is_not_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADE_NATS_URL", "nats://nats:4222")
    monkeypatch.setenv("CASCADE_NKEY_FILE", "/key/execution/execution.nk")
    with pytest.raises(ConfigError, match="CASCADE_NKEY_FILE"):
        find_running(Path("/nowhere"))


def test_one_running_stack_is_found_and_several_are_named(tmp_path: Path) -> None:
    locks = []
    for name in ("a", "b"):
        lock = StateLock(tmp_path / name)
        assert lock.acquire()
        locks.append(lock)
        write_run(run_file(tmp_path / name))
        if name == "a":
            assert find_running(root=tmp_path).state_dir == str(tmp_path / "a")
    with pytest.raises(InputError, match="--state-dir"):
        find_running(root=tmp_path)
    assert find_running(tmp_path / "b").state_dir == str(tmp_path / "b")
    for lock in locks:
        lock.release()


async def test_leftover_is_stopped_but_never_a_stranger_with_its_number(tmp_path: Path) -> None:
    argv = (sys.executable, "-c", "import time; time.sleep(600)", str(tmp_path))
    left = await asyncio.create_subprocess_exec(*argv)
    stranger = child(left.pid, "python -m services.risk")
    assert await asyncio.to_thread(stop_leftovers, run_file(tmp_path, stranger), wait_s=1.0) == []
    assert left.returncode is None
    ours = child(left.pid, " ".join(argv))
    stopping = asyncio.create_task(asyncio.to_thread(stop_leftovers, run_file(tmp_path, ours, child(None, "x"))))
    assert await left.wait() == -15
    assert await stopping == ["risk"]


def test_first_start_then_going_on(tmp_path: Path) -> None:
    state = tmp_path / "sandbox"
    assert "goes on" not in prepare(state, SANDBOX)
    assert "goes on where it stopped" in prepare(state, SANDBOX)


def test_other_markets_are_refused_and_fresh_keeps_the_old_run(tmp_path: Path) -> None:
    state = tmp_path / "sandbox"
    prepare(state, SANDBOX)
    (state / "journal").write_text("old")
    other = SANDBOX | {"stack.assets": "('A', 'C')"}
    with pytest.raises(ConfigError, match=r"stack\.assets was \('A', 'B'\), now it is \('A', 'C'\).*--fresh"):
        prepare(state, other)
    assert (state / "journal").exists()
    assert "begins anew" in prepare(state, other, fresh=True)
    assert not (state / "journal").exists()
    assert (tmp_path / "sandbox.previous" / "journal").read_text() == "old"


@pytest.mark.parametrize("key", ["rebalancer.cooldown_minutes", "market_data.steps_max"])
def test_rules_may_change_in_a_sandbox_but_not_within_a_replay(tmp_path: Path, key: str) -> None:
    changed = SANDBOX | {key: "60"}
    prepare(tmp_path / "a", SANDBOX)
    assert "goes on" in prepare(tmp_path / "a", changed)
    prepare(tmp_path / "b", SANDBOX)
    with pytest.raises(ConfigError, match=key):
        prepare(tmp_path / "b", changed, is_replay=True)


def test_finished_run_begins_anew_and_is_kept(tmp_path: Path) -> None:
    state = tmp_path / "replay-1"
    prepare(state, SANDBOX)
    mark_finished(state, b"{}")
    assert "was finished: begins anew" in prepare(state, SANDBOX)
    assert (tmp_path / "replay-1.previous" / "finished.json").exists()
    assert not (state / "finished.json").exists()


def test_damaged_identity_is_refused_unless_fresh(tmp_path: Path) -> None:
    state = tmp_path / "a"
    prepare(state, SANDBOX)
    (state / "identity.json").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        prepare(state, SANDBOX)
    prepare(state, SANDBOX, fresh=True)
    assert msgspec.json.decode((state / "identity.json").read_bytes()) == SANDBOX
