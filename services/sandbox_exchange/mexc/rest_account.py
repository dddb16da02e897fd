"""Signed REST endpoints of the account: balances, executions, fees, currencies, listen keys.

In: a request whose account is known. Out: what the account holds and did. Never: another account's.
"""

from services.sandbox_exchange.core.faults import FaultName
from services.sandbox_exchange.core.model import AccountTrade, Permission
from services.sandbox_exchange.mexc import payloads
from services.sandbox_exchange.mexc.rest import Call, Endpoint
from services.sandbox_exchange.mexc.rest_orders import time_span
from services.sandbox_exchange.mexc.words import milliseconds, order_id_of

TRADES_MAX = 100
TRADES_DAYS_MAX = 31


def account(call: Call) -> object:
    """Answer with the balances."""
    name = call.account.name
    is_stale = call.venue.take(FaultName.BALANCE_STALE, route=call.route) is not None
    holdings = call.state.stale_holdings(name) if is_stale else call.exchange.holdings(name)
    return payloads.account(call.account, [one for one in holdings if one.free or one.locked])


def own_trades(call: Call) -> object:
    """Answer with the newest executions in a market, newest first: a hundred at most, of a month at most."""
    symbol, limit = call.market().symbol, call.params.limit(TRADES_MAX, TRADES_MAX)
    found = list(call.exchange.account_trades(call.account.name, symbol))
    word = call.params.text_or_none("orderId")
    if word is not None:
        order_id = order_id_of(word)
        found = [one for one in found if one.order_id == order_id]
    if call.params.text_or_none("startTime") or call.params.text_or_none("endTime"):
        found = _between(found, *time_span(call, TRADES_DAYS_MAX))
    return [payloads.own_trade(one) for one in reversed(found[-limit:])]


def _between(found: list[AccountTrade], start: int, end: int) -> list[AccountTrade]:
    return [one for one in found if start <= milliseconds(one.time_ns) <= end]


def trade_fee(call: Call) -> object:
    """Answer with the account's rates in a market."""
    market = call.market()
    rates = {
        "makerCommission": payloads.rate(market.maker_rate),
        "takerCommission": payloads.rate(market.taker_rate),
    }
    return {"data": rates, "code": 0, "msg": "success", "timestamp": milliseconds(call.now_ns)}


def currencies(call: Call) -> object:
    """Answer with the currencies; none can be sent anywhere."""
    names: dict[str, None] = {}
    for market in call.exchange.markets.values():
        names.update({market.instrument.base: None, market.instrument.quote: None})
    return [{"coin": name, "Name": name, "name": name, "networkList": []} for name in names]


def open_key(call: Call) -> object:
    """Issue a listen key."""
    return {"listenKey": call.state.listen_keys.issue(call.account.name, call.now_ns)}


def list_keys(call: Call) -> object:
    """Answer with the account's listen keys."""
    return {"listenKey": call.state.listen_keys.of_account(call.account.name, call.now_ns)}


def keep_key(call: Call) -> object:
    """Let a listen key live on."""
    key = call.params.text("listenKey")
    if call.venue.take(FaultName.LISTEN_KEY_EXPIRED, route=call.route):
        call.state.private.expire(key)
    call.state.listen_keys.extend(call.account.name, key, call.now_ns)
    return {"listenKey": key}


def close_key(call: Call) -> object:
    """End a listen key and its sockets."""
    key = call.params.text("listenKey")
    call.state.listen_keys.revoke(call.account.name, key, call.now_ns)
    call.state.private.expire(key)
    return {"listenKey": key}


READ = Permission.READ
ENDPOINTS = (
    Endpoint("GET", "/api/v3/account", 10, account, READ),
    Endpoint("GET", "/api/v3/myTrades", 10, own_trades, READ),
    Endpoint("GET", "/api/v3/tradeFee", 20, trade_fee, READ),
    Endpoint("GET", "/api/v3/capital/config/getall", 10, currencies, READ),
    Endpoint("POST", "/api/v3/userDataStream", 1, open_key, READ),
    Endpoint("GET", "/api/v3/userDataStream", 1, list_keys, READ),
    Endpoint("PUT", "/api/v3/userDataStream", 1, keep_key, READ),
    Endpoint("DELETE", "/api/v3/userDataStream", 1, close_key, READ),
)
