"""What must hold for every sequence of intents, fills, events and snapshots, in every interleaving."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from services.risk.core.checks import Approval
from services.risk.core.gate import Gate
from services.risk.core.limits import Limits
from shared.messages import AccountSnapshot, OrderApproved, OrderEvent, OrderIntent, OrderState, Side, TradingState
from tests.unit.risk.worlds import MINUTE_NS, NOW_NS, D, bar, closed, event, instrument, intent, limits, snapshot

SYMBOLS = ("A-USDT", "B-USDT")
CLOSE = D(100)
LOOSE = {"notional_max_usdt": D(100_000), "orders_per_second_max": 1_000, "duplicate_window_ns": 1}


class Venue:
    """Fill approved orders piece by piece at prices that never favour us, and tell events and snapshots apart."""

    def __init__(self, usdt: Decimal) -> None:
        self.usdt = usdt
        self.held = {symbol: D(3) for symbol in SYMBOLS}
        self.open: dict[str, tuple[OrderApproved, Decimal, Decimal]] = {}
        self.sequence = 1
        self.events: list[OrderEvent] = []
        self.snapshots: list[AccountSnapshot] = [self.snapshot()]

    def snapshot(self) -> AccountSnapshot:
        held = {symbol.split("-")[0]: str(amount) for symbol, amount in self.held.items()}
        return snapshot(self.sequence, str(self.usdt), **held)

    def take(self, approved: OrderApproved) -> None:
        self.open[approved.intent.intent_id] = (approved, D(0), D(0))

    def fill(self, key: str, part: Decimal, slip: Decimal) -> None:
        """Fill `part` of the rest at `slip` of the way from the close to the bound; the whole rest ends the order."""
        approved, filled, spent = self.open[key]
        asked = approved.intent
        price = CLOSE + (approved.price_bound - CLOSE) * slip
        wanted = asked.quantity if asked.quantity is not None else (asked.quote_amount or D(0)) / price
        rest = (wanted - filled) if asked.quantity is not None else ((asked.quote_amount or D(0)) - spent) / price
        quantity = rest * part
        quote = quantity * price
        sign = 1 if asked.side is Side.BUY else -1
        self.held[asked.instrument] += sign * quantity
        self.usdt -= sign * quote
        self.sequence += 1
        done = part == 1
        self.open[key] = (approved, filled + quantity, spent + quote)
        state = OrderState.FILLED if done else OrderState.PARTIALLY_FILLED
        self.events.append(event(key, state, self.sequence, quantity=str(filled + quantity), quote=str(spent + quote)))
        self.snapshots.append(self.snapshot())
        if done:
            del self.open[key]

    def worst_usdt(self) -> Decimal:
        """Return what is left when every open buy fills at its bound and no open sell brings anything."""
        left = self.usdt
        for approved, filled, spent in self.open.values():
            if approved.intent.side is Side.BUY:
                rest = approved.notional_max_usdt - spent
                if approved.intent.quantity is not None:
                    rest = (approved.intent.quantity - filled) * approved.price_bound
                left -= rest
        return left

    def worst_held(self, symbol: str) -> Decimal:
        """Return what is left of an asset when every open sell fills."""
        left = self.held[symbol]
        for approved, filled, _ in self.open.values():
            if approved.intent.instrument == symbol and approved.intent.side is Side.SELL:
                left -= approved.quantity_max - filled
        return left


def gate(bounds: Limits) -> Gate:
    made = Gate(bounds)
    for symbol in SYMBOLS:
        made.market.on_instrument(instrument(symbol))
        made.market.on_bar(bar(symbol, 100.0))
    made.market.on_closed(closed())
    return made


def ask(number: int, symbol: str, side: Side, size: Decimal, *rest: object) -> OrderIntent:
    by_amount, bound = rest
    return intent(
        f"intent-{number}",
        side,
        instrument=symbol,
        quantity=None if by_amount else size,
        quote_amount=size * CLOSE if by_amount else None,
        price_bound=bound,
        correlation_id=f"plan-{number}",
    )


SIZES = st.integers(1, 6_000).map(lambda thousandths: D(thousandths) / 1_000)
BOUNDS = st.sampled_from([None, D(95), D(99), D(100), D(101), D(105)])
ASKS = st.tuples(st.just("ask"), st.sampled_from(SYMBOLS), st.sampled_from(Side), SIZES, st.booleans(), BOUNDS)
FILLS = st.tuples(st.just("fill"), st.integers(0, 9), st.sampled_from([D("0.25"), D(1)]), st.sampled_from([D(0), D(1)]))
TOLD = st.sampled_from([("event",), ("snapshot",)])
STATES = st.tuples(st.just("state"), st.sampled_from(TradingState))


@given(st.lists(st.one_of(ASKS, FILLS, TOLD), max_size=60), st.sampled_from([D(0), D(250)]))
def test_no_sequence_of_approvals_can_overspend_oversell_or_touch_the_reserve(
    steps: list[tuple[object, ...]], floor: Decimal
) -> None:
    bounds = limits(**LOOSE, reserve_floor_usdt=floor, position_limit=D("0.6"))
    judge, venue = gate(bounds), Venue(D(1_000))
    equity = venue.usdt + sum(venue.held.values()) * CLOSE
    for number, step in enumerate(steps):
        match step:
            case ("ask", symbol, side, size, by_amount, bound):
                asked = ask(number, symbol, side, size, by_amount, bound)  # type: ignore[arg-type] - by construction
                verdict = judge.judge(asked, TradingState.ACTIVE, NOW_NS)
                if verdict is None or not isinstance(verdict.result, Approval):
                    continue
                judge.remember(verdict)
                venue.take(verdict.result.message)
                if asked.side is Side.BUY:
                    value = (venue.held[asked.instrument]) * CLOSE + _incoming(venue, asked.instrument)
                    assert value <= bounds.position_limit * equity
                    assert venue.worst_usdt() >= floor
                assert venue.worst_held(asked.instrument) >= 0
            case ("fill", index, part, slip) if venue.open:
                keys = list(venue.open)
                venue.fill(keys[index % len(keys)], part, slip)  # type: ignore[operator,arg-type] - by construction
                assert venue.usdt >= 0
                assert min(venue.held.values()) >= 0
            case ("event",) if venue.events:
                judge.book.on_event(venue.events.pop(0))
            case ("snapshot",) if venue.snapshots:
                judge.book.on_snapshot(venue.snapshots.pop(0))
                judge.book.forget_snapshots()


def _incoming(venue: Venue, symbol: str) -> Decimal:
    value = D(0)
    for approved, filled, spent in venue.open.values():
        asked = approved.intent
        if asked.instrument == symbol and asked.side is Side.BUY:
            rest = (
                (asked.quantity - filled) * CLOSE if asked.quantity is not None else (asked.quote_amount or 0) - spent
            )
            value += rest
    return value


@given(st.lists(st.one_of(ASKS, STATES), max_size=40))
def test_halted_approves_nothing_and_reducing_only_sells_what_is_held(steps: list[tuple[object, ...]]) -> None:
    judge, venue, state = gate(limits(**LOOSE)), Venue(D(1_000)), TradingState.ACTIVE
    judge.book.on_snapshot(venue.snapshot())
    for number, step in enumerate(steps):
        if step[0] == "state":
            state = step[1]  # type: ignore[assignment] - by construction
            continue
        asked = ask(number, *step[1:])  # type: ignore[arg-type] - by construction
        verdict = judge.judge(asked, state, NOW_NS)
        if verdict is None or not isinstance(verdict.result, Approval):
            continue
        judge.remember(verdict)
        venue.take(verdict.result.message)
        assert state is not TradingState.HALTED
        assert state is not TradingState.REDUCING or asked.side is Side.SELL
        assert venue.worst_held(asked.instrument) >= 0


@given(st.data())
def test_a_plan_that_spends_everything_up_to_the_limit_passes_in_every_interleaving(data: st.DataObject) -> None:
    """Sell A, then buy B and C with all the money, B exactly up to its share; only the moments differ."""
    judge = gate(limits(**LOOSE, position_limit=D("0.40")))
    judge.market.on_instrument(instrument("C-USDT"))
    judge.market.on_bar(bar("C-USDT", 100.0))
    venue = Venue(D(400))
    venue.held["C-USDT"] = D(0)
    venue.snapshots = [venue.snapshot()]
    # Equity 1,000. The sale brings 295 at the worst; B may grow from 300 to 400, C takes the rest.
    plan = [
        ask(0, "A-USDT", Side.SELL, D(3), False, D(99)),
        ask(1, "B-USDT", Side.BUY, D(1), True, D(101)),
        ask(2, "C-USDT", Side.BUY, D("3.97"), True, D(101)),
        ask(3, "A-USDT", Side.BUY, D(2), True, D(101)),
    ]
    for asked in plan:
        while True:
            verdict = judge.judge(asked, TradingState.ACTIVE, NOW_NS)
            if verdict is not None and not data.draw(st.booleans(), "more comes first"):
                break
            if verdict is None or venue.snapshots:
                judge.book.on_snapshot(venue.snapshots.pop(0))
                judge.book.forget_snapshots()
            else:
                break
        verdict = judge.judge(asked, TradingState.ACTIVE, NOW_NS)
        assert verdict is not None
        assert isinstance(verdict.result, Approval), verdict.result
        judge.remember(verdict)
        venue.take(verdict.result.message)
        if asked.side is Side.SELL or data.draw(st.booleans(), "fills at once"):
            venue.fill(asked.intent_id, D(1), D(1))
        if asked.side is Side.SELL or data.draw(st.booleans(), "event comes at once"):
            _tell_all_events(judge, venue)


def _tell_all_events(judge: Gate, venue: Venue) -> None:
    while venue.events:
        judge.book.on_event(venue.events.pop(0))


def test_equity_is_the_same_for_all_verdicts_of_a_step_and_new_in_the_next() -> None:
    judge = gate(limits(**LOOSE))
    judge.book.on_snapshot(snapshot(1, "1000", A="2"))
    first = judge.judge(intent(), TradingState.ACTIVE, NOW_NS)
    assert first is not None
    judge.remember(first)
    judge.book.on_event(event("intent-1", OrderState.FILLED, 2, quantity="1", quote="101"))
    judge.book.on_snapshot(snapshot(2, "899", A="3"))
    view = judge.view("A-USDT", TradingState.ACTIVE, NOW_NS)
    assert view.account is not None
    assert view.account.equity_usdt == 1_200
    judge.market.on_closed(closed(NOW_NS + MINUTE_NS))
    view = judge.view("A-USDT", TradingState.ACTIVE, NOW_NS)
    assert view.account is not None
    assert view.account.equity_usdt == 1_199
