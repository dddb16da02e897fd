"""What becomes of a market that the venue halts, forgets, or puts on another grid."""

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec
import pytest

from shared.clock import NANOSECONDS_PER_SECOND
from shared.errors import RejectedError, UnavailableError
from shared.exchange.live import listing as module
from shared.exchange.live.filters import MarketRules
from shared.exchange.live.listing import Listing, halt_of, takes_orders
from shared.exchange.port import VenueRejectCode
from shared.messages import Instrument, Side

ONE, TWO = "ONE-USDT", "TWO-USDT"


def rules(token: str, **fields: object) -> MarketRules:
    base, _, quote = token.partition("-")
    cent = Decimal("0.01")
    return MarketRules(Instrument(token, base, quote, cent, cent, cent, Decimal(5)), cent, **fields)  # type: ignore[arg-type]


class Venue:
    """Be what a venue lists, and what a listing said about it."""

    def __init__(self) -> None:
        self.markets: dict[str, MarketRules] = {ONE: rules(ONE), TWO: rules(TWO)}
        self.problem: Exception | None = None
        self.halts: list[tuple[str, str]] = []
        self.grids: list[Instrument] = []
        self.looks = 0
        self.looked = asyncio.Event()

    async def ask(self, tokens: Sequence[str]) -> Mapping[str, MarketRules]:
        self.looks += 1
        self.looked.set()
        if self.problem is not None:
            raise self.problem
        return {token: self.markets[token] for token in tokens if token in self.markets}

    def listing(self, interval_s: float = 60.0) -> Listing:
        return Listing(
            dict(self.markets), self.ask, interval_s=interval_s, on_halt=lambda *one: self.halts.append(one),
            on_grid=self.grids.append,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (rules(ONE, is_trading=False, status="BREAK"), "BREAK"),
        (rules(ONE, sides=frozenset()), "not trading"),
        (None, "does not list"),
    ],
)
async def test_a_halt_and_its_end_are_told_once_each(found: MarketRules | None, words: str) -> None:
    venue = Venue()
    listing = venue.listing()
    if found is None:
        del venue.markets[ONE]
    else:
        venue.markets[ONE] = found
    for _ in range(2):
        await listing.look()
    ((token, reason),) = venue.halts
    assert token == ONE and words in reason
    venue.markets[ONE] = rules(ONE)
    for _ in range(2):
        await listing.look()
    assert venue.halts[1:] == [(ONE, "")]


async def test_a_market_that_is_halted_from_the_start_is_told() -> None:
    venue = Venue()
    venue.markets[TWO] = rules(TWO, is_trading=False)
    venue.listing()
    assert [token for token, _ in venue.halts] == [TWO]


def test_a_market_that_only_sells_still_trades() -> None:
    assert halt_of(rules(ONE, sides=frozenset({Side.SELL}))) == ""


async def test_silence_says_nothing_and_maintenance_halts_everything() -> None:
    venue = Venue()
    listing = venue.listing()
    for problem in (UnavailableError("timed out"), RejectedError("permission", "no")):
        venue.problem = problem
        await listing.look()
    assert venue.halts == []
    venue.problem = UnavailableError("exchangeInfo was not answered: 503 604 Sorry, under Maintenance")
    await listing.look()
    assert [token for token, _ in venue.halts] == [ONE, TWO]
    venue.problem = UnavailableError("timed out")
    await listing.look()
    assert len(venue.halts) == 2
    venue.problem = None
    await listing.look()
    assert venue.halts[2:] == [(ONE, ""), (TWO, "")]


async def test_a_changed_grid_is_told_once() -> None:
    venue = Venue()
    listing = venue.listing()
    changed = msgspec.structs.replace(venue.markets[ONE].instrument, tick_size=Decimal("0.1"))
    venue.markets[ONE] = msgspec.structs.replace(venue.markets[ONE], instrument=changed)
    for _ in range(2):
        await listing.look()
    assert venue.grids == [changed]
    assert venue.halts == []


async def test_a_refusal_that_casts_doubt_makes_it_look_at_once_and_others_do_not() -> None:
    venue = Venue()
    listing = venue.listing(interval_s=3600.0)
    running = asyncio.create_task(listing.run())
    for error in (RejectedError(VenueRejectCode.BALANCE.value, ""), UnavailableError("")):
        listing.on_refused(error)
    for _ in range(5):
        await asyncio.sleep(0)
    assert venue.looks == 0
    listing.on_refused(RejectedError(VenueRejectCode.MARKET_CLOSED.value, ""))
    async with asyncio.timeout(5):
        await venue.looked.wait()
    assert venue.looks == 1
    running.cancel()
    await asyncio.wait([running])


class Clock:
    """Be a time that only the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        monkeypatch.setattr(module, "monotonic_ns", lambda: int(self.now_s * NANOSECONDS_PER_SECOND))


async def test_orders_that_would_be_refused_ask_once_a_second_together(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, venue = Clock(monkeypatch), Venue()
    listing = venue.listing()
    await listing.before_refusal()
    assert venue.looks == 0  # it was looked at this very second
    clock.now_s += 1.0
    await asyncio.gather(*(listing.before_refusal() for _ in range(20)))
    assert venue.looks == 1
    clock.now_s += 0.9
    await listing.before_refusal()
    assert venue.looks == 1
    clock.now_s += 0.1
    venue.problem = UnavailableError("it is silent")
    await asyncio.gather(*(listing.before_refusal() for _ in range(20)))
    assert venue.looks == 2


async def test_an_order_waits_for_no_answer_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, venue = Clock(monkeypatch), Venue()
    monkeypatch.setattr(module, "LOOK_TIMEOUT_S", 0.02)

    async def never(_: Sequence[str]) -> Mapping[str, MarketRules]:
        await asyncio.Event().wait()
        return {}

    listing = Listing(dict(venue.markets), never, interval_s=60.0)
    clock.now_s += 5.0
    await listing.before_refusal()
    clock.now_s += 5.0
    await asyncio.gather(listing.before_refusal(), listing.before_refusal())


def test_a_market_takes_orders_on_the_sides_that_it_says() -> None:
    assert takes_orders(rules(ONE), Side.BUY)
    assert not takes_orders(rules(ONE, is_trading=False), Side.BUY)
    assert not takes_orders(rules(ONE, sides=frozenset({Side.SELL})), Side.BUY)
