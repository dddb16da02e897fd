"""Every command that the README shows exists, and its examples do what it says."""

import gzip
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ccxt
import pytest
from typer.testing import CliRunner

from services.cli.application import app
from shared.testing.nats import free_port, nats_binary
from shared.testing.stack import cascade_command, run_cascade

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
HOURS_4_MS = 4 * 3_600_000


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def inline_commands() -> Iterator[list[str]]:
    for text in re.findall(r"`(cascade [^`]+)`", README):
        words = shlex.split(text.replace("…", "").replace("|", ""))
        yield [word for word in words[1:] if not word.startswith("-")]


def test_every_make_command_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"\bmake ([a-z]+)", README))
    assert shown and shown <= targets


def test_every_cascade_command_exists() -> None:
    seen = set()
    for words in inline_commands():
        commands = tuple(word for word in words if re.fullmatch(r"[a-z]+", word))[:2]
        if commands in seen:
            continue
        seen.add(commands)
        answer = CliRunner().invoke(app, [*commands, "--help"])
        assert answer.exit_code == 0, f"cascade {' '.join(commands)}: {answer.output}"
    assert len(seen) >= 8


def test_the_rebalance_example_prints_a_plan(tmp_path: Path) -> None:
    script = next(block for block in blocks("sh") if "rebalance plan" in block)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    answer = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert "XAN" in answer.stdout


def test_the_venue_of_your_own_starts_and_goes_wrong(tmp_path: Path) -> None:
    start, wrong = (block for block in blocks("sh") if "cascade sandbox" in block)
    command = shlex.split(start, comments=True)
    with subprocess.Popen([*cascade_command(), *command[1:]], stdout=subprocess.PIPE, cwd=tmp_path, text=True) as venue:
        try:
            assert venue.stdout is not None
            told = json.loads(venue.stdout.readline())
            assert {"rest_url", "ws_url", "admin_url", "api_key", "secret", "symbols"} <= set(told)
            exec(
                next(block for block in blocks("python") if "told[" in block),
                {"ccxt": ccxt, "json": json, "told": told},
            )
            for line in wrong.splitlines():
                words = shlex.split(line.replace("$ADMIN_URL", told["admin_url"]), comments=True)
                if "--admin" in words:
                    answer = run_cascade(*words[1:], cwd=tmp_path)
                    assert answer.returncode == 0, answer.stderr
        finally:
            venue.send_signal(signal.SIGINT)
        assert venue.wait(20) == 0


def test_the_example_configuration_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(blocks("toml")[0])
    answer = run_cascade("config", "check", "--config", str(path), cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    path.write_text(blocks("toml")[0].replace("cooldown_minutes", "cooldown_minute"))
    answer = run_cascade("config", "check", "--config", str(path), cwd=tmp_path)
    assert answer.returncode == 2
    assert "cooldown_minutes" in answer.stderr


def test_make_run_replays_a_file_to_a_summary(tmp_path: Path) -> None:
    nats_binary()
    rows = ["symbol,open_time,open,high,low,close,volume"]
    for place, symbol in enumerate(("RIVERUSDT", "HUSDT", "PENGUUSDT", "TAOUSDT")):
        for step in range(30):
            price = f"{(2.0 if place == 0 and step > 10 else 1.0) * (place + 1):.4f}"
            opened = 1_767_225_600_000 + step * HOURS_4_MS
            rows.append(f"{symbol},{opened},{price},{price},{price},{price},1000000.5")
    candles = tmp_path / "candles.csv.gz"
    candles.write_bytes(gzip.compress("\n".join(rows).encode()))
    answer = subprocess.run(
        [
            "make",
            "run",
            "ASSETS=RIVERUSDT,HUSDT,PENGUUSDT,TAOUSDT",
            "SPEED=max",
            f"SET=dashboard.port={free_port()}",
        ],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
        env={**os.environ, "CASCADE_REPLAY": str(candles), "CASCADE_STATE_DIR": str(tmp_path / "state")},
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    for word in ("dashboard http://127.0.0.1:", "return", "max drawdown", "fees", "upside", "RIVER-USDT"):
        assert word in answer.stdout, answer.stdout
