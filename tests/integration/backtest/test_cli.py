"""`cascade backtest rebalancer` as a user types it: answers, files, and errors before anything runs."""

import csv
import json
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from services.cli.application import app
from tests.integration.backtest.test_api import NAMES, candles
from tests.unit.backtest.worlds import violent_feed

BASKET = ",".join(NAMES)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    feed = violent_feed(2, 120, tuple(f"{name}-USDT" for name in NAMES))
    return candles(tmp_path_factory.mktemp("data") / "candles.csv", feed, 120)


def call(data: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["backtest", "rebalancer", "--data", str(data), *options])


def answer(data: Path, *options: str) -> dict[str, object]:
    done = call(data, "--assets", BASKET, "--json", *options)
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(done.stdout, parse_float=Decimal)
    return found


def test_json_is_one_object_with_everything_that_was_promised(data: Path) -> None:
    found = answer(data, "--from", "2026-01-01", "--to", "2026-01-15", "--interval", "4h", "--capital", "10000")
    promised = "final_value total_return sharpe max_drawdown rebalance_count win_rate fees_paid usdt quantities events"
    assert set(promised.split()) <= set(found)
    assert set(found["quantities"]) == set(NAMES)
    assert len(found["events"]) == found["rebalance_count"]
    start, later = found["initial_allocation"], found["events"]
    assert (start["asset"], start["direction"], start["deviation"]) == (None, "allocate", None)
    assert start["time"] == "2026-01-01T04:00:00Z"
    assert {one["direction"] for one in later} <= {"upside", "downside", "position_limit"}
    for one in later:
        assert one["asset"] in NAMES
        assert one["legs"] and all(leg["asset"] in NAMES for leg in one["legs"])
    assert found["settings"]["capital"] == "10000"


def test_money_in_json_adds_up_to_the_last_digit(data: Path) -> None:
    found = answer(data)
    usdt, held = Decimal(10_000), dict.fromkeys(NAMES, Decimal(0))
    for event in (found["initial_allocation"], *found["events"]):
        for leg in event["legs"]:
            sign = 1 if leg["side"] == "buy" else -1
            held[leg["asset"]] += sign * leg["quantity"]
            usdt -= sign * leg["notional"]
            if leg["fee_asset"] == "USDT":
                usdt -= leg["fee"]
            elif leg["fee_asset"] is not None:
                held[leg["fee_asset"]] -= leg["fee"]
    assert usdt == found["usdt"]
    assert held == found["quantities"]


def test_names_come_back_as_they_were_given(data: Path) -> None:
    done = call(data, "--assets", "HANAUSDT,AIA/USDT,XAN", "--json")
    assert set(json.loads(done.stdout)["quantities"]) == {"HANAUSDT", "AIA/USDT", "XAN"}


def test_zero_costs_are_exact(data: Path) -> None:
    free = ("--fee", "0", "--set", "execution.half_spread_bps=0", "--set", "execution.slippage_bps=0")
    found = answer(data, *free)
    assert found["fees_paid"] == found["slippage_paid"] == 0
    closes: dict[tuple[str, str], Decimal] = {}
    with data.open() as file:
        for row in csv.DictReader(file):
            closes[row["symbol"], row["open_time"]] = Decimal(row["close"])
    first = found["initial_allocation"]
    for leg in first["legs"]:
        assert leg["price"] == closes[f"{leg['asset']}USDT", "1767225600000"]


def test_settings_reach_rules_gate_and_fills(data: Path) -> None:
    changes = ("upside_threshold=5", "downside_threshold=0.99", "position_limit=1")
    quiet = [word for change in changes for word in ("--set", change)]
    assert answer(data, *quiet)["rebalance_count"] == 0
    assert answer(data, "--set", "risk.notional_max_usdt=100")["refused"] == 3 * 120
    dear = answer(data, "--fee", "0.01")["settings"]
    assert [dear["execution"][key] for key in ("maker_fee_rate", "taker_fee_rate")] == ["0.01", "0.01"]
    assert dear["rebalancer"]["fee_rate"] == "0.01"
    loose = answer(data, "--set", "position_limit=1")["settings"]
    assert loose["risk"]["position_limit"] == "1", "the gate follows the rules unless it is told otherwise"
    kept = answer(data, "--set", "position_limit=1", "--set", "risk.position_limit=0.5")["settings"]
    assert kept["risk"]["position_limit"] == "0.5"


def test_next_open_fills_differ_from_closes(data: Path) -> None:
    assert answer(data, "--fills", "next_open")["fills_digest"] != answer(data)["fills_digest"]


