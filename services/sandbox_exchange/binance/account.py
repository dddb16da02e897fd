"""What an account may know of itself: balances, fees, its key's rights.

In: signed calls. Out: Binance's answers, also of the few sapi requests that clients make at their start.
Never: another account's balances.
"""

from decimal import Decimal

from services.sandbox_exchange.binance import usage
from services.sandbox_exchange.binance.errors import ApiError
from services.sandbox_exchange.binance.market_data import market_of, markets_of
from services.sandbox_exchange.binance.operation import Call
from services.sandbox_exchange.binance.usage import RATE_LIMITS
from services.sandbox_exchange.binance.words import Payload, milliseconds, text
from services.sandbox_exchange.core.faults import FaultName
from services.sandbox_exchange.core.model import Holding, Permission

ZERO = Decimal(0)
BASIS_POINTS = 10_000


def holdings_of(call: Call) -> list[Holding]:
    """Return what the account holds, or held before the last change when a fault says so."""
    holdings = list(call.venue.exchange.holdings(call.account.name))
    if call.venue.take(FaultName.BALANCE_STALE, route=call.route):
        return call.memory.before_last_change(call.account.name, holdings)
    return holdings


def information(call: Call) -> Payload:
    """Return balances, rates and rights."""
    holdings = holdings_of(call)
    if (call.params.text_or_none("omitZeroBalances") or "false").lower() == "true":
        holdings = [one for one in holdings if one.free or one.locked]
    markets = call.venue.exchange.markets.values()
    maker = max((one.maker_rate for one in markets), default=ZERO)
    taker = max((one.taker_rate for one in markets), default=ZERO)
    permissions = call.account.permissions
    return {
        "makerCommission": int(maker * BASIS_POINTS),
        "takerCommission": int(taker * BASIS_POINTS),
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {"maker": text(maker), "taker": text(taker), "buyer": text(ZERO), "seller": text(ZERO)},
        "canTrade": Permission.TRADE in permissions,
        "canWithdraw": Permission.WITHDRAW in permissions,
        "canDeposit": True,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": milliseconds(call.now_ns),
        "accountType": "SPOT",
        "balances": [{"asset": one.asset, "free": text(one.free), "locked": text(one.locked)} for one in holdings],
        "permissions": ["SPOT"],
    }


def commission(call: Call) -> Payload:
    """Return the rates of one market."""
    market = market_of(call)
    rates = {"maker": text(market.maker_rate), "taker": text(market.taker_rate)}
    none = {"maker": text(ZERO), "taker": text(ZERO), "buyer": text(ZERO), "seller": text(ZERO)}
    return {
        "symbol": market.symbol,
        "standardCommission": {**rates, "buyer": text(ZERO), "seller": text(ZERO)},
        "specialCommission": none,
        "taxCommission": none,
        "discount": {
            "enabledForAccount": False,
            "enabledForSymbol": False,
            "discountAsset": "BNB",
            "discount": text(ZERO),
        },
    }


def trade_fees(call: Call) -> list[Payload]:
    """Return the rates of one market, or of all."""
    return [
        {
            "symbol": one.symbol,
            "makerCommission": text(one.maker_rate),
            "takerCommission": text(one.taker_rate),
        }
        for one in markets_of(call)
    ]


def key_rights(call: Call) -> Payload:
    """Return what the API key may do."""
    account = call.account
    return {
        "ipRestrict": account.allowed_ips is not None,
        "createTime": milliseconds(call.now_ns),
        "enableReading": Permission.READ in account.permissions,
        "enableWithdrawals": Permission.WITHDRAW in account.permissions,
        "enableInternalTransfer": False,
        "enableMargin": False,
        "enableFutures": False,
        "permitsUniversalTransfer": False,
        "enableVanillaOptions": False,
        "enableFixApiTrade": False,
        "enableFixReadOnly": False,
        "enableSpotAndMarginTrading": Permission.TRADE in account.permissions,
        "enablePortfolioMarginTrading": False,
    }


def coins(call: Call) -> list[Payload]:
    """Return the assets, with no network to deposit or withdraw on."""
    held = {one.asset: one for one in call.venue.exchange.holdings(call.account.name)}
    grids = [one.instrument for one in call.venue.exchange.markets.values()]
    names = sorted({asset for one in grids for asset in (one.base, one.quote)} | set(held))
    return [
        {
            "coin": name,
            "name": name,
            "free": text(held[name].free if name in held else ZERO),
            "locked": text(held[name].locked if name in held else ZERO),
            "freeze": text(ZERO),
            "withdrawing": text(ZERO),
            "ipoing": text(ZERO),
            "ipoable": text(ZERO),
            "storage": text(ZERO),
            "isLegalMoney": False,
            "trading": True,
            "depositAllEnable": False,
            "withdrawAllEnable": False,
            "networkList": [],
        }
        for name in names
    ]


def order_counts(call: Call) -> list[Payload]:
    """Return how many orders the account has placed in the windows that are limited."""
    return usage.order_counts(call.venue, call.account.name, call.now_ns)


def no_pairs(_call: Call) -> list[Payload]:
    """Answer that there are no margin markets."""
    return []


def no_contracts(call: Call) -> Payload:
    """Answer that there are no futures."""
    limits: list[Payload] = RATE_LIMITS
    return {"timezone": "UTC", "serverTime": milliseconds(call.now_ns), "rateLimits": limits, "symbols": []}


def withdraw(_call: Call) -> Payload:
    """Refuse a withdrawal: nothing leaves the sandbox."""
    raise ApiError(-4026, "User has insufficient balance")
