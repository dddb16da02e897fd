"""Trades of both sandbox venues through the unmodified ccxt into the catalogue, whatever goes wrong on the way."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random

import aiohttp
import msgspec
import pytest

from services.sandbox_exchange.app import RunningSandbox, start
from services.sandbox_exchange.config import SandboxConfig, Source
from services.sandbox_exchange.core.model import HOUSE, OrderKind, PlaceOrder
from shared.clock import wall_ns
from shared.errors import InputError, UnavailableError
from shared.exchange.history import CcxtHistory
from shared.exchange.history_trades import CcxtTrades
from shared.messages import Side, TimeInForce
from shared.store.catalogue.catalogue import Catalogue, union
from shared.store.catalogue.download import Download, Downloaded
from shared.store.catalogue.files import SeriesKey
from shared.store.catalogue.trade_bars import make_bars
from shared.store.catalogue.trades import TradeDownload
from shared.store.catalogue.verify import Check, gaps, verify
from shared.testing.sandbox import AdminClient

MINUTE = 60_000_000_000
HOUR = 60 * MINUTE
SYMBOL, INSTRUMENT = "HUSDT", "H-USDT"
TRADES = 2_600


async def no_sleep(_: float) -> None:
    await asyncio.sleep(0)


class Rig:
    """A venue whose past the test writes, a source on it, a catalogue."""

    def __init__(self, venue: str, running: RunningSandbox, admin: AdminClient, root: Path) -> None:
        self.venue, self.running, self.admin = venue, running, admin
        self.catalogue = Catalogue(root)
        self.key = SeriesKey("trades", venue, INSTRUMENT)
        self.history = CcxtHistory(
            venue, base_url=running.rest_url, rate_per_s=10_000, attempts_max=7, random=Random(1), sleep=no_sleep
        )
        self.begin = wall_ns() // HOUR * HOUR - 3 * HOUR
        self.end = self.begin + 2 * HOUR + 30 * MINUTE
        self.happened: list[tuple[int, str, Decimal, Decimal]] = []

    def trade(self, count: int, *, start: int | None = None, end: int | None = None, seed: int = 3) -> None:
        """Let the house trade with itself at drawn times, several trades of one millisecond among them."""
        random = Random(seed)
        exchange = self.running.venue.exchange
        begin, until = start or self.begin, end or self.end
        steps = sorted(random.randrange(begin // 1_000_000, until // 1_000_000) for _ in range(count))
        times = [steps[at - 1] if at % 5 == 0 and at else steps[at] for at in range(count)]
        depth = exchange.depth(SYMBOL, 1)
        low, high = depth.bids[0][0], depth.asks[0][0]
        tick = exchange.markets[SYMBOL].instrument.tick_size
        step = exchange.markets[SYMBOL].instrument.step_size
        between = int((high - low) / tick) - 1
        for time_ms in times:
            price = low + tick * random.randrange(1, between)
            quantity = step * random.randrange(9_000, 90_000)
            side = random.choice([Side.BUY, Side.SELL])
            other = Side.SELL if side is Side.BUY else Side.BUY
            order = PlaceOrder(HOUSE, SYMBOL, other, OrderKind.LIMIT, quantity=quantity, price=price)
            exchange.place(order, time_ms * 1_000_000)
            taken = msgspec.structs.replace(order, side=side, time_in_force=TimeInForce.IOC)
            exchange.place(taken, time_ms * 1_000_000)
            self.happened.append((time_ms * 1_000_000, side.value, price, quantity))

    async def run(self, begin: int | None = None, end: int | None = None, *, again: bool = False) -> Downloaded:
        download = self.download()
        return await download.run(begin or self.begin, end or self.end, again=again)

    def download(self) -> TradeDownload:
        return TradeDownload(self.catalogue, CcxtTrades(self.history), self.key, grace_ns=0, rows_per_commit=700)

    async def asked_for(self, requests: int, who: asyncio.Future[object]) -> None:
        """Wait until so many requests for trades have come, or nobody asks any more."""
        for _ in range(100_000):
            if who.done() or len(await self.admin.requests("GET /api/v3/aggTrades")) >= requests:
                return
            await asyncio.sleep(0.005)

    def stored(self) -> list[tuple[int, str, Decimal, Decimal]]:
        table = self.catalogue.read(self.key)
        return [
            (time_ns, side, Decimal(repr(price)), Decimal(repr(quantity)))
            for time_ns, side, price, quantity in zip(
                *(table[name].to_pylist() for name in ("ts_event_ns", "side", "price", "quantity")), strict=True
            )
        ]

    def expected(self, begin: int | None = None, end: int | None = None) -> list[tuple[int, str, Decimal, Decimal]]:
        """Return what happened, as the venue tells it: MEXC joins what was one moment, price and side."""
        found: list[tuple[int, str, Decimal, Decimal]] = []
        for one in self.happened:
            if not (begin or self.begin) <= one[0] < (end or self.end):
                continue
            if self.venue == "mexc" and found and found[-1][:3] == one[:3]:
                found[-1] = (*one[:3], found[-1][3] + one[3])
            else:
                found.append(one)
        return found


@contextlib.asynccontextmanager
async def rig_of(venue: str, root: Path) -> AsyncIterator[Rig]:
    config = msgspec.convert({"venue": venue, "source": Source.STILL, "symbols": [SYMBOL]}, SandboxConfig, strict=False)
    running = await start(config)
    try:
        async with aiohttp.ClientSession() as session:
            rig = Rig(venue, running, AdminClient(running.admin_url, session), root)
            try:
                yield rig
            finally:
                await rig.history.close()
    finally:
        await running.close()


@pytest.fixture(params=["mexc", "binance"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig_of(request.param, tmp_path) as made:
        made.trade(TRADES)
        yield made


async def test_every_trade_comes_once_in_the_venues_order(rig: Rig) -> None:
    result = await rig.run()
    assert rig.stored() == rig.expected()
    assert (result.added, result.same, result.empty, result.refused) == (len(rig.expected()), 0, 0, 0)
    assert result.notes == ()
    manifest = rig.catalogue.manifest(rig.key)
    assert manifest is not None
    assert manifest.covered == ((rig.begin, rig.end),)
    assert not verify(rig.catalogue, rig.key)
    before = len(await rig.admin.requests())
    assert await rig.run() == Downloaded(rig.key)
    assert not [one for one in (await rig.admin.requests())[before:] if "rades" in one.route]


async def test_bars_of_the_trades_are_the_venues_candles(rig: Rig) -> None:
    await rig.run()
    made = make_bars(rig.catalogue, rig.key, "5m")
    bars_key = SeriesKey("bars", rig.venue, INSTRUMENT, "5m")
    ours = rig.catalogue.read(bars_key).drop_columns(["quote_volume", "quote_volume_exact"])
    assert made.added == ours.num_rows == 30
    theirs = Catalogue(rig.catalogue.root / "candles")
    await Download(theirs, rig.history, bars_key).run(rig.begin, rig.end)
    assert ours == theirs.read(bars_key).drop_columns(["quote_volume", "quote_volume_exact"])
    assert make_bars(rig.catalogue, rig.key, "5m").added == 0
    assert not verify(rig.catalogue, rig.key)


async def test_a_range_in_the_middle_has_sharp_edges(rig: Rig) -> None:
    begin, end = rig.begin + 17 * MINUTE, rig.begin + 71 * MINUTE
    await rig.run(begin, end)
    assert rig.stored() == rig.expected(begin, end)
    await rig.run()
    assert rig.stored() == rig.expected()


@pytest.mark.parametrize("fault", ["http_429", "http_5xx", "html_200", "empty_200", "reset_before", "http_403"])
async def test_faults_change_nothing(rig: Rig, fault: str) -> None:
    for after in (1, 2, 4, 5, 7):
        await rig.admin.arm(fault, route="GET /api/v3/aggTrades", after=after)
    await rig.run()
    assert rig.stored() == rig.expected()
    assert await rig.admin.fired(fault) > 0


async def test_a_venue_that_stays_down_leaves_what_came(rig: Rig) -> None:
    await rig.admin.arm("http_5xx", route="GET /api/v3/aggTrades", after=6, times=7)
    with pytest.raises(UnavailableError, match="after 7 attempts"):
        await rig.run()
    assert len(rig.stored()) < len(rig.expected())
    await rig.run()
    assert rig.stored() == rig.expected()
    assert not verify(rig.catalogue, rig.key)


async def test_a_cancelled_download_goes_on_without_holes_or_doubles(rig: Rig) -> None:
    for requests in (3, 6, 9):
        seen = len(await rig.admin.requests("GET /api/v3/aggTrades"))
        task = asyncio.create_task(rig.run())
        await rig.asked_for(seen + requests, task)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        stored = rig.stored()
        assert len(set(rig.catalogue.read(rig.key)["trade_id"].to_pylist())) == len(stored)
    await rig.run()
    assert rig.stored() == rig.expected()
    assert not verify(rig.catalogue, rig.key)


async def test_trades_after_the_newest_are_there_the_next_time(rig: Rig) -> None:
    later = rig.end + 20 * MINUTE
    await rig.run(end=later)
    rig.trade(50, start=rig.end + 21 * MINUTE, end=rig.end + 29 * MINUTE, seed=9)
    await rig.run(end=rig.end + 29 * MINUTE)
    assert rig.stored() == rig.expected(end=rig.end + 29 * MINUTE)


async def test_what_the_venue_does_not_serve_any_more_is_said(tmp_path: Path) -> None:
    async with rig_of("mexc", tmp_path) as rig:
        rig.trade(TRADES)
        market = rig.running.venue.exchange._book(SYMBOL)
        forgotten = [one for one in market.trades if one.time_ns < rig.begin + 80 * MINUTE]
        for _ in forgotten:
            market.trades.popleft()
        result = await rig.run()
        assert len(result.notes) == 2
        assert "fewer trades than their candles" in result.notes[0]
        assert "serves recent trades only" in result.notes[1]
        assert rig.stored() == rig.expected(rig.begin + 80 * MINUTE)
        manifest = rig.catalogue.manifest(rig.key)
        assert manifest is not None
        assert manifest.covered == ((rig.begin + 80 * MINUTE, rig.end),)


async def test_a_gap_in_the_ids_is_found_and_filled(tmp_path: Path) -> None:
    async with rig_of("binance", tmp_path) as rig:
        rig.trade(900)
        await rig.run(end=rig.begin + 40 * MINUTE)
        await rig.run(rig.begin + 60 * MINUTE)
        (gap,) = gaps(rig.catalogue, rig.key)
        missing = len(rig.expected()) - len(rig.stored())
        assert (gap.missing, gap.known) == (missing, False)
        assert [one.check for one in verify(rig.catalogue, rig.key)] == [Check.GAP]
        await rig.run(gap.start_ns, gap.end_ns + 1)
        assert rig.stored() == rig.expected()
        assert not gaps(rig.catalogue, rig.key)


async def test_other_venues_are_refused_with_what_is_possible() -> None:
    history = CcxtHistory("kraken")
    try:
        with pytest.raises(InputError, match=r"of kraken cannot be downloaded.*binance.*mexc.*import"):
            CcxtTrades(history)
    finally:
        await history.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("venue", ["mexc", "binance"])
async def test_a_killed_command_goes_on_without_holes_or_doubles(venue: str, tmp_path: Path) -> None:
    async with rig_of(venue, tmp_path / "other") as rig:
        rig.trade(TRADES)
        arguments = [
            sys.executable, "-m", "services.cli", "data", "download", "--venue", venue, "--symbols", "H/USDT",
            "--kind", "trades", "--from", iso(rig.begin), "--to", iso(rig.end), "--url", rig.running.rest_url, "--rate",
            "200", "--catalogue", str(tmp_path / "catalogue"), "--json",
        ]  # fmt: skip
        pipe = asyncio.subprocess.PIPE
        for how, requests in ((signal.SIGKILL, 3), (signal.SIGINT, 4)):
            seen = len(await rig.admin.requests("GET /api/v3/aggTrades"))
            await rig.admin.arm("latency", route="GET /api/v3/aggTrades", parameter=0.2, times=100)
            process = await asyncio.create_subprocess_exec(*arguments, stdout=pipe, stderr=pipe, env={**os.environ})
            told = asyncio.create_task(process.communicate())
            await rig.asked_for(seen + requests, told)
            assert not told.done(), (await told)[1].decode()
            process.send_signal(how)
            await told
            assert process.returncode not in (0, None)
            await rig.admin.disarm()
        process = await asyncio.create_subprocess_exec(*arguments, stdout=pipe, stderr=pipe)
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        assert msgspec.json.decode(out)["failures"] == []
        rig.catalogue = Catalogue(tmp_path / "catalogue")
        assert rig.stored() == rig.expected()
        assert not verify(rig.catalogue, rig.key)
        assert union(rig.catalogue.manifest(rig.key).covered) == [(rig.begin, rig.end)]  # type: ignore[union-attr]


def iso(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).isoformat()
