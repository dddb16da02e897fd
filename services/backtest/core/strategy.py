"""What a candle strategy is to the engine: a pure `decide(state, event, params, now_ns)`.

In: closed steps and what became of the strategy's own orders, each event once, in market time. Out: order intents,
and why. Never: a bar that had not closed when the strategy decided; state kept anywhere but in what `decide` returns.
"""

from decimal import Decimal
from typing import Protocol

import msgspec

from services.market_data.core.feed import Candle
from shared.messages import DecisionRecord, Instrument, OrderEvent, OrderIntent, OrderRefused


class Account(msgspec.Struct, frozen=True):
    """State what the account holds after ledger entry `ledger_sequence`.

    `quantities` are base units by market, locked ones too; `quote_free` is the quote money that is free to spend.
    """

    ledger_sequence: int
    quantities: dict[str, Decimal]
    quote_free: Decimal


class StepClosed(msgspec.Struct, frozen=True):
    """Say that every bar of `close_time_ns` is there; markets without one are not in `bars`."""

    close_time_ns: int
    bars: dict[str, Candle]
    account: Account


class OrderMoved(msgspec.Struct, frozen=True):
    """Carry a state change or a fill of one of the strategy's orders."""

    event: OrderEvent


class IntentRefused(msgspec.Struct, frozen=True):
    """Carry risk's refusal of an intent."""

    refusal: OrderRefused


class AccountMoved(msgspec.Struct, frozen=True):
    """Say that the account has followed the ledger up to this entry."""

    ledger_sequence: int


StrategyEvent = StepClosed | OrderMoved | IntentRefused | AccountMoved


class StrategyParams(msgspec.Struct, frozen=True):
    """Hold what does not change during a run."""

    venue: str
    timeframe_ns: int
    instruments: dict[str, Instrument]


class Opened(msgspec.Struct, frozen=True):
    """Describe a plan that was just decided, for the list of rebalances; its orders carry `plan_id` as correlation.

    `asset` and `deviation` are None where nothing single fired (an initial allocation).
    """

    plan_id: str
    asset: str | None
    direction: str
    deviation: Decimal | None


class Answer(msgspec.Struct, frozen=True):
    """Answer an event: intents to send, the journal's entry (None: nothing to journal), the plan opened by it."""

    intents: tuple[OrderIntent, ...] = ()
    record: DecisionRecord | None = None
    opened: Opened | None = None


NOTHING = Answer()


class Strategy[S](Protocol):
    """Decide. `S` is whatever state the strategy needs; the engine only carries it from one call to the next."""

    @property
    def name(self) -> str:
        """Return the strategy's name, which its intents carry."""
        ...

    @property
    def assets(self) -> tuple[str, ...]:
        """Return the markets that it wants bars of, as bus tokens."""
        ...

    @property
    def warmup_bars(self) -> int:
        """Return how many steps it must have seen before it may ask for an order; 0 for none."""
        ...

    def first_state(self) -> S:
        """Return the state before the first event."""
        ...

    def decide(self, state: S, event: StrategyEvent, params: StrategyParams, now_ns: int) -> tuple[S, Answer]:
        """Return the state after `event` and the answer to it; `now_ns` is market time."""
        ...
