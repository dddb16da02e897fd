"""Money in the paper venue is conserved to the last digit, whatever comes."""

import asyncio
import tempfile
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import InputError, RejectedError
from shared.exchange.paper import PaperVenue
from shared.exchange.port import OrderRequest
from shared.matching import FeeMode, FeeSchedule, FillModel
from shared.messages import OrderType, Side, TimeInForce
from shared.testing.paper import BTC, ETH, HOUR_NS, bar, bbo

DEPOSIT = {"USDT": Decimal("5000.123456789"), "BTC": Decimal("3.00000001")}
INSTRUMENTS = {"BTC-USDT": BTC, "ETH-USDT": ETH}
prices = st.floats(50, 150)
symbols = st.sampled_from(sorted(INSTRUMENTS))

bars = st.tuples(st.just("bar"), symbols, prices, prices, prices, st.floats(0, 100))
bbos = st.tuples(st.just("bbo"), symbols, prices, st.floats(0.01, 5), st.floats(0, 3))
requests = st.builds(
    OrderRequest,
    client_order_id=st.integers(0, 25).map(lambda number: f"o{number}"),
    instrument=symbols,
    side=st.sampled_from(list(Side)),
    type=st.just(OrderType.LIMIT),
    quantity=st.integers(1, 8000).map(lambda lots: lots * Decimal("0.001")),
    limit_price=st.integers(5000, 15000).map(lambda ticks: ticks * Decimal("0.01")),
    time_in_force=st.sampled_from(list(TimeInForce)),
) | st.builds(
    OrderRequest,
    client_order_id=st.integers(0, 25).map(lambda number: f"o{number}"),
    instrument=symbols,
    side=st.sampled_from(list(Side)),
    type=st.just(OrderType.MARKET),
    quote_amount=st.decimals("5", "6000", places=3),
    time_in_force=st.sampled_from([TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK]),
)
cancels = st.tuples(st.just("cancel"), symbols, st.integers(0, 25).map(lambda number: f"o{number}"))
steps = st.lists(bars | bbos | requests | requests | cancels, max_size=30)
models = st.builds(
    FillModel,
    half_spread_bps=st.just(Decimal(5)),
    slippage_bps=st.just(Decimal(10)),
    volume_share_max=st.just(Decimal("0.1")),
    fees=st.builds(
        FeeSchedule,
        maker_rate=st.sampled_from([Decimal(0), Decimal("0.00035")]),
        taker_rate=st.just(Decimal("0.00123")),
        mode=st.sampled_from([FeeMode.GET, FeeMode.QUOTE, FeeMode.BASE]),
    ),
)


async def apply(venue: PaperVenue, step: object, hour: int) -> None:
    try:
        if isinstance(step, OrderRequest):
            known = [await venue.query(step.client_order_id, symbol) for symbol in INSTRUMENTS]
            if known == [None, None]:
                await venue.submit(step)
        elif step[0] == "bar":
            _, symbol, opening, close, other, volume = step
            high, low = max(opening, close, other), min(opening, close, other)
            await venue.on_bar(bar(hour, close, opening=opening, high=high, low=low, volume=volume, instrument=symbol))
        elif step[0] == "bbo":
            _, symbol, bid, spread, size = step
            await venue.on_bbo(bbo(hour * HOUR_NS + 1, (bid, size), (bid + spread, size), symbol))
        else:
            await venue.cancel(step[2], step[1])
    except (RejectedError, InputError):
        pass


async def check(venue: PaperVenue) -> None:
    expected = {asset: Fraction(amount) for asset, amount in DEPOSIT.items()}

    def change(asset: str, amount: Fraction) -> None:
        expected[asset] = expected.get(asset, Fraction(0)) + amount

    trades = await venue.trades_since(0, limit=10_000)
    assert [trade.sequence for trade in trades] == list(range(1, len(trades) + 1))
    assert len({trade.fill.fill_id for trade in trades}) == len(trades)
    for trade in trades:
        instrument, fill = INSTRUMENTS[trade.instrument], trade.fill
        sign = 1 if trade.side is Side.BUY else -1
        change(instrument.base, sign * Fraction(fill.quantity))
        change(instrument.quote, -sign * Fraction(fill.quantity) * Fraction(fill.price))
        change(fill.fee_asset, -Fraction(fill.fee))
    balances = await venue.balances()
    assert {balance.asset: Fraction(balance.free) + Fraction(balance.locked) for balance in balances} == expected
    assert all(balance.free >= 0 and balance.locked >= 0 for balance in balances)
    resting = await venue.open_orders()
    if not resting:
        assert all(balance.locked == 0 for balance in balances)
    for order in resting:
        assert order.quantity is not None and 0 <= order.filled_quantity < order.quantity
        assert sum(fill.quantity for fill in order.fills) == order.filled_quantity


@given(steps, models)
@settings(max_examples=80, deadline=None)
def test_balances_are_deposits_and_fills_exactly(script: list[object], model: FillModel) -> None:
    async def play(path: Path) -> None:
        venue = PaperVenue(path, venue="paper", model=model, initial_deposit=DEPOSIT)
        try:
            for instrument in INSTRUMENTS.values():
                await venue.define_instrument(instrument)
            for number, symbol in enumerate(sorted(INSTRUMENTS)):
                await venue.on_bar(bar(1, 100.0 + number, volume=100.0, instrument=symbol))
            for hour, step in enumerate(script, start=2):
                await apply(venue, step, hour)
                await check(venue)
            await open_orders_can_all_be_cancelled(venue)
        finally:
            venue.close()

    async def open_orders_can_all_be_cancelled(venue: PaperVenue) -> None:
        for order in await venue.open_orders():
            await venue.cancel(order.client_order_id, order.instrument)
        await check(venue)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Path(folder) / "paper.db"))
