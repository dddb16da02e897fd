"""A sandbox venue for tests: a process of its own, started by `cascade sandbox --json`, steered through its admin page.

    async with running_sandbox("mexc", still=True) as venue:
        ...  # venue.rest_url, venue.ws_url, venue.api_key, venue.secret, venue.symbols
        await venue.admin.arm("timeout_after", route="POST /api/v3/order")
        ledger = await venue.admin.ledger()

It ends with the block; it ends by itself when the test's process dies. Nothing of the service is imported here.
`tests/integration/sandbox/in_process.py` gives the same in the test's own loop, in milliseconds instead of seconds.
"""

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from shared.messages import Side

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
ADMIN_TIMEOUT_S = 10.0


class SandboxKey(msgspec.Struct, frozen=True):
    """Hold one account's name, its key and what that may do."""

    name: str
    api_key: str
    secret: str
    permissions: frozenset[str] = frozenset()


class LedgerHolding(msgspec.Struct, frozen=True):
    """State what an account has of an asset."""

    asset: str
    free: Decimal
    locked: Decimal


class LedgerOrder(msgspec.Struct, frozen=True):
    """State an order as the venue knows it; words as in `services.sandbox_exchange.core.model`."""

    order_id: int
    client_order_id: str
    account: str
    symbol: str
    side: Side
    kind: str
    time_in_force: str
    status: str
    price: Decimal | None
    quantity: Decimal | None
    quote_amount: Decimal | None
    executed_quantity: Decimal
    executed_quote: Decimal
    created_ns: int
    updated_ns: int

    @property
    def is_open(self) -> bool:
        """Tell whether the order still rests."""
        return self.status in {"new", "partially_filled"}


class LedgerTrade(msgspec.Struct, frozen=True):
    """State one side of an execution."""

    trade_id: int
    order_id: int
    client_order_id: str
    account: str
    symbol: str
    side: Side
    price: Decimal
    quantity: Decimal
    quote_quantity: Decimal
    fee: Decimal
    fee_asset: str
    is_maker: bool
    is_self_trade: bool
    time_ns: int


class LedgerTransfer(msgspec.Struct, frozen=True):
    """State a deposit or a withdrawal."""

    account: str
    asset: str
    amount: Decimal
    reason: str
    time_ns: int


class LedgerTotal(msgspec.Struct, frozen=True):
    """State where an asset is; `difference` is zero, or the venue is wrong."""

    held: Decimal
    fees: Decimal
    transferred: Decimal
    difference: Decimal


class Ledger(msgspec.Struct, frozen=True):
    """State what truly happened. Orders and executions are of all accounts but the house.

    `forgotten` names the accounts of which the venue no longer keeps everything.
    """

    holdings: Mapping[str, Sequence[LedgerHolding]]
    orders: Sequence[LedgerOrder]
    executions: Sequence[LedgerTrade]
    transfers: Sequence[LedgerTransfer]
    totals: Mapping[str, LedgerTotal]
    forgotten: Mapping[str, Any] = {}

    def holding(self, asset: str, account: str = "trader") -> LedgerHolding:
        """Return what an account has of an asset, zero when it never had any."""
        for one in self.holdings.get(account, ()):
            if one.asset == asset:
                return one
        return LedgerHolding(asset, Decimal(0), Decimal(0))

    def orders_of(self, client_order_id: str) -> list[LedgerOrder]:
        """Return every order that was placed under a client order id."""
        return [one for one in self.orders if one.client_order_id == client_order_id]


class SeenRequest(msgspec.Struct, frozen=True):
    """State a request that reached the venue; `status` 599 means that it was given no answer."""

    time_ns: int
    route: str
    symbol: str | None
    client: str
    status: int


class ArmedFaults(msgspec.Struct, frozen=True):
    """State which switches are armed, by id, and how often each name went off."""

    armed: Mapping[str, Mapping[str, Any]]
    fired: Mapping[str, int]


class AdminError(Exception):
    """Report that the admin page refused."""


