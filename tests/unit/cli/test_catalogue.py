"""The commands over the catalogue: what they print, and how they end."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from services.cli.catalogue import instant_ns
from services.cli.data import app
from shared.errors import InputError

T0 = 1_735_689_600
DAY = 86_400_000_000_000


def csv(path: Path, hours: list[int], *, close: str = "1.75") -> Path:
    lines = ["ts,open,high,low,close,volume", *(f"{T0 + 3600 * hour},1.5,2.25,1,{close},10.5" for hour in hours)]
    path.write_text("\n".join(lines))
    return path


def run(*arguments: str | Path) -> tuple[int, object]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, msgspec.json.decode(result.stdout) if result.stdout else None


def test_what_is_imported_is_listed_verified_and_exported(tmp_path: Path) -> None:
    root = tmp_path / "catalogue"
    code, reports = run("import", csv(tmp_path / "BTCUSDT_1h.csv", [0, 1, 2]), "--venue", "x", "--catalogue", root)
    assert (code, [one["added"] for one in msgspec.convert(reports, list[dict[str, object]])]) == (0, [3])
    code, series = run("list", "--catalogue", root)
    (one,) = msgspec.convert(series, list[dict[str, object]])
    assert (one["instrument"], one["rows"], one["first"], one["last"]) == (
        "BTC-USDT", 3, "2025-01-01T00:00:00Z", "2025-01-01T02:00:00Z",
    )  # fmt: skip
    assert run("verify", "--catalogue", root) == (0, {"series": 1, "wrong": 0, "findings": []})
    out = tmp_path / "bars.csv"
    assert run("export", "bars", "--out", out, "--catalogue", root)[0] == 0
    header, first = out.read_text().splitlines()[:2]
    assert header.startswith("time,venue,instrument,timeframe,open_time_ns,close_time_ns,open,high,low,close,volume")
    assert first.startswith("2025-01-01 01:00:00")


def test_an_exported_catalogue_imports_into_the_same(tmp_path: Path) -> None:
    root, out = tmp_path / "catalogue", tmp_path / "bars.csv"
    path = csv(tmp_path / "BTCUSDT_1h.csv", [0, 1, 2])
    path.write_text(path.read_text().replace("10.5", "12345678901.12345678"))
    run("import", path, "--venue", "x", "--catalogue", root)
    run("export", "bars", "--out", out, "--catalogue", root)
    code, reports = run("import", out, "--venue", "x", "--catalogue", root)
    (one,) = msgspec.convert(reports, list[dict[str, object]])
    assert (code, one["added"], one["same"]) == (0, 0, 3)


def test_some_series_are_exported_alone_and_several_venues_do_not_become_one(tmp_path: Path) -> None:
    root, out = tmp_path / "catalogue", tmp_path / "bars.csv"
    for venue in ("x", "y"):
        run("import", csv(tmp_path / "BTCUSDT_1h.csv", [0, 1, 2]), "--venue", venue, "--catalogue", root)
    day = csv(tmp_path / "BTCUSDT_1d.csv", [0, 24])
    run("import", day, "--venue", "x", "--catalogue", root)
    export = ("export", "bars", "--out", out, "--catalogue", root)
    assert msgspec.convert(run(*export)[1], dict[str, object])["rows"] == 8
    with pytest.raises(InputError, match=r"says venue x, y.*--venue"):
        run("import", out, "--venue", "x", "--catalogue", tmp_path / "other")
    run(*export, "--venue", "x")
    with pytest.raises(InputError, match=r"says timeframe 1d, 1h.*--timeframe"):
        run("import", out, "--venue", "x", "--catalogue", tmp_path / "other")
    run(*export, "--venue", "x", "--timeframe", "1d", "--symbols", "BTC/USDT")
    with pytest.raises(InputError, match="says venue x, not y"):
        run("import", out, "--venue", "y", "--catalogue", tmp_path / "other")
    code, reports = run("import", out, "--venue", "x", "--catalogue", tmp_path / "other")
    (one,) = msgspec.convert(reports, list[dict[str, object]])
    assert (code, one["added"]) == (0, 2)
    with pytest.raises(InputError, match="choose series of a catalogue"):
        run("export", "bars", "--out", out, "--venue", "x")


def test_trades_are_imported_listed_made_into_bars_and_exported(tmp_path: Path) -> None:
    root, out = tmp_path / "catalogue", tmp_path / "trades.csv"
    path = tmp_path / "BTCUSDT-trades-2025-01-01.csv"
    path.write_text("\n".join(f"{n},{100 + n % 3},0.5,50,{(T0 + n) * 1_000_000},True,True" for n in range(300)))
    assert run("import", path, "--venue", "binance", "--catalogue", root)[0] == 0
    code, made = run("bars", "--timeframe", "1m", "--catalogue", root)
    (one,) = msgspec.convert(made, list[dict[str, object]])
    # The first and the last minute may be cut.
    assert (code, msgspec.convert(one["written"], dict[str, int])["added"]) == (0, 3)
    code, series = run("list", "--catalogue", root)
    assert [one["table"] for one in msgspec.convert(series, list[dict[str, object]])] == ["bars", "trades"]
    assert run("verify", "--catalogue", root)[0] == 0
    assert run("gaps", "--catalogue", root) == (0, [])
    assert run("export", "trades", "--out", out, "--catalogue", root)[0] == 0
    code, reports = run("import", out, "--venue", "binance", "--catalogue", root)
    (again,) = msgspec.convert(reports, list[dict[str, object]])
    assert (code, again["added"], again["same"]) == (0, 0, 300)


@pytest.mark.parametrize("timeframe", ["7", "x", "0h", "h"])
def test_a_length_that_is_none_is_refused_in_words(tmp_path: Path, timeframe: str) -> None:
    path = csv(tmp_path / "BTCUSDT.csv", [0, 1, 2])
    with pytest.raises(InputError, match="write the length of a bar"):
        run("import", path, "--venue", "x", "--timeframe", timeframe, "--catalogue", tmp_path / "c")


def test_candles_need_a_length_and_trades_have_none(tmp_path: Path) -> None:
    download = ("download", "--venue", "mexc", "--symbols", "BTC/USDT", "--from", "12h", "--catalogue", tmp_path)
    for wrong in ([], ["--kind", "trades", "--timeframe", "1h"]):
        with pytest.raises(InputError, match="--timeframe is the length of candles"):
            run(*download, *wrong)
    with pytest.raises(InputError, match="trades of kraken cannot be downloaded"):
        run(*download, "--kind", "trades", "--venue", "kraken")


def test_something_wrong_ends_with_one(tmp_path: Path) -> None:
    root = tmp_path / "catalogue"
    run("import", csv(tmp_path / "BTCUSDT_1h.csv", [0, 1, 5, 6]), "--venue", "x", "--catalogue", root)
    code, answer = run("verify", "--catalogue", root)
    (finding,) = msgspec.convert(answer, dict[str, object])["findings"]  # type: ignore[misc]
    assert (code, finding["check"], finding["count"], finding["wrong"]) == (1, "gap", 3, True)
    code, _ = run("import", csv(tmp_path / "ETHUSDT_1h.csv", [0, 1], close="9"), "--venue", "x", "--catalogue", root)
    assert code == 1


def test_people_get_sentences(tmp_path: Path) -> None:
    bad = csv(tmp_path / "ETHUSDT_1h.csv", [0, 1], close="9")
    result = CliRunner().invoke(app, ["import", str(bad), "--venue", "x", "--catalogue", str(tmp_path / "c")])
    assert "high is below another price (lines 2, 3)" in result.output
    assert "1 of 1 markets were not imported" in result.output


def test_nothing_there_is_an_answer_with_the_next_step(tmp_path: Path) -> None:
    for command in (["verify"], ["export", "bars", "--out", str(tmp_path / "x.csv")]):
        with pytest.raises(InputError, match="cascade data download"):
            run(*command, "--catalogue", tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2025-01-01", T0 * 10**9), ("2025-01-01T00:00Z", T0 * 10**9), ("2025-01-01T01:00+01:00", T0 * 10**9),
        ("1d", 5 * DAY),
    ],
)  # fmt: skip
def test_dates_are_utc_or_days_ago(text: str, ns: int) -> None:
    assert instant_ns("--from", text, 6 * DAY) == ns


def test_a_range_the_wrong_way_round_is_refused(tmp_path: Path) -> None:
    asked = [
        "--venue",
        "mexc",
        "--symbols",
        "BTC/USDT",
        "--timeframe",
        "1h",
        "--from",
        "2025-01-02",
        "--to",
        "2025-01-01",
    ]
    with pytest.raises(InputError, match="is not before"):
        run("download", *asked, "--catalogue", tmp_path)
    with pytest.raises(InputError, match="write a date"):
        instant_ns("--from", "yesterday", 0)


@pytest.mark.timeout(90)
def test_ccxt_is_not_loaded_before_a_venue_is_asked() -> None:
    loaded = "import sys, services.cli.application, services.cli.data, services.cli.universe"
    check = f"{loaded}; print('ccxt' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout == "False\n"
