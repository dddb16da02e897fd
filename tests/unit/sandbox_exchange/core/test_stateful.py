"""The sandbox venue under random requests: nothing vanishes, and a restored venue goes on alike.

It is followed by rows, as a state file follows it, which say at any time what the venue is.
"""

from collections.abc import Callable
from decimal import Decimal

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.sandbox_exchange.core.exchange import SandboxExchange
from services.sandbox_exchange.core.ledger import Ledger
from services.sandbox_exchange.core.model import (
    HOUSE,
    Account,
    Event,
    FeeSettings,
    HoldingChanged,
    LevelChanged,
    Market,
    MarketChanged,
    OrderChanged,
    OrderKind,
    PlaceOrder,
    Refusal,
    TradePrinted,
    TradingStatus,
    VenueOrder,
)
from shared.matching import FeeMode, SelfTradePrevention
from shared.messages import Instrument, Side, TimeInForce
from tests.unit.sandbox_exchange.core.rows import Mirror

TICK, STEP = Decimal("0.05"), Decimal("0.03")
RATES = {"maker_rate": Decimal("0.001"), "taker_rate": Decimal("0.004")}
# The second market's base is the first one's quote, so that one asset is locked in two ways.
MARKETS = {
    "AAAUSD": Market("AAAUSD", Instrument("AAA-USD", "AAA", "USD", TICK, STEP, STEP, Decimal(0)), **RATES),
    "USDEUR": Market("USDEUR", Instrument("USD-EUR", "USD", "EUR", TICK, STEP, STEP, Decimal(0)), **RATES),
}
PEOPLE = ("ann", "bob")
FEES = FeeSettings(FeeMode.GET, third_asset="MX", third_asset_price=Decimal(7))

accounts = st.sampled_from([*PEOPLE, HOUSE, HOUSE])
symbols = st.sampled_from(["AAAUSD", "AAAUSD", "USDEUR"])
sides = st.sampled_from(list(Side))
quantities = st.integers(1, 40).map(lambda lots: lots * STEP)
prices = st.integers(92, 108).map(lambda ticks: ticks * TICK)
client_ids = st.sampled_from([None, None, "x", "y", "z"])
fractions = st.sampled_from([None, None, None, None, Decimal("0.3"), Decimal("0.77"), Decimal("0.01")])
fee_modes = st.sampled_from([None, *FeeMode])
preventions = st.sampled_from(list(SelfTradePrevention))
forces = st.sampled_from(list(TimeInForce))


@st.composite
def wishes(draw: st.DrawFn) -> tuple[PlaceOrder, Decimal | None, FeeMode | None]:
    """A request with the part that fills at once and the fee mode."""
    kind = draw(st.sampled_from([OrderKind.LIMIT] * 4 + [OrderKind.MARKET, OrderKind.LIMIT_MAKER]))
    quantity, quote_amount, price, force = draw(quantities), None, None, TimeInForce.GTC
    if kind is not OrderKind.MARKET:
        price = draw(prices)
    elif draw(st.booleans()):
        quantity, quote_amount = None, quantity * 5
    if kind is OrderKind.LIMIT:
        force = draw(st.sampled_from([TimeInForce.GTC] * 4 + list(TimeInForce)))
    words = (draw(accounts), draw(symbols), draw(sides), kind, quantity, quote_amount, price, force)
    request = PlaceOrder(*words, draw(client_ids), draw(preventions))
    return request, draw(fractions), draw(fee_modes)


def new_venue(history_max: int) -> SandboxExchange:
    exchange = SandboxExchange(fees=FEES, open_orders_max=6, trades_kept=20, history_max=history_max)
    for market in MARKETS.values():
        exchange.list_market(market)
    for name in PEOPLE:
        deposits = {"USD": Decimal(30), "AAA": Decimal(5), "EUR": Decimal(60), "MX": Decimal("0.01")}
        exchange.open_account(Account(name, f"key-{name}", "s"), deposits, 0)
    return exchange


