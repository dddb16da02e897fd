"""The unmodified ccxt client with Binance's own addresses: every host leads here, under a test authority's certificate.

Only so is ccxt's spot error map in force, which goes by the address.
"""

import asyncio
import datetime
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import ccxt
import ccxt.pro
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.clock import wall_ns
from tests.unit.sandbox_exchange.binance.rig import KEY, SECRET, Rig, rig

PAIR = "BTC/USDT"
WAIT_S = 10.0
HOSTS = ("*.binance.com", "binance.com")


def write_certificate(folder: Path) -> Path:
    """Write a key and a certificate of Binance's hosts that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sandbox test authority")])
    now = datetime.datetime.fromtimestamp(wall_ns() // 10**9, datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "venue.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


class Everywhere(AbstractResolver):
    """Lead every host and port to the sandbox."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=self._port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        """Hold nothing."""


@asynccontextmanager
async def faithful(folder: Path, **options: object) -> AsyncIterator[tuple[Rig, ccxt.pro.binance]]:
    pem = write_certificate(folder)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(pem)
    async with rig(tls=server) as venue:
        trusting = ssl.create_default_context(cafile=str(pem))
        port = int(venue.base.rpartition(":")[2])
        connector = aiohttp.TCPConnector(
            resolver=Everywhere(port), ssl=trusting, family=socket.AF_INET, use_dns_cache=False
        )
        async with aiohttp.ClientSession(connector=connector) as session:
            client = ccxt.pro.binance(
                {"apiKey": KEY, "secret": SECRET, "session": session, "enableRateLimit": False, "options": options}
            )
            try:
                yield venue, client
            finally:
                await client.close()


async def test_client_out_of_the_box_loads_trades_and_streams(tmp_path) -> None:
    async with faithful(tmp_path) as (venue, client), asyncio.timeout(WAIT_S):
        await client.load_markets()
        asked = {one.route for one in venue.venue.requests}
        assert {"GET /sapi/v1/capital/config/getall", "GET /api/v3/exchangeInfo", "GET /fapi/v1/exchangeInfo"} <= asked
        assert client.markets[PAIR]["spot"]
        bought = await client.create_order(PAIR, "market", "buy", 0.01)
        assert bought["status"] == "closed"
        assert (await client.watch_order_book(PAIR))["bids"][0][0] == 59_999
        placed = await client.create_order_ws(PAIR, "limit", "buy", 0.01, 50_000)
        assert (await client.cancel_order_ws(placed["id"], PAIR))["status"] == "canceled"


async def test_errors_have_the_spot_meaning_at_binances_own_address(tmp_path) -> None:
    spot = {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False, "fetchMargins": False}
    async with faithful(tmp_path, **spot) as (_, client), asyncio.timeout(WAIT_S):
        await client.load_markets()
        client.options["hasAlreadyAuthenticatedSuccessfully"] = False
        cases = [
            (client.fetch_order("999", PAIR), ccxt.OrderNotFound),
            (client.cancel_order("999", PAIR), ccxt.OrderNotFound),
            (client.create_order(PAIR, "limit", "buy", 30, 50_000), ccxt.InsufficientFunds),
            (client.edit_order("999", PAIR, "limit", "buy", 0.01, 50_000), ccxt.BadResponse),
            (client.public_get_depth({"symbol": "NOPEUSDT"}), ccxt.BadSymbol),
        ]
        for work, error in cases:
            with pytest.raises(error):
                await work


async def test_old_time_stamp_and_wrong_secret_have_their_errors(tmp_path) -> None:
    spot = {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False, "fetchMargins": False}
    async with faithful(tmp_path, **spot) as (_, client), asyncio.timeout(WAIT_S):
        client.options["timeDifference"] = 60_000
        with pytest.raises(ccxt.InvalidNonce):
            await client.fetch_balance()
        client.options["timeDifference"] = 0
        client.secret = "wrong"
        with pytest.raises(ccxt.AuthenticationError):
            await client.fetch_balance()