def test_csv_files_hold_positions_profits_and_fills(data: Path, tmp_path: Path) -> None:
    found = answer(data, "--csv-dir", str(tmp_path / "out"))
    tables = {path.name: list(csv.DictReader(path.read_text().splitlines())) for path in (tmp_path / "out").iterdir()}
    assert set(tables) == {"positions.csv", "pnl.csv", "fills.csv"}
    assert len(tables["positions.csv"]) == 3 * 120
    assert len(tables["fills.csv"]) == found["fills"]
    last = tables["pnl.csv"][-1]
    assert Decimal(last["equity"]) == found["final_value"]
    assert Decimal(last["fees_paid"]) == found["fees_paid"]
    assert Decimal(last["profit"]) == found["final_value"] - 10_000
    assert int(last["rebalances"]) == found["rebalance_count"]
    ends = {row["asset"]: Decimal(row["quantity"]) for row in tables["positions.csv"][-3:]}
    assert ends == found["quantities"]
    gains = sum(Decimal(row["realized_profit"] or 0) for row in tables["fills.csv"])
    assert gains == Decimal(last["realized_profit"])


def test_report_is_one_file_that_names_the_assets(data: Path, tmp_path: Path) -> None:
    done = call(data, "--assets", BASKET, "--report", str(tmp_path / "out.html"))
    assert done.exit_code == 0
    assert str(tmp_path / "out.html") in done.stdout
    text = (tmp_path / "out.html").read_text()
    assert text.lower().startswith("<!doctype html>") and all(name in text for name in NAMES)


def test_summary_is_readable_without_json(data: Path) -> None:
    done = call(data, "--assets", BASKET)
    assert done.exit_code == 0
    for word in ("Total return", "Win rate", "Rebalances", "allocate"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--assets", "HANA,AIA,XANN"], "asset XANN-USDT is not in"),
        (["--assets", "HANA,XANN"], "XANUSDT"),
        (["--assets", "HANA"], "at least two"),
        (["--assets", BASKET, "--interval", "1h"], "has bars of 4h: give --interval 4h"),
        (["--assets", BASKET, "--interval", "6h"], "give --interval 4h or a multiple of it"),
        (["--assets", BASKET, "--interval", "90d"], "120 bars of 4h make no bar of 90d"),
        (["--assets", BASKET, "--set", "weights_file=no.csv"], "--set weights_file no.csv: No such file"),
        (["--assets", BASKET, "--from", "2027-01-01"], "Correct --from and --to"),
        (["--assets", BASKET, "--from", "2026-01-10", "--to", "2026-01-05"], "end must be after start"),
        (["--assets", BASKET, "--from", "soon"], "start must be a time"),
        (["--assets", BASKET, "--capital", "30"], "capital 30 is too small"),
        (["--assets", BASKET, "--capital", "-5"], "capital must be a positive amount"),
        (["--assets", BASKET, "--capital", "nan"], "--capital must be a number"),
        (["--assets", BASKET, "--fee", "free"], "--fee must be a number"),
        (["--assets", BASKET, "--fee", "0.5"], "fee_rate"),
        (["--assets", BASKET, "--gaps", "jump"], "--gaps must be hold or refuse"),
        (["--assets", BASKET, "--set", "position_limt=1"], "did you mean position_limit?"),
        (["--assets", BASKET, "--set", "slippage_bps=0"], "did you mean execution.slippage_bps?"),
        (["--assets", BASKET, "--set", "position_limit"], "write key=value"),
        (["--assets", BASKET, "--set", "position_limit=1", "--set", "position_limit=0.5"], "given twice"),
        (["--assets", BASKET, "--set", "excution.slippage_bps=0"], "did you mean execution?"),
        (["--assets", BASKET, "--set", "assets=A"], "give the basket with --assets"),
        (["--assets", BASKET, "--set", "position_limit=40"], "write 0.4 for 40 %"),
        (["--assets", BASKET, "--report", "/nowhere/report.html"], "there is no such folder"),
        (["--assets", BASKET, "--csv-dir", "/proc/nowhere"], "choose a folder that can be written"),
    ],
)
def test_mistake_ends_with_code_2_a_sentence_and_no_output(data: Path, options: list[str], text: str) -> None:
    done = call(data, *options)
    assert done.exit_code == 2
    assert text in done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1


def test_missing_file_is_named(tmp_path: Path) -> None:
    done = call(tmp_path / "no.csv", "--assets", BASKET)
    assert done.exit_code == 2
    assert "no.csv: no such file. Correct --data (CASCADE_DATA)" in done.stderr


def test_a_word_that_is_no_choice_is_answered_with_the_choices(data: Path) -> None:
    done = call(data, "--assets", BASKET, "--set", "trigger=relative_band", "--set", "target_mode=min_variance")
    assert done.exit_code == 2
    assert "choose equal, fixed," in " ".join(done.output.split())
    assert "minimum_variance" in done.output


def test_weights_may_name_markets_as_the_basket_does(data: Path) -> None:
    weights = ",".join(f"{name}USDT:{weight}" for name, weight in zip(NAMES, ("0.3", "0.3", "0.1"), strict=True))
    found = answer(
        data, "--set", "trigger=relative_band", "--set", "target_mode=fixed", "--set", f"target_weights={weights}"
    )
    assert found["initial_allocation"]["direction"] == "allocate"
    assert len(found["events"]) == found["rebalance_count"]
