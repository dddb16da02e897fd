"""What MEXC's REST answers look like: markets, books, trades, candles, tickers, orders, fills.

In: the venue's records. Out: dictionaries and lists with MEXC's keys, in MEXC's order. Never: a lost digit.
"""

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal

import msgspec

from services.sandbox_exchange.core.model import (
    Account,
    AccountTrade,
    Depth,
    Holding,
    Kline,
    Market,
    Permission,
    PublicTrade,
    Ticker,
    TradingStatus,
    VenueOrder,
)
from services.sandbox_exchange.mexc.words import (
    MARKET_WORDS,
    SELF_TRADE_WORDS,
    SIDE_WORDS,
    Payload,
    client_id_word,
    milliseconds,
    order_id_word,
    status_word,
    text,
    trade_id_word,
    type_word,
)
from shared.matching.exact import multiply
from shared.messages import Side

RATE_STEP = Decimal("0.0001")


def decimals(step: Decimal) -> int:
    """Return how many decimals the multiples of a step have."""
    exponent = step.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return max(0, -exponent)


def market(one: Market) -> Payload:
    """Return an entry of exchangeInfo."""
    instrument = one.instrument
    base, quote = decimals(instrument.step_size), decimals(instrument.tick_size)
    buys, sells = Side.BUY in one.allowed_sides, Side.SELL in one.allowed_sides
    return {
        "symbol": one.symbol,
        "status": MARKET_WORDS[one.status],
        "baseAsset": instrument.base,
        "baseAssetPrecision": base,
        "quoteAsset": instrument.quote,
        "quotePrecision": quote,
        "quoteAssetPrecision": quote,
        "baseCommissionPrecision": base,
        "quoteCommissionPrecision": quote,
        "orderTypes": ["LIMIT", "MARKET", "LIMIT_MAKER"],
        "isSpotTradingAllowed": one.status is TradingStatus.TRADING,
        "isMarginTradingAllowed": False,
        "quoteAmountPrecision": text(instrument.notional_min),
        "baseSizePrecision": text(instrument.quantity_min),
        "permissions": ["SPOT"],
        "filters": [],
        "maxQuoteAmount": text(one.notional_max),
        "makerCommission": text(one.maker_rate),
        "takerCommission": text(one.taker_rate),
        "quoteAmountPrecisionMarket": text(instrument.notional_min),
        "maxQuoteAmountMarket": text(one.notional_max),
        "fullName": instrument.base,
        "tradeSideType": 1 if buys and sells else 2 if buys else 3 if sells else 4,
        "contractAddress": "",
        "st": False,
    }


def depth(book: Depth, now_ns: int) -> Payload:
    """Return a book."""
    return {
        "lastUpdateId": book.version,
        "bids": [[text(price), text(quantity)] for price, quantity in book.bids],
        "asks": [[text(price), text(quantity)] for price, quantity in book.asks],
        "timestamp": milliseconds(now_ns),
    }


def trade(one: PublicTrade) -> Payload:
    """Return a public trade."""
    is_buyer_maker = one.taker_side is Side.SELL
    return {
        "id": None,
        "price": text(one.price),
        "qty": text(one.quantity),
        "quoteQty": text(multiply(one.price, one.quantity)),
        "time": milliseconds(one.time_ns),
        "isBuyerMaker": is_buyer_maker,
        "isBestMatch": True,
        "tradeType": "ASK" if is_buyer_maker else "BID",
    }


def aggregated_trades(trades: Sequence[PublicTrade]) -> list[Payload]:
    """Return public trades, those of one moment at one price of one side as one."""
    rows: list[Payload] = []
    last: tuple[int, Decimal, Side] | None = None
    total = Decimal(0)
    for one in trades:
        key = (milliseconds(one.time_ns), one.price, one.taker_side)
        if key == last:
            total += one.quantity
            rows[-1]["q"] = text(total)
            continue
        last, total = key, one.quantity
        is_buyer_maker = one.taker_side is Side.SELL
        rows.append(
            {
                "a": None,
                "f": None,
                "l": None,
                "p": text(one.price),
                "q": text(one.quantity),
                "T": key[0],
                "m": is_buyer_maker,
                "M": True,
            }
        )
    return rows


def kline(one: Kline) -> list[object]:
    """Return a candle."""
    numbers = [text(number) for number in (one.open, one.high, one.low, one.close, one.volume)]
    return [milliseconds(one.open_ns), *numbers, milliseconds(one.close_ns), text(one.quote_volume)]


