"""Properties of the matching engine, against a naive engine and over random sequences of orders and cancels."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from shared.matching import FeeMode, FeeSchedule, MatchingEngine, NewOrder, Outcome, OutcomeState, SelfTradePrevention
from shared.messages import Instrument, Side, TimeInForce
from shared.testing.naive_matching import NaiveEngine

TICK, STEP = Decimal("0.05"), Decimal("0.003")
MARKET = Instrument("BTC-USDT", "BTC", "USDT", TICK, STEP, Decimal(0), Decimal(0))
FEES = FeeSchedule(Decimal("0.0002"), Decimal("0.0007"), FeeMode.GET)

sides = st.sampled_from(list(Side))
owners = st.sampled_from(["ann", "bob", "cat"])
preventions = st.sampled_from(list(SelfTradePrevention))
quantities = st.integers(1, 30).map(lambda lots: lots * STEP)
prices = st.integers(95, 105).map(lambda ticks: ticks * TICK)


@st.composite
def orders(draw: st.DrawFn) -> NewOrder:
    order_id = f"o{draw(st.integers(0, 60))}"
    kind = draw(st.sampled_from(["limit", "limit", "limit", "market", "quote"]))
    side, owner, prevention = draw(sides), draw(owners), draw(preventions)
    if kind == "limit":
        force = draw(st.sampled_from(list(TimeInForce)))
        return NewOrder(
            order_id,
            owner,
            side,
            quantity=draw(quantities),
            limit_price=draw(prices),
            time_in_force=force,
            self_trade=prevention,
        )
    force = draw(st.sampled_from([TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK]))
    if kind == "market":
        return NewOrder(order_id, owner, side, quantity=draw(quantities), time_in_force=force, self_trade=prevention)
    amount = draw(st.decimals("0.01", "2", places=4))
    return NewOrder(order_id, owner, side, quote_amount=amount, time_in_force=force, self_trade=prevention)


actions = st.lists(st.one_of(orders(), st.integers(0, 60).map(lambda number: f"o{number}")), max_size=60)


def run(engine: MatchingEngine, steps: list[NewOrder | str]) -> list[Outcome | Decimal | None]:
    return [engine.cancel(step) if isinstance(step, str) else engine.submit(step) for step in steps]


@given(actions)
@settings(max_examples=300, deadline=None)
def test_engine_agrees_with_the_naive_engine_on_every_trade_and_every_queue(steps: list[NewOrder | str]) -> None:
    engine, naive = MatchingEngine(MARKET), NaiveEngine(STEP)
    for step in steps:
        if isinstance(step, str):
            assert engine.cancel(step) == naive.cancel(step)
        else:
            outcome, expected = engine.submit(step), naive.submit(step)
            trades = tuple((trade.maker_order_id, trade.price, trade.quantity) for trade in outcome.executions)
            assert trades == expected.trades
            assert outcome.resting_quantity == expected.resting
            assert tuple(order_id for order_id, _ in outcome.canceled_makers) == expected.removed
        for side in Side:
            assert engine.order_ids(side) == [order.order_id for order in naive.ordered(side)]
            assert sum(level.quantity for level in engine.depth(side)) == sum(
                order.quantity for order in naive.ordered(side)
            )


@given(actions)
@settings(max_examples=100, deadline=None)
def test_same_input_gives_the_same_output(steps: list[NewOrder | str]) -> None:
    assert run(MatchingEngine(MARKET, FEES), steps) == run(MatchingEngine(MARKET, FEES), steps)


@given(actions, orders())
@settings(max_examples=200, deadline=None)
def test_fok_fills_all_or_changes_nothing(steps: list[NewOrder | str], last: NewOrder) -> None:
    if last.time_in_force is not TimeInForce.FOK:
        return
    engine = MatchingEngine(MARKET)
    run(engine, steps)
    before = [(engine.depth(side), engine.order_ids(side)) for side in Side]
    outcome = engine.submit(last)
    if outcome.state is OutcomeState.FILLED:
        if last.quantity is not None:
            assert sum(trade.quantity for trade in outcome.executions) == last.quantity
    else:
        assert outcome.executions == ()
        assert [(engine.depth(side), engine.order_ids(side)) for side in Side] == before


class EngineMachine(RuleBasedStateMachine):
    """Keep an account of every quantity beside the engine."""

    resting = Bundle("resting")

    def __init__(self) -> None:
        super().__init__()
        self.engine = MatchingEngine(MARKET, FEES)
        self.count = 0
        self.ordered: dict[str, Decimal] = {}
        self.gone: dict[str, Decimal] = {}
        self.sequence = 0

    def book(self, order: NewOrder, outcome: Outcome) -> None:
        traded = Decimal(0)
        for trade in outcome.executions:
            self.sequence += 1
            assert trade.sequence == self.sequence
            assert trade.price > 0 and trade.quantity > 0
            assert trade.price % TICK == 0 and trade.quantity % STEP == 0
            assert self.engine.resting_quantity(trade.maker_order_id) in (trade.maker_remaining or None, None)
            fees = {trade.taker_side: (trade.taker_fee, trade.taker_fee_asset, FEES.taker_rate)}
            fees[trade.taker_side.opposite] = (trade.maker_fee, trade.maker_fee_asset, FEES.maker_rate)
            assert fees[Side.BUY][:2] == (trade.quantity * fees[Side.BUY][2], "BTC")
            assert fees[Side.SELL][:2] == (trade.price * trade.quantity * fees[Side.SELL][2], "USDT")
            traded += trade.quantity
            if order.limit_price is not None:
                better = (
                    trade.price <= order.limit_price if order.side is Side.BUY else trade.price >= order.limit_price
                )
                assert better
            self.gone[trade.maker_order_id] = self.gone.get(trade.maker_order_id, Decimal(0)) + trade.quantity
        for order_id, rest in outcome.canceled_makers:
            self.gone[order_id] = self.gone.get(order_id, Decimal(0)) + rest
        if order.quantity is not None:
            parts = traded + outcome.resting_quantity + (outcome.canceled_quantity or Decimal(0))
            assert outcome.state is OutcomeState.REJECTED or parts == order.quantity
        elif outcome.state is not OutcomeState.REJECTED:
            spent = sum((trade.price * trade.quantity for trade in outcome.executions), Decimal(0))
            assert outcome.unspent_quote is not None and outcome.unspent_quote >= 0
            assert spent + outcome.unspent_quote == order.quote_amount

    @rule(target=resting, side=sides, owner=owners, quantity=quantities, price=prices, prevention=preventions)
    def limit(self, side: Side, owner: str, quantity: Decimal, price: Decimal, prevention: SelfTradePrevention) -> str:
        self.count += 1
        order = NewOrder(f"o{self.count}", owner, side, quantity=quantity, limit_price=price, self_trade=prevention)
        outcome = self.engine.submit(order)
        if outcome.resting_quantity:
            self.ordered[order.order_id] = outcome.resting_quantity
        self.book(order, outcome)
        return order.order_id

    @rule(side=sides, owner=owners, quantity=quantities, price=prices)
    def post_only(self, side: Side, owner: str, quantity: Decimal, price: Decimal) -> None:
        self.count += 1
        order = NewOrder(
            f"o{self.count}", owner, side, quantity=quantity, limit_price=price, time_in_force=TimeInForce.POST_ONLY
        )
        best = self.engine.best_ask() if side is Side.BUY else self.engine.best_bid()
        would_take = best is not None and (price >= best if side is Side.BUY else price <= best)
        outcome = self.engine.submit(order)
        assert outcome.executions == ()
        assert outcome.state is (OutcomeState.REJECTED if would_take else OutcomeState.RESTING)
        if not would_take:
            self.ordered[order.order_id] = quantity

    @rule(side=sides, owner=owners, quantity=quantities, prevention=preventions)
    def market(self, side: Side, owner: str, quantity: Decimal, prevention: SelfTradePrevention) -> None:
        self.count += 1
        order = NewOrder(f"o{self.count}", owner, side, quantity=quantity, self_trade=prevention)
        self.book(order, self.engine.submit(order))

    @rule(side=sides, owner=owners, amount=st.decimals("0.0001", "3", places=6))
    def market_by_quote(self, side: Side, owner: str, amount: Decimal) -> None:
        self.count += 1
        order = NewOrder(f"o{self.count}", owner, side, quote_amount=amount)
        self.book(order, self.engine.submit(order))

    @rule(order_id=consumes(resting))
    def cancel_twice(self, order_id: str) -> None:
        rest = self.engine.resting_quantity(order_id)
        assert self.engine.cancel(order_id) == rest
        after = [self.engine.depth(side) for side in Side]
        assert self.engine.cancel(order_id) is None
        assert [self.engine.depth(side) for side in Side] == after
        if rest is not None:
            self.gone[order_id] = self.gone.get(order_id, Decimal(0)) + rest

    @invariant()
    def book_is_not_crossed(self) -> None:
        bid, ask = self.engine.best_bid(), self.engine.best_ask()
        assert bid is None or ask is None or bid < ask

    @invariant()
    def nothing_appears_or_vanishes(self) -> None:
        for order_id, quantity in self.ordered.items():
            rest = self.engine.resting_quantity(order_id) or Decimal(0)
            assert rest + self.gone.get(order_id, Decimal(0)) == quantity
        for side in Side:
            levels = self.engine.depth(side)
            assert all(level.quantity > 0 and level.orders > 0 for level in levels)
            prices_seen = [level.price for level in levels]
            assert prices_seen == sorted(set(prices_seen), reverse=side is Side.BUY)


EngineMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_engine_conserves_quantity_and_charges_exact_fees = EngineMachine.TestCase
