"""The page's tables: allocation, decisions, services, with every number as the text that is shown.

In: the board, the wall clock's now. Out: rows of text and of bar widths in percent.
Never: a number for something that is not known; the row says what is missing instead.
"""

from decimal import Decimal

import msgspec

from services.dashboard.core.board import Board
from services.dashboard.core.words import NOTHING, age, clock, money, percent, quantity, time_of_day
from shared.messages import DecisionRecord, OrderEvent

HEARTBEAT_LATE_NS = 5_000_000_000
SERVICES = ("market_data", "rebalancer", "risk", "execution", "recorder", "dashboard")


class AllocationRow(msgspec.Struct, frozen=True):
    """Show one holding: weights are shares of the equity, `bar` and `target` are widths in percent of the track."""

    asset: str
    quantity: str
    price: str
    value: str
    weight: str
    deviation: str
    bar: float
    target: float | None
    tone: str


class DecisionRow(msgspec.Struct, frozen=True):
    """Show one decision and its reasons."""

    at: str
    action: str
    tone: str
    headline: str
    notes: tuple[str, ...]


class OrderRow(msgspec.Struct, frozen=True):
    """Show one order; `price` is the average of its fills, or its limit while it has none."""

    at: str
    instrument: str
    side: str
    asked: str
    filled: str
    price: str
    state: str
    reason: str


class ServiceRow(msgspec.Struct, frozen=True):
    """Show one service's health."""

    name: str
    tone: str
    state: str
    detail: str
    uptime: str


def allocation_rows(board: Board) -> list[AllocationRow]:
    """Return the assets by value, then the quote asset; the target is the mean asset value (equal weights)."""
    account = board.account
    if account is None or not account.equity_usdt:
        return []
    equity = account.equity_usdt
    positions = [position for position in account.positions if position.value_usdt is not None]
    values = [position.value_usdt for position in positions if position.value_usdt is not None]
    mean = sum(values, Decimal(0)) / len(values) if values else None
    cash = next((b.total for b in account.balances if b.asset == "USDT"), Decimal(0))
    scale = 100 / float(max([*values, cash, mean or Decimal(0)]) or 1) * 0.92
    rows = []
    for position in sorted(positions, key=lambda p: p.value_usdt or Decimal(0), reverse=True):
        value = position.value_usdt or Decimal(0)
        deviation = value / mean - 1 if mean else None
        rows.append(
            AllocationRow(
                asset=position.instrument,
                quantity=quantity(position.quantity),
                price=quantity(position.mark_price),
                value=money(value),
                weight=percent(value / equity),
                deviation=percent(deviation, signed=True),
                bar=float(value) * scale,
                target=float(mean) * scale if mean else None,
                tone="up"
                if (deviation or 0) > Decimal("0.2")
                else "down"
                if (deviation or 0) < Decimal("-0.2")
                else "",
            )
        )
    share = cash / equity
    rows.append(
        AllocationRow("USDT", quantity(cash), "", money(cash), percent(share), "", float(cash) * scale, None, "cash")
    )
    return rows


def decision_rows(board: Board, *, to_the_second: bool = False) -> list[DecisionRow]:
    """Return the last decisions that did something, newest first."""
    return [_decision_row(record, to_the_second=to_the_second) for record in board.decisions]


def last_look(board: Board, *, to_the_second: bool = False) -> DecisionRow | None:
    """Return the last look that decided to do nothing, and why."""
    return _decision_row(board.last_look, to_the_second=to_the_second) if board.last_look is not None else None


def open_order_rows(board: Board, *, to_the_second: bool = False) -> list[OrderRow]:
    """Return the orders that the venue may still act on."""
    return [_order_row(event, to_the_second=to_the_second) for event in board.open_orders()]


def past_order_rows(board: Board, *, to_the_second: bool = False, limit: int = 12) -> list[OrderRow]:
    """Return the newest orders that are over."""
    return [_order_row(event, to_the_second=to_the_second) for event in board.past_orders()[:limit]]


def service_rows(board: Board, now_ns: int) -> list[ServiceRow]:
    """Return every expected service and every one that was heard of."""
    heard = {name for name, _ in board.services}
    expected = (*board.also, *SERVICES)
    rows = [ServiceRow(name, "bad", "not heard of", "", "") for name in expected if name not in heard]
    for (name, instance), beat in sorted(board.services.items(), key=lambda item: _place(item[0][0])):
        late = now_ns - beat.sent_at_ns > HEARTBEAT_LATE_NS
        state = "silent" if late else "ready" if beat.ready else "starting"
        tone = {"silent": "bad", "ready": "good", "starting": "warn"}[state]
        label = name if instance == "0" else f"{name} #{instance}"
        detail = f"last heard {age(now_ns - beat.sent_at_ns)} ago" if late else beat.detail
        rows.append(ServiceRow(label, tone, state, detail, age(now_ns - beat.started_at_ns)))
    return rows


def _place(name: str) -> int:
    return SERVICES.index(name) if name in SERVICES else len(SERVICES)


def _decision_row(record: DecisionRecord, *, to_the_second: bool) -> DecisionRow:
    tone = {"upside": "up", "downside": "down", "position_limit": "warn", "refused": "bad"}.get(record.action, "")
    headline, notes = (record.notes[0], record.notes[1:]) if record.notes else ("no reason recorded", ())
    at = _at(record.decided_at_ns, to_the_second=to_the_second)
    return DecisionRow(at, record.action.replace("_", " "), tone, headline, notes)


def _order_row(event: OrderEvent, *, to_the_second: bool) -> OrderRow:
    """Show what was asked, how much of it was filled, and at which price on average."""
    if event.filled_quantity:
        filled, average = quantity(event.filled_quantity), quantity(event.filled_quote / event.filled_quantity)
    else:
        filled, average = NOTHING, NOTHING if event.limit_price is None else f"at {quantity(event.limit_price)}"
    asked = quantity(event.quantity) if event.quantity is not None else f"{money(event.quote_amount)} USDT"
    return OrderRow(
        at=_at(event.ts_event_ns, to_the_second=to_the_second),
        instrument=event.instrument,
        side=event.side.value,
        asked=asked,
        filled=filled,
        price=average,
        state=event.state.value.replace("_", " "),
        reason=event.reason,
    )


def _at(at_ns: int, *, to_the_second: bool) -> str:
    return time_of_day(at_ns) if to_the_second else clock(at_ns)
