"""What a user may get wrong about assets and candles, and what the error says."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from services.backtest.data import bus_names, data_path, load_market
from shared.errors import ConfigError, InputError

HEADER = "symbol,open_time,open,high,low,close,volume\n"
START_MS = 1_767_225_600_000
HOUR_MS = 3_600_000
NAMES = {"A-USDT": "A", "B-USDT": "B"}


def rows(symbol: str, count: int, *, step_ms: int = 4 * HOUR_MS, first_ms: int = START_MS) -> list[str]:
    return [f"{symbol},{first_ms + number * step_ms},10.0,11.5,9.25,10.5,1000.125" for number in range(count)]


def write(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "candles.csv"
    path.write_text(HEADER + "\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["HANA", "AIA"], {"HANA-USDT": "HANA", "AIA-USDT": "AIA"}),
        (["HANAUSDT", "aia-usdt"], {"HANA-USDT": "HANAUSDT", "AIA-USDT": "aia-usdt"}),
        (["WBTC", "STETH"], {"WBTC-USDT": "WBTC", "STETH-USDT": "STETH"}),
        (["ADA/BTC", "ETH"], {"ADA-BTC": "ADA/BTC", "ETH-BTC": "ETH"}),
        ([" A ", "B", ""], {"A-USDT": "A", "B-USDT": "B"}),
    ],
)
def test_names_are_understood_with_and_without_a_quote(given: list[str], expected: dict[str, str]) -> None:
    assert bus_names(given)[0] == expected


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["A"], "at least two"),
        ([], "at least two"),
        (["A", "AUSDT"], "A-USDT twice"),
        (["A/BTC", "B/ETH"], "BTC and ETH"),
    ],
)
def test_names_that_cannot_be_a_basket_are_refused(given: list[str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        bus_names(given)


def test_data_comes_from_the_argument_then_from_the_environment() -> None:
    environ = {"CASCADE_DATA": "/a", "CASCADE_REPLAY": "/b"}
    assert data_path("/c", environ) == Path("/c")
    assert data_path(None, environ) == Path("/a")
    assert data_path(None, {"CASCADE_REPLAY": "/b"}) == Path("/b")
    with pytest.raises(ConfigError, match="CASCADE_DATA"):
        data_path(None, {})


def test_range_takes_texts_dates_and_times(tmp_path: Path) -> None:
    path = write(tmp_path, *rows("AUSDT", 30), *rows("BUSDT", 30))
    for start, end in (
        ("2026-01-02", "2026-01-04"),
        (date(2026, 1, 2), date(2026, 1, 4)),
        (datetime(2026, 1, 2), datetime(2026, 1, 4, tzinfo=UTC)),  # noqa: DTZ001 - a naive time counts as UTC
    ):
        market = load_market(path, NAMES, "USDT", start=start, end=end)
        assert market.info.steps == 12
        assert (market.timeframe, market.timeframe_ns) == ("4h", 4 * HOUR_MS * 1_000_000)


def test_unknown_asset_is_named_with_likely_ones(tmp_path: Path) -> None:
    path = write(tmp_path, *rows("HANAUSDT", 3), *rows("AIAUSDT", 3))
    with pytest.raises(InputError, match=r"HANNA-USDT is not in .*HANAUSDT.*Correct --assets"):
        load_market(path, bus_names(["HANNA", "AIA"])[0], "USDT")


def test_wrong_interval_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, *rows("AUSDT", 3), *rows("BUSDT", 3))
    with pytest.raises(ConfigError, match=r"interval is 1h, but candles.csv has bars of 4h: give --interval 4h"):
        load_market(path, NAMES, "USDT", interval="1h")
    with pytest.raises(ConfigError, match="--interval: timeframe must look like"):
        load_market(path, NAMES, "USDT", interval="fortnight")
    assert load_market(path, NAMES, "USDT", interval="240m").timeframe == "4h"


def test_unsorted_double_and_overlapping_candles_are_refused(tmp_path: Path) -> None:
    good, other = rows("AUSDT", 6), rows("BUSDT", 6)
    late = rows("AUSDT", 1, first_ms=START_MS + HOUR_MS)
    for lines, text in (
        ([good[1], good[0], *good[2:]], "before that of the row above"),
        ([good[0], good[0], *good[1:]], "appears twice"),
        ([good[0], *late, *good[1:]], "overlaps the one before it"),
    ):
        with pytest.raises(InputError, match=text):
            load_market(write(tmp_path, *lines, *other), NAMES, "USDT")


def test_empty_range_is_refused_in_the_users_words(tmp_path: Path) -> None:
    path = write(tmp_path, *rows("AUSDT", 6), *rows("BUSDT", 6))
    with pytest.raises(InputError, match=r"no bar from .*Correct --from and --to") as caught:
        load_market(path, NAMES, "USDT", start="2027-01-01")
    assert "market_data" not in str(caught.value)
    with pytest.raises(ConfigError, match="end must be after start"):
        load_market(path, NAMES, "USDT", start="2026-02-01", end="2026-01-01")


def test_gaps_are_held_or_refused(tmp_path: Path) -> None:
    path = write(tmp_path, *rows("AUSDT", 6), *rows("BUSDT", 4))
    assert load_market(path, NAMES, "USDT").info.missing == 2
    with pytest.raises(InputError, match="give --gaps hold") as caught:
        load_market(path, NAMES, "USDT", gaps="refuse")
    assert "market_data" not in str(caught.value)
