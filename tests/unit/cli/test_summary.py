"""The arithmetic of a summary, and digests that see every difference that matters."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.summary import (
    RunMessages,
    buy_and_hold_return,
    decisions_digest,
    equity_curve,
    fills_digest,
    max_drawdown,
    summarise,
    summary_json,
)
from shared.messages import (
    AccountSnapshot,
    Balance,
    Bar,
    DecisionRecord,
    Fill,
    Liquidity,
    OrderEvent,
    OrderRefused,
    OrderState,
    OrderType,
    RefusalCode,
    Side,
)

SECOND = 1_000_000_000


def account(equity: str | None, at: int = 1, sequence: int = 1) -> AccountSnapshot:
    value = None if equity is None else Decimal(equity)
    balances = (Balance("H", Decimal(2), Decimal(1)), Balance("USDT", Decimal("5.5"), Decimal(0)))
    return AccountSnapshot("sandbox", "main", sequence, at * SECOND, balances, (), value, Decimal("0.25"), 0)


def event(number: int, *, price: str = "2.0", filled: bool = True, event_id: str | None = None) -> OrderEvent:
    fill = Fill(f"f{number}", Decimal(price), Decimal(1), Decimal("0.002"), "USDT", Liquidity.TAKER, number * SECOND)
    return OrderEvent(
        event_id=event_id or f"e{number}",
        intent_id=f"i{number}",
        client_order_id=f"c{number}",
        venue_order_id=None,
        strategy="cascade",
        venue="sandbox",
        instrument="H-USDT",
        side=Side.SELL,
        type=OrderType.MARKET,
        state=OrderState.FILLED,
        quantity=Decimal(1),
        quote_amount=None,
        limit_price=None,
        filled_quantity=Decimal(1),
        filled_quote=Decimal(2),
        fill=fill if filled else None,
        reason="",
        correlation_id="p",
        ledger_sequence=number,
        ts_event_ns=number * SECOND,
    )


def decision(number: int, action: str = "none", plan: str | None = None, outcome: str = "{}") -> DecisionRecord:
    return DecisionRecord(
        decision_id=f"d{number}",
        service="rebalancer",
        strategy="cascade",
        venue="sandbox",
        action=action,
        decided_at_ns=number * SECOND,
        correlation_id=plan or f"d{number}",
        inputs="{}",
        outcome=outcome,
        notes=(f"note {number}",),
    )


def refusal(intent_id: str = "i9") -> OrderRefused:
    return OrderRefused(
        intent_id, "cascade", "sandbox", "H-USDT", "p", RefusalCode.BALANCE, "needs 5, has 1", 3 * SECOND
    )


def bar(instrument: str, close: float) -> Bar:
    return Bar("sandbox", instrument, "1h", 0, 1, close, close, close, close, 1.0, None, 1, 1)


def run(**changes: object) -> RunMessages:
    empty = RunMessages((), (), (), (), (), (), (), 0)
    return msgspec.structs.replace(empty, **changes)


def test_empty_run_has_no_invented_figures() -> None:
    summary = summarise(run())
    assert summary.final_equity is None
    assert summary.total_return is None
    assert summary.max_drawdown is None
    assert summary.buy_and_hold_return is None
    assert summary.balances == {}


def test_figures_come_from_first_and_last_account() -> None:
    accounts = [account(None, 0), account("100", 1), account("150", 2), account("90", 3), account("120", 4)]
    summary = summarise(run(accounts=accounts, steps=5))
    assert (summary.start_equity, summary.final_equity) == (Decimal(100), Decimal(120))
    assert summary.total_return == pytest.approx(0.2)
    assert summary.max_drawdown == pytest.approx(0.4)
    assert summary.fees_paid_usdt == Decimal("0.25")
    assert summary.balances == {"H": Decimal(3), "USDT": Decimal("5.5")}
    assert (summary.started_at, summary.ended_at) == ("1970-01-01T00:00:01Z", "1970-01-01T00:00:04Z")


def test_last_snapshot_of_a_market_time_counts() -> None:
    assert equity_curve([account("100", 1), account("80", 1), account("90", 2)]) == [Decimal(80), Decimal(90)]


def test_plan_counts_once_with_what_fired() -> None:
    outcome = '{"state":{"plan":{"trigger":{"asset":"H-USDT","direction":"upside","deviation":"0.5"}}}}'
    decisions = [
        decision(1),
        decision(2, "upside", "p1", outcome),
        decision(3, "upside", "p1", '{"state":{"plan":null}}'),
        decision(4, "wait", "p1"),
        decision(5, "downside", "p2", "no json"),
    ]
    summary = summarise(run(decisions=decisions))
    assert summary.rebalance_count == 2
    first, second = summary.rebalances
    assert (first.asset, first.direction, first.deviation, first.reason) == (
        "H-USDT",
        "upside",
        Decimal("0.5"),
        "note 2",
    )
    assert (second.asset, second.direction, second.deviation) == (None, "downside", None)


def test_repeated_messages_count_once() -> None:
    summary = summarise(run(events=[event(1), event(1), event(2, filled=False)], refusals=[refusal(), refusal()]))
    assert (summary.fills, summary.refused) == (1, 1)
    assert summary.refusals[0].code == "balance"


def test_buy_and_hold_needs_every_market() -> None:
    first = [bar("A", 2.0), bar("B", 4.0)]
    assert buy_and_hold_return(first, [bar("B", 2.0), bar("A", 3.0)]) == pytest.approx(0.0)
    assert buy_and_hold_return(first, [bar("A", 3.0)]) is None


def test_fills_digest_ignores_repetition_and_notation_but_nothing_else() -> None:
    digest = fills_digest([event(1), event(2)])
    assert fills_digest([event(1, price="2.00"), event(2)]) == digest
    assert fills_digest([event(2), event(1)]) != digest
    assert fills_digest([event(1, price="2.01"), event(2)]) != digest
    assert fills_digest([event(1)]) != digest


def test_decisions_digest_takes_a_plan_by_its_first_record() -> None:
    digest = decisions_digest([decision(1), decision(2, "upside", "p")])
    assert decisions_digest([decision(1), decision(2, "upside", "p"), decision(3, "upside", "p")]) == digest
    assert decisions_digest([decision(1), decision(3, "upside", "p")]) != digest
    assert decisions_digest([decision(2, "upside", "p"), decision(1)]) != digest


def test_json_keeps_every_digit() -> None:
    text = summary_json(summarise(run(accounts=[account("100.123456789012345678901")]))).decode()
    assert '"final_equity":100.123456789012345678901' in text


@given(st.lists(st.decimals("0.01", 1_000_000, places=2), min_size=1))
def test_drawdown_is_a_share(curve: list[Decimal]) -> None:
    drawdown = max_drawdown(curve)
    assert drawdown is not None
    assert 0 <= drawdown < 1


@given(st.lists(st.decimals(1, 1_000, places=2), min_size=1))
def test_curve_that_never_falls_has_no_drawdown(curve: list[Decimal]) -> None:
    assert max_drawdown(sorted(curve)) == 0
