"""The plan machine, stage by stage, against a venue with its own ledger."""

from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest

from services.rebalancer.core import (
    AccountSeen,
    BarsArrived,
    Decision,
    Holdings,
    IntentRefused,
    OrderChanged,
    Params,
    RebalancerState,
    Resumed,
    Stage,
    decide,
    decode_state,
    encode_state,
)
from services.rebalancer.core.intents import price_bound
from shared.errors import IntegrityError
from shared.messages import Instrument, OrderIntent, OrderRefused, OrderState, OrderType, Side, TimeInForce

D = Decimal
MINUTE_NS = 60_000_000_000
T = 1_700_000_000_000_000_000


class Bench:
    """Drive the machine by hand."""

    def __init__(self, params: Params, venue: object) -> None:
        self.params, self.venue = params, venue
        self.state = RebalancerState()
        self.at_ns = T

    def bars(self, prices: dict[str, object] | None = None, *, minutes: int = 0, now_ns: int | None = None) -> Decision:
        self.at_ns += minutes * MINUTE_NS
        closes = {asset: D(str((prices or {}).get(asset, 1))) for asset in self.params.config.assets}
        self.venue.prices = closes
        return self.tell(BarsArrived(self.at_ns, closes, self.holdings()), now_ns=now_ns)

    def holdings(self) -> Holdings:
        return Holdings(self.venue.ledger_sequence, dict(self.venue.quantities), self.venue.usdt)

    def tell(self, event: object, *, now_ns: int | None = None) -> Decision:
        self.state, decision = decide(self.state, event, self.params, self.at_ns if now_ns is None else now_ns)
        return decision

    def answer(self, intents: tuple[OrderIntent, ...], **how: object) -> list[Decision]:
        return [self.tell(wrap(message)) for intent in intents for message in self.venue.submit(intent, **how)]

    def settle(self) -> Decision:
        return self.tell(AccountSeen(self.venue.ledger_sequence))


def wrap(message: object) -> OrderChanged | IntentRefused:
    return IntentRefused(message) if isinstance(message, OrderRefused) else OrderChanged(message)


@pytest.fixture
def upside(params: Callable[..., Params], venue: Callable[..., object]) -> Bench:
    held = {"A-USDT": 2000, "B-USDT": 1000, "C-USDT": 1000, "D-USDT": 1000}
    return Bench(params(), venue(2000, held))


def test_sells_go_first_and_buys_wait_for_them(upside: Bench) -> None:
    opened = upside.bars()
    assert [(i.instrument, i.side, i.quantity) for i in opened.intents] == [("A-USDT", Side.SELL, D(400))]
    assert opened.action == "upside"
    assert upside.state.plan.stage is Stage.SELLING
    accepted, part, _ = [wrap(m) for m in upside.venue.submit(opened.intents[0])]
    assert upside.tell(accepted).intents == ()
    assert upside.tell(part).intents == ()


def test_intents_are_market_orders_bounded_by_the_collar(upside: Bench) -> None:
    (sell,) = upside.bars({"A-USDT": "1.2345"}).intents
    assert (sell.type, sell.time_in_force, sell.quote_amount) == (OrderType.MARKET, TimeInForce.IOC, None)
    assert D("1.2345") * D("0.97") <= sell.price_bound <= D("1.2345") * D("0.97") + D("0.0001")
    assert (sell.decided_at_ns, sell.expires_at_ns) == (T, T + 120_000_000_000)
    assert sell.correlation_id == upside.state.plan.plan_id
    assert len(sell.intent_id) <= 32
    assert set(sell.intent_id) <= set("0123456789abcdefghijklmnopqrstuvwxyz-")
    buys = upside.answer((sell,))[-1].intents
    assert all(buy.quantity is None and buy.price_bound == D("1.03") for buy in buys)
    assert [buy.instrument for buy in buys] == ["B-USDT", "C-USDT", "D-USDT"]


def test_buys_are_scaled_to_real_proceeds_net_of_fees(upside: Bench) -> None:
    (sell,) = upside.bars().intents
    upside.venue.prices |= {"A-USDT": D("0.95")}
    buys = upside.answer((sell,))[-1].intents
    # 400 sold at 0.95 less 0.1 % fee, 70 % of it, a third each.
    each = D(400) * D("0.95") * D("0.999") * D("0.7") / 3
    assert [buy.quote_amount for buy in buys] == [each.quantize(D("1e-8"), "ROUND_FLOOR")] * 3


def test_partial_sale_spreads_only_what_came_in(upside: Bench) -> None:
    (sell,) = upside.bars().intents
    buys = upside.answer((sell,), share="0.5")[-1].intents
    each = D(200) * D("0.999") * D("0.7") / 3
    assert [buy.quote_amount for buy in buys] == [each.quantize(D("1e-8"), "ROUND_FLOOR")] * 3


