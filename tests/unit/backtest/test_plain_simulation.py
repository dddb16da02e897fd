"""The engine against thirty lines of floats: the same rules, written down once more without any of its parts."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.backtest.core.rebalancing import Rebalancing, with_assets
from services.execution.config import ExecutionConfig
from tests.unit.backtest.worlds import ABC, PLAIN, closes_feed, run

UP, DOWN, SELL, RESERVE, SMALLEST, CAP = 0.40, 0.35, 0.20, 0.30, 15.0, 0.25


def simulate(table: list[list[float]], fee: float, capital: float = 10_000.0) -> tuple[float, list[tuple[int, int]]]:
    """Return the final value and the triggers `(step, asset)` of the plain rules at the closes."""
    usdt, held = capital, [0.0] * len(table[0])
    fired: list[tuple[int, int]] = []

    def buy(asset: int, amount: float, price: float) -> None:
        nonlocal usdt
        if amount >= SMALLEST:
            usdt -= amount
            held[asset] += amount / price * (1 - fee)

    def sell(asset: int, quantity: float, price: float) -> float:
        nonlocal usdt
        held[asset] -= quantity
        usdt += quantity * price * (1 - fee)
        return quantity * price * (1 - fee)

    for step, prices in enumerate(table):
        if step == 0:
            for asset, price in enumerate(prices):
                buy(asset, capital * (1 - RESERVE) / len(prices), price)
            continue
        values = [quantity * price for quantity, price in zip(held, prices, strict=True)]
        mean = sum(values) / len(values)
        off = [value / mean - 1 for value in values]
        beyond = [max(one / UP, -one / DOWN) for one in off]
        worst = max(range(len(off)), key=beyond.__getitem__)
        if beyond[worst] <= 1:
            continue
        fired.append((step, worst))
        if off[worst] > 0:
            if values[worst] * SELL < SMALLEST:
                continue
            proceeds = sell(worst, held[worst] * SELL, prices[worst]) * (1 - RESERVE)
            for asset, price in enumerate(prices):
                if asset != worst:
                    buy(asset, proceeds / (len(prices) - 1), price)
            continue
        gap = mean - values[worst]
        missing = (gap - usdt) / (1 - fee)
        rich = {asset: value - mean for asset, value in enumerate(values) if value > mean}
        for asset, excess in rich.items():
            if missing > 0:
                part = min(missing * excess / sum(rich.values()), excess, values[asset] * CAP)
                if part >= SMALLEST:
                    sell(asset, part / prices[asset], prices[asset])
        buy(worst, min(gap, usdt), prices[worst])
    return usdt + sum(quantity * price for quantity, price in zip(held, table[-1], strict=True)), fired


def table_of(moves: list[list[float]]) -> list[list[float]]:
    rows = [[10.0, 2.5, 400.0]]
    for row in moves:
        rows.append([max(round(price * move, 4), 0.01) for price, move in zip(rows[-1], row, strict=True)])
    return rows


MOVES = st.lists(st.lists(st.sampled_from([0.6, 0.8, 0.95, 1.0, 1.07, 1.3, 1.9]), min_size=3, max_size=3), max_size=40)


@pytest.mark.parametrize("fee", ["0", "0.001"])
@settings(max_examples=60, deadline=None)
@given(moves=MOVES)
def test_engine_agrees_with_a_plain_simulation(fee: str, moves: list[list[float]]) -> None:
    table = table_of(moves)
    rules = msgspec.convert(
        {"assets": ABC, "position_limit": "1", "usdt_buffer": "0", "fee_rate": fee},
        type(PLAIN.rebalancer),
        strict=False,
    )
    costs = {"half_spread_bps": "0", "slippage_bps": "0", "maker_fee_rate": fee, "taker_fee_rate": fee}
    execution = msgspec.convert({**costs, "volume_share_max": "1"}, ExecutionConfig, strict=False)
    plain = msgspec.structs.replace(PLAIN, rebalancer=rules, execution=execution)
    log = run(closes_feed(table, tick="0.0001", step="1e-9"), plain, Rebalancing(with_assets(rules, ABC)))
    value, fired = simulate(table, float(fee))
    assert not log.refusals
    known = {name: index for index, name in enumerate(ABC)}
    decided = [(log.times_ns.index(one.at_ns), known[one.opened.asset or ""]) for one in log.plans[1:]]
    # A plan whose every leg is too small leaves no trace but a note.
    assert [one for one in fired if one in decided] == decided
    assert float(log.equity[-1] or 0) == pytest.approx(value, rel=1e-6)
