"""The supervisor with real processes: restarts, gives up, drains, and leaves nothing behind."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from services.cli.supervisor import logfiles
from services.cli.supervisor.child import GUARD_SCRIPT
from services.cli.supervisor.probe import Readiness
from services.cli.supervisor.runner import Outcome, Timing
from shared.errors import UnavailableError
from shared.testing.small_disk import fill, make_space, small_disk
from tests.integration.supervisor.fakes import CRASHING, DEAF, GOOD, MISCONFIGURED, Stack, is_alive, until


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


async def test_starts_in_order_of_need_and_drains_in_reverse(stack: Stack) -> None:
    stack.add("feed", after=("risk",))
    stack.add("risk", after=("broker",))
    stack.add("broker")
    running = stack.start()
    await until(lambda: set(stack.phases().values()) == {"ready"}, what="all ready")
    stack.supervisor.request_stop()
    assert await running == Outcome(0, "stopped")
    assert stack.notes() == [
        "started broker", "started risk", "started feed", "drained feed", "drained risk", "drained broker",
    ]  # fmt: skip
    assert set(stack.phases().values()) == {"stopped"}


async def test_killed_process_comes_back(stack: Stack) -> None:
    stack.add("risk")
    running = stack.start()
    await until(lambda: stack.phases()["risk"] == "ready", what="risk ready")
    killed = stack.pid("risk")
    os.kill(killed, signal.SIGKILL)
    await until(
        lambda: stack.pid("risk") not in (None, killed) and stack.phases()["risk"] == "ready", what="it is back"
    )
    assert stack.supervisor.statuses()[0].restarts == 1
    assert "risk ended by signal 9, restart 1" in stack.said[0]
    stack.supervisor.request_stop()
    await running


async def test_crash_loop_is_given_up_and_the_rest_goes_on(stack: Stack) -> None:
    stack.add("recorder", CRASHING)
    stack.add("feed", after=("recorder",))
    running = stack.start()
    await until(lambda: stack.phases() == {"recorder": "failed", "feed": "ready"}, what="recorder given up, feed runs")
    assert stack.said[-1].startswith("recorder ended with exit code 1: the 4. time within 120 s")
    assert stack.said[-1].endswith("boom")
    stack.supervisor.request_stop()
    assert (await running).code == 0


async def test_crash_loop_of_an_essential_process_ends_the_stack(stack: Stack) -> None:
    stack.add("nats", CRASHING, essential=True)
    stack.add("risk", after=("nats",))
    outcome = await stack.start()
    assert outcome.code == 1
    assert outcome.message.startswith("nothing works without nats")


async def test_configuration_error_stops_the_stack_without_a_restart(stack: Stack) -> None:
    stack.add("feed")
    stack.add("risk", MISCONFIGURED, after=("feed",))
    outcome = await stack.start()
    assert outcome == Outcome(2, "risk: risk.notional_max must be positive, got -1")
    assert stack.notes() == ["started feed", "drained feed"]
    assert all(status.restarts == 0 for status in stack.supervisor.statuses())


async def test_process_that_does_not_drain_is_killed(stack: Stack) -> None:
    stack.add("deaf", DEAF, stop_timeout_s=0.2)
    running = stack.start()
    await until(lambda: stack.phases()["deaf"] == "ready", what="ready")
    pid = stack.pid("deaf")
    stack.supervisor.request_stop()
    await running
    assert stack.said == ["deaf did not stop within 0.2 s: killed"]
    assert not is_alive(pid)


async def test_second_stop_kills_at_once(stack: Stack) -> None:
    stack.add("deaf", DEAF, stop_timeout_s=3_600.0)
    running = stack.start()
    await until(lambda: stack.phases()["deaf"] == "ready", what="ready")
    stack.supervisor.request_stop()
    await until(lambda: stack.phases()["deaf"] == "stopping", what="stopping")
    stack.supervisor.request_stop()
    assert (await running).code == 0


async def test_stop_while_starting_leaves_nothing(stack: Stack) -> None:
    stack.add("slow", "import time; time.sleep(600)")
    stack.add("feed", after=("slow",))
    running = stack.start()
    await until(lambda: stack.pid("slow") is not None, what="slow runs")
    pid = stack.pid("slow")
    stack.supervisor.request_stop()
    assert (await running).code == 0
    assert not is_alive(pid)
    assert stack.notes() == []


async def test_stop_in_the_very_moment_of_a_start_leaves_nothing(stack: Stack) -> None:
    stack.add("slow", "import time; time.sleep(600)")

    def stop() -> None:
        if stack.phases()["slow"] == "starting":
            stack.supervisor.request_stop(Outcome(0, "at once"))

    assert await stack.start(on_change=stop) == Outcome(0, "at once")
    assert stack.pid("slow") is None


async def test_silent_process_is_killed_and_restarted(stack: Stack) -> None:
    stack.add("mute", "import time; time.sleep(600)")
    running = stack.start(timing=Timing(silence_max_s=0.1))
    await until(lambda: stack.phases()["mute"] == "failed", what="given up after several silences")
    assert "mute has not answered for 0.1 s: killing it" in stack.said
    stack.supervisor.request_stop()
    await running


async def test_slow_need_delays_but_does_not_block(stack: Stack) -> None:
    stack.add("slow", "import time; time.sleep(600)")
    stack.add("feed", after=("slow",))
    running = stack.start(timing=Timing(patience_s=0.2))
    await until(lambda: stack.phases() == {"slow": "starting", "feed": "ready"}, what="feed runs without slow")
    stack.supervisor.request_stop()
    await running


async def test_preparation_runs_once_before_the_others_start(stack: Stack) -> None:
    prepared: list[int] = []

    async def prepare() -> None:
        prepared.append(len(stack.notes()))

    stack.add("broker", once_ready=prepare)
    stack.add("risk", after=("broker",))
    running = stack.start()
    await until(lambda: stack.phases() == {"broker": "ready", "risk": "ready"}, what="all ready")
    os.kill(stack.pid("broker"), signal.SIGKILL)
    await until(lambda: stack.notes().count("started broker") == 2, what="the broker is back")
    await until(lambda: stack.phases()["broker"] == "ready", what="the broker is ready again")
    assert prepared == [1]
    stack.supervisor.request_stop()
    await running


async def test_preparation_that_a_crash_cut_short_is_done_again(stack: Stack) -> None:
    prepared: list[int] = []

    async def prepare() -> None:
        prepared.append(stack.pid("broker"))
        if len(prepared) == 1:
            os.kill(prepared[0], signal.SIGKILL)
            await asyncio.Event().wait()

    stack.add("broker", once_ready=prepare)
    stack.add("risk", after=("broker",))
    running = stack.start()
    await until(lambda: stack.phases() == {"broker": "ready", "risk": "ready"}, what="all ready")
    assert len(set(prepared)) == 2
    stack.supervisor.request_stop()
    await running


async def test_preparation_that_fails_ends_the_stack(stack: Stack) -> None:
    async def prepare() -> None:
        raise UnavailableError("no streams")

    stack.add("broker", once_ready=prepare)
    assert await stack.start() == Outcome(1, "broker: no streams")


async def test_program_that_cannot_be_run_is_given_up(stack: Stack) -> None:
    stack.add("ghost")
    stack._specs[0] = type(stack._specs[0])(name="ghost", argv=("/nowhere/ghost",), env={})
    running = stack.start()
    await until(lambda: stack.phases()["ghost"] == "failed", what="given up")
    assert "ghost cannot be started" in stack.said[0]
    stack.supervisor.request_stop()
    await running


async def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from pathlib import Path
from tests.integration.supervisor.fakes import Stack, until
async def main():
    stack = Stack(Path(sys.argv[1]))
    stack.add("risk")
    stack.add("broker")
    task = stack.start()
    await until(lambda: set(stack.phases().values()) == {"ready"}, what="ready")
    (Path(sys.argv[1]) / "pids").write_text(f"{stack.pid('risk')} {stack.pid('broker')}")
    await task
asyncio.run(main())
"""
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(tmp_path))
    pids_path = tmp_path / "pids"
    await until(lambda: pids_path.exists() and pids_path.read_text() != "", what="the stack is ready")
    pids = [int(text) for text in pids_path.read_text().split()]
    assert all(is_alive(pid) for pid in pids)
    supervisor.kill()
    await supervisor.wait()
    await until(lambda: not any(is_alive(pid) for pid in pids), what="the children are gone")
    assert sorted((tmp_path / "notes").read_text().split()[1::2]) == ["broker", "broker", "risk", "risk"]


