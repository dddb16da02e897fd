"""Market data in, fills out, through every service over a real nats-server, as `cascade up` runs them."""

import json
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from services.rebalancer.core.record import replay_record
from shared.messages import DecisionRecord
from shared.store.columns import Value
from shared.store.duck import open_store
from shared.testing.data import data_file
from shared.testing.nats import nats_binary
from shared.testing.stack import StackRun

pytestmark = [pytest.mark.nats, pytest.mark.slow, pytest.mark.timeout(300)]

ASSETS = "RIVERUSDT,HUSDT,PENGUUSDT,TAOUSDT"
SYNTHETIC = ("--speed", "max", "--set", "market_data.steps_max=400", "--set", "market_data.seed=7")
# The page first: it is no participant, so the market does not wait for it.
KILLED = ("dashboard", "market_data", "rebalancer", "risk", "execution", "recorder")


@pytest.fixture(scope="module", autouse=True)
def _nats() -> None:
    nats_binary()


def same_run(one: dict[str, object], other: dict[str, object]) -> bool:
    keys = ("fills_digest", "decisions_digest", "final_equity", "balances", "fees_paid_usdt", "steps")
    return all(one[key] == other[key] for key in keys)


def exact(folder: Path) -> dict[str, object]:
    parsed: dict[str, object] = json.loads((folder / "out.json").read_text(), parse_float=Decimal, parse_int=Decimal)
    return parsed


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    with StackRun(tmp_path_factory.mktemp("undisturbed"), SYNTHETIC) as run:
        return run.finish()


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> StackRun:
    path = data_file("mexc_spot/mexc_spot_4h.csv.gz")
    options = ("--replay", str(path), "--assets", ASSETS, "--speed", "max")
    with StackRun(tmp_path_factory.mktemp("replay"), options) as run:
        run.finish()
    return run


def test_a_made_up_market_is_traded_to_its_end(undisturbed: dict[str, object]) -> None:
    assert undisturbed["steps"] == 400
    assert isinstance(undisturbed["fills"], int) and undisturbed["fills"] >= 4


def test_kill_9_of_each_service_in_turn_changes_nothing(undisturbed: dict[str, object], tmp_path: Path) -> None:
    with StackRun(tmp_path, SYNTHETIC) as run:
        run.until(run.is_ready, what="all services are ready")
        for name in KILLED:
            run.kill(name)
        disturbed = run.finish()
    log = run.log()
    assert all(log.index(f"{name} ended") < log.index("step 400 of 400") for name in KILLED)
    assert same_run(disturbed, undisturbed)


def test_kill_9_of_the_message_bus_changes_nothing(undisturbed: dict[str, object], tmp_path: Path) -> None:
    with StackRun(tmp_path, SYNTHETIC) as run:
        run.until(run.is_ready, what="all services are ready")
        run.kill("nats")
        assert same_run(run.finish(), undisturbed)


def test_ctrl_c_and_a_new_start_go_on_where_it_stopped(undisturbed: dict[str, object], tmp_path: Path) -> None:
    with StackRun(tmp_path, SYNTHETIC) as run:
        run.until(lambda: "step " in run.log(), what="the market moves")
        assert run.stop() == 0
        run.start()
        assert same_run(run.finish(), undisturbed)


def test_real_history_keeps_every_unit_of_every_asset(replay: StackRun) -> None:
    """Deposit + bought - sold - fees, from the recorded fills, equals the reported balances to the last decimal."""
    summary = exact(replay.folder)
    assert summary["steps"] == 685
    expected: dict[str, Decimal] = defaultdict(Decimal, USDT=Decimal(10_000))
    for instrument, side, price, quantity, fee, fee_asset in recorded_fills(replay.state_dir / "store"):
        base, quote = instrument.split("-")
        sign = 1 if side == "buy" else -1
        expected[base] += sign * quantity
        expected[quote] -= sign * quantity * price
        expected[fee_asset] -= fee
    balances = summary["balances"]
    assert isinstance(balances, dict)
    assert {asset: amount for asset, amount in expected.items() if amount} == balances
    assert all(amount >= 0 for amount in balances.values())


def test_nothing_is_recorded_twice_or_missing(replay: StackRun) -> None:
    summary = exact(replay.folder)
    fills = recorded_fills(replay.state_dir / "store")
    assert len(fills) == summary["fills"]
    store = replay.state_dir / "store"
    bars, steps = count(store, "bars"), count(store, "bars_closed")
    assert (bars, steps) == (4 * 685, 685)


def test_real_history_twice_is_the_same_run(replay: StackRun, tmp_path: Path) -> None:
    options = ("--replay", str(data_file("mexc_spot/mexc_spot_4h.csv.gz")), "--assets", ASSETS, "--speed", "max")
    with StackRun(tmp_path, options) as again:
        assert same_run(again.finish(), json.loads((replay.folder / "out.json").read_text()))


def test_every_decision_has_a_reason(replay: StackRun) -> None:
    rows = query(replay.state_dir / "store", "SELECT action, notes FROM decisions WHERE service = 'rebalancer'")
    assert len(rows) >= 685
    assert all(notes and notes != "[]" for _, notes in rows)


def test_replaying_the_journal_reproduces_every_decision(replay: StackRun) -> None:
    with open_store(replay.state_dir / "store") as reader:
        records = [m for m in reader.read_messages("decisions") if isinstance(m, DecisionRecord)]
    decided = [record for record in records if record.service == "rebalancer"]
    assert len(decided) >= 685
    assert all(replay_record(record) == record.outcome for record in decided)


def recorded_fills(store: Path) -> list[tuple[str, str, Decimal, Decimal, Decimal, str]]:
    sql = """
        SELECT DISTINCT fill_id, instrument, side, fill_price, fill_quantity, fill_fee, fill_fee_asset
        FROM order_events WHERE fill_id IS NOT NULL
    """
    return [
        (str(row[1]), str(row[2]), Decimal(str(row[3])), Decimal(str(row[4])), Decimal(str(row[5])), str(row[6]))
        for row in query(store, sql)
    ]


def count(store: Path, table: str) -> int:
    return int(str(query(store, f"SELECT count(*) FROM {table}")[0][0]))


def query(store: Path, sql: str) -> list[tuple[Value, ...]]:
    with open_store(store) as reader:
        return reader.query(sql).rows


def test_duckdb_reads_the_files_without_cascade(replay: StackRun) -> None:
    files = str(replay.state_dir / "store" / "bars" / "**" / "*.parquet")
    sql = f"SELECT count(DISTINCT (instrument, close_time_ns)) FROM read_parquet('{files}')"
    assert duckdb.connect().execute(sql).fetchall() == [(4 * 685,)]
