"""`DualExchange` over the sandbox exchange: both sides, handlers, refusals."""

import asyncio
from decimal import Decimal

import msgspec
import pytest

from shared.errors import ConfigError
from shared.exchange import DualExchange, ExchangeConfig
from shared.exchange.port import OrderRequest, StreamState, VenueReport, VenueTrade
from shared.messages import BookSnapshot, OrderType, Side, TimeInForce, Trade
from shared.testing.sandbox import Sandbox, running_sandbox

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

MARKETS = "HUSDT,TAOUSDT"


def reached(sandbox: Sandbox, **changes: object) -> dict[str, object]:
    told = {name: getattr(sandbox, name) for name in ("venue", "rest_url", "ws_url", "ws_api_url", "api_key", "secret")}
    return told | {"mode": "sandbox"} | changes


@pytest.mark.parametrize("venue", ["mexc", "binance"])
async def test_both_sides_of_a_venue_reach_their_handlers(venue: str) -> None:
    async with running_sandbox(venue, symbols=MARKETS) as sandbox:
        exchange = DualExchange.get_instance(reached(sandbox))
        assert DualExchange.get_instance(reached(sandbox)) is exchange
        assert sandbox.secret not in repr(exchange.config)
        trades: asyncio.Queue[Trade] = asyncio.Queue()
        books: asyncio.Queue[BookSnapshot] = asyncio.Queue()
        reports: list[VenueReport] = []
        has_trade = asyncio.Event()

        def on_report(report: VenueReport) -> None:
            reports.append(report)
            if isinstance(report, VenueTrade):
                has_trade.set()

        exchange.bind(
            on_trades=lambda some: [trades.put_nowait(one) for one in some] and None,
            on_book=books.put_nowait,
            on_report=on_report,
        )
        await exchange.initialize(["HUSDT", "TAO/USDT"])
        async with asyncio.timeout(60):
            trade = await trades.get()
            book = await books.get()
            assert trade.instrument in exchange.symbols
            assert book.bids[0][0] < book.asks[0][0]
            order = await exchange.wire.venue.submit(
                OrderRequest(
                    client_order_id="cscdual1",
                    instrument="H-USDT",
                    side=Side.BUY,
                    type=OrderType.MARKET,
                    quote_amount=Decimal(50),
                    time_in_force=TimeInForce.IOC,
                )
            )
            await has_trade.wait()
        assert order.instrument == "H-USDT"
        assert any(isinstance(one, StreamState) for one in reports)
        ledger = await sandbox.admin.ledger()
        assert len(ledger.orders_of("cscdual1")) == 1
        await exchange.close()
        await exchange.close()


async def test_a_key_that_may_withdraw_is_refused_and_a_wrong_secret_too() -> None:
    async with running_sandbox("mexc", symbols=MARKETS) as sandbox:
        key = await sandbox.admin.account("careless", permissions=("read", "trade", "withdraw"))
        careless = DualExchange(reached_config(sandbox, api_key=key.api_key, secret=key.secret))
        with pytest.raises(ConfigError, match="withdraw"):
            await careless.initialize(["HUSDT", "TAOUSDT"])
        wrong = DualExchange(reached_config(sandbox, secret="0" * 64))
        with pytest.raises(ConfigError):
            await wrong.initialize(["HUSDT", "TAOUSDT"])
        public = DualExchange(reached_config(sandbox, api_key="", secret=""))
        with pytest.raises(ConfigError, match="key_file"):
            _ = public.wire.venue
        with pytest.raises(ConfigError):
            await public.initialize(["NOSUCHUSDT", "TAOUSDT"])


def reached_config(sandbox: Sandbox, **changes: object) -> ExchangeConfig:
    return msgspec.convert(reached(sandbox, **changes), ExchangeConfig)
