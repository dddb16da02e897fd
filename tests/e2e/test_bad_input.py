"""What a user gets wrong is said at once, with the field and the fix, and nothing is started or ordered."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.testing.stack import run_cascade

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

HOUR_MS = 3_600_000
HEADER = "symbol,open_time,open,high,low,close,volume\n"
Rows = Callable[[], list[str]]


def bars(symbol: str, count: int = 6, *, close: str = "10.5") -> list[str]:
    return [f"{symbol},{1_767_225_600_000 + n * HOUR_MS},10.1,11.0,9.9,{close},1000.5" for n in range(count)]


def gapped() -> list[str]:
    rows = bars("AAAUSDT")
    del rows[3]
    return rows + bars("BBBUSDT")


def with_price(close: str) -> Rows:
    return lambda: bars("AAAUSDT")[:-1] + bars("AAAUSDT", close=close)[-1:] + bars("BBBUSDT")


@pytest.mark.parametrize(
    ("rows", "assets", "said"),
    [
        (list, "AAAUSDT,BBBUSDT", ("has no rows",)),
        (gapped, "AAAUSDT,BBBUSDT", ("AAA-USDT lacks 1 of 6 bars", "missing_bars=hold")),
        (with_price("nan"), "AAAUSDT,BBBUSDT", ("close", "AAA")),
        (with_price("0"), "AAAUSDT,BBBUSDT", ("close", "AAA")),
        (with_price("-1"), "AAAUSDT,BBBUSDT", ("close", "AAA")),
        (lambda: bars("AAAUSDT") + bars("BBBUSDT"), "AAAUSDT,BBCUSDT", ("BBC", "BBB")),
    ],
    ids=["empty", "gapped", "nan", "zero", "negative", "unknown-asset"],
)
def test_a_bad_history_is_refused(tmp_path: Path, rows: Rows, assets: str, said: tuple[str, ...]) -> None:
    path = tmp_path / "candles.csv.gz"
    path.write_bytes(gzip.compress((HEADER + "\n".join(rows())).encode()))
    answer = run_cascade("up", "--replay", str(path), "--assets", assets, "--speed", "max", cwd=tmp_path)
    assert answer.returncode == 2
    for word in (*said, "candles.csv.gz"):
        assert word.lower() in answer.stderr.lower(), answer.stderr
    assert "Traceback" not in answer.stderr
    assert not list(tmp_path.glob("var/*/execution*"))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rebalancer.upside_treshold=0.4", ("upside_treshold", "upside_threshold")),
        ("rebalancer.upside_threshold=-0.4", ("upside_threshold", "-0.4")),
        ("rebalancer.sell_percentage=20", ("sell_percentage", "0.2")),
        ("risk.position_limit=nan", ("position_limit",)),
        ("execution.taker_fee_rate=-1", ("taker_fee_rate",)),
        ("market_data.speed=fast", ("speed", "max")),
        ("stack.mode=live", ("live",)),
        ("stack.assets=H-USDT", ("assets", "two")),
        ("recorder.flush_interval_s=0", ("flush_interval_s",)),
        ("dashboard.port=99999", ("port", "65535")),
    ],
)
def test_a_bad_setting_is_refused(tmp_path: Path, override: str, said: tuple[str, ...]) -> None:
    answer = run_cascade("up", "--set", override, cwd=tmp_path)
    assert answer.returncode == 2, answer.stdout + answer.stderr
    for word in said:
        assert word in answer.stderr, answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_missing_history_is_named(tmp_path: Path) -> None:
    answer = run_cascade("up", cwd=tmp_path, env={"CASCADE_REPLAY": "absent.csv.gz"})
    assert answer.returncode == 2
    assert "absent.csv.gz" in answer.stderr


def test_commands_without_a_stack_say_so(tmp_path: Path) -> None:
    for command in ("status", "orders", "balances", "journal", "stop"):
        answer = run_cascade(command, cwd=tmp_path)
        assert answer.returncode == 3
        assert "no stack runs in" in answer.stderr and "make run" in answer.stderr
