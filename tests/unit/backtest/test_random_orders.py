"""A strategy that orders at random: whatever it asks for, the books balance and the venue agrees with the ledger."""

import random
from decimal import Decimal

import pytest

from services.backtest.config import BacktestSettings
from services.backtest.core import Answer, FillTiming, StepClosed, StrategyEvent, StrategyParams
from services.backtest.core.outcome import fill_rows
from services.backtest.core.strategy import NOTHING
from shared.domain.instruments import floor_to_grid
from shared.messages import OrderIntent, OrderState, OrderType, Side, TimeInForce
from tests.unit.backtest.worlds import ABC, STEP_NS, run, violent_feed, with_timing

D = Decimal


class RandomOrders:
    """Ask for up to three orders a step: market and limit, all times in force, some of them impossible."""

    name, assets, warmup_bars = "random", ABC, 0

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def first_state(self) -> int:
        return 0

    def decide(self, state: int, event: StrategyEvent, params: StrategyParams, now_ns: int) -> tuple[int, Answer]:
        if not isinstance(event, StepClosed):
            return state, NOTHING
        draw = random.Random(f"{self._seed} {state}")
        intents = tuple(self._intent(draw, f"{state}-{number}", event, params) for number in range(draw.randrange(4)))
        return state + 1, Answer(intents)

    def _intent(self, draw: random.Random, key: str, event: StepClosed, params: StrategyParams) -> OrderIntent:
        asset, side = draw.choice(self.assets), draw.choice([Side.BUY, Side.SELL])
        grid = params.instruments[asset]
        close = D(repr(event.bars[asset].close))
        held = event.account.quantities[asset]
        worth = D(draw.choice(["3", "40", "400", "2500"]))
        quantity = (
            worth / close if side is Side.BUY else max(held * D(draw.choice(["0.3", "1", "1.1"])), grid.step_size)
        )
        quantity = max(floor_to_grid(quantity, grid.step_size), grid.step_size)
        is_limit = draw.random() < 0.5
        limit = max(
            floor_to_grid(close * D(draw.choice(["0.96", "0.99", "1.01", "1.04"])), grid.tick_size), grid.tick_size
        )
        by_quote = not is_limit and side is Side.BUY and draw.random() < 0.5
        forces = [TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK, TimeInForce.POST_ONLY]
        return OrderIntent(
            intent_id=key,
            strategy=self.name,
            venue=params.venue,
            instrument=asset,
            side=side,
            type=OrderType.LIMIT if is_limit else OrderType.MARKET,
            quantity=None if by_quote else quantity,
            quote_amount=worth if by_quote else None,
            limit_price=limit if is_limit else None,
            price_bound=None,
            time_in_force=draw.choice(forces) if is_limit else TimeInForce.IOC,
            decided_at_ns=event.close_time_ns,
            expires_at_ns=event.close_time_ns + 2 * STEP_NS,
            reason="chance",
            correlation_id=key,
        )


@pytest.mark.parametrize("timing", list(FillTiming))
@pytest.mark.parametrize("seed", range(6))
def test_books_balance_whatever_is_ordered(seed: int, timing: FillTiming) -> None:
    log = run(violent_feed(seed, 200), with_timing(BacktestSettings(), timing), RandomOrders(seed))
    states = {order.state for order in log.orders}
    assert {OrderState.FILLED, OrderState.CANCELED} <= states
    assert log.refusals
    # Every unit that came or went stands in a fill.
    held, quote = dict.fromkeys(ABC, D(0)), log.initial_equity
    for row in fill_rows(log, "USDT"):
        sign = 1 if row.side == "buy" else -1
        held[row.asset] += sign * row.quantity
        quote -= sign * row.notional
        if row.fee_asset == "USDT":
            quote -= row.fee
        else:
            held[f"{row.fee_asset}-USDT"] -= row.fee
    assert quote == log.quote[-1] >= 0
    assert tuple(held.values()) == log.quantities[-1]
    assert all(amount >= 0 for row in log.quantities for amount in row)


def test_some_limit_orders_rest_and_fill_later() -> None:
    log = run(violent_feed(1, 200), BacktestSettings(), RandomOrders(1))
    later = [order for order in log.orders if order.fills and order.fills[0].ts_event_ns > order.intent.decided_at_ns]
    assert later
    assert all(order.intent.type is OrderType.LIMIT for order in later)
