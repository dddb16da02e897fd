"""Refusals for our pace: a no in the venue's own words is one; a bare page proves nothing."""

import asyncio
from decimal import Decimal

import pytest

from shared.errors import UnavailableError, UnknownOutcomeError
from shared.exchange.live.config import WireConfig
from shared.exchange.port import OrderRequest
from shared.exchange.venues import make_venue
from shared.messages import OrderType, Side
from tests.integration.sandbox.in_process import sandbox_in_process

TOKEN, MARKET, ROUTE = "BTC-USDT", "BTCUSDT", "POST /api/v3/order"


@pytest.mark.parametrize(
    ("name", "fault", "is_proven"),
    [
        ("mexc", "http_429", True), ("mexc", "http_418", False), ("mexc", "http_403", False),
        ("binance", "http_429", True), ("binance", "http_418", True), ("binance", "http_403", False),
    ],
)  # fmt: skip
async def test_an_order_refused_by_a_limit_was_not_executed(name: str, fault: str, is_proven: bool) -> None:
    async with sandbox_in_process(name, still=True, symbols=[MARKET]) as sandbox:
        config = WireConfig(
            venue=name, rest_url=sandbox.rest_url, ws_url=sandbox.ws_url, ws_api_url=sandbox.ws_api_url,
            api_key=sandbox.api_key, secret=sandbox.secret, wait_max_s=0.5,
        )  # fmt: skip
        venue = make_venue(config)
        try:
            (instrument,) = await venue.open([TOKEN], lambda _: None)
            price = Decimal(50_000).quantize(instrument.tick_size)
            order = OrderRequest(
                "first", TOKEN, Side.BUY, OrderType.LIMIT, quantity=Decimal("0.002"), limit_price=price
            )
            await sandbox.admin.arm(fault, route=ROUTE, parameter=1)
            with pytest.raises(UnavailableError if is_proven else UnknownOutcomeError):
                await venue.submit(order)
            assert (await sandbox.admin.ledger()).orders_of("first") == []
            assert len(await sandbox.admin.requests(ROUTE)) == 1
            # What certainly was not looked at may be sent again when the venue listens; anything else is looked up.
            await sandbox.admin.disarm()
            async with asyncio.timeout(15):
                while True:
                    try:
                        await venue.submit(order)
                        break
                    except UnavailableError:
                        if not is_proven:
                            break
                        await asyncio.sleep(0.1)
                    except UnknownOutcomeError:
                        assert not is_proven
                        break
            assert len((await sandbox.admin.ledger()).orders_of("first")) == is_proven
        finally:
            await venue.close()
