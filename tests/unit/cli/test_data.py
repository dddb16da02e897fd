"""`cascade data`: what was recorded, listed, asked, exported, verified."""

import csv
import json
import math
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from services.cli.data import app
from shared.errors import InputError
from shared.messages import Direction, Signal
from shared.store.parquet import ParquetStore
from shared.store.port import Batch, Row
from shared.store.tables import day_of, event_time_ns, table_of
from shared.testing import samples

SIGNAL = Signal(
    "s", "v", "=1+1;'--\n,\"", Direction.LONG, math.nan, 1e308, {"z": math.inf, "a": 0.5}, "ü", samples.START_NS + 1
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "a store"
    store = ParquetStore(root, lambda: 0)
    store.open()
    for number, message in enumerate([*samples.week(samples.START_NS), SIGNAL], start=1):
        table = table_of(message)
        stream = ("S", number, 1) if table.durable else (None, None, None)
        row = Row(message, "subject", number, *stream)
        store.append(Batch(table.name, day_of(event_time_ns(table, message, number)), [row]))
    store.close()
    return root


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_list_tells_rows_times_and_sizes(store: Path) -> None:
    shown = run("list", "--store", store)
    assert shown.exit_code == 0
    assert "accounts" in shown.stdout
    assert "bbo" not in shown.stdout
    listed = {one["table"]: one for one in json.loads(run("list", "--store", store, "--json").stdout)}
    assert listed["accounts"]["rows"] == 42
    assert listed["accounts"]["first"] == "2026-01-01T00:00:00Z"
    assert listed["accounts"]["bytes"] > 0
    assert listed["bbo"] == {"table": "bbo", "rows": 0, "first": None, "last": None, "files": 0, "bytes": 0}


def test_query_answers_as_a_table_and_as_json(store: Path) -> None:
    sql = "SELECT fill_id, price, time FROM fills ORDER BY fill_id"
    assert "fill-1" in run("query", sql, "--store", store).stdout
    assert json.loads(run("query", sql, "--store", store, "--json").stdout)[0] == {
        "fill_id": "fill-1",
        "price": "0.5012",
        "time": "2026-01-01T00:00:00",
    }


def test_query_prints_what_json_has_no_number_for_as_text(store: Path) -> None:
    result = run("query", "SELECT strength, confidence, features, instrument FROM signals", "--store", store, "--json")
    (row,) = json.loads(result.stdout)
    assert row == {
        "strength": "nan",
        "confidence": 1e308,
        "features": {"z": "inf", "a": 0.5},
        "instrument": SIGNAL.instrument,
    }


def test_markup_in_recorded_texts_is_shown_not_obeyed(store: Path) -> None:
    assert "[red]x[/red]" in run("query", "SELECT '[red]x[/red]' AS a", "--store", store).stdout


@pytest.mark.parametrize("sql", ["DROP VIEW bars", "SELECT 1 AS a, 2 AS a", "SELECT", "COPY bars TO 'x'"])
def test_query_refuses_what_it_cannot_answer(store: Path, sql: str) -> None:
    result = run("query", sql, "--store", store)
    assert isinstance(result.exception, InputError)
    assert "SQL" in str(result.exception)


def test_export_writes_every_row_as_csv(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "accounts.csv"
    assert run("export", "accounts", "--store", store, "--out", out).exit_code == 0
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 42
    assert rows[0]["equity_usdt"] == str(samples.account(0).equity_usdt)
    assert json.loads(rows[0]["balances"]) == [{"asset": "USDT", "free": "2650.25", "locked": "0"}]
    assert rows[0]["time"] == "2026-01-01 00:00:00.000000000"


def test_export_keeps_hostile_texts_and_every_nanosecond(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "signals.csv"
    run("export", "signals", "--store", store, "--out", out)
    with out.open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["instrument"] == SIGNAL.instrument
    assert row["time"] == "2026-01-01 00:00:00.000000001"
    assert json.loads(row["features"]) == {"z": "inf", "a": 0.5}


def test_export_writes_json_lines_and_parquet(store: Path, tmp_path: Path) -> None:
    lines, parquet = tmp_path / "d.json", tmp_path / "d.parquet"
    result = run("export", "decisions", "--store", store, "--out", lines, "--format", "json", "--json")
    assert json.loads(result.stdout)["rows"] == 3
    assert [json.loads(line)["action"] for line in lines.read_text().splitlines()] == ["allocate", "upside", "none"]
    run("export", "decisions", "--store", store, "--out", parquet, "--format", "parquet")
    assert pq.read_table(parquet).column("action").to_pylist() == ["allocate", "upside", "none"]


def test_an_empty_table_is_exported_with_its_columns(store: Path, tmp_path: Path) -> None:
    for kind in ("csv", "parquet", "json"):
        assert run("export", "bbo", "--store", store, "--out", tmp_path / kind, "--format", kind).exit_code == 0
    assert (tmp_path / "csv").read_text().startswith("time,date,venue,instrument,bid_price")
    assert pq.read_table(tmp_path / "parquet").num_rows == 0
    assert (tmp_path / "json").read_text() == ""


def test_a_file_that_cannot_be_written_is_named_and_nothing_is_left(store: Path, tmp_path: Path) -> None:
    for out in (tmp_path / "nowhere" / "x.csv", tmp_path):
        result = run("export", "accounts", "--store", store, "--out", out)
        assert isinstance(result.exception, InputError)
        assert str(out) in str(result.exception)
    assert not list(tmp_path.glob(".*.tmp"))
    assert not list(tmp_path.parent.glob(f".{tmp_path.name}*.tmp"))


def test_an_unknown_table_and_a_missing_store_are_refused_with_the_fix(store: Path, tmp_path: Path) -> None:
    unknown = run("export", "bars; DROP", "--store", store, "--out", tmp_path / "x")
    assert "order_events" in str(unknown.exception)
    missing = run("list", "--store", tmp_path / "nowhere")
    assert isinstance(missing.exception, InputError)
    assert "--store" in str(missing.exception)


def test_verify_names_a_damaged_file_and_ends_with_1(store: Path, tmp_path: Path) -> None:
    assert run("verify", "--store", store).exit_code == 0
    store = Path(shutil.copytree(store, tmp_path / "copy"))
    path = next((store / "decisions").rglob("*.parquet"))
    raw = bytearray(path.read_bytes())
    raw[pq.read_metadata(path).row_group(0).column(0).data_page_offset + 10] ^= 0xFF
    path.write_bytes(raw)
    result = run("verify", "--store", store, "--json")
    assert result.exit_code == 1
    (damaged,) = json.loads(result.stdout)["damaged"]
    assert path.name in damaged