def test_refused_sale_buys_nothing_ends_the_plan_and_cools_down(upside: Bench) -> None:
    (sell,) = upside.bars().intents
    (told,) = upside.answer((sell,), refuse=True)
    assert told.intents == ()
    assert upside.state.plan is None
    assert any("balance: not enough" in note for note in told.notes)
    quiet = upside.bars(minutes=29)
    assert quiet.intents == ()
    assert any("A-USDT is beyond its limit" in note and "cooling down" in note for note in quiet.notes)
    again = upside.bars(minutes=1)
    assert len(again.intents) == 1
    assert again.intents[0].intent_id != sell.intent_id


def test_plan_is_done_only_when_the_account_has_followed(upside: Bench) -> None:
    (sell,) = upside.bars().intents
    buys = upside.answer((sell,))[-1].intents
    assert upside.answer(buys)[-1].decision_id == f"{sell.correlation_id}-over"
    assert upside.state.plan.stage is Stage.SETTLING
    assert upside.state.finished_ns == 0
    assert upside.tell(AccountSeen(upside.venue.ledger_sequence - 1)).decision_id is None
    done = upside.settle()
    assert done.decision_id is None
    assert upside.state.plan is None
    assert upside.state.finished_ns == T
    assert upside.state.fired_at_ns == {"A-USDT": T}


def test_account_ahead_of_the_events_ends_the_plan_with_the_last_event(upside: Bench) -> None:
    (sell,) = upside.bars().intents
    buys = upside.answer((sell,))[-1].intents
    messages = [wrap(m) for buy in buys for m in upside.venue.submit(buy)]
    upside.settle()
    for message in messages:
        upside.tell(message)
    assert upside.state.plan is None


def test_one_plan_at_a_time_and_bars_meanwhile_wait(upside: Bench) -> None:
    opened = upside.bars()
    waiting = upside.bars({"B-USDT": 9}, minutes=60)
    assert waiting.action == "wait"
    assert waiting.intents == ()
    assert "in stage selling: 1 of 1 orders are open" in waiting.notes[0]
    assert upside.state.finished_ns == 0
    assert upside.state.plan.plan_id == opened.plan_id


def test_buys_decided_on_later_bars_carry_their_time_and_bounds(upside: Bench) -> None:
    (sell,) = upside.bars().intents
    upside.bars({"B-USDT": 2}, minutes=15)
    buys = upside.answer((sell,))[-1].intents
    assert {buy.decided_at_ns for buy in buys} == {T + 15 * MINUTE_NS}
    assert buys[0].price_bound == D("2.06")


def test_unknown_outcome_is_waited_for_and_named(upside: Bench) -> None:
    (sell,) = upside.bars().intents
    upside.tell(OrderChanged(upside.venue.event(sell, OrderState.UNKNOWN)))
    waiting = upside.bars(minutes=15)
    assert "nobody knows yet what became of A-USDT" in waiting.notes[0]
    assert upside.answer((sell,))[-1].intents != ()


def test_repeated_and_overtaken_events_change_nothing(upside: Bench) -> None:
    (sell,) = upside.bars().intents
    accepted, part, filled = [wrap(m) for m in upside.venue.submit(sell)]
    first = upside.tell(filled)
    # The terminal event came first: its own fill and the estimate for the other make the proceeds.
    assert len(first.intents) == 3
    for late in (part, accepted, filled, part):
        assert upside.tell(late).intents == ()
    assert upside.state.plan.stage is Stage.BUYING
    each = D(400) * D("0.999") * D("0.7") / 3
    assert first.intents[0].quote_amount == each.quantize(D("1e-8"), "ROUND_FLOOR")


def test_late_fill_after_a_cancel_counts_while_other_sells_are_open(
    params: Callable[..., Params], venue: Callable[..., object]
) -> None:
    bench = Bench(params(), venue(0, {"A-USDT": 100, "B-USDT": 1500, "C-USDT": 1700, "D-USDT": 1100}))
    bench.params = params(position_limit=1, usdt_buffer=0)
    opened = bench.bars()
    assert opened.action == "downside"
    first, second, *_ = opened.intents
    _, part, _ = bench.venue.submit(first)
    bench.tell(OrderChanged(bench.venue.event(first, OrderState.CANCELED)))
    bench.tell(OrderChanged(part))
    bench.answer(opened.intents[1:])
    (buy,) = [e.intent for e in bench.state.plan.of_side(Side.BUY)]
    got = part.filled_quote * D("0.999") + second.quantity * D("0.999")
    got += sum(i.quantity for i in opened.intents[2:]) * D("0.999")
    assert buy.quote_amount == got.quantize(D("1e-8"), "ROUND_FLOOR")


def test_event_of_an_old_plan_is_ignored_but_its_ledger_entry_is_remembered(upside: Bench) -> None:
    (sell,) = upside.bars().intents
    upside.answer((sell,), refuse=True)
    old = msgspec.structs.replace(upside.venue.event(sell, OrderState.FILLED), ledger_sequence=99)
    assert upside.tell(OrderChanged(old)).intents == ()
    assert upside.state.plan is None
    assert upside.state.ledger_sequence_needed == 99