def ticker(one: Ticker) -> Payload:
    """Return the last 24 hours of a market."""
    change = one.last - one.open if one.last is not None and one.open is not None else Decimal(0)
    rate = (change / one.open).quantize(RATE_STEP, ROUND_HALF_EVEN) if one.open else Decimal(0)
    return {
        "symbol": one.symbol,
        "priceChange": text(change),
        "priceChangePercent": text(rate),
        "prevClosePrice": _or_zero(one.open),
        "lastPrice": _or_zero(one.last),
        "bidPrice": _or_zero(one.bid),
        "bidQty": _or_zero(one.bid_quantity),
        "askPrice": _or_zero(one.ask),
        "askQty": _or_zero(one.ask_quantity),
        "openPrice": _or_zero(one.open),
        "highPrice": _or_zero(one.high),
        "lowPrice": _or_zero(one.low),
        "volume": text(one.volume),
        "quoteVolume": text(one.quote_volume),
        "openTime": milliseconds(one.open_ns),
        "closeTime": milliseconds(one.close_ns),
        "count": None,
    }


def price_ticker(one: Ticker) -> Payload:
    """Return a market's last price."""
    return {"symbol": one.symbol, "price": _or_zero(one.last)}


def book_ticker(symbol: str, book: Depth) -> Payload:
    """Return a market's best bid and ask; empty sides are null."""
    bid, ask = (book.bids[0] if book.bids else None), (book.asks[0] if book.asks else None)
    return {
        "symbol": symbol,
        "bidPrice": text(bid[0]) if bid else None,
        "bidQty": text(bid[1]) if bid else None,
        "askPrice": text(ask[0]) if ask else None,
        "askQty": text(ask[1]) if ask else None,
    }


def shown_price(order: VenueOrder, tick: Decimal) -> Decimal:
    """Return an order's price; a market order shows what it paid on average, on the grid."""
    if order.price is not None:
        return order.price
    if not order.executed_quantity:
        return Decimal(0)
    return (order.executed_quote / order.executed_quantity).quantize(tick.normalize(), ROUND_HALF_EVEN)


def shown_quantity(order: VenueOrder) -> Decimal:
    """Return an order's quantity; of a market order by quote amount what was filled."""
    return order.quantity if order.quantity is not None else order.executed_quantity


def created(order: VenueOrder, tick: Decimal) -> Payload:
    """Return the answer to a new order, which says neither its state nor its client order id."""
    return {
        "symbol": order.symbol,
        "orderId": order_id_word(order.order_id),
        "orderListId": -1,
        "price": text(shown_price(order, tick)),
        "origQty": text(shown_quantity(order)),
        "type": type_word(order),
        "side": SIDE_WORDS[order.side],
        "stpMode": SELF_TRADE_WORDS[order.self_trade],
        "transactTime": milliseconds(order.created_ns),
    }


def order(one: VenueOrder, tick: Decimal) -> Payload:
    """Return an order."""
    price, quantity = shown_price(one, tick), shown_quantity(one)
    return {
        "symbol": one.symbol,
        "orderId": order_id_word(one.order_id),
        "orderListId": -1,
        "clientOrderId": client_id_word(one),
        "price": text(price),
        "origQty": text(quantity),
        "executedQty": text(one.executed_quantity),
        "cummulativeQuoteQty": text(one.executed_quote),
        "status": status_word(one),
        "stpMode": SELF_TRADE_WORDS[one.self_trade],
        "timeInForce": None,
        "type": type_word(one),
        "side": SIDE_WORDS[one.side],
        "stopPrice": None,
        "icebergQty": None,
        "time": milliseconds(one.created_ns),
        "updateTime": milliseconds(one.updated_ns),
        "isWorking": True,
        "origQuoteOrderQty": text(one.quote_amount if one.quote_amount is not None else multiply(price, quantity)),
    }


def own_trade(one: AccountTrade) -> Payload:
    """Return one of the account's executions."""
    return {
        "symbol": one.symbol,
        "id": trade_id_word(one),
        "orderId": order_id_word(one.order_id),
        "orderListId": -1,
        "price": text(one.price),
        "qty": text(one.quantity),
        "quoteQty": text(one.quote_quantity),
        "commission": text(one.fee),
        "commissionAsset": one.fee_asset,
        "time": milliseconds(one.time_ns),
        "isBuyer": one.side is Side.BUY,
        "isMaker": one.is_maker,
        "isBestMatch": True,
        "isSelfTrade": one.is_self_trade,
        "clientOrderId": client_id_word(one),
    }


def account(one: Account, holdings: Sequence[Holding]) -> Payload:
    """Return an account; `canTrade` and `canWithdraw` are what its key may do."""
    return {
        "makerCommission": None,
        "takerCommission": None,
        "buyerCommission": None,
        "sellerCommission": None,
        "canTrade": Permission.TRADE in one.permissions,
        "canWithdraw": Permission.WITHDRAW in one.permissions,
        "canDeposit": True,
        "updateTime": None,
        "accountType": "SPOT",
        "balances": [
            {"asset": held.asset, "free": text(held.free), "locked": text(held.locked), "available": text(held.free)}
            for held in holdings
        ],
        "permissions": ["SPOT"],
    }


def rate(number: Decimal) -> msgspec.Raw:
    """Return a rate as a JSON number with all its digits."""
    return msgspec.Raw(text(number).encode())


def _or_zero(number: Decimal | None) -> str:
    return "0" if number is None else text(number)