class AdminClient:
    """Steer a venue and read its truth."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def arm(self, name: str, **fields: str | float | None) -> int:
        """Arm a fault (`route`, `symbol`, `after`, `times`, `probability`, `parameter`, …), and return its id."""
        answer = await self._ask("POST", "/faults", {"name": name, **fields})
        return int(json.loads(answer)["ids"][0])

    async def disarm(self, number: int | None = None) -> None:
        """Take one switch back, or all of them together with every ban."""
        await self._ask("DELETE", "/faults" if number is None else f"/faults/{number}")

    async def faults(self) -> ArmedFaults:
        """Return what is armed and what went off."""
        return msgspec.json.decode(await self._ask("GET", "/faults"), type=ArmedFaults)

    async def fired(self, name: str) -> int:
        """Return how often a fault went off."""
        return (await self.faults()).fired.get(name, 0)

    async def ledger(self) -> Ledger:
        """Return what truly happened. Raises AdminError when the venue keeps only a part of it."""
        ledger = msgspec.json.decode(await self._ask("GET", "/ledger"), type=Ledger)
        if ledger.forgotten:
            raise AdminError(f"the ledger misses orders of {', '.join(ledger.forgotten)}: give a larger history_max")
        return ledger

    async def requests(self, route: str = "", since_ns: int = 0) -> list[SeenRequest]:
        """Return the requests that reached the venue (the last 20,000), of routes that begin with `route`."""
        answer = await self._ask("GET", f"/requests?since_ns={since_ns}")
        return [one for one in msgspec.json.decode(answer, type=list[SeenRequest]) if one.route.startswith(route)]

    async def market(self, symbol: str, action: str, factor: str | None = None) -> None:
        """Pause, resume, delist, cancel_only, buy_only, sell_only, both_sides; redenominate with a `factor`."""
        await self._ask("POST", f"/markets/{symbol}", {"action": action, **({"factor": factor} if factor else {})})

    async def account(
        self, name: str, permissions: Sequence[str] = ("read", "trade"), balances: Mapping[str, str] | None = None,
        **fields: object,
    ) -> SandboxKey:  # fmt: skip
        """Open an account; permissions are read, trade, withdraw; also `allowed_ips`, `expires_s`."""
        wanted = {"name": name, "permissions": list(permissions), "balances": balances or {}, **fields}
        return msgspec.json.decode(await self._ask("POST", "/accounts", wanted), type=SandboxKey)

    async def transfer(self, asset: str, amount: str, account: str = "trader") -> None:
        """Book a deposit, or (negative) a withdrawal."""
        await self._ask("POST", "/transfer", {"asset": asset, "amount": amount, "account": account})

    async def order(
        self, symbol: str, side: str, quantity: str, price: str | None = None, **fields: object
    ) -> LedgerOrder:
        """Place an order of the house (or of `account`); without a price at the market. `repeat` places it often."""
        kind = "limit" if price is not None else "market"
        wanted = {"symbol": symbol, "side": side, "kind": kind, "quantity": quantity, "price": price, **fields}
        return msgspec.json.decode(await self._ask("POST", "/orders", wanted), type=list[LedgerOrder])[0]

    async def kill_sockets(self, path: str | None = None) -> int:
        """Cut every websocket, or those of one path, and return how many."""
        return int(json.loads(await self._ask("POST", "/sockets/kill", {"path": path}))["killed"])

    async def sockets(self) -> list[str]:
        """Return the paths of the open websockets."""
        return [one["path"] for one in json.loads(await self._ask("GET", "/sockets"))]

    async def counts(self) -> Mapping[str, int]:
        """Return the venue's counters."""
        counts: Mapping[str, int] = json.loads(await self._ask("GET", "/health"))["counts"]
        return counts

    async def save(self) -> None:
        """Write the state file now."""
        await self._ask("POST", "/state", {"action": "save"})

    async def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> bytes:
        timeout = aiohttp.ClientTimeout(ADMIN_TIMEOUT_S)
        async with self._session.request(method, self.url + path, json=body, timeout=timeout) as answer:
            content = await answer.read()
            if answer.status != 200:
                raise AdminError(f"{method} {path}: {answer.status} {content.decode()}")
            return content


class Sandbox:
    """Be one running venue, as a test sees it."""

    def __init__(
        self, told: Mapping[str, Any], admin: AdminClient, process: asyncio.subprocess.Process | None = None
    ) -> None:
        self.venue: str = told["venue"]
        self.rest_url: str = told["rest_url"]
        self.ws_url: str = told["ws_url"]
        self.ws_api_url: str | None = told["ws_api_url"]
        self.admin_url: str = told["admin_url"]
        self.api_key: str = told["api_key"]
        self.secret: str = told["secret"]
        self.symbols: tuple[str, ...] = tuple(told["symbols"])
        self.admin = admin
        self._process = process

    async def kill(self) -> None:
        """End it as a power cut ends a process; what was not saved is gone."""
        assert self._process is not None, "a venue in the test's own process cannot be killed"
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        """End it in good order, and return its exit code."""
        assert self._process is not None, "a venue in the test's own process ends with its block"
        if self._process.returncode is None:
            self._process.terminate()
        return await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)


@contextlib.asynccontextmanager
async def running_sandbox(venue: str, **options: object) -> AsyncIterator[Sandbox]:
    """Start a venue (`mexc` or `binance`), and end it with the block.

    Options are those of `cascade sandbox`: `still=True` (a book that nobody moves), `symbols="BTCUSDT,HUSDT"`,
    `seed=3`, `speed=60.0`, `candles=path`, `recorded=path`, `balance=["USDT=5", "BTC=1"]`, `state=path`,
    `faults=path`, `chaos=1`.
    """
    arguments = ["sandbox", "--json", "--stop-with-stdin", "--venue", venue, *_arguments(options)]
    with tempfile.TemporaryDirectory(prefix="sandbox-") as directory:
        log = Path(directory) / "log"
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.cli", *arguments,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        try:
            assert process.stdout is not None
            line = await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT_S)
            if not line:
                raise RuntimeError(f"cascade {' '.join(arguments)}:\n{log.read_text(errors='replace')[-4000:]}")
            told = json.loads(line)
            async with aiohttp.ClientSession() as session:
                yield Sandbox(told, AdminClient(told["admin_url"], session), process)
        finally:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
    await process.wait()


def _arguments(options: Mapping[str, object]) -> list[str]:
    arguments: list[str] = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            arguments.append(flag)
        elif isinstance(value, list | tuple):
            arguments += [text for one in value for text in (flag, str(one))]
        elif value is not None and value is not False:
            arguments += [flag, str(value)]
    return arguments
