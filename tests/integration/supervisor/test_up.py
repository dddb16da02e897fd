"""`cascade up` with the real services on a real server, and the commands that talk to it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.runfile import is_held, read_run
from shared.testing.nats import nats_binary
from tests.integration.supervisor.fakes import is_alive, until

pytestmark = [pytest.mark.nats, pytest.mark.slow, pytest.mark.timeout(180)]

SERVICES = {"execution", "risk", "recorder", "rebalancer", "dashboard", "market_data"}
STEPS = "--set", "market_data.steps_max=40"


class Cascade:
    """Run the command line on a state directory of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.state_dir = place / "state"
        self.running: list[subprocess.Popen[str]] = []

    def arguments(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "services.cli", *words, "--state-dir", str(self.state_dir)]

    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("CASCADE_")}

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start a stack in the background."""
        with (self.place / "out").open("w") as out, (self.place / "err").open("w") as err:
            process = subprocess.Popen(
                self.arguments("up", *options), stdout=out, stderr=err, text=True, env=self.environment()
            )
        self.running.append(process)
        return process

    def ask(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return subprocess.run(
            self.arguments(*words), capture_output=True, text=True, timeout=60, env=self.environment(), check=False
        )

    def ask_json(self, *words: str) -> object:
        """Run a command that must work and return the JSON that it prints."""
        answer = self.ask(*words, "--json")
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    def said(self) -> str:
        """Return what the stack has printed on standard error so far."""
        return (self.place / "err").read_text()

    def phases(self) -> dict[str, str]:
        """Return the services' phases from run.json."""
        run = read_run(self.state_dir)
        return {} if run is None else {one.name: one.phase.value for one in run.services}

    def pids(self) -> dict[str, int]:
        """Return the services' process ids from run.json."""
        run = read_run(self.state_dir)
        return {} if run is None else {one.name: one.pid for one in run.services if one.pid is not None}

    async def until_ready(self) -> None:
        """Wait until everything runs."""
        await until(lambda: set(self.phases().values()) == {"ready"}, what=f"all ready: {self.phases()}", patience_s=90)

    async def ended(self) -> int | None:
        """Wait for the newest stack to end by itself and return its exit code."""
        process = self.running[-1]
        await until(lambda: process.poll() is not None, what="the run has ended", patience_s=120)
        return process.returncode


@pytest.fixture
def cascade(tmp_path: Path) -> Iterator[Cascade]:
    nats_binary()
    one = Cascade(tmp_path)
    yield one
    for process in one.running:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


async def test_finite_market_ends_with_a_summary_and_the_same_digests(cascade: Cascade) -> None:
    digests = []
    for _ in range(2):
        cascade.start("--json", "--speed", "max", *STEPS)
        assert await cascade.ended() == 0, cascade.said()
        summary = json.loads((cascade.place / "out").read_text())
        assert summary["steps"] == 40
        assert summary["rebalances"][0]["direction"] == "allocate"
        assert summary["fills"] >= 4
        assert summary["final_equity"] > 0
        digests.append((summary["fills_digest"], summary["decisions_digest"]))
    assert digests[0] == digests[1]
    assert "the last run was finished: begins anew" in cascade.said()
    assert not is_held(cascade.state_dir)
    assert not (cascade.state_dir / "run.json").exists()


async def test_operator_commands_on_a_running_stack(cascade: Cascade) -> None:
    process = cascade.start("--speed", "9000", "--json")
    await cascade.until_ready()

    second = cascade.ask("up")
    assert second.returncode == 2
    assert "a stack already runs in" in second.stderr

    await until(lambda: "allocate" in cascade.ask("journal").stdout, what="the first decision", patience_s=60)
    status = cascade.ask_json("status")
    assert {one["name"] for one in status["services"]} == {"nats", *SERVICES}
    assert status["trading_state"] == "active"
    assert status["schemas_agree"] is True
    assert {one["schema_hash"] for one in status["services"]} == {None, status["schema_hash"]}

    killed = cascade.pids()["rebalancer"]
    os.kill(killed, signal.SIGKILL)
    await until(
        lambda: cascade.phases().get("rebalancer") == "ready" and cascade.pids()["rebalancer"] != killed,
        what="the rebalancer is back",
    )
    restarts = {one["name"]: one["restarts"] for one in cascade.ask_json("status")["services"]}
    assert restarts["rebalancer"] == 1

    assert cascade.ask_json("halt", "--reason", "drill")["ok"] is True
    assert cascade.ask_json("status")["trading_state"] == "halted"
    assert cascade.ask("resume").returncode == 2
    assert cascade.ask_json("resume", "--reason", "drill over")["ok"] is True
    assert cascade.ask_json("status")["trading_state"] == "active"

    orders = cascade.ask_json("orders")
    assert {order["state"] for order in orders} == {"filled"}
    balances = cascade.ask_json("balances")
    worth = sum(holding["value_usdt"] for holding in balances["balances"])
    assert worth == pytest.approx(balances["equity_usdt"], rel=1e-6)

    assert cascade.ask("stop").returncode == 0
    assert process.wait(30) == 0
    assert cascade.ask("status").returncode == 3


async def test_stack_of_a_killed_supervisor_is_gone_and_goes_on_later(cascade: Cascade) -> None:
    process = cascade.start("--json", "--speed", "900")
    await cascade.until_ready()
    pids = set(cascade.pids().values())
    process.kill()
    process.wait()
    await until(lambda: not any(is_alive(pid) for pid in pids), what="nothing is left", patience_s=40)
    assert cascade.ask("status").returncode == 3
    cascade.start("--json", "--speed", "max", *STEPS)
    assert await cascade.ended() == 0, cascade.said()
    assert "goes on where it stopped" in cascade.said()


def test_bad_configuration_starts_nothing(cascade: Cascade) -> None:
    answer = cascade.ask("up", "--set", "risk.position_limit=40")
    assert answer.returncode == 2
    assert "position_limit" in answer.stderr
    assert answer.stdout == ""
    assert not cascade.state_dir.exists()
