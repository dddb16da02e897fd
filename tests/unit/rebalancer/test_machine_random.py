"""The plan machine under any order of events, repetitions and crashes: nothing is sold twice, every plan ends.

The process is modelled as the service runs it: decide, store, publish, acknowledge. A crash may fall between any two;
what was not acknowledged comes again, what was stored is resumed. The venue fills each intent id once.
"""

from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core import (
    AccountSeen,
    BarsArrived,
    Holdings,
    Inputs,
    IntentRefused,
    MachineEvent,
    OrderChanged,
    Outcome,
    Params,
    RebalancerState,
    Resumed,
    decide,
    decode_state,
    encode_state,
    record_of,
    replay_record,
)
from shared.messages import OrderIntent, OrderRefused, OrderState, Side
from shared.testing.fake_venue import FEE, FakeVenue, instrument

ASSETS = ("A-USDT", "B-USDT", "C-USDT", "D-USDT")
D = Decimal
MINUTE_NS = 60_000_000_000
CRASHES = st.sampled_from(["none", "none", "none", "before_store", "after_store", "after_publish"])
PRICES = st.decimals("0.2", "5", places=2, allow_nan=False, allow_infinity=False)


class Cascade(RuleBasedStateMachine):
    """One rebalancer process and one venue."""

    @initialize(
        usdt=st.sampled_from([0, 100, 2_000, 10_000]),
        held=st.lists(st.sampled_from([0, 20, 300, 1_000, 4_000]), min_size=4, max_size=4),
        limits=st.sampled_from([("0.4", "0.05"), ("1", "0")]),
    )
    def begin(self, usdt: int, held: list[int], limits: tuple[str, str]) -> None:
        rules = RebalanceConfig(assets=ASSETS, position_limit=limits[0], usdt_buffer=limits[1])
        self.params = Params(rules, "sandbox", {asset: instrument(asset) for asset in ASSETS})
        self.venue = FakeVenue(usdt, dict(zip(ASSETS, held, strict=True)))
        self.stored = encode_state(RebalancerState())
        self.state = RebalancerState()
        self.published: dict[str, OrderIntent] = {}
        self.unsent: list[OrderIntent] = []
        self.pending: list[MachineEvent] = []
        self.delivered: list[MachineEvent] = []
        self.at_ns = 1_700_000_000_000_000_000

    @rule(prices=st.lists(PRICES, min_size=4, max_size=4), minutes=st.integers(1, 45), crash=CRASHES)
    def bars_close(self, prices: list[Decimal], minutes: int, crash: str) -> None:
        if self.venue.ledger_sequence < self.state.ledger_sequence_needed:
            return
        self.at_ns += minutes * MINUTE_NS
        closes = dict(zip(ASSETS, prices, strict=True))
        self.venue.prices = closes
        holdings = Holdings(self.venue.ledger_sequence, dict(self.venue.quantities), self.venue.usdt)
        self.tell(BarsArrived(self.at_ns, closes, holdings), crash)

    @rule(place=st.integers(0, 1_000), how=st.sampled_from(["fill", "fill", "fill", "part", "refuse", "unknown"]))
    def venue_works(self, place: int, how: str) -> None:
        if not self.unsent:
            return
        intent = self.unsent.pop(place % len(self.unsent))
        if how == "unknown":
            self.pending.append(OrderChanged(self.venue.event(intent, OrderState.UNKNOWN)))
            self.unsent.append(intent)
            return
        self.answer(intent, how)

    def answer(self, intent: OrderIntent, how: str) -> None:
        messages = self.venue.submit(intent, share="0.3" if how == "part" else 1, refuse=how == "refuse")
        self.pending += [IntentRefused(m) if isinstance(m, OrderRefused) else OrderChanged(m) for m in messages]

    @rule(place=st.integers(0, 1_000), crash=CRASHES)
    def event_comes_in_any_order(self, place: int, crash: str) -> None:
        if self.pending:
            event = self.pending.pop(place % len(self.pending))
            self.delivered.append(event)
            self.tell(event, crash)

    @rule(place=st.integers(0, 1_000))
    def event_comes_again(self, place: int) -> None:
        if self.delivered:
            self.tell(self.delivered[place % len(self.delivered)], "none")

    @rule(crash=CRASHES)
    def account_comes(self, crash: str) -> None:
        self.tell(AccountSeen(self.venue.ledger_sequence), crash)

    @rule()
    def restart(self) -> None:
        self.state = decode_state(self.stored)
        self.tell(Resumed(), "none")

    def tell(self, event: MachineEvent, crash: str) -> None:
        inputs = Inputs(self.state, event, self.params, self.at_ns)
        state, decision = decide(inputs.state, inputs.event, inputs.params, inputs.now_ns)
        record = record_of(inputs, Outcome(state, decision))
        assert record is None or replay_record(record) == record.outcome
        if crash == "before_store":
            self.restart()
            self.tell(event, "none")
            return
        self.state, self.stored = state, encode_state(state)
        if crash == "after_store":
            self.restart()
            self.tell(event, "none")
            return
        for intent in decision.intents:
            self.publish(intent)
        if crash == "after_publish":
            self.restart()
            self.tell(event, "none")

    def publish(self, intent: OrderIntent) -> None:
        known = self.published.get(intent.intent_id)
        assert known is None or known == intent, "one id, two orders"
        self.published[intent.intent_id] = intent
        if intent.intent_id not in self.venue.answers and intent not in self.unsent:
            self.unsent.append(intent)

    @invariant()
    def no_plan_sells_or_buys_an_asset_twice(self) -> None:
        legs = [(i.correlation_id, i.instrument, i.side) for i in getattr(self, "published", {}).values()]
        assert len(legs) == len(set(legs))

    @invariant()
    def no_plan_starts_before_the_last_one_is_over(self) -> None:
        unfinished = {i.correlation_id for i in getattr(self, "unsent", [])}
        assert len(unfinished) <= 1

    @invariant()
    def stored_state_is_the_state(self) -> None:
        if hasattr(self, "stored"):
            assert decode_state(self.stored) == self.state

    @invariant()
    def no_plan_spends_more_than_it_may(self) -> None:
        plan = getattr(self, "state", RebalancerState()).plan
        if plan is None:
            return
        asked = sum((e.intent.quote_amount for e in plan.of_side(Side.BUY)), D(0))
        brought = sum((e.net_quote(FEE) for e in plan.of_side(Side.SELL)), D(0))
        assert asked <= plan.portfolio.usdt + brought

    def teardown(self) -> None:
        if not hasattr(self, "venue"):
            return
        for _ in range(200):
            if self.state.plan is None and not self.pending:
                break
            for intent in list(self.unsent):
                self.unsent.remove(intent)
                self.answer(intent, "fill")
            while self.pending:
                self.tell(self.pending.pop(0), "none")
            self.tell(AccountSeen(self.venue.ledger_sequence), "none")
        assert self.state.plan is None, "a plan never ended"
        assert self.state.finished_ns == self.state.last_close_ns
        assert decide(self.state, Resumed(), self.params, self.at_ns)[1].intents == ()


TestCascade = Cascade.TestCase
TestCascade.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
