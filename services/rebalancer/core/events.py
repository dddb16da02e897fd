"""What the plan machine is told and what it answers."""

from decimal import Decimal

import msgspec

from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core.report import Report
from shared.messages import Instrument, OrderEvent, OrderIntent, OrderRefused


class Holdings(msgspec.Struct, frozen=True):
    """State what the account holds, by market: quantities in base units; `usdt` is what is free to spend.

    A market that the account does not list is held at zero: the snapshot is the whole account. `usdt_locked` rests in
    open orders; it only tells transfers from orders.
    """

    ledger_sequence: int
    quantities: dict[str, Decimal]
    usdt: Decimal
    usdt_locked: Decimal = Decimal(0)


class BarsArrived(msgspec.Struct, frozen=True, tag=True):
    """Say that all bars of a close time are there. `closes` leaves out what has no bar; `holdings` are the newest.

    `volumes` are the bars' volumes in quote units, told only to a strategy that weighs by them. `withheld` says why no
    plan may be opened now whatever the rules say (trading is halted); empty: one may be.
    """

    close_time_ns: int
    closes: dict[str, Decimal]
    holdings: Holdings
    volumes: dict[str, Decimal] = {}
    withheld: str = ""


class OrderChanged(msgspec.Struct, frozen=True, tag=True):
    """Carry an order event, in any order and any number of times."""

    event: OrderEvent


class IntentRefused(msgspec.Struct, frozen=True, tag=True):
    """Carry risk's refusal of an intent."""

    refusal: OrderRefused


class AccountSeen(msgspec.Struct, frozen=True, tag=True):
    """Say how far the newest account snapshot has followed the ledger."""

    ledger_sequence: int


class Resumed(msgspec.Struct, frozen=True, tag=True):
    """Say that the process has just started: whatever is unfinished is to be sent again."""


class RebalanceRequested(msgspec.Struct, frozen=True, tag=True):
    """Carry a person's wish to rebalance to target at the next closed bars; asked once for each correlation id."""

    correlation_id: str
    user: str
    reason: str


class PauseRequested(msgspec.Struct, frozen=True, tag=True):
    """Carry a person's wish to start no new plan (`paused`), or to go on."""

    correlation_id: str
    user: str
    reason: str
    paused: bool


MachineEvent = BarsArrived | OrderChanged | IntentRefused | AccountSeen | Resumed | RebalanceRequested | PauseRequested


class Params(msgspec.Struct, frozen=True):
    """Hold what does not change while the process lives, except that instruments are redefined by the venue."""

    config: RebalanceConfig
    venue: str
    instruments: dict[str, Instrument]


class Decision(msgspec.Struct, frozen=True):
    """Answer an event: intents to publish, why, and under which id the journal keeps it (None: nothing to journal).

    `action` is `none`, `wait`, `allocate`, `upside`, `downside`, `position_limit` or `rebalance`; `plan_id` correlates.
    `refusal` says why a request is not granted ("": it is). `report` comes when the orders of a plan are over.
    """

    intents: tuple[OrderIntent, ...] = ()
    notes: tuple[str, ...] = ()
    action: str = "none"
    plan_id: str = ""
    decision_id: str | None = None
    refusal: str = ""
    report: Report | None = None