async def test_a_supervisor_that_dies_while_it_starts_its_first_child_leaves_no_orphan(tmp_path: Path) -> None:
    script = """
import asyncio, os, signal, sys
from pathlib import Path
from services.cli.supervisor.child import Child, Guard
from tests.integration.supervisor.fakes import Stack
spawn, add = Child.spawn, Guard.add
def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)
async def spawn_and_no_more(child):
    process = await spawn(child)
    (Path(sys.argv[1]) / "pid").write_text(str(process.pid))
    asyncio.create_subprocess_exec = die
    return process
async def add_and_die(guard, pid, *, last):
    await add(guard, pid, last=last)
    die()
Child.spawn, Guard.add = spawn_and_no_more, add_and_die
async def main():
    stack = Stack(Path(sys.argv[1]))
    stack.add("broker")
    await stack.start()
asyncio.run(main())
"""
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(tmp_path))
    assert await supervisor.wait() == -signal.SIGKILL
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: not is_alive(pid), what="the child is gone")


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc here")
async def test_processes_that_start_together_share_one_guard(stack: Stack) -> None:
    for name in ("broker", "venue", "store"):
        stack.add(name)
    running = stack.start()
    await until(lambda: set(stack.phases().values()) == {"ready"}, what="all ready")
    assert len(guards()) == 1
    stack.supervisor.request_stop()
    await running
    assert guards() == []


