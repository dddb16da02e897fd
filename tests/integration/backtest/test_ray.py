"""A search on a real Ray, started by the command itself: the trials that one core makes."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.integration.backtest.test_api import ROOT, candles
from tests.unit.backtest.worlds import violent_feed

NAMES = ("HANA", "AIA", "XAN")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install ray"),
]


def search(data: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.cli", "optimise", "rebalancer", "--assets", ",".join(NAMES)]
    command += ["--data", str(data), "--trials", "6", "--folds", "2", "--seed", "3", "--json", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    return subprocess.run(
        command, env=environment, check=False, capture_output=True, text=True, timeout=280, cwd=data.parent
    )


def test_a_search_on_ray_is_the_search_on_one_core(tmp_path: Path) -> None:
    data = candles(tmp_path / "candles.csv", violent_feed(2, 240, tuple(f"{name}-USDT" for name in NAMES)), 240)
    there = search(data, "--ray", "local")
    assert there.returncode == 0, there.stderr
    here = search(data)
    assert len(json.loads(here.stdout)["trials"]) == 6
    assert json.loads(there.stdout) == json.loads(here.stdout)


def test_a_cluster_that_is_not_there_is_said_in_a_sentence(tmp_path: Path) -> None:
    data = candles(tmp_path / "candles.csv", violent_feed(2, 240, tuple(f"{name}-USDT" for name in NAMES)), 240)
    done = search(data, "--ray", "auto")
    assert done.returncode == 2
    assert "cascade optimise: --ray auto: " in done.stderr
    assert "Traceback" not in done.stderr
