"""A small believable world of messages for pages and read models: four assets, a week of 4h steps."""

from collections.abc import Iterator
from decimal import Decimal
from math import sin

from shared.messages import (
    AccountSnapshot,
    AnyMessage,
    Balance,
    Bar,
    BarsClosed,
    Bbo,
    DecisionRecord,
    FeedState,
    Fill,
    Heartbeat,
    Liquidity,
    MarketStatus,
    OrderEvent,
    OrderState,
    OrderType,
    Position,
    RiskState,
    Side,
    Trade,
    TradeBatch,
    TradingState,
)

START_NS = 1_767_225_600_000_000_000
STEP_NS = 4 * 3_600 * 1_000_000_000
ASSETS = ("RIVER-USDT", "H-USDT", "PENGU-USDT", "TAO-USDT")


def account(step: int, *, ledger_sequence: int = 1) -> AccountSnapshot:
    """Return the account after `step` steps; equity wanders between 9,000 and 12,500 USDT."""
    values = [Decimal(f"{1_700 + 400 * sin(step / 9 + place) + 6 * step:.2f}") for place in range(len(ASSETS))]
    cash = Decimal("2650.25")
    positions = tuple(
        Position(asset, value * 2, Decimal("0.48"), Decimal("0.5"), value, Decimal(0))
        for asset, value in zip(ASSETS, values, strict=True)
    )
    return AccountSnapshot(
        venue="sandbox",
        account="paper",
        ledger_sequence=ledger_sequence,
        as_of_ns=START_NS + step * STEP_NS,
        balances=(Balance("USDT", cash, Decimal(0)),),
        positions=positions,
        equity_usdt=sum(values, cash),
        fees_paid_usdt=Decimal("31.42"),
        open_orders=0,
    )


def decision(step: int, action: str, *notes: str) -> DecisionRecord:
    """Return a decision of the rebalancer at `step`."""
    return DecisionRecord(
        decision_id=f"decision-{step}-{action}",
        service="rebalancer",
        strategy="cascade",
        venue="sandbox",
        action=action,
        decided_at_ns=START_NS + step * STEP_NS,
        correlation_id=f"plan-{step}",
        inputs="{}",
        outcome="{}",
        notes=notes,
    )


def order_event(number: int, state: OrderState, *, side: Side = Side.SELL, reason: str = "upside") -> OrderEvent:
    """Return one event of order `number`; a filled one carries its fill."""
    fill = Fill(
        f"fill-{number}", Decimal("0.5012"), Decimal("412.6"), Decimal("0.2067"), "USDT", Liquidity.TAKER, START_NS
    )
    is_filled = state is OrderState.FILLED
    return OrderEvent(
        event_id=f"event-{number}-{state}",
        intent_id=f"intent-{number}",
        client_order_id=f"c-{number}",
        venue_order_id=f"v-{number}",
        strategy="cascade",
        venue="sandbox",
        instrument=ASSETS[number % len(ASSETS)],
        side=side,
        type=OrderType.MARKET,
        state=state,
        quantity=Decimal("412.6"),
        quote_amount=None,
        limit_price=None,
        filled_quantity=fill.quantity if is_filled else Decimal(0),
        filled_quote=fill.quantity * fill.price if is_filled else Decimal(0),
        fill=fill if is_filled else None,
        reason=reason,
        correlation_id="plan-1",
        ledger_sequence=number,
        ts_event_ns=START_NS + number * STEP_NS,
    )


def heartbeat(service: str, sent_at_ns: int, *, ready: bool = True) -> Heartbeat:
    """Return a heartbeat of an instance that has run for an hour."""
    return Heartbeat(
        service=service,
        instance="0",
        build="test",
        schema_hash="0" * 12,
        pid=1,
        ready=ready,
        detail="running" if ready else "recovering",
        started_at_ns=sent_at_ns - 3_600 * 1_000_000_000,
        sent_at_ns=sent_at_ns,
    )


def closed(step: int) -> BarsClosed:
    """Return the end of `step`."""
    return BarsClosed("sandbox", "4h", START_NS + step * STEP_NS, ASSETS, (), step, final=False)


def bar(step: int, instrument: str, close: float) -> Bar:
    """Return a quiet bar of one instrument that closes `step`."""
    end = START_NS + step * STEP_NS
    return Bar(
        "sandbox", instrument, "4h", end - STEP_NS, end, close, close * 1.01, close * 0.99, close, 1e6, None, end, step
    )


def week(now_ns: int) -> Iterator[AnyMessage]:
    """Yield a week of a healthy stack, heartbeats as of `now_ns`."""
    yield RiskState(TradingState.ACTIVE, "risk", "first start", "start", START_NS)
    for step in range(42):
        yield closed(step)
        yield account(step)
    yield decision(0, "allocate", "initial allocation: 30 % stays USDT, the rest is spread over 4 assets")
    yield decision(
        17,
        "upside",
        "RIVER-USDT is +43.1 % above the mean (threshold +40 %): sell 20 %, keep 30 % of the proceeds",
        "sell 412.6 RIVER for 206.7 USDT",
        "buy 48.2 USDT of each of H, PENGU, TAO",
    )
    yield decision(41, "none", "nothing to do: farthest is H-USDT at +21.3 % of +40 %")
    for number, side in ((1, Side.SELL), (2, Side.BUY), (3, Side.BUY)):
        yield order_event(number, OrderState.FILLED, side=side)
    yield order_event(4, OrderState.ACCEPTED, side=Side.BUY, reason="resting")
    for service in ("market_data", "rebalancer", "risk", "execution", "recorder", "dashboard"):
        yield heartbeat(service, now_ns)


def venue_now(now_ns: int) -> Iterator[AnyMessage]:
    """Yield what a venue that is listened to says now: one market is stale, one order's end is not confirmed."""
    yield MarketStatus("sandbox", None, FeedState.STALE, "TAO-USDT stale", now_ns)
    yield MarketStatus("sandbox", "TAO-USDT", FeedState.STALE, "no frame of this market for 12 s", now_ns)
    for asset, price in zip(ASSETS, (7.3922, 0.069781, 0.0082331, 112_311.29), strict=True):
        yield Bbo("sandbox", asset, price * 0.999, 10.0, price * 1.001, 10.0, now_ns, now_ns, 1)
        yield TradeBatch.of([Trade("sandbox", asset, "t", Side.BUY, price, 1.0, now_ns, now_ns, 1)])
    yield order_event(0, OrderState.REJECTED_UNCONFIRMED, side=Side.BUY)
