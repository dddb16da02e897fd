"""Binance's orders and trades in our words. Pure.

In: REST answers and execution reports. Out: `VenueOrder`, `VenueTrade`, `Fill`. Never: a state that Binance did not
say, an amount through a float.

The same execution arrives by three ways (an order's answer, the list of trades, the stream) and is equal by each.
Binance's trade ids are unique within a symbol, and both sides of a self-trade share one: ours name all three.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

from shared.errors import UnknownOutcomeError
from shared.exchange.binance.frames import time_ns
from shared.exchange.port import OrderRequest, VenueOrder, VenueTrade
from shared.messages import Fill, Liquidity, OrderState, OrderType, Side, TimeInForce

ZERO = Decimal(0)

STATES = {
    "NEW": OrderState.ACCEPTED,
    "PENDING_NEW": OrderState.ACCEPTED,
    "PARTIALLY_FILLED": OrderState.PARTIALLY_FILLED,
    "FILLED": OrderState.FILLED,
    "CANCELED": OrderState.CANCELED,
    "PENDING_CANCEL": OrderState.PENDING_CANCEL,
    "REJECTED": OrderState.REJECTED,
    "EXPIRED": OrderState.EXPIRED,
    "EXPIRED_IN_MATCH": OrderState.EXPIRED,
}
OPEN_STATES = frozenset({OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED, OrderState.PENDING_CANCEL})
SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}
FORCES = {"GTC": TimeInForce.GTC, "IOC": TimeInForce.IOC, "FOK": TimeInForce.FOK}


class FillRow(msgspec.Struct, rename="camel"):
    """Hold one execution of an order's answer."""

    price: Decimal
    qty: Decimal
    commission: Decimal
    commission_asset: str
    trade_id: int


class OrderRow(msgspec.Struct, rename="camel"):
    """Hold an order as a create, a cancel or a question is answered. An answer without an id or a state is none."""

    symbol: str
    order_id: int
    client_order_id: str
    status: str
    side: str
    type: str
    time_in_force: str
    price: Decimal
    orig_qty: Decimal
    executed_qty: Decimal
    # The venue's own spelling.
    cummulative_quote_qty: Decimal
    orig_quote_order_qty: Decimal = ZERO
    orig_client_order_id: str = ""
    transact_time: int = 0
    time: int = 0
    update_time: int = 0
    fills: tuple[FillRow, ...] = ()


class TradeRow(msgspec.Struct, rename="camel"):
    """Hold one execution of `GET /api/v3/myTrades`."""

    symbol: str
    id: int
    order_id: int
    price: Decimal
    qty: Decimal
    commission: Decimal
    commission_asset: str
    time: int
    is_buyer: bool
    is_maker: bool


class ExecutionReport(msgspec.Struct):
    """Hold one event of an order; `c` is the newest client order id, `C` the order's own where `c` is a cancel's."""

    s: str
    c: str
    C: str
    S: str
    o: str
    f: str
    q: Decimal
    p: Decimal
    x: str
    X: str
    r: str
    i: int
    l: Decimal  # noqa: E741 - the venue's name
    z: Decimal
    L: Decimal
    n: Decimal | None
    N: str | None
    T: int
    t: int
    m: bool
    O: int  # noqa: E741 - the venue's name
    Z: Decimal
    Q: Decimal = ZERO


def order_of(
    row: OrderRow, instrument: str, fills: Iterable[Fill] | None = None, asked: OrderRequest | None = None
) -> VenueOrder:
    """Return an order; `fills` are those known from elsewhere, else those of the answer itself count."""
    own = tuple(fills) if fills is not None else tuple(_fill_of_answer(row, one) for one in row.fills)
    updated_ms = row.update_time or row.transact_time or row.time
    return _order(
        row, instrument, own, asked,
        client_order_id=row.orig_client_order_id or row.client_order_id,
        created_at_ns=time_ns(row.time or row.transact_time or updated_ms), updated_at_ns=time_ns(updated_ms),
    )  # fmt: skip


def check_answer(row: OrderRow, request: OrderRequest, symbol: str) -> None:
    """Raise UnknownOutcomeError for an answer to another question: nothing it says may be journalled."""
    told = (row.client_order_id, row.symbol, SIDES.get(row.side))
    if told != (request.client_order_id, symbol, request.side) or row.order_id <= 0 or row.status not in STATES:
        raise UnknownOutcomeError(
            f"binance answered about {row.client_order_id!r}, order {row.order_id}: not our order"
        )


