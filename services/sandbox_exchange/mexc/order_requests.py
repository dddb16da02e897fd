"""Order requests out of their parameters.

In: MEXC's parameters of one order. Out: what the venue is asked. Never: a field guessed that was not sent.
"""

from services.sandbox_exchange.core.model import OrderKind, PlaceOrder
from services.sandbox_exchange.mexc.errors import ApiError, missing
from services.sandbox_exchange.mexc.params import Params
from services.sandbox_exchange.mexc.words import SELF_TRADES, SIDES, TYPES

NOT_AN_AMOUNT = ApiError(10102, "amount cannot be zero or negative")
NOT_A_PRICE = ApiError(30010, "no valid trade price")


def order_request(params: Params, account: str) -> PlaceOrder:
    """Return the order that is asked for; whether the market takes it is not looked at.

    A market order that names both `quantity` and `quoteOrderQty` goes by the quantity; its `price` is not looked at.
    """
    symbol, side = params.text("symbol"), params.word("side", SIDES)
    kind, time_in_force = params.word("type", TYPES)
    quantity = params.amount_or_none("quantity", NOT_AN_AMOUNT)
    quote_amount = params.amount_or_none("quoteOrderQty", NOT_AN_AMOUNT)
    price = params.amount_or_none("price", NOT_A_PRICE)
    if kind is OrderKind.MARKET:
        price = None
        if quantity is None and quote_amount is None:
            raise missing("quantity")
        quote_amount = None if quantity is not None else quote_amount
    else:
        quote_amount = None
        if quantity is None:
            raise missing("quantity")
        if price is None:
            raise missing("price")
    mode = params.text_or_none("stpMode") or ""
    if mode not in SELF_TRADES:
        raise missing("stpMode")
    return PlaceOrder(
        account,
        symbol,
        side,
        kind,
        quantity=quantity,
        quote_amount=quote_amount,
        price=price,
        time_in_force=time_in_force,
        client_order_id=params.client_id_or_none("newClientOrderId"),
        self_trade=SELF_TRADES[mode],
    )
