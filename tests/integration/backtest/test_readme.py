"""What the README says about backtests, run as it stands there."""

import ast
import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.backtest.test_api import NAMES, candles
from tests.unit.backtest.worlds import violent_feed

ROOT = Path(__file__).resolve().parents[3]
SECTION = (ROOT / "README.md").read_text().partition("## Backtest\n")[2].partition("\n## ")[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    feed = violent_feed(2, 120, tuple(f"{name}-USDT" for name in NAMES))
    plain = candles(tmp_path / "candles.csv", feed, 120)
    subprocess.run(["gzip", str(plain)], check=True, timeout=10)
    return tmp_path


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.timeout(60)
def test_commands_run_as_printed(folder: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block("sh")],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Total return" in done.stdout
    assert (folder / "out" / "pnl.csv").exists()


def test_python_runs_as_printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CASCADE_DATA", str(folder / "candles.csv.gz"))
    code = compile(block("python"), "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    asyncio.run(eval(code, {}))
    assert "Total return" in capsys.readouterr().out