class VenueMachine(RuleBasedStateMachine):
    """Drive one venue and a second one that is saved and restored now and then."""

    history_max = 100_000

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0
        self.venue, self.twin = new_venue(self.history_max), new_venue(self.history_max)
        self.mirror, self.twin_mirror = Mirror(), Mirror()
        self.mirror.follow(self.venue.take_changes())
        self.ended: dict[str, list[int]] = {name: [] for name in PEOPLE}
        self.trades_of: dict[int, int] = {}
        self.events: list[Event] = []
        self.twin_events: list[Event] = []
        self.venue.listen(self.events.append)
        self.twin.listen(self.twin_events.append)
        self.levels: dict[tuple[str, Side], dict[Decimal, Decimal]] = {}
        self.versions = {symbol: self.venue.depth(symbol).version for symbol in MARKETS}
        self.orders: dict[int, VenueOrder] = {}
        self.held = {(name, one.asset): one for name in PEOPLE for one in self.venue.holdings(name)}
        self.trade_ids = dict.fromkeys(MARKETS, 0)
        self.house_orders: list[tuple[str, int]] = []

    def do[T](self, call: Callable[[SandboxExchange], T]) -> T | None:
        """Ask both venues; they answer and tell the same, and a refusal changes nothing."""
        self.now_ns += 20_000_000_000
        before = self.venue.dump()
        answers: list[object] = []
        for venue in (self.venue, self.twin):
            try:
                answers.append(call(venue))
            except Refusal as refusal:
                answers.append((refusal.code, refusal.detail))
                assert venue.dump() == before
                assert not self.events or venue is self.twin
        assert answers[0] == answers[1]
        assert self.events == self.twin_events
        self.take_events()
        refused = isinstance(answers[0], tuple) and len(answers[0]) == 2 and isinstance(answers[0][1], str)
        return None if refused else answers[0]  # type: ignore[return-value]

    def take_events(self) -> None:
        for event in self.events:
            if isinstance(event, LevelChanged):
                self.versions[event.symbol] += 1
                assert event.version == self.versions[event.symbol]
                side = self.levels.setdefault((event.symbol, event.side), {})
                if event.quantity:
                    side[event.price] = event.quantity
                else:
                    del side[event.price]
            elif isinstance(event, TradePrinted):
                self.trade_ids[event.trade.symbol] += 1
                assert event.trade.trade_id == self.trade_ids[event.trade.symbol]
            elif isinstance(event, OrderChanged):
                self.take_order(event)
            elif isinstance(event, HoldingChanged):
                assert event.account != HOUSE
                old = self.held.get((event.account, event.holding.asset))
                free, locked = (old.free, old.locked) if old else (Decimal(0), Decimal(0))
                assert (event.holding.free, event.holding.locked) == (
                    free + event.free_change,
                    locked + event.locked_change,
                )
                self.held[event.account, event.holding.asset] = event.holding
            else:
                assert isinstance(event, MarketChanged)
        for name in PEOPLE:
            self.forget_too_much(name)
        self.events.clear()
        self.twin_events.clear()

    def take_order(self, event: OrderChanged) -> None:
        order, old = event.order, self.orders.get(event.order.order_id)
        assert order.account != HOUSE
        assert (old is None) or old.status.is_open
        done = Decimal(0) if old is None else old.executed_quantity
        assert order.executed_quantity - done == (0 if event.trade is None else event.trade.quantity)
        self.orders[order.order_id] = order
        if event.trade is not None:
            self.trades_of[order.order_id] = self.trades_of.get(order.order_id, 0) + 1
        if not order.status.is_open:
            self.ended[order.account].append(order.order_id)

    def forget_too_much(self, name: str) -> None:
        ended = self.ended[name]
        mine = {one.order_id for one in self.orders.values() if one.account == name}
        while len(ended) > 1 and len(ended) + sum(self.trades_of.get(one, 0) for one in mine) > self.history_max:
            oldest = ended.pop(0)
            mine.discard(oldest)
            del self.orders[oldest]

    @rule(wishes=st.lists(wishes(), min_size=1, max_size=8))
    def place_some(self, wishes) -> None:
        for request, fraction, fee_mode in wishes:
            self.place(request, fraction, fee_mode)

    def place(self, request: PlaceOrder, fraction: Decimal | None, fee_mode: FeeMode | None) -> None:
        answer = self.do(lambda venue: venue.place(request, self.now_ns, fill_fraction=fraction, fee_mode=fee_mode))
        if answer is None:
            return
        order, trades = answer
        if request.account == HOUSE:
            assert trades == ()
            if order.status.is_open:
                self.house_orders.append((order.symbol, order.order_id))
        else:
            assert sum(one.quantity for one in trades) == order.executed_quantity
            assert sum(one.quote_quantity for one in trades) == order.executed_quote
            if request.quote_amount is not None:
                assert order.executed_quote <= request.quote_amount
        for trade in trades:
            assert request.price is None or (
                trade.price <= request.price if request.side is Side.BUY else trade.price >= request.price
            )

    @rule(number=st.integers(0, 1000), is_stranger=st.booleans())
    def cancel(self, number, is_stranger) -> None:
        open_ids = [one.order_id for one in self.orders.values() if one.status.is_open]
        ids = open_ids if number % 3 and open_ids else list(self.orders)
        if not ids:
            return
        old = self.orders[ids[number % len(ids)]]
        account, symbol, order_id = old.account, old.symbol, old.order_id
        if is_stranger and number % 5 == 0:
            account = "bob" if account == "ann" else "ann"
        answer = self.do(lambda venue: venue.cancel(account, symbol, self.now_ns, order_id=order_id))
        is_own_open = old.status.is_open and old.account == account
        assert (answer is not None) == is_own_open
        assert self.do(lambda venue: venue.cancel(account, symbol, self.now_ns, order_id=order_id)) is None

    @rule(number=st.integers(0, 1000))
    def cancel_of_the_house(self, number) -> None:
        if self.house_orders:
            symbol, order_id = self.house_orders.pop(number % len(self.house_orders))
            self.do(lambda venue: venue.cancel(HOUSE, symbol, self.now_ns, order_id=order_id))

    @rule(account=st.sampled_from(PEOPLE), symbol=st.sampled_from([None, *MARKETS]), number=st.integers(0, 3))
    def cancel_all(self, account, symbol, number) -> None:
        if number:
            return
        self.do(lambda venue: venue.cancel_all(account, symbol, self.now_ns))

    @rule(account=st.sampled_from(PEOPLE), asset=st.sampled_from(["USD", "AAA"]), amount=st.integers(-9, 9))
    def transfer(self, account, asset, amount) -> None:
        self.do(lambda venue: venue.transfer(account, asset, Decimal(amount), self.now_ns, "outside"))

    @rule(symbol=symbols, number=st.integers(0, 9))
    def halt_and_reopen(self, symbol, number) -> None:
        status = TradingStatus.PAUSED if number else TradingStatus.DELISTED
        self.do(lambda venue: venue.set_status(symbol, status, self.now_ns))
        self.do(lambda venue: venue.set_status(symbol, TradingStatus.TRADING, self.now_ns))

    @rule()
    def restart_the_twin(self) -> None:
        self.twin_mirror.follow(self.twin.take_changes())
        saved = self.twin_mirror.dump()
        assert saved == self.twin.dump()
        self.twin = SandboxExchange(open_orders_max=6, trades_kept=20, history_max=self.history_max)
        self.twin.restore(saved)
        self.twin.listen(self.twin_events.append)
        self.twin_mirror = Mirror()
        assert self.twin.dump() == saved

    @rule(lose=st.sampled_from([False, False, False, True]))
    def let_the_rows_follow(self, lose) -> None:
        if lose:
            self.venue.take_whole()  # as after a write that failed
        self.mirror.follow(self.venue.take_changes())
        assert self.mirror.dump() == self.venue.dump()

    @invariant()
    def books_are_as_told_and_never_crossed(self) -> None:
        for symbol in MARKETS:
            book = self.venue.depth(symbol)
            told = {side: self.levels.get((symbol, side), {}) for side in Side}
            assert book.bids == tuple(sorted(told[Side.BUY].items(), reverse=True))
            assert book.asks == tuple(sorted(told[Side.SELL].items()))
            assert book.version == self.versions[symbol]
            assert not book.bids or not book.asks or book.bids[0][0] < book.asks[0][0]

    @invariant()
    def orders_are_as_told(self) -> None:
        for name in PEOPLE:
            for symbol in MARKETS:
                mine = [one for one in self.orders.values() if (one.account, one.symbol) == (name, symbol)]
                assert list(self.venue.orders(name, symbol)) == mine
                assert list(self.venue.open_orders(name, symbol)) == [one for one in mine if one.status.is_open]
                for one in mine:
                    assert one.quantity is None or 0 <= one.executed_quantity <= one.quantity
            assert len(self.venue.open_orders(name)) <= 6

    @invariant()
    def what_is_locked_is_what_open_orders_need(self) -> None:
        for name in PEOPLE:
            least: dict[str, Decimal] = {}
            for one in self.venue.open_orders(name):
                instrument = MARKETS[one.symbol].instrument
                rest = one.quantity - one.executed_quantity
                asset, amount = (
                    (instrument.quote, rest * one.price) if one.side is Side.BUY else (instrument.base, rest)
                )
                least[asset] = least.get(asset, Decimal(0)) + amount
            most = Decimal(1) + RATES["taker_rate"]
            for holding in self.venue.holdings(name):
                assert self.held[name, holding.asset] == holding
                needed = least.pop(holding.asset, Decimal(0))
                assert needed <= holding.locked <= needed * most
                assert holding.free >= 0
            assert least == {}

    @invariant()
    def ledger_adds_up(self) -> None:
        ledger = msgspec.json.decode(self.venue.ledger(), type=Ledger)
        assert {asset: one.difference for asset, one in ledger.totals.items() if one.difference} == {}
        held = dict.fromkeys(((name, asset) for name in PEOPLE for asset in ledger.totals), Decimal(0))
        for one in ledger.transfers:
            held[one.account, one.asset] += one.amount
        for trade in ledger.executions:
            instrument, sign = MARKETS[trade.symbol].instrument, 1 if trade.side is Side.BUY else -1
            held[trade.account, instrument.base] += sign * trade.quantity
            held[trade.account, instrument.quote] -= sign * trade.price * trade.quantity
            held[trade.account, trade.fee_asset] -= trade.fee
        for name, gone in ledger.forgotten.items():
            for asset, amount in gone.amounts.items():
                held[name, asset] += amount
        stated = {(name, one.asset): one.free + one.locked for name in PEOPLE for one in ledger.holdings[name]}
        assert stated == {key: amount for key, amount in held.items() if key in stated or amount}
        assert list(ledger.orders) == sorted(self.orders.values(), key=lambda one: one.order_id)


class ForgetfulVenueMachine(VenueMachine):
    """Drive venues that keep hardly anything of the past."""

    history_max = 7


TestVenue = VenueMachine.TestCase
TestForgetfulVenue = ForgetfulVenueMachine.TestCase
TestVenue.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestForgetfulVenue.settings = settings(TestVenue.settings, max_examples=40)
