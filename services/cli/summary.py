"""What a run came to: pure, over the messages that it left in the streams.

In: accounts, decisions, orders, first and last closes, in stream order. Out: one summary, and two digests by which two
runs can be compared. Never: a figure made up where a message is missing (it is None), a fill counted twice.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from services.rebalancer.core.told import QUIET_ACTIONS, fired
from shared.clock import NANOSECONDS_PER_SECOND
from shared.domain.digests import decisions_digest, fills_digest, unique_by, unique_fills
from shared.messages import AccountSnapshot, Bar, DecisionRecord, OrderEvent, OrderIntent, OrderRefused

INITIAL = "allocate"


class Rebalance(msgspec.Struct, frozen=True):
    """Describe one plan: when it was decided (ISO 8601, UTC), what fired, and the reasons given."""

    time: str
    asset: str | None
    direction: str
    deviation: Decimal | None
    reason: str


class Refusal(msgspec.Struct, frozen=True):
    """Describe one intent that risk refused."""

    time: str
    instrument: str
    code: str
    detail: str


class RunMessages(msgspec.Struct, frozen=True):
    """Hold what a summary is made of, each in stream order; `steps` counts market steps."""

    accounts: Sequence[AccountSnapshot]
    decisions: Sequence[DecisionRecord]
    intents: Sequence[OrderIntent]
    events: Sequence[OrderEvent]
    refusals: Sequence[OrderRefused]
    first_bars: Sequence[Bar]
    last_bars: Sequence[Bar]
    steps: int


class Summary(msgspec.Struct, frozen=True):
    """Sum a run up. Money in USDT as exact decimals; returns and drawdown are shares of one (0.1 is 10 %).

    `rebalances` has every plan, `rebalance_count` leaves out the initial allocation. `buy_and_hold_return` is that of
    all the money in equal parts in the same markets, without fees. The digests are equal exactly when two runs filled,
    respectively decided, the same in the same order.
    """

    start_equity: Decimal | None
    final_equity: Decimal | None
    total_return: float | None
    buy_and_hold_return: float | None
    max_drawdown: float | None
    fees_paid_usdt: Decimal | None
    rebalance_count: int
    rebalances: tuple[Rebalance, ...]
    orders: int
    fills: int
    refused: int
    refusals: tuple[Refusal, ...]
    steps: int
    started_at: str | None
    ended_at: str | None
    balances: dict[str, Decimal]
    fills_digest: str
    decisions_digest: str


def summarise(messages: RunMessages) -> Summary:
    """Return the summary of a run."""
    curve = equity_curve(messages.accounts)
    last = messages.accounts[-1] if messages.accounts else None
    final = last.equity_usdt if last is not None else None
    start = curve[0] if curve else None
    fills = unique_fills(messages.events)
    refusals = unique_by(messages.refusals, lambda refusal: refusal.intent_id)
    times = [snapshot.as_of_ns for snapshot in messages.accounts if snapshot.as_of_ns > 0]
    rebalances = rebalances_of(messages.decisions)
    return Summary(
        start_equity=start,
        final_equity=final,
        total_return=float(final / start - 1) if final is not None and start else None,
        buy_and_hold_return=buy_and_hold_return(messages.first_bars, messages.last_bars),
        max_drawdown=max_drawdown(curve),
        fees_paid_usdt=last.fees_paid_usdt if last is not None else None,
        rebalance_count=sum(plan.direction != INITIAL for plan in rebalances),
        rebalances=rebalances,
        orders=len({intent.intent_id for intent in messages.intents}),
        fills=len(fills),
        refused=len(refusals),
        refusals=tuple(
            Refusal(iso_time(one.refused_at_ns), one.instrument, one.code.value, one.detail) for one in refusals
        ),
        steps=messages.steps,
        started_at=iso_time(times[0]) if times else None,
        ended_at=iso_time(times[-1]) if times else None,
        balances={balance.asset: balance.total for balance in last.balances} if last is not None else {},
        fills_digest=fills_digest(fills),
        decisions_digest=decisions_digest(messages.decisions),
    )


def equity_curve(accounts: Iterable[AccountSnapshot]) -> list[Decimal]:
    """Return the equity at each market time: the last snapshot of that time counts, one without a price does not."""
    by_time: dict[int, Decimal] = {}
    for snapshot in accounts:
        if snapshot.equity_usdt is not None:
            by_time[snapshot.as_of_ns] = snapshot.equity_usdt
    return [by_time[at] for at in sorted(by_time)]


def max_drawdown(curve: Sequence[Decimal]) -> float | None:
    """Return the greatest fall from a peak as a share of it, at least 0; None without a curve."""
    if not curve:
        return None
    peak, deepest = curve[0], Decimal(0)
    for equity in curve:
        peak = max(peak, equity)
        if peak > 0:
            deepest = max(deepest, (peak - equity) / peak)
    return float(deepest)


def buy_and_hold_return(first: Sequence[Bar], last: Sequence[Bar]) -> float | None:
    """Return the mean of the markets' returns from their first to their last close; None when one is missing."""
    ends = {bar.instrument: bar.close for bar in last}
    ratios = [ends[bar.instrument] / bar.close for bar in first if bar.instrument in ends and bar.close > 0]
    return sum(ratios) / len(ratios) - 1 if ratios and len(ratios) == len(first) else None


def rebalances_of(decisions: Iterable[DecisionRecord]) -> tuple[Rebalance, ...]:
    """Return each plan once, by its first record."""
    plans: dict[str, DecisionRecord] = {}
    for record in decisions:
        if record.action not in QUIET_ACTIONS:
            plans.setdefault(record.correlation_id, record)
    return tuple(_rebalance(record) for record in plans.values())


def iso_time(at_ns: int) -> str:
    """Return nanoseconds UTC as ISO 8601 to the second."""
    return datetime.fromtimestamp(at_ns // NANOSECONDS_PER_SECOND, UTC).isoformat().replace("+00:00", "Z")


def summary_json(summary: Summary) -> bytes:
    """Return the summary as JSON; decimals are numbers with all their digits."""
    return msgspec.json.Encoder(decimal_format="number").encode(summary)


def _rebalance(record: DecisionRecord) -> Rebalance:
    cause = fired(record)
    return Rebalance(
        time=iso_time(record.decided_at_ns),
        asset=cause.asset or None,
        direction=record.action,
        deviation=cause.deviation,
        reason="; ".join(record.notes),
    )
