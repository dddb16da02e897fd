"""Every request that this Binance answers: over HTTP by method and path, over the ws-api by name.

In: nothing. Out: what answers each request, what it must bring, what it weighs. Never: an order without a signature.
"""

from collections.abc import Mapping

from services.sandbox_exchange.binance import account, market_data, trading
from services.sandbox_exchange.binance.operation import Endpoint, Operation, Security, Weigh
from services.sandbox_exchange.binance.params import Params

DEPTH_WEIGHTS = ((100, 5), (500, 25), (1_000, 50))
DEPTH_WEIGHT_MAX = 250


def weigh_depth(params: Params) -> int:
    """Return the weight of a book by its depth."""
    limit = params.limit(100, 5_000)
    return next((weight for levels, weight in DEPTH_WEIGHTS if limit <= levels), DEPTH_WEIGHT_MAX)


def one_or_all(one: int, every: int) -> Weigh:
    """Return what weighs a request by whether it names one market."""
    return lambda params: one if params.has("symbol") else every


def _open(run: Operation, weight: int | Weigh) -> Endpoint:
    return Endpoint(run, Security.NONE, weight)


def _keyed(run: Operation, weight: int) -> Endpoint:
    return Endpoint(run, Security.KEY, weight)


def _read(run: Operation, weight: int | Weigh) -> Endpoint:
    return Endpoint(run, Security.SIGNED, weight)


def _trade(run: Operation, weight: int = 1, *, orders: int = 0) -> Endpoint:
    return Endpoint(run, Security.SIGNED, weight, trades=True, orders=orders)


TICKERS, PRICES = one_or_all(2, 80), one_or_all(2, 4)

HTTP: Mapping[str, Endpoint] = {
    "GET /api/v3/ping": _open(market_data.ping, 1),
    "GET /api/v3/time": _open(market_data.server_time, 1),
    "GET /api/v3/exchangeInfo": _open(market_data.information, 20),
    "GET /api/v3/depth": _open(market_data.depth, weigh_depth),
    "GET /api/v3/trades": _open(market_data.trades, 25),
    "GET /api/v3/historicalTrades": _keyed(market_data.historical_trades, 25),
    "GET /api/v3/aggTrades": _open(market_data.aggregate_trades, 4),
    "GET /api/v3/klines": _open(market_data.klines, 2),
    "GET /api/v3/uiKlines": _open(market_data.klines, 2),
    "GET /api/v3/avgPrice": _open(market_data.average_price, 2),
    "GET /api/v3/ticker/24hr": _open(market_data.ticker_day, TICKERS),
    "GET /api/v3/ticker/price": _open(market_data.ticker_price, PRICES),
    "GET /api/v3/ticker/bookTicker": _open(market_data.ticker_book, PRICES),
    "POST /api/v3/order": _trade(trading.place, orders=1),
    "POST /api/v3/order/test": _trade(trading.test),
    "POST /api/v3/order/cancelReplace": _trade(trading.replace, orders=1),
    "GET /api/v3/order": _read(trading.query, 4),
    "DELETE /api/v3/order": _trade(trading.cancel),
    "GET /api/v3/openOrders": _read(trading.open_orders, one_or_all(6, 80)),
    "DELETE /api/v3/openOrders": _trade(trading.cancel_open),
    "GET /api/v3/allOrders": _read(trading.all_orders, 20),
    "GET /api/v3/myTrades": _read(trading.own_trades, 20),
    "GET /api/v3/account": _read(account.information, 20),
    "GET /api/v3/account/commission": _read(account.commission, 20),
    "GET /api/v3/rateLimit/order": _read(account.order_counts, 40),
    "GET /sapi/v1/asset/tradeFee": _read(account.trade_fees, 1),
    "GET /sapi/v1/account/apiRestrictions": _read(account.key_rights, 1),
    "GET /sapi/v1/capital/config/getall": _read(account.coins, 10),
    "POST /sapi/v1/capital/withdraw/apply": _read(account.withdraw, 600),
    "GET /sapi/v1/margin/allPairs": _read(account.no_pairs, 1),
    "GET /sapi/v1/margin/isolated/allPairs": _read(account.no_pairs, 10),
    "GET /fapi/v1/exchangeInfo": _open(account.no_contracts, 1),
    "GET /dapi/v1/exchangeInfo": _open(account.no_contracts, 1),
}

_NAMES = {
    "ping": "GET /api/v3/ping",
    "time": "GET /api/v3/time",
    "exchangeInfo": "GET /api/v3/exchangeInfo",
    "depth": "GET /api/v3/depth",
    "trades.recent": "GET /api/v3/trades",
    "trades.historical": "GET /api/v3/historicalTrades",
    "trades.aggregate": "GET /api/v3/aggTrades",
    "klines": "GET /api/v3/klines",
    "avgPrice": "GET /api/v3/avgPrice",
    "ticker.24hr": "GET /api/v3/ticker/24hr",
    "ticker.price": "GET /api/v3/ticker/price",
    "ticker.book": "GET /api/v3/ticker/bookTicker",
    "order.place": "POST /api/v3/order",
    "order.test": "POST /api/v3/order/test",
    "order.cancelReplace": "POST /api/v3/order/cancelReplace",
    "order.status": "GET /api/v3/order",
    "order.cancel": "DELETE /api/v3/order",
    "openOrders.status": "GET /api/v3/openOrders",
    "openOrders.cancelAll": "DELETE /api/v3/openOrders",
    "allOrders": "GET /api/v3/allOrders",
    "myTrades": "GET /api/v3/myTrades",
    "account.status": "GET /api/v3/account",
    "account.commission": "GET /api/v3/account/commission",
    "account.rateLimits.orders": "GET /api/v3/rateLimit/order",
}
WS_API: Mapping[str, Endpoint] = {name: HTTP[route] for name, route in _NAMES.items()}
