"""A small venue for the tests of the sandbox's core, and short words for its requests."""

from decimal import Decimal

import msgspec

from services.sandbox_exchange.core.exchange import SandboxExchange
from services.sandbox_exchange.core.model import (
    HOUSE,
    Account,
    AccountTrade,
    Event,
    FeeSettings,
    Market,
    OrderKind,
    Permission,
    PlaceOrder,
    Refusal,
    RefusalCode,
    VenueOrder,
)
from shared.matching import FeeMode, SelfTradePrevention
from shared.messages import Instrument, Side, TimeInForce

SYMBOL = "BTCUSDT"
BUY, SELL = Side.BUY, Side.SELL
INSTRUMENT = Instrument(
    "BTC-USDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.001"), Decimal("0.002"), notional_min=Decimal(5)
)
MARKET = Market(
    SYMBOL,
    INSTRUMENT,
    maker_rate=Decimal("0.001"),
    taker_rate=Decimal("0.002"),
    quantity_max=Decimal(1000),
    notional_max=Decimal(1_000_000),
)


def d(text: str | int) -> Decimal:
    return Decimal(text)


class Bench:
    """A venue with the accounts ann and bob, everything that it told, and one clock."""

    def __init__(self, fees: FeeSettings | None = None, **market: object) -> None:
        self.exchange = SandboxExchange(fees=fees)
        self.events: list[Event] = []
        self.now_ns = 1_700_000_000_000_000_000
        self.exchange.list_market(msgspec.structs.replace(MARKET, **market))
        self.exchange.listen(self.events.append)
        for name in ("ann", "bob"):
            deposits = {"USDT": d(100_000), "BTC": d(100), "MX": d(50)}
            self.exchange.open_account(Account(name, f"key-{name}", "secret"), deposits, self.now_ns)
        self.exchange.open_account(Account("eve", "key-eve", "x", frozenset({Permission.READ})), {}, self.now_ns)
        self.events.clear()

    def place(
        self,
        account: str,
        side: Side,
        *,
        price: str | None = None,
        quantity: str | None = None,
        quote: str | None = None,
        kind: OrderKind | None = None,
        force: TimeInForce = TimeInForce.GTC,
        client_id: str | None = None,
        stp: SelfTradePrevention = SelfTradePrevention.NONE,
        symbol: str = SYMBOL,
        fraction: str | None = None,
        fee_mode: FeeMode | None = None,
        accept_duplicate_id: bool = False,
    ) -> tuple[VenueOrder, tuple[AccountTrade, ...]]:
        self.now_ns += 1_000_000
        request = PlaceOrder(
            account,
            symbol,
            side,
            kind or (OrderKind.LIMIT if price is not None else OrderKind.MARKET),
            None if quantity is None else d(quantity),
            None if quote is None else d(quote),
            None if price is None else d(price),
            force,
            client_id,
            stp,
        )
        return self.exchange.place(
            request,
            self.now_ns,
            fill_fraction=None if fraction is None else d(fraction),
            fee_mode=fee_mode,
            accept_duplicate_id=accept_duplicate_id,
        )

    def offer(self, side: Side, price: str, quantity: str) -> VenueOrder:
        return self.place(HOUSE, side, price=price, quantity=quantity)[0]

    def held(self, account: str, asset: str) -> tuple[Decimal, Decimal]:
        found = [(one.free, one.locked) for one in self.exchange.holdings(account) if one.asset == asset]
        return found[0] if found else (d(0), d(0))

    def levels(self, side: Side) -> list[tuple[str, str]]:
        book = self.exchange.depth(SYMBOL)
        return [(str(price), str(quantity)) for price, quantity in (book.bids if side is BUY else book.asks)]

    def told[E: Event](self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


def refusal_of(bench: Bench, account: str, side: Side, **request: object) -> RefusalCode | None:
    """Return why an order is refused (None: it is not), and see that the refusal changed nothing."""
    before, told = bench.exchange.dump(), len(bench.events)
    try:
        bench.place(account, side, **request)
    except Refusal as refusal:
        assert bench.exchange.dump() == before
        assert len(bench.events) == told
        return refusal.code
    return None
