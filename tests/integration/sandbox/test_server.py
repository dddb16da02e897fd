"""`cascade sandbox` as a process: it starts, obeys its admin, keeps its state, and ends in good order."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import random
import shutil
import socket
import sys
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import pytest

from services.sandbox_exchange.state_file import log_of, read_rows
from shared.clock import wall_ns
from shared.errors import ConfigError
from shared.testing.sandbox import AdminError, Sandbox, running_sandbox
from tests.integration.sandbox.in_process import sandbox_in_process

VENUES = ("mexc", "binance")
HEADERS = {"mexc": "X-MEXC-APIKEY", "binance": "X-MBX-APIKEY"}
START_TIMEOUT_S = 30.0


async def ask(venue: Sandbox, method: str, path: str, *, key: tuple[str, str] | None = None, **params: object):  # type: ignore[no-untyped-def]
    """Ask as a client without a library does; signed unless `key` is empty. Returns status and decoded body."""
    api_key, secret = key or (venue.api_key, venue.secret)
    query = urlencode({**params, "timestamp": wall_ns() // 1_000_000, "recvWindow": 50_000})
    signature = hmac.new(secret.encode(), query.encode(), hashlib.sha256).hexdigest()
    url = f"{venue.rest_url}{path}?{query}&signature={signature}"
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, headers={HEADERS[venue.venue]: api_key}) as answer,
    ):
        text = await answer.text()
        return answer.status, json.loads(text) if text.startswith(("{", "[")) else text


async def buy(venue: Sandbox, cid: str, **fields: object):  # type: ignore[no-untyped-def]
    """Place a limit order that rests."""
    wanted = {"symbol": "HUSDT", "side": "BUY", "type": "LIMIT", "quantity": "100", "price": "0.1", **fields}
    if venue.venue == "binance":
        wanted["timeInForce"] = "GTC"
    return await ask(venue, "POST", "/api/v3/order", newClientOrderId=cid, **wanted)


@pytest.mark.parametrize("name", VENUES)
async def test_a_venue_starts_trades_and_tells_the_truth(name: str) -> None:
    async with running_sandbox(name, symbols="HUSDT,BTCUSDT", balance=["USDT=500"]) as venue:
        assert venue.symbols == ("HUSDT", "BTCUSDT")
        status, depth = await ask(venue, "GET", "/api/v3/depth", symbol="HUSDT")
        assert status == 200
        assert depth["bids"]
        assert depth["asks"]
        status, order = await buy(venue, "first-1")
        assert status == 200, order
        ledger = await venue.admin.ledger()
        (known,) = ledger.orders_of("first-1")
        assert str(order["orderId"]).endswith(str(known.order_id)) or known.is_open
        assert ledger.holding("USDT").locked == Decimal(10)
        assert all(total.difference == 0 for total in ledger.totals.values())
        assert await venue.stop() == 0


@pytest.mark.parametrize("name", VENUES)
async def test_its_ports_are_loopback_alone(name: str) -> None:
    async with running_sandbox(name, still=True) as venue:
        for url in (venue.rest_url, venue.admin_url):
            assert url.startswith("http://127.0.0.1:")
            port = int(url.removesuffix("/admin").rsplit(":", 1)[1])
            with socket.socket() as other:
                other.settimeout(1)
                # Another loopback address is another interface to a server bound to 127.0.0.1.
                assert other.connect_ex(("127.0.0.2", port)) != 0


async def test_the_trading_port_has_no_admin_and_the_admin_no_strangers() -> None:
    async with sandbox_in_process("mexc", still=True) as venue, aiohttp.ClientSession() as session:
        async with session.get(venue.rest_url + "/admin/ledger") as answer:
            assert answer.status == 404
        async with session.get(venue.admin_url + "/ledger", headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403
        async with session.post(venue.admin_url + "/faults", data='{"name":"http_429"}') as answer:
            assert answer.status == 415
        async with session.get(venue.admin_url.removesuffix("/admin") + "/metrics") as answer:
            text = await answer.text()
        assert "cascade_sandbox_exchange_markets" in text
        assert venue.secret not in text
        ledger = await venue.admin._ask("GET", "/ledger")
        assert venue.secret.encode() not in ledger


async def test_the_admin_says_what_is_wrong() -> None:
    wrong: list[tuple[str, dict[str, object], str]] = [
        ("/faults", {"name": "nonsense"}, "nonsense"),
        ("/faults", {"name": "http_429", "times": 0}, "times"),
        ("/markets/HUSDT", {"action": "explode"}, "explode"),
        ("/markets/HUSDT", {"action": "redenominate"}, "factor"),
        ("/markets/NOPEUSDT", {"action": "pause"}, "NOPEUSDT"),
        ("/accounts", {"name": "house"}, "name"),
        ("/accounts", {"name": "trader"}, "trader"),
        ("/accounts", {"name": "x", "permissions": ["fly"]}, "fly"),
        ("/transfer", {"asset": "USDT", "amount": "-99999999"}, "balance"),
        ("/orders", {"symbol": "HUSDT", "side": "buy", "quantity": "1", "price": "0.123456789"}, "price"),
        ("/state", {"action": "save"}, "--state"),
    ]
    async with sandbox_in_process("binance", still=True) as venue:
        for path, body, named in wrong:
            with pytest.raises(AdminError, match=named):
                await venue.admin._ask("POST", path, body)
        assert (await venue.admin.ledger()).orders == []


@pytest.mark.parametrize("name", VENUES)
async def test_markets_are_paused_resumed_and_redenominated(name: str) -> None:
    async with sandbox_in_process(name, still=True, symbols=["HUSDT"], balances=["USDT=500", "H=1000"]) as venue:
        await venue.admin.market("HUSDT", "pause")
        status, refused = await buy(venue, "a-1")
        assert status == 400
        assert refused["code"]
        await venue.admin.market("HUSDT", "resume")
        assert (await buy(venue, "a-2"))[0] == 200
        await venue.admin.market("HUSDT", "redenominate", "1000")
        ledger = await venue.admin.ledger()
        assert ledger.holding("H").free == Decimal(1)
        assert not any(order.is_open for order in ledger.orders)
        await venue.admin.market("HUSDT", "delist")
        assert (await buy(venue, "a-3"))[0] == 400
        assert (await venue.admin.ledger()).orders_of("a-3") == []


@pytest.mark.parametrize("name", VENUES)
async def test_accounts_have_the_permissions_they_were_opened_with(name: str) -> None:
    async with sandbox_in_process(name, still=True) as venue:
        reader = await venue.admin.account("reader", ("read",), {"USDT": "100"})
        status, refused = await buy(venue, "r-1", key=(reader.api_key, reader.secret))
        assert status >= 400, refused
        status, account = await ask(venue, "GET", "/api/v3/account", key=(reader.api_key, reader.secret))
        assert status == 200
        assert [one["asset"] for one in account["balances"] if Decimal(one["free"]) > 0] == ["USDT"]
        risky = await venue.admin.account("risky", ("read", "trade", "withdraw"))
        status, account = await ask(venue, "GET", "/api/v3/account", key=(risky.api_key, risky.secret))
        assert account["canWithdraw"] is True
        status, account = await ask(venue, "GET", "/api/v3/account")
        assert account["canWithdraw"] is False
        await venue.admin.transfer("BTC", "2.5")
        assert (await venue.admin.ledger()).holding("BTC").free == Decimal("2.5")


@pytest.mark.parametrize("name", VENUES)
async def test_a_fault_after_execution_leaves_the_order_in_the_ledger(name: str) -> None:
    async with sandbox_in_process(name, still=True) as venue:
        await venue.admin.arm("http_5xx_after", route="POST /api/v3/order")
        status, _ = await buy(venue, "after-1")
        assert status == 503
        await venue.admin.arm("http_5xx", route="POST /api/v3/order", parameter=502)
        status, _ = await buy(venue, "before-1")
        assert status == 502
        await venue.admin.arm("timeout_after", route="POST /api/v3/order", parameter=0.1)
        with pytest.raises(aiohttp.ClientError):
            await buy(venue, "hung-1")
        ledger = await venue.admin.ledger()
        assert [len(ledger.orders_of(cid)) for cid in ("after-1", "before-1", "hung-1")] == [1, 0, 1]
        assert await venue.admin.fired("http_5xx_after") == 1
        seen = await venue.admin.requests("POST /api/v3/order")
        assert [one.status for one in seen] == [503, 502, 599]


@pytest.mark.parametrize("name", VENUES)
async def test_the_clock_is_skewed(name: str) -> None:
    async with sandbox_in_process(name, still=True) as venue:
        await venue.admin.arm("clock_skew", parameter=120)
        status, refused = await buy(venue, "late-1")
        assert (status, refused["code"]) == (400, 700003 if name == "mexc" else -1021)
        await venue.admin.disarm()
        assert (await buy(venue, "late-2"))[0] == 200


@pytest.mark.parametrize("name", VENUES)
async def test_an_oversized_body_gets_the_venue_s_error(name: str) -> None:
    async with sandbox_in_process(name, still=True) as venue, aiohttp.ClientSession() as session:
        async with session.post(venue.rest_url + "/api/v3/order", data=b"x" * 200_000) as answer:
            assert answer.status == 413
            assert "code" in await answer.json()
        assert (await ask(venue, "GET", "/api/v3/time"))[0] == 200


@pytest.mark.parametrize("name", VENUES)
async def test_maintenance_ends_when_it_is_disarmed(name: str) -> None:
    async with sandbox_in_process(name, still=True) as venue:
        await venue.admin.arm("maintenance", times=None)
        assert [(await ask(venue, "GET", "/api/v3/time"))[0] for _ in range(3)] == [503] * 3
        await venue.admin.disarm()
        assert (await ask(venue, "GET", "/api/v3/time"))[0] == 200


@pytest.mark.parametrize("name", VENUES)
@pytest.mark.parametrize("ending", ["kill", "stop"])
async def test_the_state_outlives_the_process(name: str, ending: str, tmp_path: Path) -> None:
    options = {"symbols": "HUSDT", "state": tmp_path / "venue.state", "balance": ["USDT=50"]}
    async with running_sandbox(name, **options) as venue:
        assert (await buy(venue, "kept-1"))[0] == 200
        key = (venue.api_key, venue.secret)
        if ending == "kill":
            await venue.kill()
        else:
            assert await venue.stop() == 0
    assert (tmp_path / "venue.state").stat().st_mode & 0o777 == 0o600
    async with running_sandbox(name, **options) as venue:
        assert (venue.api_key, venue.secret) == key, "the key is the account's, so it is kept too"
        ledger = await venue.admin.ledger()
        assert [order.is_open for order in ledger.orders_of("kept-1")] == [True]
        assert ledger.holding("USDT").locked == Decimal(10)
        status, cancelled = await ask(venue, "DELETE", "/api/v3/order", symbol="HUSDT", origClientOrderId="kept-1")
        assert status == 200, cancelled
        ledger = await venue.admin.ledger()
        assert ledger.holding("USDT").free == Decimal(50)
        assert all(total.difference == 0 for total in ledger.totals.values())


async def test_an_order_is_on_the_disk_before_its_answer(tmp_path: Path) -> None:
    path, copy = tmp_path / "venue.state", tmp_path / "copy.state"
    async with running_sandbox("mexc", still=True, state=path) as venue:
        for number in range(3):
            assert (await buy(venue, f"kept-{number}"))[0] == 200
            # As a machine that loses power now would find it.
            shutil.copy(path, copy)
            shutil.copy(log_of(path), log_of(copy))
            rows = [value for section, _, _, value in read_rows(copy) if section == "order"]
            assert any(f"kept-{number}".encode() in row for row in rows)


@pytest.mark.timeout(120)  # four processes
async def test_kills_at_any_moment_lose_no_order_and_double_none(tmp_path: Path) -> None:
    path, rng = tmp_path / "venue.state", random.Random(5)
    answered: list[str] = []
    asked = 0
    for _ in range(3):
        async with running_sandbox("mexc", symbols="HUSDT", state=path, balance=["USDT=100000"]) as venue:
            ledger = await venue.admin.ledger()
            assert [cid for cid in answered if len(ledger.orders_of(cid)) != 1] == []
            stop_at = asked + rng.randrange(5, 40)

            async def trade(venue: Sandbox = venue, stop_at: int = stop_at) -> None:
                nonlocal asked
                while True:
                    asked += 1
                    cid = f"k-{asked}"
                    price = "0.1" if asked % 3 else "9"  # below the market, or through it
                    with contextlib.suppress(aiohttp.ClientError):
                        status, _ = await buy(venue, cid, price=price)
                        if status == 200:
                            answered.append(cid)
                    if asked >= stop_at:
                        return

            traders = [asyncio.create_task(trade()) for _ in range(4)]
            await asyncio.wait(traders, return_when=asyncio.FIRST_COMPLETED)
            await venue.kill()
            await asyncio.gather(*traders)
    async with running_sandbox("mexc", symbols="HUSDT", state=path) as venue:
        ledger = await venue.admin.ledger()
        assert len(answered) > 15
        assert [cid for cid in answered if len(ledger.orders_of(cid)) != 1] == []
        assert len({one.client_order_id for one in ledger.orders}) == len(ledger.orders) <= asked
        for one in ledger.orders:
            filled = sum(trade.quantity for trade in ledger.executions if trade.order_id == one.order_id)
            assert filled == one.executed_quantity
        assert all(total.difference == 0 for total in ledger.totals.values())


@pytest.mark.parametrize("name", VENUES)
async def test_a_running_venue_goes_back_to_a_saved_state(name: str) -> None:
    async with sandbox_in_process(name, symbols=["HUSDT"]) as venue, aiohttp.ClientSession() as session:
        assert (await buy(venue, "before-1"))[0] == 200
        url = venue.admin_url + "/state"
        async with session.get(url) as answer:
            saved = await answer.read()
        assert (await buy(venue, "later-1"))[0] == 200
        async with session.put(url, data=saved) as answer:
            assert answer.status == 200
        ledger = await venue.admin.ledger()
        assert [len(ledger.orders_of(cid)) for cid in ("before-1", "later-1")] == [1, 0]
        assert (await buy(venue, "later-2"))[0] == 200
        async with session.put(url, data=b"rubbish") as answer:
            assert answer.status == 400
        assert len((await venue.admin.ledger()).orders) == 2


async def test_another_venue_s_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "venue.state"
    async with running_sandbox("mexc", still=True, state=path):
        pass
    code, out, err = await cascade("sandbox", "--venue", "binance", "--json", "--state", str(path))
    assert (code, out) == (2, "")
    assert "mexc" in err
    path.write_bytes(b"rubbish")
    code, out, err = await cascade("sandbox", "--venue", "mexc", "--json", "--state", str(path))
    assert code == 2
    assert "venue.state" in err


async def test_a_port_that_is_taken_is_named() -> None:
    async with running_sandbox("mexc", still=True) as venue:
        port = venue.rest_url.rsplit(":", 1)[1]
        code, _, err = await cascade("sandbox", "--venue", "mexc", "--json", "--port", port)
        assert code == 2
        assert port in err


async def test_the_command_arms_and_clears_faults() -> None:
    async with sandbox_in_process("mexc", still=True) as venue:
        to = ("--admin", venue.admin_url, "--json")
        code, out, err = await cascade(
            "sandbox", "fault", "http_429", "--parameter", "3", "--route", "GET /api/v3/time", *to
        )
        assert code == 0, err
        assert [one["parameter"] for one in json.loads(out)["armed"].values()] == [3.0]
        assert (await ask(venue, "GET", "/api/v3/time"))[0] == 429
        code, out, _ = await cascade("sandbox", "fault", "--clear", *to)
        assert (code, json.loads(out)) == (0, {"armed": {}, "fired": {"http_429": 1}})
        code, _, err = await cascade("sandbox", "fault", "nonsense", *to)
        assert code == 2
        assert "nonsense" in err
        for wrong, told in (
            ("--symbol=NOPEUSDT", "its markets are "),
            ("--symbol=NOPE", "its markets are "),
            ("--route=POST /nonsense", "its routes are spot@"),
        ):
            code, _, err = await cascade("sandbox", "fault", "frame_drop", wrong, *to)
            assert code == 2
            assert told in err
        assert not (await venue.admin.faults()).armed
    code, _, err = await cascade("sandbox", "fault", "--admin", venue.admin_url)
    assert code == 3
    assert "cascade sandbox" in err


async def test_a_faults_file_for_a_market_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_text('[[faults]]\nname = "frame_drop"\nsymbol = "NOPEUSDT"\n')
    with pytest.raises(ConfigError, match=r"faults\.toml: frame_drop: no market 'NOPEUSDT'"):
        async with sandbox_in_process("binance", still=True, faults_file=str(path)):
            pass


async def test_a_faults_file_is_armed_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_text('[[faults]]\nname = "http_5xx"\nroute = "GET /api/v3/time"\n')
    async with sandbox_in_process("binance", still=True, faults_file=str(path), chaos_seed=3) as venue:
        assert len((await venue.admin.faults()).armed) > 100
        assert (await ask(venue, "GET", "/api/v3/time"))[0] == 500


async def cascade(*arguments: str) -> tuple[int, str, str]:
    """Run the command to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), START_TIMEOUT_S)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
