"""Orders, in flow order: intent, approval or refusal, events and fills. Money is Decimal.

An intent id is a hash of strategy, run, cycle and leg: the same after a crash. Everything downstream is idempotent
by it. Every intent names the market time that it was decided on; risk and execution wait until they have seen it.
"""

from decimal import Decimal
from enum import StrEnum

import msgspec

from shared.messages.base import Message, Side


class OrderType(StrEnum):
    """Name how an order's price is set."""

    MARKET = "market"
    LIMIT = "limit"


class TimeInForce(StrEnum):
    """Name how long an order may rest."""

    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"
    POST_ONLY = "post_only"


class OrderState(StrEnum):
    """Name where an order stands; `services/execution` owns the table of transitions."""

    INITIALIZED = "initialized"
    DENIED = "denied"
    SUBMITTED = "submitted"
    UNKNOWN = "unknown"
    ACCEPTED = "accepted"
    PARTIALLY_FILLED = "partially_filled"
    PENDING_CANCEL = "pending_cancel"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    REJECTED_UNCONFIRMED = "rejected_unconfirmed"

    @property
    def is_terminal(self) -> bool:
        """Tell whether the venue will do nothing more with the order (a late fill may still arrive)."""
        return self in TERMINAL_STATES


TERMINAL_STATES = frozenset(
    {
        OrderState.DENIED,
        OrderState.FILLED,
        OrderState.CANCELED,
        OrderState.EXPIRED,
        OrderState.REJECTED,
        OrderState.REJECTED_UNCONFIRMED,
    }
)


class OrderIntent(Message, frozen=True):
    """Ask for an order. Exactly one of `quantity` (base units) and `quote_amount` (quote units) is set.

    `price_bound` is the worst acceptable price: the most a buy may pay, the least a sell may take.
    `limit_price` is set for limit orders only. `decided_at_ns` and `expires_at_ns` are market time.
    """

    intent_id: str
    strategy: str
    venue: str
    instrument: str
    side: Side
    type: OrderType
    quantity: Decimal | None
    quote_amount: Decimal | None
    limit_price: Decimal | None
    price_bound: Decimal | None
    time_in_force: TimeInForce
    decided_at_ns: int
    expires_at_ns: int
    reason: str
    correlation_id: str

    def __post_init__(self) -> None:
        if (self.quantity is None) == (self.quote_amount is None):
            raise ValueError("exactly one of quantity and quote_amount must be set")
        for name in ("quantity", "quote_amount", "limit_price", "price_bound"):
            value = getattr(self, name)
            if value is not None and (not value.is_finite() or value <= 0):
                raise ValueError(f"{name} must be a positive number, got {value}")
        if (self.type is OrderType.LIMIT) != (self.limit_price is not None):
            raise ValueError("limit_price must be set for limit orders and only for them")


class OrderApproved(Message, frozen=True):
    """Allow one intent. Execution checks the bounds again at the last hop; an approval serves once."""

    intent: OrderIntent
    approval_id: str
    quantity_max: Decimal
    notional_max_usdt: Decimal
    price_bound: Decimal
    approved_at_ns: int
    expires_at_ns: int


class RefusalCode(StrEnum):
    """Name the control that refused an intent."""

    TRADING_HALTED = "trading_halted"
    TRADING_REDUCING = "trading_reducing"
    INSTRUMENT_UNKNOWN = "instrument_unknown"
    INSTRUMENT_FROZEN = "instrument_frozen"
    PRICE_MISSING = "price_missing"
    DATA_STALE = "data_stale"
    INTENT_EXPIRED = "intent_expired"
    INTENT_MALFORMED = "intent_malformed"
    PRECISION = "precision"
    QUANTITY_MIN = "quantity_min"
    NOTIONAL_MIN = "notional_min"
    NOTIONAL_MAX = "notional_max"
    PRICE_COLLAR = "price_collar"
    BALANCE_UNKNOWN = "balance_unknown"
    BALANCE = "balance"
    RESERVE_FLOOR = "reserve_floor"
    POSITION_LIMIT = "position_limit"
    OPEN_ORDERS = "open_orders"
    RATE = "rate"
    DUPLICATE = "duplicate"
    SELF_MATCH = "self_match"


class OrderRefused(Message, frozen=True):
    """Refuse one intent for good: the same intent will be refused again."""

    intent_id: str
    strategy: str
    venue: str
    instrument: str
    correlation_id: str
    code: RefusalCode
    detail: str
    refused_at_ns: int


class Liquidity(StrEnum):
    """Name which side of a trade rested in the book."""

    MAKER = "maker"
    TAKER = "taker"


class Fill(msgspec.Struct, frozen=True, array_like=True):
    """Record one execution; `fee` in `fee_asset`, all amounts positive."""

    fill_id: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_asset: str
    liquidity: Liquidity
    ts_event_ns: int


class OrderEvent(Message, frozen=True):
    """Report one change of an order. `event_id` is its business key; `ledger_sequence` rises with each ledger entry.

    `ledger_sequence` is the ledger's last entry after this event: an account snapshot with at least this number has it.
    """

    event_id: str
    intent_id: str
    client_order_id: str
    venue_order_id: str | None
    strategy: str
    venue: str
    instrument: str
    side: Side
    type: OrderType
    state: OrderState
    quantity: Decimal | None
    quote_amount: Decimal | None
    limit_price: Decimal | None
    filled_quantity: Decimal
    filled_quote: Decimal
    fill: Fill | None
    reason: str
    correlation_id: str
    ledger_sequence: int
    ts_event_ns: int
