"""What must be free before an order is taken in.

In: a request and the book that it would meet. Out: an asset and an amount that surely covers it. Never: a change.
"""

from collections.abc import Iterator
from decimal import Decimal

from services.sandbox_exchange.core.market import MarketBook
from services.sandbox_exchange.core.model import PlaceOrder
from services.sandbox_exchange.core.orders import FeeTerms
from shared.matching import SelfTradePrevention
from shared.matching.exact import add, floor_units, multiply, subtract
from shared.messages import Side

ZERO = Decimal(0)


def needed(book: MarketBook, request: PlaceOrder, terms: FeeTerms) -> tuple[str, Decimal]:
    """Return the asset that the order spends and how much of it must be locked, a fee in that asset included."""
    instrument = book.market.instrument
    is_buy = request.side is Side.BUY
    if is_buy:
        asset, amount = instrument.quote, _quote_needed(book, request)
    else:
        asset, amount = instrument.base, _base_needed(book, request)
    return asset, terms.to_lock(request.side, amount)


def _quote_needed(book: MarketBook, request: PlaceOrder) -> Decimal:
    if request.quote_amount is not None:
        return request.quote_amount
    assert request.quantity is not None
    if request.price is not None:
        return multiply(request.quantity, request.price)
    return _cost_of(book, request, request.quantity)


def _base_needed(book: MarketBook, request: PlaceOrder) -> Decimal:
    if request.quantity is not None:
        return request.quantity
    # Sells by quote amount: what the book takes for it.
    assert request.quote_amount is not None
    step = book.market.instrument.step_size
    budget, base = request.quote_amount, ZERO
    for price, offered in _offers(book, request):
        wanted = multiply(step, Decimal(floor_units(budget, multiply(price, step))))
        taken = min(wanted, offered)
        budget, base = subtract(budget, multiply(price, taken)), add(base, taken)
        if wanted < offered:
            break
    return base


def _cost_of(book: MarketBook, request: PlaceOrder, quantity: Decimal) -> Decimal:
    cost = ZERO
    for price, offered in _offers(book, request):
        taken = min(quantity, offered)
        cost, quantity = add(cost, multiply(price, taken)), subtract(quantity, taken)
        if not quantity:
            break
    return cost


def _offers(book: MarketBook, request: PlaceOrder) -> Iterator[tuple[Decimal, Decimal]]:
    """Yield price and quantity of what the order would meet, best first, self-trade prevention considered."""
    side = request.side.opposite
    if request.self_trade is SelfTradePrevention.NONE:
        for levels_max in (20, None):
            levels = book.engine.depth(side, levels_max)
            yield from ((level.price, level.quantity) for level in levels[0 if levels_max else 20 :])
        return
    for engine_id in book.engine.order_ids(side):
        maker, rest = book.resting[engine_id], book.engine.resting_quantity(engine_id)
        assert maker.price is not None and rest is not None
        if maker.account != request.account:
            yield maker.price, rest
        elif request.self_trade is not SelfTradePrevention.CANCEL_MAKER:
            return
