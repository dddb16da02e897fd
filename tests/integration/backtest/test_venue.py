"""A backtest on candles that it downloads from a venue: once, closed bars only, the same as from the catalogue."""

import json
from pathlib import Path

import pytest

from services.backtest.core.log import RunLog
from services.rebalancer import BacktestEngine
from shared.config import timeframe_ns
from shared.errors import ConfigError, InputError
from shared.testing.fake_klines import FakeKlines, FakeMarket

START_NS = 1_767_225_600_000_000_000
NAMES = ("AAA", "BBB", "CCC")
BAR_NS = timeframe_ns("4h")


def markets() -> list[FakeMarket]:
    return [FakeMarket(f"{name}USDT", name, "USDT", START_NS - 10 * BAR_NS) for name in NAMES]


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CASCADE_CATALOGUE", str(tmp_path / "catalogue"))
    return tmp_path / "catalogue"


async def run(venue: FakeKlines, monkeypatch: pytest.MonkeyPatch, **changes: object) -> RunLog:
    monkeypatch.setenv("CASCADE_VENUE_URL", venue.url)
    given = {"data": "venue:mexc", "interval": "4h"} | changes
    engine = BacktestEngine(list(NAMES), **given)  # type: ignore[arg-type] # keywords of the test
    return (await engine.run_backtest(start_date="2026-01-01")).log


async def test_candles_come_from_the_venue_and_stay(catalogue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeKlines(markets(), START_NS + 60 * BAR_NS + 60_000_000_000) as venue:
        first = await run(venue, monkeypatch)
        assert len(first.times_ns) == 60
        assert first.times_ns[0] == START_NS + BAR_NS
        asked = len(venue.asked)
        again = await run(venue, monkeypatch)
        assert again.events == first.events
        assert len(venue.asked) == asked > 0
    folder = catalogue / "bars" / "venue=mexc" / "timeframe=4h"
    kept = await BacktestEngine(list(NAMES), data=folder).run_backtest(start_date="2026-01-01")
    assert kept.log.events == first.events
    assert kept.log.closes == first.closes
    json.loads(kept.to_json())


@pytest.mark.usefixtures("catalogue")
async def test_a_venue_needs_an_interval_a_beginning_and_known_markets(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeKlines(markets(), START_NS + 60 * BAR_NS + 60_000_000_000) as venue:
        with pytest.raises(ConfigError, match=r"venue:mexc needs an interval \(--interval 4h\)"):
            await run(venue, monkeypatch, interval=None)
        with pytest.raises(ConfigError, match=r"venue:mexc needs a beginning \(--from"):
            await BacktestEngine(list(NAMES), data="venue:mexc", interval="4h").run_backtest()
        with pytest.raises(InputError, match="ZZZ"):
            await BacktestEngine(["AAA", "ZZZ"], data="venue:mexc", interval="4h").run_backtest("2026-01-01")
        with pytest.raises(InputError, match="nowhere"):
            await run(venue, monkeypatch, data="venue:nowhere")
