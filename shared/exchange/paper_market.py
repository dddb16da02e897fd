"""What the paper venue knows of one instrument's market, and what an order gets from it. Pure.

In: closed bars, best bids and asks, book snapshots. Out: fills, and the market with what they took gone.
Never: a price that no market can have; the same bar volume or book level given twice.
A book (or the best bid and ask) seen later than the newest bar is the market; otherwise the bar is.
"""

import math
from decimal import Decimal

import msgspec

from shared.errors import InputError
from shared.matching import BarFill, FeeMode, FillModel, MatchingEngine, NewOrder, OutcomeState
from shared.matching.bar_fill import fill_market, fill_resting, is_beyond, touch_price, volume_available
from shared.matching.exact import add, ceil_to, decimal_of, floor_to, floor_units, multiply, subtract
from shared.matching.fees import fee_of
from shared.messages import Bar, Bbo, BookSnapshot, Instrument, Liquidity, Side, TimeInForce

ZERO = Decimal(0)
Level = tuple[Decimal, Decimal]


class Market(msgspec.Struct, frozen=True):
    """Hold the newest bar and the newest book of one instrument, less what our own fills took from them."""

    bar_time_ns: int = 0
    close: Decimal | None = None
    volume: Decimal = ZERO
    volume_used: Decimal = ZERO
    book_time_ns: int = 0
    bids: tuple[Level, ...] = ()
    asks: tuple[Level, ...] = ()

    @property
    def time_ns(self) -> int:
        """Return the newest market time seen, nanoseconds UTC."""
        return max(self.bar_time_ns, self.book_time_ns)

    @property
    def is_book(self) -> bool:
        """Tell whether the book is the market: it was seen later than the bar."""
        return self.book_time_ns > self.bar_time_ns


class Taken(msgspec.Struct, frozen=True):
    """State what an order took: its fills, the quantity it wanted beyond them, and the market that is left.

    Of an order by quote amount, `unfilled_quantity` is what the rest of the amount buys at the last or best price.
    """

    fills: tuple[BarFill, ...]
    unfilled_quantity: Decimal
    market: Market

    @property
    def is_complete(self) -> bool:
        """Tell whether the order got all it wanted."""
        return bool(self.fills) and not self.unfilled_quantity


def with_bar(market: Market, bar: Bar) -> Market:
    """Return the market after a closed bar. Raises InputError for what no market can have."""
    where = f"bar of {bar.instrument} closing at {bar.close_time_ns}"
    for name in ("open", "high", "low", "close"):
        _require_price(where, name, getattr(bar, name))
    if not math.isfinite(bar.volume) or bar.volume < 0:
        raise InputError(f"{where}: volume must be at least 0, got {bar.volume}; drop the bar or repair its source")
    if not bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high:
        raise InputError(f"{where}: open and close must lie between low {bar.low} and high {bar.high}")
    return msgspec.structs.replace(
        market,
        bar_time_ns=bar.close_time_ns,
        close=decimal_of(bar.close),
        volume=decimal_of(bar.volume),
        volume_used=ZERO,
    )


def with_bbo(market: Market, instrument: Instrument, bbo: Bbo) -> Market:
    """Return the market after a best bid and ask. Raises InputError for what no market can have."""
    where = f"best bid and ask of {bbo.instrument} at {bbo.ts_event_ns}"
    bids, asks = ((bbo.bid_price, bbo.bid_quantity),), ((bbo.ask_price, bbo.ask_quantity),)
    return _with_levels(market, instrument, where, time_ns=bbo.ts_event_ns, bids=bids, asks=asks)


def with_book(market: Market, instrument: Instrument, book: BookSnapshot) -> Market:
    """Return the market after a book snapshot. Raises InputError for what no market can have."""
    where = f"book of {book.instrument} at {book.ts_event_ns}"
    return _with_levels(market, instrument, where, time_ns=book.ts_event_ns, bids=book.bids, asks=book.asks)


def touch(market: Market, instrument: Instrument, side: Side, model: FillModel) -> Decimal | None:
    """Return the best price that an order of `side` can take now, or None when there is no market."""
    if market.is_book:
        levels = market.asks if side is Side.BUY else market.bids
        return levels[0][0] if levels else None
    return None if market.close is None else touch_price(instrument, side, market.close, model)


def take(
    market: Market,
    instrument: Instrument,
    model: FillModel,
    side: Side,
    *,
    quantity: Decimal | None,
    quote_amount: Decimal | None,
    limit_price: Decimal | None,
) -> Taken:
    """Return what an order gets at once, no worse than `limit_price`; the caller has checked that a market exists."""
    if market.is_book:
        return _take_book(
            market, instrument, model, side, quantity=quantity, quote_amount=quote_amount, limit_price=limit_price
        )
    if market.close is None:
        raise ValueError(f"{instrument.symbol} has no market yet")
    fill = fill_market(
        instrument,
        side,
        model,
        close=market.close,
        available=volume_available(instrument, market.volume, model, market.volume_used),
        quantity=quantity,
        quote_amount=quote_amount,
        limit_price=limit_price,
    )
    fills = (fill,) if fill.quantity else ()
    used = msgspec.structs.replace(market, volume_used=add(market.volume_used, fill.quantity))
    return Taken(fills, fill.unfilled_quantity, used)


