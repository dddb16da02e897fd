"""MEXC's spelling of channels, intervals, order types, states and errors.

In: the venue's words. Out: ours, and back. Never: a refusal assumed where MEXC's documents prove none.
"""

from collections.abc import Mapping

from shared.clock import NANOSECONDS_PER_MINUTE
from shared.exchange.live.outcome import CodeTable
from shared.exchange.port import VenueRejectCode
from shared.messages import OrderState, OrderType, Side, TimeInForce

VENUE = "mexc"
REST_URL = "https://api.mexc.com"
WS_URL = "wss://wbs-api.mexc.com/ws"
SUBSCRIPTIONS_PER_SOCKET = 30
# MEXC's own limit for orders and cancels together, and what we allow ourselves for everything; of a burst, questions
# leave so much to an order or a cancel.
ORDERS_PER_S, REQUESTS_PER_S, BURST, RESERVE = 12.0, 20.0, 4.0, 2.0

DEPTH = "spot@public.aggre.depth.v3.api.pb@100ms@"
DEALS = "spot@public.aggre.deals.v3.api.pb@100ms@"
TICKER = "spot@public.aggre.bookTicker.v3.api.pb@100ms@"
PRIVATE = ("spot@private.orders.v3.api.pb", "spot@private.deals.v3.api.pb", "spot@private.account.v3.api.pb")
PING = '{"method":"PING"}'

MINUTE, HOUR, DAY = NANOSECONDS_PER_MINUTE, 60 * NANOSECONDS_PER_MINUTE, 1440 * NANOSECONDS_PER_MINUTE
# A timeframe's word in REST and its length; a month has none.
INTERVALS: Mapping[str, tuple[str, int]] = {
    "1m": ("1m", MINUTE), "5m": ("5m", 5 * MINUTE), "15m": ("15m", 15 * MINUTE), "30m": ("30m", 30 * MINUTE),
    "1h": ("60m", HOUR), "4h": ("4h", 4 * HOUR), "1d": ("1d", DAY),
}  # fmt: skip
BARS_PER_PAGE, TRADES_LISTED = 500, 1_000

SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}
SIDE_WORDS = {side: word for word, side in SIDES.items()}
SIDE_NUMBERS = {1: Side.BUY, 2: Side.SELL}
TYPES = {
    "LIMIT": (OrderType.LIMIT, TimeInForce.GTC),
    "LIMIT_MAKER": (OrderType.LIMIT, TimeInForce.POST_ONLY),
    "IMMEDIATE_OR_CANCEL": (OrderType.LIMIT, TimeInForce.IOC),
    "FILL_OR_KILL": (OrderType.LIMIT, TimeInForce.FOK),
    "MARKET": (OrderType.MARKET, TimeInForce.IOC),
}
TYPE_WORDS = dict(enumerate(TYPES, start=1))
STATES = {
    "NEW": OrderState.ACCEPTED,
    "PARTIALLY_FILLED": OrderState.PARTIALLY_FILLED,
    "FILLED": OrderState.FILLED,
    "CANCELED": OrderState.CANCELED,
    "PARTIALLY_CANCELED": OrderState.CANCELED,
}
STATE_WORDS = {1: "NEW", 2: "FILLED", 3: "PARTIALLY_FILLED", 4: "CANCELED", 5: "PARTIALLY_CANCELED"}

TRADING_STATUSES = frozenset({"1", "ENABLED"})
SIDE_TYPES = {
    "1": frozenset(Side), "2": frozenset({Side.BUY}), "3": frozenset({Side.SELL}), "4": frozenset[Side](),
}  # fmt: skip

# Right after a create MEXC may say so of an order that lives: it means "not visible", never "failed".
ORDER_NOT_FOUND = frozenset({-2011, -2013})
CLOCK_CODES = frozenset({700003, 700005})
POST_ONLY_CODE = 30041
# How long to be silent after a refusal for our pace that does not say for how long, in seconds.
PAUSES_S = {429: 10.0, 403: 30.0, 418: 120.0}

_MALFORMED, _PERMISSION = VenueRejectCode.REQUEST_MALFORMED, VenueRejectCode.PERMISSION
_CLOSED, _UNKNOWN_MARKET = VenueRejectCode.MARKET_CLOSED, VenueRejectCode.INSTRUMENT_UNKNOWN
CODES = CodeTable(
    rejected={
        -1121: _UNKNOWN_MARKET, 10007: _UNKNOWN_MARKET,
        30000: _CLOSED, 30001: _CLOSED, 30014: _CLOSED, 30016: _CLOSED, 30021: _CLOSED, 70011: _CLOSED,
        30002: VenueRejectCode.NOTIONAL_MIN, 88013: VenueRejectCode.NOTIONAL_MIN, 30003: VenueRejectCode.NOTIONAL_MAX,
        30004: VenueRejectCode.BALANCE, 30005: VenueRejectCode.BALANCE, 10101: VenueRejectCode.BALANCE,
        10096: VenueRejectCode.PRECISION, 30010: VenueRejectCode.PRICE_BAND, 30087: VenueRejectCode.PRICE_BAND,
        30029: VenueRejectCode.ORDERS_MAX, POST_ONLY_CODE: VenueRejectCode.POST_ONLY_WOULD_TAKE,
        30025: _MALFORMED, 30027: _MALFORMED, 30028: _MALFORMED, 30032: _MALFORMED, 30051: _MALFORMED,
        700004: _MALFORMED, 700008: _MALFORMED,
        401: _PERMISSION, 402: _PERMISSION, 403: _PERMISSION, 406: _PERMISSION, 511: _PERMISSION, 602: _PERMISSION,
        701: _PERMISSION, 702: _PERMISSION, 703: _PERMISSION, 704: _PERMISSION, 10001: _PERMISSION,
        10072: _PERMISSION, 30018: _PERMISSION, 30020: _PERMISSION, 700001: _PERMISSION, 700002: _PERMISSION,
        700006: _PERMISSION, 700007: _PERMISSION,
    },
    not_asked=CLOCK_CODES,
    # Over the limit, or banned, in MEXC's own words: looked at no further. Its bans may come as a bare page.
    refusing_statuses=frozenset({418, 429}),
    unknown=frozenset({500, 501, 503, 504, 603, *ORDER_NOT_FOUND}),
    texts=((30002, "quantity", VenueRejectCode.QUANTITY_MIN), (30003, "quantity", VenueRejectCode.QUANTITY_MAX)),
)  # fmt: skip
