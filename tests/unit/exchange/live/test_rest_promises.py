"""What both adapters promise of a request: its venue's pace, cancels first, no word that is no acknowledgement."""

from decimal import Decimal

import msgspec
import pytest
from aiohttp import web

from shared.errors import UnavailableError, UnknownOutcomeError
from shared.exchange.binance.endpoints import ORDERS_PER_10_S, WEIGHT_PER_MINUTE
from shared.exchange.binance.orders import OrderRow
from shared.exchange.binance.rest import AnswerError, BinanceRest
from shared.exchange.live.config import WireConfig
from shared.exchange.live.limits import PriorityBucket, VenueLimits
from shared.exchange.mexc import MexcVenue
from shared.exchange.mexc.rest import MexcRest
from shared.exchange.mexc.shapes import CreatedInfo, ExchangeInfo
from shared.exchange.port import OrderRequest
from shared.messages import OrderType, Side
from tests.unit.exchange.live.test_session import ORDER, client, order, question, server

VENUES = ["mexc", "binance"]
LISTED = {
    "symbol": "BTCUSDT", "status": "1", "baseAsset": "BTC", "quoteAsset": "USDT", "baseAssetPrecision": 5,
    "quoteAssetPrecision": 2, "baseSizePrecision": "0.00001", "quoteAmountPrecision": "1",
}  # fmt: skip
GOOD = {"symbol": "BTCUSDT", "orderId": "C02__77", "transactTime": 1_760_000_000_000}
REQUEST = OrderRequest(
    "one", "BTC-USDT", Side.BUY, OrderType.LIMIT, quantity=Decimal("0.001"), limit_price=Decimal(50_000)
)


class Turns(VenueLimits):
    """Note who asks for what kind of turn; give it at once."""

    def __init__(self) -> None:
        super().__init__(PriorityBucket(1e6), PriorityBucket(1e6), wait_max_s=1.0)
        self.taken: list[str] = []

    async def read(self, weight: float = 1.0) -> None:
        del weight
        self.taken.append("read")

    async def order(self, weight: float = 1.0) -> None:
        del weight
        self.taken.append("order")

    async def cancel(self, weight: float = 1.0) -> None:
        del weight
        self.taken.append("cancel")


async def cancel(rest: MexcRest | BinanceRest) -> object:
    if isinstance(rest, MexcRest):
        return await rest.cancel("order", CreatedInfo, ORDER)
    return await rest.cancel("privateDeleteOrder", ORDER, OrderRow)


@pytest.mark.parametrize("venue", VENUES)
async def test_every_request_takes_a_turn_of_its_kind(venue: str) -> None:
    async with server(web.Response(body=b"nothing of use"), []) as url, client(venue, url) as rest:
        rest.limits = turns = Turns()
        for ask, failure in (
            (order, UnknownOutcomeError), (cancel, UnknownOutcomeError), (question, UnavailableError)
        ):  # fmt: skip
            with pytest.raises((failure, AnswerError)):
                await ask(rest)
        assert turns.taken == ["order", "cancel", "read"]


def most(bucket: PriorityBucket, window_s: float) -> float:
    """Return how many tokens the bucket can give in the fullest window."""
    return bucket._burst + bucket._rate * window_s


async def test_the_pace_is_the_venues() -> None:
    async with server(web.Response(body=b"{}"), []) as url:
        async with client("mexc", url) as mexc:
            assert most(mexc.limits.orders, 1.0) == pytest.approx(12.0)
            assert most(mexc.limits.requests, 1.0) == pytest.approx(20.0)
        async with client("binance", url) as binance:
            assert most(binance.limits.orders, 10.0) == pytest.approx(ORDERS_PER_10_S) and ORDERS_PER_10_S <= 100
            assert most(binance.limits.requests, 60.0) == pytest.approx(WEIGHT_PER_MINUTE)
            assert WEIGHT_PER_MINUTE <= 6_000


def body(**changes: object) -> bytes:
    return msgspec.json.encode({**GOOD, **changes})


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"{}", b"[]", b"null", b"<html>busy</html>", b'"C02__77"', body()[:-9], body(orderId=None),
        body(orderId=""), body(orderId="<html>x</html>"), body(orderId="a b"), body(orderId=True),
        body(orderId={"id": 1}), body(orderId="x" * 65), body(symbol="ETHUSDT"), body(symbol=None),
        body(transactTime="soon"), b'{"code":200,"msg":"success"}', b'{"code":30004,"msg":"insufficient"}',
    ],
    ids=lambda answer: answer[:40].decode(),
)  # fmt: skip
async def test_what_is_no_acknowledgement_of_mexc_is_an_unknown_outcome_and_is_sent_once(answer: bytes) -> None:
    seen: list[str] = []
    async with server(web.Response(body=answer), seen) as url:
        config = WireConfig(
            venue="mexc", rest_url=url, ws_url="ws://127.0.0.1:1", api_key="key", secret="secret", read_attempts_max=1
        )
        venue = MexcVenue(config)
        try:
            venue._markets._take(ExchangeInfo((msgspec.Raw(msgspec.json.encode(LISTED)),)))
            for _ in range(2):
                with pytest.raises(UnknownOutcomeError):
                    await venue.submit(REQUEST)
        finally:
            await venue.close()
    assert seen.count("POST /api/v3/order") == 1


async def test_a_good_acknowledgement_of_mexc_is_one() -> None:
    async with server(web.Response(body=body()), []) as url:
        venue = MexcVenue(WireConfig(venue="mexc", rest_url=url, ws_url="ws://127.0.0.1:1", api_key="k", secret="s"))
        try:
            venue._markets._take(ExchangeInfo((msgspec.Raw(msgspec.json.encode(LISTED)),)))
            assert (await venue.submit(REQUEST)).venue_order_id == "C02__77"
        finally:
            await venue.close()
