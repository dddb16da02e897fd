"""A venue in a test's hands: fills market orders at the last close, once per intent, with a ledger of its own.

In: intents. Out: order events, refusals, account snapshots. Never: the same intent filled twice, a negative balance.
"""

from decimal import Decimal

import msgspec

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
Answer = OrderEvent | OrderRefused
Number = Decimal | int | str


def instrument(symbol: str, *, step: Decimal = STEP, tick: str = "0.0001", notional_min: int = 5) -> Instrument:
    """Return a market with a thousandth as its step."""
    base, quote = symbol.split("-")
    return Instrument(symbol, base, quote, Decimal(tick), step, step, Decimal(notional_min))


class FakeVenue:
    """Fill market orders at the last close, once per intent id, with a ledger that must never go negative."""

    def __init__(self, usdt: Number = 10_000, quantities: dict[str, Number] | None = None) -> None:
        self.usdt = Decimal(str(usdt))
        self.quantities = {asset: Decimal(str(held)) for asset, held in (quantities or {}).items()}
        self.prices: dict[str, Decimal] = {}
        self.ledger_sequence = 1
        self.answers: dict[str, list[Answer]] = {}
        self.intents: dict[str, OrderIntent] = {}
        self.fees = Decimal(0)

    def submit(self, intent: OrderIntent, *, share: Number = 1, refuse: bool = False) -> list[Answer]:
        """Fill `share` of the intent and cancel the rest, or refuse it; a repetition gives the same answers again."""
        if intent.intent_id in self.answers:
            if self.intents[intent.intent_id] != intent:
                raise AssertionError("one id, two orders")
            return self.answers[intent.intent_id]
        self.intents[intent.intent_id] = intent
        if refuse:
            answers: list[Answer] = [self.refusal(intent)]
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
        plain = OrderEvent(
            event_id=f"{intent.intent_id}-{state}",
            intent_id=intent.intent_id,
            client_order_id=f"c{intent.intent_id}",
            venue_order_id=None,
            strategy=intent.strategy,
            venue=intent.venue,
            instrument=intent.instrument,
            side=intent.side,
            type=intent.type,
            state=state,
            quantity=intent.quantity,
            quote_amount=intent.quote_amount,
            limit_price=None,
            filled_quantity=Decimal(0),
            filled_quote=Decimal(0),
            fill=None,
            reason="",
            correlation_id=intent.correlation_id,
            ledger_sequence=self.ledger_sequence,
            ts_event_ns=intent.decided_at_ns,
        )
        return msgspec.structs.replace(plain, **changes)

    def _execute(self, intent: OrderIntent, share: Decimal) -> list[Answer]:
        price = self.prices[intent.instrument]
        whole = intent.quantity if intent.quote_amount is None else intent.quote_amount / price
        wanted = share * (whole or Decimal(0))
        filled = wanted // STEP * STEP
        events: list[Answer] = [self.event(intent, OrderState.ACCEPTED)]
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
