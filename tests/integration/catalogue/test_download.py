"""The unmodified ccxt against a server that speaks the venue's history, with everything that goes wrong there."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from random import Random

import msgspec
import pyarrow.compute as pc
import pytest

from shared.errors import InputError, UnavailableError
from shared.exchange.history import CcxtHistory
from shared.store.catalogue.catalogue import Catalogue
from shared.store.catalogue.download import Download, Downloaded
from shared.store.catalogue.files import SeriesKey
from shared.store.catalogue.read import read_exact
from shared.store.catalogue.verify import gaps, verify
from shared.testing.fake_klines import FakeKlines, FakeMarket

HOUR = 3_600_000_000_000
START = 1_767_225_600_000_000_000
NOW = START + 100 * 24 * HOUR + 90 * 60 * 1_000_000_000
# The bar of 100 days and 0 hours has closed half an hour ago, the next one is open.
BARS = 100 * 24 + 1


async def no_sleep(_: float) -> None:
    await asyncio.sleep(0)


def market(*, listed: int = 0, holes: tuple[tuple[int, int], ...] = ()) -> FakeMarket:
    spans = tuple((START + begin * HOUR, START + end * HOUR) for begin, end in holes)
    return FakeMarket("BTCUSDT", "BTC", "USDT", START + listed * HOUR, spans)


class Setup:
    """A venue, a source on it, a catalogue."""

    def __init__(self, name: str, server: FakeKlines, root: Path, attempts_max: int = 7) -> None:
        self.server = server
        self.source = CcxtHistory(
            name, base_url=server.url, rate_per_s=10_000, attempts_max=attempts_max, random=Random(1), sleep=no_sleep,
            clock_ns=lambda: NOW + 10 * HOUR,
        )  # fmt: skip
        self.catalogue = Catalogue(root)
        self.key = SeriesKey("bars", name, "BTC-USDT", "1h")

    async def run(self, begin: int = 0, end: int = 200 * 24, *, again: bool = False) -> Downloaded:
        download = Download(self.catalogue, self.source, self.key)
        return await download.run(START + begin * HOUR, START + end * HOUR, again=again)

    def hours(self) -> list[int]:
        times = self.catalogue.read(self.key, columns=["open_time_ns"])["open_time_ns"].to_pylist()
        return [(time - START) // HOUR for time in times]


@pytest.fixture(params=["mexc", "binance"])
async def setup(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Setup]:
    async with FakeKlines([market()], NOW, venue=request.param) as server:
        made = Setup(request.param, server, tmp_path)
        yield made
        await made.source.close()


async def test_closed_bars_come_complete_and_exact(setup: Setup) -> None:
    result = await setup.run()
    assert (result.added, result.refused, result.empty) == (BARS, 0, 0)
    assert setup.hours() == list(range(BARS))
    only = setup.server.markets["BTCUSDT"]
    for bar in read_exact(setup.catalogue, setup.key):
        expected = setup.server.bar(only, bar.open_time_ns, HOUR)
        assert [bar.open, bar.high, bar.low, bar.close, bar.volume] == [Decimal(text) for text in expected[1:6]]


async def test_the_open_bar_stays_out_although_this_machines_clock_is_ahead(setup: Setup) -> None:
    await setup.run()
    assert max(setup.hours()) == BARS - 1
    setup.server.now_ns += HOUR
    assert (await setup.run()).added == 1


@pytest.mark.parametrize("fault", ["429", "500", "503", "html", "truncated", "reset", "empty", "duplicate", "drop"])
async def test_one_fault_changes_nothing(setup: Setup, fault: str) -> None:
    setup.server.faults.extend(["", fault])
    await setup.run()
    assert setup.hours() == list(range(BARS))
    assert not verify(setup.catalogue, setup.key)


async def test_many_faults_change_nothing(setup: Setup) -> None:
    random = Random(7)
    kinds = ["", "", "", "429", "500", "html", "truncated", "duplicate", "drop"]
    setup.server.faults.extend(random.choice(kinds) for _ in range(60))
    await setup.run()
    assert setup.hours() == list(range(BARS))


async def test_a_page_shorter_than_the_venues_limit_says_loses_nothing(setup: Setup) -> None:
    setup.server.page_max = 170
    setup.server.markets["BTCUSDT"] = market(holes=((0, 3), (100, 130), (171, 172), (900, 1400)))
    await setup.run()
    there = [hour for hour in range(BARS) if not (hour < 3 or 100 <= hour < 130 or hour == 171 or 900 <= hour < 1400)]
    assert setup.hours() == there


async def test_a_market_listed_late_costs_few_requests(setup: Setup) -> None:
    setup.server.markets["BTCUSDT"] = market(listed=90 * 24 + 5)
    result = await setup.run()
    assert setup.hours() == list(range(90 * 24 + 5, BARS))
    assert result.requests <= 7


async def test_a_hole_of_the_venue_is_known_and_not_asked_for_again(setup: Setup) -> None:
    setup.server.markets["BTCUSDT"] = market(holes=((500, 548),))
    await setup.run()
    assert [(gap.missing, gap.known) for gap in gaps(setup.catalogue, setup.key)] == [(48, True)]
    assert not any(finding.is_wrong for finding in verify(setup.catalogue, setup.key))
    before = setup.server.requests["klines"]
    assert await setup.run() == Downloaded(setup.key)
    assert setup.server.requests["klines"] == before
    setup.server.markets["BTCUSDT"] = market()
    assert (await setup.run(again=True)).added == 48


async def test_overlapping_downloads_ask_only_for_what_is_missing(setup: Setup) -> None:
    await setup.run(1000, 1100)
    result = await setup.run(900, 1200)
    assert (result.added, result.same) == (200, 0)
    assert setup.hours() == list(range(900, 1200))


async def test_a_venue_that_stays_down_leaves_what_came(setup: Setup) -> None:
    setup.server.faults.extend(["", "", "", *["503"] * 7])
    with pytest.raises(UnavailableError, match="after 7 attempts"):
        await setup.run()
    kept = setup.hours()
    assert 0 < len(kept) < BARS
    await setup.run()
    assert setup.hours() == list(range(BARS))


async def test_a_cancelled_download_keeps_its_pages(setup: Setup) -> None:
    setup.server.delay_s, setup.server.page_max = 0.02, 100
    task = asyncio.create_task(setup.run())
    await setup.server.asked_for(15)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(setup.hours()) >= 500
    setup.server.delay_s = 0
    await setup.run()
    assert setup.hours() == list(range(BARS))


async def test_an_impossible_bar_is_refused_and_asked_for_another_time(setup: Setup) -> None:
    setup.server.faults.extend(["bad", "bad"])
    result = await setup.run(0, 100)
    assert result.refused == 1
    assert setup.hours() == list(range(1, 100))
    await setup.run(0, 100)
    assert setup.hours() == list(range(100))


async def test_bars_off_the_grid_are_the_answer_to_another_question(setup: Setup) -> None:
    setup.server.faults.append("shifted")
    with pytest.raises(UnavailableError, match="off the 1h grid"):
        await setup.run()


async def test_an_answer_that_never_agrees_with_itself_is_not_kept(setup: Setup) -> None:
    setup.server.faults.extend(["drop"] * 30)
    with pytest.raises(UnavailableError, match="each time"):
        await setup.run(0, 100)
    assert setup.catalogue.manifest(setup.key) is None


async def test_a_venues_changed_bar_is_counted_and_the_stored_one_stays(setup: Setup) -> None:
    await setup.run(0, 10)
    before = setup.catalogue.read(setup.key)
    place = before.column_names.index("volume")
    changed = before.set_column(place, "volume", pc.multiply(before["volume"], 2))
    setup.catalogue.write(setup.key, changed, replace=True)
    assert (await setup.run(0, 10, again=True)).conflicts == 10
    assert setup.catalogue.read(setup.key) == changed


async def test_unknown_names_come_with_suggestions(setup: Setup) -> None:
    with pytest.raises(InputError, match="did you mean BTC-USDT"):
        await setup.source.check(["BTC-USDC"], "1h")
    with pytest.raises(InputError, match="no 7m candles"):
        await setup.source.check(["BTC-USDT"], "7m")
    with pytest.raises(InputError, match="did you mean mexc"):
        CcxtHistory("mexk")


@pytest.mark.parametrize("fault", ["html", "truncated", "500", "429"])
async def test_the_list_of_markets_is_asked_for_until_it_comes(setup: Setup, fault: str) -> None:
    setup.server.market_faults.extend([fault, fault])
    assert [one.instrument for one in await setup.source.markets()] == ["BTC-USDT"]


async def test_a_venue_that_is_not_there_is_named(tmp_path: Path) -> None:
    source = CcxtHistory("mexc", base_url="http://127.0.0.1:9", attempts_max=2, sleep=no_sleep, rate_per_s=1000)
    try:
        with pytest.raises(UnavailableError, match="mexc does not give markets after 2 attempts"):
            await source.check(["BTC-USDT"], "1h")
    finally:
        await source.close()


def command(server: FakeKlines, root: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "services.cli", "data", "download", "--venue", "mexc", "--symbols", "BTC/USDT,ETH/USDT",
        "--timeframe", "1h", "--from", "2026-01-01", "--to", "2026-04-01", "--url", server.url, "--rate", "500",
        "--catalogue", str(root), *more,
    ]  # fmt: skip


async def start(arguments: list[str]) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *arguments, stdout=pipe, stderr=pipe, env={**os.environ, "TERM": "dumb"}
    )


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_killed_download_goes_on_without_holes_or_doubles(tmp_path: Path) -> None:
    markets = [market(), FakeMarket("ETHUSDT", "ETH", "USDT", START)]
    # The command compares the venue's time with this machine's, which may be later or earlier than these bars.
    async with FakeKlines(markets, NOW) as server:
        server.page_max, server.delay_s = 40, 0.01
        for how, requests in ((signal.SIGKILL, 30), (signal.SIGINT, 60)):
            process = await start(command(server, tmp_path))
            await server.asked_for(requests)
            process.send_signal(how)
            await process.communicate()
            assert process.returncode not in (0, None)
        server.delay_s = 0
        process = await start(command(server, tmp_path, "--json"))
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        assert msgspec.json.decode(out)["failures"] == []
    catalogue = Catalogue(tmp_path)
    for key in catalogue.series():
        hours = [(time - START) // HOUR for time in catalogue.read(key)["open_time_ns"].to_pylist()]
        assert hours == list(range(90 * 24))
        assert not verify(catalogue, key)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_gaps_are_shown_and_filled(setup: Setup) -> None:
    if setup.key.venue != "mexc":
        pytest.skip("one venue shows what the command does")
    await setup.run(0, 100)
    await setup.run(150, 300)
    setup.server.markets["BTCUSDT"] = market(holes=((120, 125),))
    arguments = [
        sys.executable,
        "-m",
        "services.cli",
        "data",
        "gaps",
        "--catalogue",
        str(setup.catalogue.root),
        "--json",
    ]
    out, _ = await (await start(arguments)).communicate()
    assert [one["missing"] for one in msgspec.json.decode(out)] == [50]
    process = await start([*arguments, "--fill", "--url", setup.server.url])
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert [(one["missing"], one["known_at_the_venue"]) for one in msgspec.json.decode(out)] == [(5, True)]
    assert setup.hours() == [*range(120), *range(125, 300)]


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_the_command_ends_with_a_sentence_when_the_venue_is_down(tmp_path: Path) -> None:
    async with FakeKlines([market(), FakeMarket("ETHUSDT", "ETH", "USDT", START)], NOW) as server:
        process = await start([*command(server, tmp_path), "--timeframe", "5h"])
        _, err = await process.communicate()
    assert process.returncode == 2
    assert b"mexc has no 5h candles" in err
    assert b"Traceback" not in err


async def test_tickers_and_markets_are_facts_for_a_universe(setup: Setup) -> None:
    (market_facts,) = await setup.source.markets()
    (ticker,) = await setup.source.tickers()
    assert (market_facts.instrument, market_facts.base, market_facts.is_active) == ("BTC-USDT", "BTC", True)
    assert (ticker.instrument, ticker.bid, ticker.ask) == ("BTC-USDT", "9.99", "10.01")
    assert Decimal(ticker.quote_volume or "0") == 10_000