def fill_from_bar(
    market: Market,
    instrument: Instrument,
    model: FillModel,
    side: Side,
    *,
    limit_price: Decimal,
    quantity: Decimal,
    bar: Bar,
    rested_since_ns: int,
) -> Taken:
    """Return what a resting order gets from the bar that `market` has just taken.

    Of a bar that opened before the order came, only the close is known to be later than the order.
    """
    was_open = bar.open_time_ns >= rested_since_ns
    opening, high, low = (bar.open, bar.high, bar.low) if was_open else (bar.close, bar.close, bar.close)
    fill = fill_resting(
        instrument,
        side,
        model,
        limit_price=limit_price,
        quantity=quantity,
        bar_open=decimal_of(opening),
        high=decimal_of(high),
        low=decimal_of(low),
        available=volume_available(instrument, market.volume, model, market.volume_used),
    )
    fills = (fill,) if fill.quantity else ()
    used = msgspec.structs.replace(market, volume_used=add(market.volume_used, fill.quantity))
    return Taken(fills, fill.unfilled_quantity, used)


def fill_from_book(
    market: Market, instrument: Instrument, model: FillModel, side: Side, *, limit_price: Decimal, quantity: Decimal
) -> Taken:
    """Return what a resting order gets from a book that came through its price: its own price, as maker."""
    taken = _take_book(market, instrument, model, side, quantity=quantity, quote_amount=None, limit_price=limit_price)
    filled = subtract(quantity, taken.unfilled_quantity)
    if not filled:
        return taken
    fee, asset = fee_of(model.fees, instrument, side, Liquidity.MAKER, price=limit_price, quantity=filled)
    fill = BarFill(limit_price, filled, fee, asset, Liquidity.MAKER, taken.unfilled_quantity)
    return Taken((fill,), taken.unfilled_quantity, taken.market)


def _take_book(
    market: Market,
    instrument: Instrument,
    model: FillModel,
    side: Side,
    *,
    quantity: Decimal | None,
    quote_amount: Decimal | None,
    limit_price: Decimal | None,
) -> Taken:
    engine = MatchingEngine(instrument, model.fees)
    levels = market.asks if side is Side.BUY else market.bids
    for index, (price, size) in enumerate(levels):
        engine.submit(NewOrder(f"level-{index}", "market", side.opposite, quantity=size, limit_price=price))
    if quote_amount is not None and side is Side.BUY and model.fees.mode is FeeMode.QUOTE:
        quote_amount = _without_fee(instrument, quote_amount, model)
    if limit_price is not None:
        to_grid = floor_to if side is Side.BUY else ceil_to
        limit_price = to_grid(limit_price, instrument.tick_size)
    if (quote_amount is not None and not quote_amount) or (limit_price is not None and not limit_price):
        return Taken((), quantity or ZERO, market)
    outcome = engine.submit(NewOrder("taker", "us", side, quantity, quote_amount, limit_price, TimeInForce.IOC))
    fills = tuple(
        BarFill(trade.price, trade.quantity, trade.taker_fee, trade.taker_fee_asset, Liquidity.TAKER, ZERO)
        for trade in outcome.executions
    )
    unfilled = outcome.canceled_quantity
    if unfilled is None:
        unfilled = ZERO
        if outcome.state is not OutcomeState.FILLED and outcome.unspent_quote is not None:
            price = fills[-1].price if fills else levels[0][0]
            lots = floor_units(outcome.unspent_quote, multiply(price, instrument.step_size))
            unfilled = multiply(instrument.step_size, lots)
    left = tuple((level.price, level.quantity) for level in engine.depth(side.opposite))
    used = (
        msgspec.structs.replace(market, asks=left) if side is Side.BUY else msgspec.structs.replace(market, bids=left)
    )
    return Taken(fills, unfilled, used)


def _without_fee(instrument: Instrument, quote_amount: Decimal, model: FillModel) -> Decimal:
    unit = multiply(instrument.tick_size, instrument.step_size)
    units = floor_units(quote_amount, multiply(unit, add(Decimal(1), model.fees.taker_rate)))
    return multiply(unit, units)


def _with_levels(
    market: Market,
    instrument: Instrument,
    where: str,
    *,
    time_ns: int,
    bids: tuple[tuple[float, float], ...],
    asks: tuple[tuple[float, float], ...],
) -> Market:
    for name, levels in (("bid", bids), ("ask", asks)):
        for price, size in levels:
            _require_price(where, f"{name} price", price)
            if not math.isfinite(size) or size < 0:
                raise InputError(f"{where}: {name} quantity must be at least 0, got {size}")
    if bids and asks and bids[0][0] >= asks[0][0]:
        raise InputError(f"{where}: bid {bids[0][0]} must be below ask {asks[0][0]}; the book is crossed")
    return msgspec.structs.replace(
        market,
        book_time_ns=time_ns,
        bids=_on_grid(instrument, Side.SELL, bids),
        asks=_on_grid(instrument, Side.BUY, asks),
    )


def _on_grid(instrument: Instrument, taker: Side, levels: tuple[tuple[float, float], ...]) -> tuple[Level, ...]:
    merged: dict[Decimal, Decimal] = {}
    to_grid = ceil_to if taker is Side.BUY else floor_to
    for price, size in levels:
        on_grid = to_grid(decimal_of(price), instrument.tick_size)
        lots = floor_to(decimal_of(size), instrument.step_size)
        if on_grid and lots:
            merged[on_grid] = add(merged.get(on_grid, ZERO), lots)
    ordered = sorted(merged, reverse=taker is Side.SELL)
    return tuple((price, merged[price]) for price in ordered)


def _require_price(where: str, name: str, price: float) -> None:
    if not math.isfinite(price) or price <= 0:
        raise InputError(f"{where}: {name} must be a positive number, got {price}; drop it or repair its source")


def is_marketable(market: Market, instrument: Instrument, side: Side, limit_price: Decimal, model: FillModel) -> bool:
    """Tell whether a limit order would take at once."""
    best = touch(market, instrument, side, model)
    return best is not None and not is_beyond(side, best, limit_price)
