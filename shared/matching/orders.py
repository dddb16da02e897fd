"""What the matching engine takes and gives. Money is Decimal on the instrument's grid."""

from decimal import Decimal
from enum import StrEnum

import msgspec

from shared.messages.base import Side
from shared.messages.order import TimeInForce


class SelfTradePrevention(StrEnum):
    """Name who gives way when an order meets one of the same owner."""

    NONE = "none"
    CANCEL_TAKER = "cancel_taker"
    CANCEL_MAKER = "cancel_maker"
    CANCEL_BOTH = "cancel_both"


class NewOrder(msgspec.Struct, frozen=True):
    """Ask for an order; exactly one of `quantity` and `quote_amount` is set.

    An order by quote amount never rests: with a `limit_price` it must be IOC or FOK. Without `limit_price` it
    is a market order: what the book cannot fill is cancelled.
    """

    order_id: str
    owner: str
    side: Side
    quantity: Decimal | None = None
    quote_amount: Decimal | None = None
    limit_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    self_trade: SelfTradePrevention = SelfTradePrevention.NONE


class Execution(msgspec.Struct, frozen=True):
    """Report one trade at the maker's price; `sequence` counts the engine's trades from 1."""

    sequence: int
    price: Decimal
    quantity: Decimal
    taker_side: Side
    taker_order_id: str
    taker_owner: str
    maker_order_id: str
    maker_owner: str
    maker_remaining: Decimal
    taker_fee: Decimal
    taker_fee_asset: str
    maker_fee: Decimal
    maker_fee_asset: str


class OutcomeState(StrEnum):
    """Name where an order stands after it was handled."""

    FILLED = "filled"
    RESTING = "resting"
    CANCELED = "canceled"
    REJECTED = "rejected"


class OutcomeReason(StrEnum):
    """Name why an order was rejected, or why its rest was cancelled."""

    NONE = "none"
    ORDER_ID_TAKEN = "order_id_taken"
    MALFORMED = "malformed"
    OFF_GRID = "off_grid"
    POST_ONLY_WOULD_TAKE = "post_only_would_take"
    FOK_UNFILLABLE = "fok_unfillable"
    UNFILLED = "unfilled"
    SELF_TRADE = "self_trade"


class Outcome(msgspec.Struct, frozen=True):
    """Say what became of a new order.

    `resting_quantity` lies in the book, `canceled_quantity` was given up (None for orders by quote amount, whose
    `unspent_quote` was). `canceled_makers` lists resting orders that self-trade prevention took out, with their rest.
    """

    order_id: str
    state: OutcomeState
    reason: OutcomeReason
    executions: tuple[Execution, ...] = ()
    resting_quantity: Decimal = Decimal(0)
    canceled_quantity: Decimal | None = Decimal(0)
    unspent_quote: Decimal | None = None
    canceled_makers: tuple[tuple[str, Decimal], ...] = ()


class BookLevel(msgspec.Struct, frozen=True):
    """State one price of the book and the quantity that rests there."""

    price: Decimal
    quantity: Decimal
    orders: int
