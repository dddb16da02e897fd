"""The machine beyond the cascade: requests, pauses, transfers, dates, and what a plan cost."""

from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise

import msgspec
import pytest

from services.rebalancer.core import (
    AccountSeen,
    BarsArrived,
    Decision,
    Holdings,
    Inputs,
    IntentRefused,
    OrderChanged,
    Outcome,
    Params,
    PauseRequested,
    RebalanceRequested,
    RebalancerState,
    Resumed,
    decide,
    decode_state,
    encode_state,
    record_of,
    replay_record,
)
from shared.messages import OrderIntent, OrderRefused, Side

D = Decimal
MINUTE_NS = 60_000_000_000
T = 1_700_000_000_000_000_000
ASSETS = ("A-USDT", "B-USDT", "C-USDT", "D-USDT")
EVEN = dict.fromkeys(ASSETS, 1000)
ASK = RebalanceRequested("id-1", "ann", "before the holidays")


class Bench:
    """Drive the machine by hand; every decision that is journalled is proven by its record."""

    def __init__(self, params: Params, venue: object) -> None:
        self.params, self.venue = params, venue
        self.state = RebalancerState()
        self.at_ns = T
        self.now_ns = T

    def bars(self, prices: dict[str, object] | None = None, *, minutes: int = 15, run: bool = False) -> Decision:
        self.at_ns += minutes * MINUTE_NS
        closes = {asset: D(str((prices or {}).get(asset, 1))) for asset in ASSETS}
        self.venue.prices = closes
        held = Holdings(self.venue.ledger_sequence, dict(self.venue.quantities), self.venue.usdt)
        decision = self.tell(BarsArrived(self.at_ns, closes, held, dict.fromkeys(ASSETS, D(5))))
        if run:
            self.carry_out(decision.intents)
        return decision

    def tell(self, event: object) -> Decision:
        inputs = Inputs(decode_state(encode_state(self.state)), event, self.params, self.at_ns)
        outcome = Outcome(*decide(inputs.state, inputs.event, inputs.params, inputs.now_ns))
        record = record_of(inputs, outcome)
        assert record is None or replay_record(record) == record.outcome
        self.state = outcome.state
        return outcome.decision

    def carry_out(self, intents: tuple[OrderIntent, ...]) -> Decision | None:
        last = None
        while intents:
            told = [self.tell(_wrapped(message)) for intent in intents for message in self.venue.submit(intent)]
            last = told[-1]
            intents = tuple(intent for each in told for intent in each.intents)
        self.tell(AccountSeen(self.venue.ledger_sequence))
        return last


def _wrapped(message: object) -> OrderChanged | IntentRefused:
    return IntentRefused(message) if isinstance(message, OrderRefused) else OrderChanged(message)


@pytest.fixture
def bench(params: Callable[..., Params], venue: Callable[..., object]) -> Callable[..., Bench]:
    def make(usdt: object = 1000, held: dict[str, object] | None = None, **changes: object) -> Bench:
        return Bench(params(**changes), venue(usdt, EVEN if held is None else held))

    return make


def test_request_is_carried_out_at_the_next_close_in_the_cascade_too(bench: Callable[..., Bench]) -> None:
    rig = bench(held=EVEN | {"A-USDT": 1200})
    assert rig.bars().intents == ()
    taken = rig.tell(ASK)
    assert (taken.intents, taken.refusal, taken.action) == ((), "", "none")
    assert taken.decision_id is not None
    opened = rig.bars()
    assert opened.action == "rebalance"
    assert "asked by ann: before the holidays" in opened.notes[0]
    assert {intent.side for intent in opened.intents} == {Side.SELL}
    over = rig.carry_out(opened.intents)
    assert over.report.orders == 4
    assert rig.state.plan is None
    assert rig.state.request is None
    share = rig.venue.usdt / (rig.venue.usdt + sum(rig.venue.quantities.values()))
    assert share == pytest.approx(D("0.3"), abs=D("0.001"))
    assert rig.bars().intents == ()


