"""The number of open orders that exchangeInfo announces is the number that is taken."""

from collections.abc import Mapping
from decimal import Decimal

import pytest

from services.sandbox_exchange.app import start
from services.sandbox_exchange.binance.symbols import exchange_info
from services.sandbox_exchange.config import SandboxConfig, Source, VenueName
from services.sandbox_exchange.core.model import OrderKind, PlaceOrder, Refusal, RefusalCode
from shared.messages import Side


def order_in(symbol: str) -> PlaceOrder:
    quantity = Decimal(100) if symbol == "HUSDT" else Decimal("0.001")
    price = Decimal("0.1") if symbol == "HUSDT" else Decimal(10_000)
    return PlaceOrder("trader", symbol, Side.BUY, OrderKind.LIMIT, quantity=quantity, price=price)


def announced(markets: Mapping[str, object]) -> dict[str, int]:
    return {
        one["symbol"]: rule["maxNumOrders"]
        for one in exchange_info(markets.values(), 0)["symbols"]
        for rule in one["filters"]
        if rule["filterType"] == "MAX_NUM_ORDERS"
    }


async def test_as_many_orders_rest_in_a_market_as_are_announced() -> None:
    wanted = {"venue": VenueName.BINANCE, "source": Source.STILL, "balances": ("USDT=1000000",)}
    sandbox = await start(SandboxConfig(symbols=("HUSDT", "BTCUSDT"), **wanted))
    try:
        exchange = sandbox.venue.exchange
        most = announced(exchange.markets)
        assert most == {"HUSDT": 200, "BTCUSDT": 200}
        for _ in range(most["HUSDT"]):
            last, _ = exchange.place(order_in("HUSDT"), 1)
        with pytest.raises(Refusal) as refused:
            exchange.place(order_in("HUSDT"), 1)
        assert refused.value.code is RefusalCode.ORDERS_MAX
        for _ in range(most["BTCUSDT"]):  # each market has a count of its own
            exchange.place(order_in("BTCUSDT"), 1)
        exchange.cancel("trader", "HUSDT", 2, order_id=last.order_id)
        exchange.place(order_in("HUSDT"), 3)
    finally:
        await sandbox.close()