def test_resume_sends_the_open_orders_again_with_the_same_ids(upside: Bench) -> None:
    opened = upside.bars()
    upside.state = decode_state(encode_state(upside.state))
    assert upside.tell(Resumed()).intents == opened.intents
    buys = upside.answer(opened.intents)[-1].intents
    upside.answer(buys[:1])
    upside.state = decode_state(encode_state(upside.state))
    again = upside.tell(Resumed())
    assert again.intents == buys[1:]
    assert "resumed plan" in again.notes[0]
    upside.answer(again.intents)
    upside.settle()
    assert upside.tell(Resumed()).intents == ()


def test_same_close_time_again_changes_nothing(upside: Bench) -> None:
    upside.bars()
    before = upside.state
    assert upside.bars({"B-USDT": 9}).intents == ()
    assert upside.state == before


def test_start_allocates_and_does_not_hammer_when_refused(
    params: Callable[..., Params], venue: Callable[..., object]
) -> None:
    bench = Bench(params(), venue(10_000))
    opened = bench.bars()
    assert opened.action == "allocate"
    assert [i.quote_amount for i in opened.intents] == [D(1750)] * 4
    bench.answer(opened.intents, refuse=True)
    assert bench.state.plan is None
    waiting = bench.bars(minutes=15)
    assert waiting.intents == ()
    assert any("tried less than the cooldown ago" in note for note in waiting.notes)
    second = bench.bars(minutes=15)
    assert len(second.intents) == 4
    bench.answer(second.intents)
    bench.settle()
    assert bench.bars(minutes=15).notes[0].startswith("farthest:")


def test_breach_without_a_leg_cools_down_and_the_next_has_its_turn(
    params: Callable[..., Params], venue: Callable[..., object]
) -> None:
    # A (a downside of 45 %) lacks 14.90 USDT, under the minimum; B is +42 %.
    rules = params(position_limit=1, usdt_buffer=0, downside_threshold="0.2", min_order_value=20)
    held = {"A-USDT": 75, "B-USDT": 142, "C-USDT": 92, "D-USDT": 91}
    bench = Bench(rules, venue(100, {a: q * D("0.95") for a, q in held.items()}))
    bench.params = params(position_limit=1, usdt_buffer=0, downside_threshold="0.2", min_order_value=26)
    decision = bench.bars()
    assert [i.instrument for i in decision.intents] == ["B-USDT"]
    assert any("no leg is left for A-USDT: it cools down" in note for note in decision.notes)
    assert bench.state.fired_at_ns == {"A-USDT": T, "B-USDT": T}


@pytest.mark.parametrize("close", ["NaN", "0", "-1"])
def test_bad_close_means_no_plan_and_names_the_asset(upside: Bench, close: str) -> None:
    decision = upside.bars({"C-USDT": close})
    assert decision.intents == ()
    assert any(note.startswith("price of C-USDT is") for note in decision.notes)
    assert upside.state.finished_ns == T


def test_missing_close_means_no_plan_even_when_an_older_one_is_known(upside: Bench) -> None:
    upside.params = msgspec.structs.replace(
        upside.params, config=msgspec.structs.replace(upside.params.config, upside_threshold=D(9))
    )
    upside.bars()
    upside.at_ns += MINUTE_NS
    decision = upside.tell(BarsArrived(upside.at_ns, {"A-USDT": D(9)}, upside.holdings()))
    assert "price of B-USDT is missing" in decision.notes[0]


def test_undefined_instrument_old_bars_and_switched_off_mean_no_plan(
    upside: Bench, params: Callable[..., Params]
) -> None:
    instruments = {a: i for a, i in upside.params.instruments.items() if a != "B-USDT"}
    full, upside.params = upside.params, msgspec.structs.replace(upside.params, instruments=instruments)
    assert "instrument B-USDT is not defined" in upside.bars().notes[0]
    upside.params = full
    old = upside.bars(minutes=1, now_ns=T + 60 * MINUTE_NS)
    assert "the bars are 3540 s old" in old.notes[0]
    upside.params = params(enabled=False)
    assert "switched off" in upside.bars(minutes=1).notes[0]
    assert upside.state.plan is None


def test_state_of_another_version_is_refused(upside: Bench) -> None:
    with pytest.raises(IntegrityError, match="version 2"):
        decode_state(encode_state(msgspec.structs.replace(upside.state, version=2)))
    with pytest.raises(IntegrityError, match="cannot be read"):
        decode_state(b"\x01")


@pytest.mark.parametrize(
    ("close", "side", "tick", "bound"),
    [
        ("100", Side.SELL, "0.01", "97.00"),
        ("100", Side.BUY, "0.01", "103.00"),
        ("1.0001", Side.SELL, "0.001", "0.971"),
        ("1.0001", Side.BUY, "0.001", "1.030"),
        # A tick wider than the collar: the close itself, on the grid against us, never zero.
        ("1.5", Side.BUY, "1", "2"),
        ("1.5", Side.SELL, "1", "1"),
        ("0.5", Side.SELL, "1", "1"),
    ],
)
def test_price_bound_lies_on_the_grid_within_the_collar(close: str, side: Side, tick: str, bound: str) -> None:
    market = Instrument("A-USDT", "A", "USDT", D(tick), D(1), D(1), D(1))
    assert price_bound(D(close), side, D("0.03"), market) == D(bound)