def test_same_correlation_id_is_carried_out_once(bench: Callable[..., Bench]) -> None:
    rig = bench()
    rig.tell(ASK)
    assert "taken before" in rig.tell(ASK).notes[0]
    rig.bars(run=True)
    assert "taken before" in rig.tell(ASK).notes[0]
    assert rig.state.request is None
    assert rig.bars().intents == ()


def test_request_is_refused_while_a_plan_is_under_way_or_another_waits(bench: Callable[..., Bench]) -> None:
    rig = bench(held=EVEN | {"A-USDT": 2000})
    opened = rig.bars()
    assert "is under way" in rig.tell(ASK).refusal
    assert rig.state.request is None
    rig.carry_out(opened.intents)
    assert rig.tell(ASK).refusal == ""
    assert "waits for the next closed bars" in rig.tell(RebalanceRequested("id-2", "bob", "too")).refusal
    assert "switched off" in bench(enabled=False).tell(ASK).refusal


def test_request_with_nothing_to_trade_is_done(bench: Callable[..., Bench]) -> None:
    rig = bench(usdt=D(4000) * 3 / 7)
    rig.tell(ASK)
    decision = rig.bars()
    assert decision.intents == ()
    assert decision.notes[-1] == "no leg is left: nothing to trade"
    assert rig.state.request is None


def test_request_that_cannot_be_carried_out_lapses(bench: Callable[..., Bench]) -> None:
    rig = bench()
    rig.bars()
    rig.tell(ASK)
    for _ in range(3):
        assert rig.state.request is not None
        assert rig.bars({"B-USDT": "NaN"}).intents == ()
    assert rig.state.request is None
    assert rig.bars().intents == ()


def test_pause_stops_new_plans_and_finishes_the_one_under_way(bench: Callable[..., Bench]) -> None:
    rig = bench(held=EVEN | {"A-USDT": 2000})
    opened = rig.bars()
    assert rig.tell(PauseRequested("p", "ann", "looking", paused=True)).notes == ("paused by ann: looking",)
    rig.carry_out(opened.intents)
    assert rig.state.plan is None
    assert "paused by ann" in rig.tell(ASK).refusal
    quiet = rig.bars({"B-USDT": 5}, minutes=60)
    assert (quiet.intents, quiet.notes) == ((), ("paused by ann: looking",))
    assert rig.state.finished_ns == rig.at_ns
    rig.tell(PauseRequested("r", "ann", "seen", paused=False))
    assert rig.bars({"B-USDT": 5}).intents != ()


def test_pause_forgets_a_waiting_request(bench: Callable[..., Bench]) -> None:
    rig = bench()
    rig.tell(ASK)
    rig.tell(PauseRequested("p", "ann", "no", paused=True))
    rig.tell(PauseRequested("r", "ann", "go on", paused=False))
    assert rig.bars().intents == ()


@pytest.mark.parametrize("trigger", ["cascade", "absolute_band"])
def test_deposit_is_noted_and_not_traded_on_in_the_same_step(bench: Callable[..., Bench], trigger: str) -> None:
    rig = bench(usdt=D(4000) * 3 / 7, trigger=trigger, cooldown_minutes=0)
    rig.bars(run=True)
    rig.venue.quantities["A-USDT"] += D(1500)
    rig.venue.usdt += D(700)
    rig.venue.ledger_sequence += 2
    noted = rig.bars()
    assert noted.intents == ()
    assert noted.decision_id is not None
    assert noted.notes[0].startswith("deposit of 1500 A: no fill of this strategy explains it")
    assert noted.notes[1].startswith("deposit of 700.00 USDT")
    assert rig.bars().intents != ()


def test_withdrawal_is_told_from_a_fall_in_price(bench: Callable[..., Bench]) -> None:
    rig = bench()
    rig.bars()
    assert "withdrawal" not in " ".join(rig.bars({"A-USDT": "0.9"}).notes)
    rig.venue.usdt -= 100
    rig.venue.ledger_sequence += 1
    assert rig.bars().notes[0].startswith("withdrawal of 100.00 USDT")


