"""A small market to judge orders in: A-USDT at 100, tick 0.01, step 0.001; 1,000 USDT and 2 A; equity 1,200."""

from decimal import Decimal

import msgspec

from services.risk.config import RiskConfig
from services.risk.core.limits import Limits
from services.risk.core.view import Account, ApprovedOrder, Price, View
from shared.messages import (
    AccountSnapshot,
    Balance,
    Bar,
    BarsClosed,
    FeedState,
    Instrument,
    OrderEvent,
    OrderIntent,
    OrderState,
    OrderType,
    Side,
    TimeInForce,
    TradingState,
)

MINUTE_NS = 60 * 10**9
STEP_NS = 15 * MINUTE_NS
NOW_NS = 1_000 * STEP_NS
VENUE = "sandbox"
D = Decimal


def instrument(symbol: str = "A-USDT", **changes: Decimal) -> Instrument:
    base, quote = symbol.split("-")
    grid = {"tick_size": D("0.01"), "step_size": D("0.001"), "quantity_min": D("0.01"), "notional_min": D(1)}
    return Instrument(symbol=symbol, base=base, quote=quote, **(grid | changes))


def limits(**changes: object) -> Limits:
    made = RiskConfig(notional_max_usdt=D(400)).limits("USDT", STEP_NS, is_exclusive=True)
    return msgspec.structs.replace(made, **changes)


def account(usdt: str = "1000", base: str = "2", equity: str | None = "1200") -> Account:
    balances = (Balance("A", D(base), D(0)), Balance("USDT", D(usdt), D(0)))
    return Account(ledger_sequence=1, balances=balances, equity_usdt=None if equity is None else D(equity))


def view(**changes: object) -> View:
    made = View(
        state=TradingState.ACTIVE,
        now_ns=NOW_NS,
        instrument=instrument(),
        feed=FeedState.LIVE,
        price=Price(D(100), NOW_NS),
        quote=None,
        account=account(),
    )
    return msgspec.structs.replace(made, **changes)


def intent(intent_id: str = "intent-1", side: Side = Side.BUY, **changes: object) -> OrderIntent:
    """Return a market order for one unit, bounded 1 % away from the close."""
    fields: dict[str, object] = {
        "intent_id": intent_id,
        "strategy": "cascade",
        "venue": VENUE,
        "instrument": "A-USDT",
        "side": side,
        "type": OrderType.MARKET,
        "quantity": D(1),
        "quote_amount": None,
        "limit_price": None,
        "price_bound": D(101) if side is Side.BUY else D(99),
        "time_in_force": TimeInForce.IOC,
        "decided_at_ns": NOW_NS,
        "expires_at_ns": NOW_NS + MINUTE_NS,
        "reason": "test",
        "correlation_id": "plan-1",
    }
    return OrderIntent(**(fields | changes))  # type: ignore[arg-type] - the fields are those above


def corrupt[T](struct: T, **changes: object) -> T:
    """Return a copy with values that its constructor would refuse."""
    copy = msgspec.structs.replace(struct)
    for name, value in changes.items():
        msgspec.structs.force_setattr(copy, name, value)
    return copy


def order(intent_id: str = "before", side: Side = Side.BUY, **changes: object) -> ApprovedOrder:
    made = ApprovedOrder(
        intent_id=intent_id,
        strategy="cascade",
        correlation_id="plan-0",
        instrument="A-USDT",
        base="A",
        side=side,
        type=OrderType.MARKET,
        quantity=D(2),
        quote_amount=None,
        limit_price=None,
        price_bound=D(101) if side is Side.BUY else D(99),
        quantity_max=D(2),
        quote_fee_rate=D(0),
        approved_at_ns=NOW_NS,
    )
    return msgspec.structs.replace(made, **changes)


def snapshot(sequence: int, usdt: str = "1000", as_of_ns: int = NOW_NS, **held: str) -> AccountSnapshot:
    amounts = {"USDT": usdt, **held}
    return AccountSnapshot(
        venue=VENUE,
        account="paper",
        ledger_sequence=sequence,
        as_of_ns=as_of_ns,
        balances=tuple(Balance(asset, D(amount), D(0)) for asset, amount in sorted(amounts.items())),
        positions=(),
        equity_usdt=None,
        fees_paid_usdt=D(0),
        open_orders=0,
    )


def event(intent_id: str, state: OrderState, sequence: int, *, quantity: str = "0", quote: str = "0") -> OrderEvent:
    return OrderEvent(
        event_id=f"{intent_id}-{state}-{sequence}",
        intent_id=intent_id,
        client_order_id=f"c-{intent_id}",
        venue_order_id=None,
        strategy="cascade",
        venue=VENUE,
        instrument="A-USDT",
        side=Side.BUY,
        type=OrderType.MARKET,
        state=state,
        quantity=None,
        quote_amount=None,
        limit_price=None,
        filled_quantity=D(quantity),
        filled_quote=D(quote),
        fill=None,
        reason="",
        correlation_id="plan-1",
        ledger_sequence=sequence,
        ts_event_ns=NOW_NS,
    )


def bar(symbol: str, close: float, at_ns: int = NOW_NS) -> Bar:
    return Bar(VENUE, symbol, "15m", at_ns - STEP_NS, at_ns, close, close, close, close, 1.0, None, at_ns, 1)


def closed(at_ns: int = NOW_NS) -> BarsClosed:
    return BarsClosed(VENUE, "15m", at_ns, ("A-USDT",), (), at_ns // STEP_NS, final=False)
