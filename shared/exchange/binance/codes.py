"""What Binance's error codes prove. Source: binance-spot-api-docs, errors and rest-api (2026-07).

In: nothing. Out: tables. Never: a code whose meaning depends on an address, or on ccxt's words for it.
"""

from shared.exchange.live.outcome import CodeTable, Outcome
from shared.exchange.port import VenueRejectCode as Code

CANCEL_REJECTED = -2011
ORDER_UNKNOWN = -2013
ORDER_ARCHIVED = -2026
CLOCK = -1021
SYMBOL_UNKNOWN = -1121
KEY_REFUSED = frozenset({-2015, -2014, -1022, -1002})
DUPLICATE_TEXT = "duplicate order"

CODES = CodeTable(
    rejected={
        -1002: Code.PERMISSION,
        -1013: Code.REQUEST_MALFORMED,
        -1014: Code.REQUEST_MALFORMED,
        -1022: Code.PERMISSION,
        -1111: Code.PRECISION,
        -1121: Code.INSTRUMENT_UNKNOWN,
        -2010: Code.REQUEST_MALFORMED,
        -2014: Code.PERMISSION,
        -2015: Code.PERMISSION,
    },
    # Too many requests (-1003) or orders (-1015), a timestamp that is off (-1021), an overloaded gateway (-1008) that
    # says so before it looks: nothing was done, and nothing is wrong with the order.
    not_asked=frozenset({-1003, -1008, -1015, CLOCK}),
    # -1000 unknown, -1001 disconnected, -1006 unexpected response, -1007 time-out: "execution status unknown".
    unknown=frozenset({-1000, -1001, -1006, -1007}),
    texts=(
        (-1013, "notional", Code.NOTIONAL_MIN),
        (-1013, "lot_size", Code.QUANTITY_MIN),
        (-1013, "percent_price", Code.PRICE_BAND),
        (-1013, "price_filter", Code.PRECISION),
        (-1013, "max_num", Code.ORDERS_MAX),
        (-1013, "max_position", Code.ORDERS_MAX),
        (-1013, "market is closed", Code.MARKET_CLOSED),
        (-2010, "insufficient", Code.BALANCE),
        (-2010, "immediately match", Code.POST_ONLY_WOULD_TAKE),
        (-2010, "would match", Code.POST_ONLY_WOULD_TAKE),
        (-2010, "market is closed", Code.MARKET_CLOSED),
        (-2010, "not permitted", Code.PERMISSION),
        (-2010, "not authorized", Code.PERMISSION),
        (-2010, "restricted", Code.MARKET_CLOSED),
        (-2010, "not supported for this symbol", Code.MARKET_CLOSED),
    ),
    # 429 and 418: over the limit, and banned, in Binance's own words; its firewall's 403 has none, and proves nothing.
    refusing_statuses=frozenset({418, 429}),
    # "HTTP 4XX return codes are used for malformed requests; the issue is on the sender's side."
    unlisted_client=Outcome.REJECTED,
)