def test_deposit_can_ask_for_a_rebalance(bench: Callable[..., Bench]) -> None:
    rig = bench(on_transfer="rebalance")
    rig.bars()
    rig.venue.usdt += 5000
    rig.venue.ledger_sequence += 1
    assert rig.bars().intents == ()
    opened = rig.bars()
    assert opened.action == "rebalance"
    assert "money came in or went out" in opened.notes[0]


def test_ignored_deposit_is_noted_all_the_same(bench: Callable[..., Bench]) -> None:
    rig = bench(on_transfer="ignore", trigger="absolute_band", cooldown_minutes=0)
    rig.bars(run=True)
    rig.venue.usdt += 5000
    rig.venue.ledger_sequence += 1
    decision = rig.bars()
    assert decision.notes[0].startswith("deposit of 5000.00 USDT")
    assert decision.intents != ()


def test_own_fills_are_no_transfers_in_whatever_order_they_are_told(bench: Callable[..., Bench]) -> None:
    rig = bench(held=EVEN | {"A-USDT": 2000})
    opened = rig.bars()
    (sell,) = opened.intents
    accepted, part, last = [_wrapped(message) for message in rig.venue.submit(sell)]
    buys = [each for event in (last, part, accepted, last, part) for each in rig.tell(event).intents]
    rig.carry_out(tuple(buys))
    for message in rig.venue.answers[sell.intent_id]:
        rig.tell(_wrapped(message))
    assert not any("no fill of this strategy" in note for note in rig.bars().notes)
    assert rig.state.moved == {}
    for message in rig.venue.answers[sell.intent_id]:
        rig.tell(_wrapped(message))
    assert rig.state.moved == {}


def test_dust_of_less_than_a_cent_is_no_transfer(bench: Callable[..., Bench]) -> None:
    rig = bench()
    rig.bars()
    rig.venue.usdt += D("0.009")
    rig.venue.ledger_sequence += 1
    assert not any("deposit" in note for note in rig.bars().notes)


def test_report_is_the_venues_own_account_of_fees_slippage_and_wealth(bench: Callable[..., Bench]) -> None:
    rig = bench(usdt=2000, held=EVEN | {"A-USDT": 2000})
    opened = rig.bars()
    rig.venue.prices = rig.venue.prices | {"A-USDT": D("0.99"), "B-USDT": D("1.01")}
    report = rig.carry_out(opened.intents).report
    events = [each for answers in rig.venue.answers.values() for each in answers if each.fill is not None]
    slip = sum((each.fill.price - 1) * each.fill.quantity * (1 if each.side is Side.BUY else -1) for each in events)
    assert report.slippage_usdt == slip > 0
    turnover = sum(each.fill.price * each.fill.quantity for each in events)
    assert report.turnover_usdt == turnover
    # The venue values base fees at the fill's price, the report at the deciding close.
    assert report.fees_usdt == pytest.approx(rig.venue.fees, rel=D("0.01"))
    assert report.equity_usdt == rig.venue.usdt + sum(rig.venue.quantities.values())
    assert report.hold_usdt == 7000
    assert report.advantage == pytest.approx((report.equity_usdt - 7000) / 7000)
    assert report.equity_usdt == pytest.approx(7000 - report.cost_usdt)


def test_holding_starts_after_the_allocation_and_grows_by_deposits(bench: Callable[..., Bench]) -> None:
    rig = bench(usdt=10_000, held=dict.fromkeys(ASSETS, 0))
    opened = rig.bars()
    assert opened.action == "allocate"
    first = rig.carry_out(opened.intents).report
    assert (first.hold_usdt, first.advantage) == (None, None)
    rig.bars()
    start = dict(rig.venue.quantities)
    assert rig.state.hold.quantities == start
    rig.venue.usdt += 1000
    rig.venue.ledger_sequence += 1
    rig.bars()
    rig.tell(ASK)
    report = rig.carry_out(rig.bars({"A-USDT": 2}).intents).report
    held = sum(start.values()) + start["A-USDT"] + rig.state.hold.usdt
    assert rig.state.hold.usdt == 3000 + 1000
    assert report.hold_usdt == held


