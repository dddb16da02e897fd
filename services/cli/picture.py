"""What is known about a running stack, folded from the messages heard: pure.

In: one message after another. Out: the newest picture. Never: a number that no message said.
"""

from decimal import Decimal

import msgspec

from services.rebalancer.core.told import QUIET_ACTIONS
from shared.messages import (
    AccountSnapshot,
    AnyMessage,
    BarsClosed,
    DecisionRecord,
    MarketStatus,
    OrderEvent,
    OrderRefused,
    Progress,
    RiskState,
    TradingState,
)


class Picture(msgspec.Struct, frozen=True):
    """Hold the newest facts; None where nothing was heard. `rebalances` and `fills` count since the command started."""

    trading_state: TradingState | None = None
    trading_reason: str = ""
    equity_usdt: Decimal | None = None
    fees_paid_usdt: Decimal | None = None
    open_orders: int | None = None
    market_time_ns: int | None = None
    step: int = 0
    final_close_ns: int | None = None
    feed: str = ""
    last_decision: DecisionRecord | None = None
    last_action: DecisionRecord | None = None
    last_refusal: OrderRefused | None = None
    rebalances: int = 0
    fills: int = 0
    refusals: int = 0
    progress: dict[str, int] = {}


def fold(picture: Picture, message: AnyMessage) -> Picture:
    """Return the picture with one message counted in; an older one never replaces a newer."""
    match message:
        case RiskState():
            return _with(picture, trading_state=message.state, trading_reason=message.reason)
        case AccountSnapshot():
            return _with(
                picture,
                equity_usdt=message.equity_usdt,
                fees_paid_usdt=message.fees_paid_usdt,
                open_orders=message.open_orders,
            )
        case BarsClosed():
            if message.close_time_ns <= (picture.market_time_ns or 0):
                return picture
            final = message.close_time_ns if message.final else None
            return _with(picture, market_time_ns=message.close_time_ns, step=message.step, final_close_ns=final)
        case DecisionRecord():
            return _decided(picture, message)
        case OrderRefused():
            return _with(picture, refusals=picture.refusals + 1, last_refusal=message)
        case OrderEvent():
            return _with(picture, fills=picture.fills + 1) if message.fill is not None else picture
        case Progress():
            return _with(picture, progress=picture.progress | {message.service: message.close_time_ns})
        case MarketStatus(instrument=None):
            return _with(picture, feed=message.reason)
        case _:
            return picture


def laggards(picture: Picture, participants: tuple[str, ...]) -> tuple[str, ...]:
    """Return who has not finished the final step; everybody while no final step was seen."""
    final = picture.final_close_ns
    if final is None:
        return participants
    return tuple(name for name in participants if picture.progress.get(name, 0) < final)


def is_finished(picture: Picture, participants: tuple[str, ...]) -> bool:
    """Tell whether the market has ended and everybody has finished its last step."""
    return picture.final_close_ns is not None and not laggards(picture, participants)


def _decided(picture: Picture, record: DecisionRecord) -> Picture:
    if record.action in QUIET_ACTIONS:
        return _with(picture, last_decision=record)
    known = picture.last_action
    if known is not None and known.correlation_id == record.correlation_id:
        # The first record of a plan says what fired; the later ones follow its orders.
        return _with(picture, last_decision=record)
    return _with(picture, last_decision=record, last_action=record, rebalances=picture.rebalances + 1)


def _with(picture: Picture, **changes: object) -> Picture:
    return msgspec.structs.replace(picture, **changes)