def trade_of(row: TradeRow, instrument: str, client_order_id: str | None = None) -> VenueTrade:
    """Return an execution from the list of trades."""
    fill = Fill(
        fill_id=_fill_id(row.symbol, row.order_id, row.id), price=row.price, quantity=row.qty, fee=row.commission,
        fee_asset=row.commission_asset, liquidity=Liquidity.MAKER if row.is_maker else Liquidity.TAKER,
        ts_event_ns=time_ns(row.time),
    )  # fmt: skip
    side = Side.BUY if row.is_buyer else Side.SELL
    return VenueTrade(row.time, client_order_id, str(row.order_id), instrument, side, fill)


def reports_of(
    report: ExecutionReport, instrument: str, asked: OrderRequest | None = None
) -> Sequence[VenueTrade | VenueOrder]:
    """Return what an event of the stream says: an execution, and how the order stands after it."""
    client_order_id = report.C if report.C not in ("", "null") else report.c
    fills: tuple[Fill, ...] = ()
    found: list[VenueTrade | VenueOrder] = []
    if report.x == "TRADE" and report.t >= 0:
        fill = Fill(
            fill_id=_fill_id(report.s, report.i, report.t), price=report.L, quantity=report.l, fee=report.n or ZERO,
            fee_asset=report.N or instrument.rpartition("-")[2],
            liquidity=Liquidity.MAKER if report.m else Liquidity.TAKER, ts_event_ns=time_ns(report.T),
        )  # fmt: skip
        fills = (fill,)
        found.append(VenueTrade(report.T, client_order_id, str(report.i), instrument, SIDES[report.S], fill))
    row = OrderRow(
        symbol=report.s, order_id=report.i, client_order_id=client_order_id, status=report.X, side=report.S,
        type=report.o, time_in_force=report.f, price=report.p, orig_qty=report.q, executed_qty=report.z,
        cummulative_quote_qty=report.Z, orig_quote_order_qty=report.Q,
    )  # fmt: skip
    reason = report.r if report.r not in ("", "NONE") else None
    found.append(
        _order(
            row,
            instrument,
            fills,
            asked,
            client_order_id=client_order_id,
            created_at_ns=time_ns(report.O),
            updated_at_ns=time_ns(report.T),
            reason=reason,
        )
    )
    return found


def _order(
    row: OrderRow, instrument: str, fills: tuple[Fill, ...], asked: OrderRequest | None, *, client_order_id: str,
    created_at_ns: int, updated_at_ns: int, reason: str | None = None,
) -> VenueOrder:  # fmt: skip
    state = STATES[row.status]
    kind, force, price = _terms(row, asked)
    by_quote = row.orig_quote_order_qty > 0
    return VenueOrder(
        client_order_id=client_order_id,
        venue_order_id=str(row.order_id),
        instrument=instrument,
        side=SIDES[row.side],
        type=kind,
        time_in_force=force,
        state=state,
        quantity=None if by_quote else row.orig_qty,
        quote_amount=row.orig_quote_order_qty if by_quote else None,
        limit_price=price,
        filled_quantity=row.executed_qty,
        filled_quote=row.cummulative_quote_qty,
        fills=fills,
        reason=reason or (row.status.lower() if state not in OPEN_STATES and state is not OrderState.FILLED else ""),
        created_at_ns=created_at_ns,
        updated_at_ns=updated_at_ns,
    )


def _terms(row: OrderRow, asked: OrderRequest | None) -> tuple[OrderType, TimeInForce, Decimal | None]:
    if row.type == "LIMIT_MAKER":
        return OrderType.LIMIT, TimeInForce.POST_ONLY, row.price
    force = FORCES.get(row.time_in_force, TimeInForce.GTC)
    if row.type == "MARKET":
        return OrderType.MARKET, TimeInForce.GTC if asked is None else asked.time_in_force, None
    if asked is not None and asked.type is OrderType.MARKET:
        # With a price bound it is on the wire as a limit order that cannot rest.
        return OrderType.MARKET, asked.time_in_force, None
    return OrderType.LIMIT, force, row.price


def _fill_of_answer(row: OrderRow, fill: FillRow) -> Fill:
    # What fills at once took: the answer does not say so, nor when, but that is the time of the transaction.
    return Fill(
        fill_id=_fill_id(row.symbol, row.order_id, fill.trade_id), price=fill.price, quantity=fill.qty,
        fee=fill.commission, fee_asset=fill.commission_asset, liquidity=Liquidity.TAKER,
        ts_event_ns=time_ns(row.transact_time),
    )  # fmt: skip


def _fill_id(symbol: str, order_id: int, trade_id: int) -> str:
    return f"{symbol}-{order_id}-{trade_id}"
