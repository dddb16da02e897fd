"""What MEXC's venue says of an order that it has sent before."""

from decimal import Decimal

import pytest

from shared.errors import RejectedError, UnavailableError, UnknownOutcomeError
from shared.exchange.live.config import WireConfig
from shared.exchange.mexc import MexcVenue
from shared.exchange.port import OrderRequest, VenueRejectCode
from shared.messages import OrderType, Side

REQUEST = OrderRequest("one", "BTC-USDT", Side.SELL, OrderType.MARKET, quantity=Decimal(1))


@pytest.mark.parametrize(
    "answer", [RejectedError(VenueRejectCode.PERMISSION.value, "no such key"), UnavailableError("no answer")], ids=repr
)
async def test_a_refused_question_is_no_refusal_of_the_order(
    answer: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    venue = MexcVenue(WireConfig(venue="mexc", api_key="key", secret="secret"))
    venue._memory.add(REQUEST.client_order_id, REQUEST)

    async def refuse(client_order_id: str, instrument: str) -> None:
        raise answer

    monkeypatch.setattr(venue, "query", refuse)
    with pytest.raises(UnknownOutcomeError):
        await venue.submit(REQUEST)