def guards() -> list[int]:
    """Return the guard processes of this process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            line = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == os.getpid() and GUARD_SCRIPT.encode() in line:
            found.append(int(folder.name))
    return found


async def test_a_log_that_cannot_be_turned_over_does_not_stop_the_stack(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Path] = []

    def full(path: Path) -> bool:
        tried.append(path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(logfiles, "rotate", full)
    stack.add("risk")
    running = stack.start()
    await until(lambda: bool(tried) and stack.phases()["risk"] == "ready", what="risk ready in spite of its log")
    stack.supervisor.request_stop()
    assert await running == Outcome(0, "stopped")


async def test_a_process_that_is_stuck_is_started_again(stack: Stack) -> None:
    answers = [Readiness(answered=True, ready=False, detail="its disk was full", is_stuck=True)]

    async def probe(_: int) -> Readiness:
        return answers.pop() if answers else Readiness(answered=True, ready=True, detail="running")

    stack.add("broker", probe=probe)
    running = stack.start()
    await until(lambda: stack.phases()["broker"] == "ready", what="it is back")
    assert stack.said[0] == "broker: its disk was full: starting it again"
    assert stack.supervisor.statuses()[0].restarts == 1
    stack.supervisor.request_stop()
    assert await running == Outcome(0, "stopped")


FULL_AT_FIRST = GOOD.replace(
    'note("started")',
    """note("started")
if len(open(os.environ["NOTES"]).readlines()) <= 6:
    print("risk: the disk is full", flush=True)
    os._exit(3)""",
)


async def test_a_process_whose_disk_is_full_comes_back_by_itself(stack: Stack) -> None:
    stack.add("risk", FULL_AT_FIRST)
    running = stack.start()
    await until(lambda: stack.phases()["risk"] == "ready", what="back after more ends than the cap allows")
    assert stack.supervisor.statuses()[0].restarts == 6
    assert stack.said[0].startswith("risk its disk is full: stands still until there is space, restart 1 in ")
    stack.supervisor.request_stop()
    assert await running == Outcome(0, "stopped")


@pytest.mark.timeout(60)
async def test_crashes_on_a_full_disk_are_outlived(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_kb=512) as disk:
        stack = Stack(disk)
        # It dies as anything may whose files cannot be written; the supervisor asks the disk itself.
        stack.add("risk", GOOD.replace('note("started")', "note('x' * 300_000)"))
        (disk / "logs").mkdir()
        (disk / "logs" / "risk.log").touch()
        (disk / "ports").mkdir()
        fill(disk)
        running = stack.start()
        await until(lambda: len(stack.said) > 6, what="more ends than the cap allows")
        assert stack.phases()["risk"] != "failed"
        assert all("its disk is full" in one for one in stack.said if "restart" in one)
        make_space(disk)
        await until(lambda: stack.phases()["risk"] == "ready", what="back with space")
        stack.supervisor.request_stop()
        assert await running == Outcome(0, "stopped")
