"""The market in force: whole steps only, newer over older, nothing that is no price."""

import math

import pytest

from services.risk.core.market import Market
from shared.messages import RELEASED, Balance, Bbo, FeedState, MarketStatus
from tests.unit.risk.worlds import NOW_NS, STEP_NS, VENUE, D, bar, closed, corrupt, instrument

LATER_NS = NOW_NS + STEP_NS


def opened() -> Market:
    market = Market()
    market.on_instrument(instrument())
    market.on_bar(bar("A-USDT", 100.0))
    market.on_closed(closed())
    return market


def close(market: Market) -> str | None:
    price = market.price("A-USDT")
    return None if price is None else str(price.value)


def test_a_bar_comes_in_force_when_its_step_is_closed() -> None:
    market = opened()
    market.on_bar(bar("A-USDT", 110.0, LATER_NS))
    assert close(market) == "100.0"
    market.on_closed(closed(LATER_NS))
    assert close(market) == "110.0"


def test_a_first_bar_is_no_price_before_its_step_is_closed() -> None:
    market = Market()
    market.on_bar(bar("A-USDT", 100.0))
    assert close(market) is None


def test_older_repeated_and_revised_bars_change_nothing() -> None:
    market = opened()
    assert market.on_bar(bar("A-USDT", 100.0))
    assert not market.on_bar(bar("A-USDT", 50.0))
    assert not market.on_bar(bar("A-USDT", 70.0, NOW_NS - STEP_NS))
    assert not market.on_closed(closed(NOW_NS - STEP_NS))
    assert (close(market), market.closed_ns) == ("100.0", NOW_NS)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, 1e-300, 1e300])
def test_what_is_no_price_is_not_taken_and_the_last_one_ages(value: float) -> None:
    market = opened()
    assert not market.on_bar(bar("A-USDT", value, LATER_NS))
    market.on_closed(closed(LATER_NS))
    price = market.price("A-USDT")
    assert price is not None
    assert price.at_ns == NOW_NS


def test_an_instrument_with_an_impossible_grid_is_not_taken() -> None:
    market = Market()
    for name in ("tick_size", "step_size"):
        for value in (D("NaN"), D(0), D("1e-9999"), D("1e9999")):
            assert not market.on_instrument(corrupt(instrument(), **{name: value}))
    assert not market.instruments


def test_the_newest_quote_counts_and_one_without_a_price_is_kept_as_such() -> None:
    market = opened()
    market.on_quote(Bbo(VENUE, "A-USDT", 99.0, 1.0, 101.0, 1.0, NOW_NS, NOW_NS, 2))
    market.on_quote(Bbo(VENUE, "A-USDT", 1.0, 1.0, 2.0, 1.0, NOW_NS - 1, NOW_NS, 1))
    quote = market.quote("A-USDT")
    assert quote is not None
    assert (quote.bid, quote.ask) == (D("99.0"), D("101.0"))
    market.on_quote(Bbo(VENUE, "A-USDT", math.nan, 1.0, 101.0, 1.0, NOW_NS + 1, NOW_NS, 3))
    quote = market.quote("A-USDT")
    assert quote is not None
    assert quote.bid == 0


def test_a_frozen_feed_thaws_with_its_next_step_and_a_frozen_instrument_only_by_word() -> None:
    market = opened()
    market.on_status(MarketStatus(VENUE, None, FeedState.FROZEN, "paused", NOW_NS))
    assert market.feed("A-USDT") is FeedState.FROZEN
    market.on_closed(closed(LATER_NS))
    assert market.feed("A-USDT") is FeedState.LIVE
    market.on_status(MarketStatus(VENUE, "A-USDT", FeedState.FROZEN, "delisted", NOW_NS))
    market.on_closed(closed(LATER_NS + STEP_NS))
    assert market.feed("A-USDT") is FeedState.FROZEN
    assert market.feed("B-USDT") is FeedState.LIVE
    market.on_status(MarketStatus(VENUE, "A-USDT", FeedState.LIVE, "back", NOW_NS))
    assert market.feed("A-USDT") is FeedState.LIVE


def test_the_last_step_of_a_feed_that_has_ended_can_still_be_traded() -> None:
    market = opened()
    market.on_status(MarketStatus(VENUE, None, FeedState.ENDED, "end", NOW_NS))
    assert market.feed("A-USDT") is FeedState.LIVE


def test_equity_needs_a_price_for_each_holding_of_a_known_market() -> None:
    market = opened()
    usdt, held, foreign = (Balance(asset, D(5), D(1)) for asset in ("USDT", "A", "DUST"))
    assert market.equity([usdt, held, foreign], "USDT") == D(606)
    market.on_instrument(instrument("B-USDT"))
    assert market.equity([usdt, Balance("B", D(1), D(0))], "USDT") is None
    assert market.equity([usdt, Balance("B", D(0), D(0))], "USDT") == D(6)


def told(market: Market, state: FeedState, reason: str, at_ns: int) -> None:
    market.on_status(MarketStatus(VENUE, "A-USDT", state, reason, at_ns))


def quoted(market: Market, bid: float, ask: float, at_ns: int) -> None:
    market.on_quote(Bbo(VENUE, "A-USDT", bid, 1.0, ask, 1.0, at_ns, at_ns, 1))


def released() -> Market:
    """A market whose price jumped, and that an operator trusts again before its next bar."""
    market = opened()
    told(market, FeedState.FROZEN, "its price jumped from 100 to 100000", NOW_NS + 10)
    told(market, FeedState.LIVE, RELEASED, NOW_NS + 20)
    return market


def test_after_a_release_the_close_of_before_is_void_until_the_next_bar() -> None:
    market = released()
    assert market.feed("A-USDT") is FeedState.LIVE
    assert close(market) is None
    assert "void" in market.why("A-USDT")
    assert market.equity([Balance("A", D(1), D(0))], "USDT") is None
    told(market, FeedState.LIVE, RELEASED, NOW_NS + 900)  # it is said each second: the release was then, not now
    market.on_bar(bar("A-USDT", 100_000.0, LATER_NS))
    assert close(market) is None  # its step is not closed yet
    market.on_closed(closed(LATER_NS))
    assert (close(market), market.why("A-USDT")) == ("100000.0", "")


def test_after_a_release_the_newest_quote_is_the_price() -> None:
    market = released()
    quoted(market, 99.0, 101.0, NOW_NS + 15)  # from before the release
    assert close(market) is None
    quoted(market, 99_990.0, 100_010.0, NOW_NS + 21)
    assert (close(market), market.why("A-USDT")) == ("100000.0", "")
    assert market.equity([Balance("A", D(1), D(0))], "USDT") == D(100_000)
    quoted(market, 100_010.0, 99_990.0, NOW_NS + 22)  # a crossed book is no price
    assert close(market) is None


def test_a_freeze_that_ended_by_itself_voids_no_price() -> None:
    market = opened()
    told(market, FeedState.FROZEN, "the book is being read again", NOW_NS + 10)
    assert close(market) == "100.0"
    told(market, FeedState.LIVE, "", NOW_NS + 20)
    assert close(market) == "100.0"
    told(market, FeedState.LIVE, RELEASED, NOW_NS + 30)  # released long ago, and said ever since
    assert close(market) == "100.0"
