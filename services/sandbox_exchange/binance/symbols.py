"""What Binance says of its markets: exchangeInfo with filters and limits.

In: the venue's markets. Out: the wire's description of them. Never: a filter that the venue does not apply.
"""

from collections.abc import Iterable
from decimal import Decimal

from services.sandbox_exchange.binance.usage import RATE_LIMITS
from services.sandbox_exchange.binance.words import DECIMALS, MARKET_WORDS, Payload, text
from services.sandbox_exchange.core.model import Market

PRICE_STEPS_MAX = 10_000_000_000


def precision_of(market: Market) -> int:
    """Return how many decimals a market's numbers may have: eight, or as many as its grid needs."""
    instrument = market.instrument
    return max(DECIMALS, decimals_of(instrument.tick_size), decimals_of(instrument.step_size))


def decimals_of(number: Decimal) -> int:
    """Return how many decimals a number needs."""
    exponent = number.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def exchange_info(markets: Iterable[Market], now_ms: int) -> Payload:
    """Return the answer of exchangeInfo for these markets."""
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "rateLimits": RATE_LIMITS,
        "exchangeFilters": [],
        "symbols": [symbol_info(one) for one in markets],
    }


def symbol_info(market: Market) -> Payload:
    """Return one market's description."""
    precision = precision_of(market)
    return {
        "symbol": market.symbol,
        "status": MARKET_WORDS[market.status],
        "baseAsset": market.instrument.base,
        "baseAssetPrecision": precision,
        "quoteAsset": market.instrument.quote,
        "quotePrecision": precision,
        "quoteAssetPrecision": precision,
        "baseCommissionPrecision": precision,
        "quoteCommissionPrecision": precision,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "icebergAllowed": False,
        "ocoAllowed": False,
        "otoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": True,
        "amendAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": filters_of(market),
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "NONE",
        "allowedSelfTradePreventionModes": ["NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }


def filters_of(market: Market) -> list[Payload]:
    """Return the filters that an order of this market must pass."""
    grid = market.instrument
    lot: Payload = {
        "minQty": text(max(grid.quantity_min, grid.step_size)),
        "maxQty": text(market.quantity_max),
        "stepSize": text(grid.step_size),
    }
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": text(grid.tick_size),
            "maxPrice": text(grid.tick_size * PRICE_STEPS_MAX),
            "tickSize": text(grid.tick_size),
        },
        {"filterType": "LOT_SIZE", **lot},
        {
            "filterType": "MARKET_LOT_SIZE",
            "minQty": text(Decimal(0)),
            "maxQty": text(market.quantity_max),
            "stepSize": text(Decimal(0)),
        },
        {
            "filterType": "NOTIONAL",
            "minNotional": text(grid.notional_min),
            "applyMinToMarket": True,
            "maxNotional": text(market.notional_max),
            "applyMaxToMarket": True,
            "avgPriceMins": 0,
        },
        *([{"filterType": "MAX_NUM_ORDERS", "maxNumOrders": market.orders_max}] if market.orders_max else []),
    ]