def test_fee_in_a_third_asset_is_named_and_not_valued(bench: Callable[..., Bench]) -> None:
    rig = bench(held=EVEN | {"A-USDT": 2000})
    (sell,) = rig.bars().intents
    for message in rig.venue.submit(sell):
        fill = message.fill and msgspec.structs.replace(message.fill, fee_asset="MX", fee=D("0.5"))
        told = rig.tell(OrderChanged(msgspec.structs.replace(message, fill=fill)))
    report = rig.carry_out(told.intents).report
    assert report.unvalued_fees == ("0.5 MX", "0.5 MX")


def test_estimator_trades_only_after_its_declared_warm_up(bench: Callable[..., Bench]) -> None:
    rig = bench(trigger="absolute_band", target_mode="minimum_variance", lookback_bars=5)
    prices = {"A-USDT": D(1)}
    first = None
    for step in range(9):
        prices = {asset: 1 + D(step * (number + 1) % 3) / 50 for number, asset in enumerate(ASSETS)}
        if rig.bars(prices, run=True).intents and first is None:
            first = step
    assert first == rig.params.config.warmup_bars == 5


def test_calendar_date_is_kept_over_a_restart(bench: Callable[..., Bench]) -> None:
    rig = bench(trigger="calendar", calendar_hours=2)
    assert rig.bars(run=True).action == "rebalance"
    opened_ns = rig.at_ns
    fired = [rig.at_ns for _ in range(40) if rig.bars({"A-USDT": 1 + D(rig.at_ns % 7) / 20}, run=True).intents]
    assert fired[0] - opened_ns == 120 * MINUTE_NS
    assert all(after - before == 120 * MINUTE_NS for before, after in pairwise(fired))


def test_hybrid_date_is_used_up_by_a_look_that_finds_nothing(bench: Callable[..., Bench]) -> None:
    rig = bench(trigger="hybrid", calendar_hours=2)
    rig.bars(run=True)
    looks = [rig.at_ns for _ in range(40) if "inside every band" in rig.bars().notes[0]]
    assert all(after - before == 120 * MINUTE_NS for before, after in pairwise(looks))
    assert len(looks) == 5


def test_killed_between_sells_and_buys_a_plan_to_target_goes_on(bench: Callable[..., Bench]) -> None:
    rig = bench(trigger="absolute_band", held=EVEN | {"A-USDT": 3000})
    opened = rig.bars()
    assert opened.action == "rebalance"
    for intent in opened.intents[:-1]:
        for message in rig.venue.submit(intent):
            rig.tell(_wrapped(message))
    again = rig.tell(Resumed())
    assert again.intents == opened.intents[-1:]
    rig.carry_out(again.intents)
    total = rig.venue.usdt + sum(rig.venue.quantities.values())
    shares = [rig.venue.quantities[asset] / total for asset in ASSETS]
    assert max(shares) - min(shares) < D("0.001")
    assert rig.bars().intents == ()


def test_excluded_asset_is_neither_counted_nor_traded_by_the_cascade(bench: Callable[..., Bench]) -> None:
    rig = bench(held=EVEN | {"A-USDT": 9000}, excluded_assets="A")
    assert rig.bars().intents == ()
    rig = bench(held=EVEN | {"A-USDT": 9000, "B-USDT": 2000}, excluded_assets="A", position_limit=1)
    opened = rig.bars()
    assert [intent.instrument for intent in opened.intents] == ["B-USDT"]
    rig.carry_out(opened.intents)
    assert rig.venue.quantities["A-USDT"] == 9000
    # Its price is not waited for either.
    assert not any("price of A-USDT" in note for note in rig.bars({"A-USDT": "NaN"}).notes)
