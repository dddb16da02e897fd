"""Builders and a venue that keeps its own ledger, shared by the rebalancer's tests."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core import Params, Portfolio
from shared.messages import (
    AccountSnapshot,
    Balance,
    Fill,
    Instrument,
    Liquidity,
    OrderEvent,
    OrderIntent,
    OrderRefused,
    OrderState,
    RefusalCode,
    Side,
)

STEP = Decimal("0.001")
FEE = Decimal("0.001")
ASSETS = ("A-USDT", "B-USDT", "C-USDT", "D-USDT")


def instrument(symbol: str, *, step: Decimal = STEP, tick: str = "0.0001", notional_min: int = 5) -> Instrument:
    """Return a market with a thousandth as its step."""
    base, quote = symbol.split("-")
    return Instrument(symbol, base, quote, Decimal(tick), step, step, Decimal(notional_min))


def make_params(assets: tuple[str, ...] = ASSETS, **changes: object) -> Params:
    """Return the default rules for a basket on venue `sandbox`."""
    return Params(RebalanceConfig(assets=assets, **changes), "sandbox", {asset: instrument(asset) for asset in assets})


def make_portfolio(
    values: dict[str, object], usdt: object = 0, *, price: object = 1, minutes: dict[str, object] | None = None
) -> Portfolio:
    """Return a portfolio worth `values`, all at one price."""
    price = Decimal(str(price))
    return Portfolio(
        assets=tuple(values),
        prices=dict.fromkeys(values, price),
        quantities={asset: Decimal(str(worth)) / price for asset, worth in values.items()},
        usdt=Decimal(str(usdt)),
        elapsed_ns={asset: Decimal(str(each)) * 60_000_000_000 for asset, each in (minutes or {}).items()},
    )


class FakeVenue:
    """Fill market orders at the last close, once per intent id, with a ledger that must never go negative."""

    def __init__(self, usdt: object = 10_000, quantities: dict[str, object] | None = None) -> None:
        self.usdt = Decimal(str(usdt))
        self.quantities = {asset: Decimal(str(held)) for asset, held in (quantities or {}).items()}
        self.prices: dict[str, Decimal] = {}
        self.ledger_sequence = 1
        self.answers: dict[str, list[OrderEvent | OrderRefused]] = {}
        self.intents: dict[str, OrderIntent] = {}
        self.fees = Decimal(0)

    def submit(
        self, intent: OrderIntent, *, share: object = 1, refuse: bool = False
    ) -> list[OrderEvent | OrderRefused]:
        """Fill `share` of the intent and cancel the rest, or refuse it; a repetition gives the same answers again."""
        if intent.intent_id in self.answers:
            assert self.intents[intent.intent_id] == intent, "one id, two orders"
            return self.answers[intent.intent_id]
        self.intents[intent.intent_id] = intent
        if refuse:
            answers: list[OrderEvent | OrderRefused] = [self.refusal(intent)]
        else:
            answers = self._execute(intent, Decimal(str(share)))
        self.answers[intent.intent_id] = answers
        return answers

    def refusal(self, intent: OrderIntent) -> OrderRefused:
        """Return risk's refusal of the intent."""
        return OrderRefused(
            intent_id=intent.intent_id,
            strategy=intent.strategy,
            venue=intent.venue,
            instrument=intent.instrument,
            correlation_id=intent.correlation_id,
            code=RefusalCode.BALANCE,
            detail="not enough",
            refused_at_ns=intent.decided_at_ns,
        )

    def snapshot(self, as_of_ns: int = 0) -> AccountSnapshot:
        """Return the account now."""
        balances = [Balance("USDT", self.usdt, Decimal(0))]
        balances += [Balance(asset.split("-")[0], held, Decimal(0)) for asset, held in self.quantities.items()]
        return AccountSnapshot(
            venue="sandbox",
            account="paper",
            ledger_sequence=self.ledger_sequence,
            as_of_ns=as_of_ns,
            balances=tuple(balances),
            positions=(),
            equity_usdt=None,
            fees_paid_usdt=self.fees,
            open_orders=0,
        )

    def event(self, intent: OrderIntent, state: OrderState, **changes: object) -> OrderEvent:
        """Return an order event with nothing filled, changed as told."""
        fields: dict[str, object] = {
            "event_id": f"{intent.intent_id}-{state}",
            "intent_id": intent.intent_id,
            "client_order_id": f"c{intent.intent_id}",
            "venue_order_id": None,
            "strategy": intent.strategy,
            "venue": intent.venue,
            "instrument": intent.instrument,
            "side": intent.side,
            "type": intent.type,
            "state": state,
            "quantity": intent.quantity,
            "quote_amount": intent.quote_amount,
            "limit_price": None,
            "filled_quantity": Decimal(0),
            "filled_quote": Decimal(0),
            "fill": None,
            "reason": "",
            "correlation_id": intent.correlation_id,
            "ledger_sequence": self.ledger_sequence,
            "ts_event_ns": intent.decided_at_ns,
        }
        return OrderEvent(**(fields | changes))

    def _execute(self, intent: OrderIntent, share: Decimal) -> list[OrderEvent | OrderRefused]:
        price = self.prices[intent.instrument]
        wanted = share * (intent.quantity if intent.side is Side.SELL else intent.quote_amount / price)
        filled = wanted // STEP * STEP
        events: list[OrderEvent | OrderRefused] = [self.event(intent, OrderState.ACCEPTED)]
        done = Decimal(0)
        parts = [filled // 2 // STEP * STEP, filled - filled // 2 // STEP * STEP]
        for number, part in enumerate(part for part in parts if part > 0):
            done += part
            events.append(self._fill(intent, number, price, part, done, is_last=done == filled and share == 1))
        if share != 1 or filled == 0:
            end = self.event(
                intent,
                OrderState.CANCELED,
                filled_quantity=done,
                filled_quote=done * price,
                event_id=f"{intent.intent_id}-end",
            )
            events.append(end)
        return events

    def _fill(
        self, intent: OrderIntent, number: int, price: Decimal, part: Decimal, done: Decimal, *, is_last: bool
    ) -> OrderEvent:
        asset, quote = intent.instrument, part * price
        is_sell = intent.side is Side.SELL
        fee = (quote if is_sell else part) * FEE
        if is_sell:
            self.quantities[asset] = self.quantities.get(asset, Decimal(0)) - part
            self.usdt += quote - fee
        else:
            self.usdt -= quote
            self.quantities[asset] = self.quantities.get(asset, Decimal(0)) + part - fee
        assert self.usdt >= 0, "spent more than there was"
        assert self.quantities[asset] >= 0, "sold more than was held"
        self.fees += fee if is_sell else fee * price
        self.ledger_sequence += 1
        paid_in = "USDT" if is_sell else asset.split("-")[0]
        fill = Fill(f"{intent.intent_id}-f{number}", price, part, fee, paid_in, Liquidity.TAKER, intent.decided_at_ns)
        return self.event(
            intent,
            OrderState.FILLED if is_last else OrderState.PARTIALLY_FILLED,
            event_id=f"{intent.intent_id}-{number}",
            filled_quantity=done,
            filled_quote=done * price,
            fill=fill,
            ledger_sequence=self.ledger_sequence,
        )


@pytest.fixture
def params() -> Callable[..., Params]:
    """Return the builder of rules and grids."""
    return make_params


@pytest.fixture
def portfolio() -> Callable[..., Portfolio]:
    """Return the builder of portfolios."""
    return make_portfolio


@pytest.fixture
def venue() -> type[FakeVenue]:
    """Return the venue's type."""
    return FakeVenue
