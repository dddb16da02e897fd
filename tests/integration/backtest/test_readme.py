"""What the README says about backtests, run as it stands there."""

import ast
import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.backtest.test_api import NAMES, candles
from tests.unit.backtest.worlds import violent_feed

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text()
SEARCHES = README.partition("### Search for rules")[2].partition("```sh\n")[2].partition("```")[0]
SECTION = README.partition("## Backtest\n")[2].partition("\n## ")[0]


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    assert found is not None
    return found[1]


def newcomer(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a folder that holds nothing, with nothing in the environment."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    given = {name: value for name, value in os.environ.items() if not name.startswith("CASCADE_")}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**given, "PATH": path},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.timeout(120)
def test_commands_run_as_printed_with_nothing_at_hand(tmp_path: Path) -> None:
    done = newcomer(tmp_path, block("sh"))
    assert done.returncode == 0, done.stderr
    assert "Total return" in done.stdout
    assert (tmp_path / "out" / "pnl.csv").exists()
    assert "relative" not in done.stderr
    assert "target weight" in (tmp_path / "out.html").read_text()
    found = next(line for line in done.stdout.splitlines() if line.startswith("{"))
    assert json.loads(found)["rebalance_count"] > 0, "an example on which nothing happens shows nothing"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_searches_run_as_printed_with_nothing_at_hand(tmp_path: Path) -> None:
    first, second = (line for line in SEARCHES.replace("\\\n", " ").splitlines() if line.startswith("cascade"))
    assert "--trials 200" in first
    made = next(line for line in block("sh").splitlines() if line.startswith("cascade data synthetic"))
    given = "export CASCADE_DATA=candles.csv.gz"
    # So many trials take a minute; a few show as well that the command is one.
    done = newcomer(tmp_path, f"{made}\n{given}\n{first.replace('200', '6')}\n{second}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "search.html").exists()
    assert (tmp_path / "search.jsonl").exists()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    feed = violent_feed(2, 120, tuple(f"{name}-USDT" for name in NAMES))
    plain = candles(tmp_path / "candles.csv", feed, 120)
    subprocess.run(["gzip", str(plain)], check=True, timeout=10)
    return tmp_path


def test_python_runs_as_printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CASCADE_DATA", str(folder / "candles.csv.gz"))
    code = compile(block("python"), "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    asyncio.run(eval(code, {}))
    assert "Total return" in capsys.readouterr().out
