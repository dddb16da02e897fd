"""The seeded background: the same for a seed, always a sound book, moved by a trader for a while and not for ever."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.sandbox_exchange.core.exchange import SandboxExchange
from services.sandbox_exchange.core.flow import FlowShape
from services.sandbox_exchange.core.model import (
    HOUSE,
    LevelChanged,
    OrderStatus,
    Refusal,
    RefusalCode,
    TradePrinted,
    TradingStatus,
)
from shared.messages import Side

Make = Callable[..., Any]
SYMBOL = "ABCUSDT"


def test_same_seed_makes_the_same_market(make_synthetic: Make) -> None:
    first, second, other = make_synthetic(seed=5), make_synthetic(seed=5), make_synthetic(seed=6)
    for sandbox in (first, second, other):
        sandbox.run(10)
    assert first.events == second.events
    assert first.events != other.events


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    price=st.sampled_from([0.03, 1.0, 100.0, 70_000.0]),
    volatility=st.sampled_from([0.0, 0.05, 1.5]),
    spread_bps=st.sampled_from([0.1, 8.0, 200.0]),
    actions=st.lists(st.tuples(st.sampled_from(["buy", "sell", "bid", "ask"]), st.integers(1, 2_000_000)), max_size=20),
)
def test_book_is_sound_after_every_step_whatever_a_trader_does(
    make_synthetic: Make,
    *,
    seed: int,
    price: float,
    volatility: float,
    spread_bps: float,
    actions: list[tuple[str, int]],
) -> None:
    shape = FlowShape(spread_bps=spread_bps, spacing_bps=max(spread_bps / 2, 1.0), orders=12)
    sandbox = make_synthetic(seed=seed, price=price, volatility=volatility, shape=shape)
    sandbox.run(0.5, sandbox.check)
    for kind, lots in actions:
        side = Side.BUY if kind in ("buy", "bid") else Side.SELL
        limit = None
        if kind in ("bid", "ask"):
            limit = Decimal(max(1, round(price * (0.98 + 0.04 * (lots % 101) / 100) * 100))) / 100
        try:
            sandbox.trade(side, Decimal(lots) / 1000, limit)
        except Refusal as refusal:
            assert refusal.code in {RefusalCode.NOTIONAL_MIN, RefusalCode.NOTIONAL_MAX, RefusalCode.BALANCE}
        sandbox.run(0.3, sandbox.check)
    sandbox.run(2, sandbox.check)


def test_market_is_as_busy_as_its_shape_says(make_synthetic: Make) -> None:
    sandbox = make_synthetic()
    sandbox.run(1)
    sandbox.events.clear()
    sandbox.run(60)
    levels = sum(isinstance(event, LevelChanged) for event in sandbox.events)
    assert 20 <= levels / 60 <= 80
    assert 1 <= len(sandbox.trades) / 60 <= 8
    assert {trade.taker_side for trade in sandbox.trades} == set(Side)
    assert sandbox.house.refused == {}


def test_book_has_depth_and_the_wanted_spread(make_synthetic: Make) -> None:
    sandbox = make_synthetic(volatility=0.0, shape=FlowShape(spread_bps=20.0))
    spreads: list[float] = []

    def measure() -> None:
        depth = sandbox.exchange.depth(SYMBOL)
        assert min(len(depth.bids), len(depth.asks)) >= 5
        spreads.append(float(depth.asks[0][0] / depth.bids[0][0] - 1) * 1e4)

    sandbox.run(30, measure)
    assert 12 <= sum(spreads) / len(spreads) <= 40
    sizes = [float(size) for _, size in sandbox.exchange.depth(SYMBOL).bids]
    assert max(sizes) > 3 * sorted(sizes)[len(sizes) // 2]


def test_impact_of_a_large_order_decays(make_synthetic: Make) -> None:
    sandbox = make_synthetic(volatility=0.0)
    sandbox.run(10)
    before = sandbox.mid()
    offered = sum(size for _, size in sandbox.exchange.depth(SYMBOL).asks)
    order, _ = sandbox.trade(Side.BUY, (offered * 6 / 10).quantize(Decimal("0.001")))
    assert order.status is OrderStatus.FILLED
    sandbox.run(0.1)
    moved = sandbox.mid() / before - 1
    sandbox.run(20)
    assert moved > 0.0008
    assert abs(sandbox.mid() / before - 1) < 0.3 * moved


def test_resting_order_at_the_touch_is_filled_by_takers(make_synthetic: Make) -> None:
    sandbox = make_synthetic(volatility=0.0)
    sandbox.run(5)
    best = sandbox.exchange.depth(SYMBOL, 1).bids[0][0]
    order, _ = sandbox.trade(Side.BUY, Decimal(1), best)
    assert order.status is OrderStatus.NEW
    sandbox.run(60)
    filled = sandbox.exchange.order("trader", SYMBOL, order_id=order.order_id)
    assert filled.status is OrderStatus.FILLED
    assert filled.executed_quote == best


def test_order_beyond_the_fair_price_is_eaten_at_its_own_price(make_synthetic: Make) -> None:
    sandbox = make_synthetic(volatility=0.0)
    sandbox.run(5)
    first, _ = sandbox.trade(Side.BUY, Decimal(500), Decimal("100.60"))
    assert first.executed_quantity > 0
    sandbox.run(30)
    order = sandbox.exchange.order("trader", SYMBOL, order_id=first.order_id)
    assert order.executed_quantity > first.executed_quantity


def test_paused_market_keeps_its_book_and_goes_on_when_reopened(make_synthetic: Make) -> None:
    sandbox = make_synthetic()
    sandbox.run(5)
    sandbox.exchange.set_status(SYMBOL, TradingStatus.PAUSED, sandbox.now_ns)
    sandbox.events.clear()
    sandbox.run(5)
    assert sandbox.events == []
    sandbox.exchange.set_status(SYMBOL, TradingStatus.TRADING, sandbox.now_ns)
    sandbox.run(5, sandbox.check)
    assert sandbox.trades


def test_delisted_market_is_empty_and_quotes_anew_when_listed_again(make_synthetic: Make) -> None:
    sandbox = make_synthetic()
    sandbox.run(5)
    sandbox.exchange.set_status(SYMBOL, TradingStatus.DELISTED, sandbox.now_ns)
    sandbox.run(5)
    assert sandbox.exchange.open_orders(HOUSE, SYMBOL) == []
    sandbox.exchange.set_status(SYMBOL, TradingStatus.TRADING, sandbox.now_ns)
    sandbox.run(5, sandbox.check)
    assert len(sandbox.exchange.depth(SYMBOL).bids) > 5


def test_redenominated_market_goes_on_at_the_new_price(make_synthetic: Make) -> None:
    sandbox = make_synthetic(volatility=0.0)
    sandbox.run(5)
    sandbox.exchange.redenominate(SYMBOL, Decimal(1000), sandbox.now_ns)
    sandbox.run(5, sandbox.check)
    assert 99_000 < sandbox.mid() < 101_000
    assert sandbox.trades[-1].price > 99_000


def test_finer_tick_keeps_the_price(make_synthetic: Make) -> None:
    sandbox = make_synthetic(volatility=0.0)
    sandbox.run(5)
    instrument = msgspec.structs.replace(sandbox.market.instrument, tick_size=Decimal("0.001"))
    sandbox.exchange.list_market(msgspec.structs.replace(sandbox.market, instrument=instrument))
    sandbox.run(5, sandbox.check)
    assert 99 < sandbox.mid() < 101


def test_restarted_market_goes_on_from_its_book(make_synthetic: Make) -> None:
    sandbox = make_synthetic(volatility=0.3)
    sandbox.run(30)
    exchange = SandboxExchange()
    exchange.restore(sandbox.exchange.dump())
    again = make_synthetic(volatility=0.3, seed=2, exchange=exchange)
    again.runner.restore(sandbox.runner.dump())
    assert again.flow.path.ticks == sandbox.flow.path.ticks
    again.house.adopt(again.market)
    again.check()
    before, resting = again.mid(), len(exchange.open_orders(HOUSE, SYMBOL))
    again.run(0.05, again.check)
    assert abs(again.mid() / before - 1) < 0.01
    assert abs(len(exchange.open_orders(HOUSE, SYMBOL)) - resting) <= 8
    again.run(5, again.check)


def test_one_side_that_is_forbidden_does_not_stop_the_other(make_synthetic: Make) -> None:
    sandbox = make_synthetic()
    sandbox.run(2)
    sandbox.exchange.list_market(msgspec.structs.replace(sandbox.market, allowed_sides=frozenset({Side.BUY})))
    sandbox.run(5, sandbox.check)
    assert sandbox.house.refused[RefusalCode.SIDE_NOT_ALLOWED] > 0
    assert any(isinstance(event, TradePrinted | LevelChanged) for event in sandbox.events[-20:])


@pytest.mark.parametrize(
    ("key", "value"),
    [("spread_bps", 0.0), ("orders", 0), ("takes", -1.0), ("size_tail", 1.0), ("requotes", float("nan"))],
)
def test_shape_that_makes_no_market_is_refused(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=key):
        FlowShape(**{key: value})
