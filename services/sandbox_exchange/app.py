"""A running venue: the exchange, its market, its wire and its admin page, in one event loop.

In: a configuration. Out: addresses and a key; the venue answers when `start` returns. Never: a port that others reach
unless the configuration says so twice; an admin page beside the trading port.
"""

import asyncio
import contextlib
import random
from decimal import Decimal
from pathlib import Path

import msgspec
from aiohttp import web

from services.sandbox_exchange import admin
from services.sandbox_exchange.config import SandboxConfig, VenueName, read_schedule
from services.sandbox_exchange.core.exchange import SandboxExchange
from services.sandbox_exchange.core.fault_schedule import FaultSchedule, chaos
from services.sandbox_exchange.core.faults import Faults
from services.sandbox_exchange.core.model import Account, FeeSettings, Refusal
from services.sandbox_exchange.files import write_file
from services.sandbox_exchange.keeper import StateKeeper
from services.sandbox_exchange.keys import Key, read_or_make_key
from services.sandbox_exchange.source import ACCOUNT_ORDERS_MAX, MarketSource, make_source
from services.sandbox_exchange.state import Persisted, SavedState, read_state
from services.sandbox_exchange.telemetry import Telemetry
from services.sandbox_exchange.venues import routes_of
from services.sandbox_exchange.wire.context import Venue
from services.sandbox_exchange.wire.fault_places import check_place
from services.sandbox_exchange.wire.http import BODY_BYTES_MAX
from services.sandbox_exchange.wire.socket import kill_sockets
from shared.errors import ConfigError, InputError

TRADER = "trader"
SHUTDOWN_S = 0.5
# What a fee costs in the venue's own token, when a fault says that it is charged so and the account has enough of it.
FEES_IN = {
    VenueName.MEXC: FeeSettings(third_asset="MX", third_asset_price=Decimal(2)),
    VenueName.BINANCE: FeeSettings(third_asset="BNB", third_asset_price=Decimal(600)),
}
LINE_BYTES_MAX = 32 * 1024  # a batch of orders stands in the query


class Announcement(msgspec.Struct, frozen=True, omit_defaults=False):
    """Tell where a venue is and how to trade there."""

    venue: str
    rest_url: str
    ws_url: str
    ws_api_url: str | None
    admin_url: str
    api_key: str
    secret: str
    symbols: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Announcement(venue={self.venue!r}, rest_url={self.rest_url!r}, api_key='…', secret='…')"


class RunningSandbox:
    """Be a venue that runs."""

    def __init__(
        self,
        venue: Venue,
        told: Announcement,
        source: MarketSource,
        telemetry: Telemetry,
        stack: contextlib.AsyncExitStack,
    ) -> None:
        self.venue, self.telemetry = venue, telemetry
        self.announcement = told
        self.rest_url, self.ws_url, self.ws_api_url = told.rest_url, told.ws_url, told.ws_api_url
        self.admin_url, self.api_key, self.secret = told.admin_url, told.api_key, told.secret
        self.symbols = told.symbols
        self._source, self._stack = source, stack
        self._saving: asyncio.Task[None] | None = None

    def keep(self, keeper: StateKeeper) -> None:
        """Save the state from now on."""
        self._saving = asyncio.create_task(keeper.save_forever(), name="state")

    @property
    def failure(self) -> BaseException | None:
        """Return what broke the venue, or None while it works."""
        saving = self._saving
        if saving is not None and saving.done() and not saving.cancelled() and (error := saving.exception()):
            return error
        return self._source.failure

    async def close(self) -> None:
        """Part with every client, save the state, let go of the ports; closing twice is no error."""
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.gather(self._saving, return_exceptions=True)
            self._saving = None
        kill_sockets(self.venue)
        await self._stack.aclose()


async def start(config: SandboxConfig) -> RunningSandbox:
    """Start a venue and return when it answers.

    Raises ConfigError or InputError for files that cannot be used and for a port that is taken.
    """
    exchange = SandboxExchange(
        fees=FEES_IN[config.venue],
        open_orders_max=ACCOUNT_ORDERS_MAX[config.venue],
        history_max=config.history_max,
    )
    venue = Venue(config.venue, exchange, _faults(config), seed=config.seed)
    saved = read_state(Path(config.state_file), config.venue) if config.state_file is not None else None
    if saved is not None:
        _restore(exchange, saved, config)
    source = make_source(config, venue, run=saved.runs + 1 if saved is not None else 0)
    if saved is not None:
        source.restore(saved.market)
    persisted = Persisted(config.venue, exchange, source, runs=saved.runs + 1 if saved is not None else 0)
    keeper = None
    if config.state_file is not None:
        keeper = StateKeeper(Path(config.state_file), persisted, interval_s=config.state_interval_s)
    async with contextlib.AsyncExitStack() as stack:
        key = _key(config, venue, saved)
        persisted.api_key = key.api_key
        await source.start()
        if keeper is not None:
            venue.settle = keeper.settle
            await _open(keeper)
            stack.push_async_callback(keeper.close)  # after everything below is closed
        stack.push_async_callback(source.stop)
        telemetry = Telemetry(venue)
        site = web.Application(client_max_size=BODY_BYTES_MAX)
        site.router.add_routes(routes_of(config, venue))
        _check_faults(config, venue)
        port = await _serve(stack, site, config.host, config.port, "port")
        page = admin.application(venue, telemetry, persisted, keeper)
        admin_port = await _serve(stack, page, "127.0.0.1", config.admin_port, "admin_port")
        told = _announcement(config, venue, key, (port, admin_port))
        sandbox = RunningSandbox(venue, told, source, telemetry, stack.pop_all())
    if keeper is not None:
        sandbox.keep(keeper)
    if config.announce_file is not None:
        write_file(Path(config.announce_file), msgspec.json.encode(sandbox.announcement))
    return sandbox


def _restore(exchange: SandboxExchange, saved: SavedState, config: SandboxConfig) -> None:
    try:
        exchange.restore(saved.exchange)
    except Refusal as refusal:
        raise InputError(f"state file {config.state_file}: {refusal}: name another file, or remove it") from refusal


async def _open(keeper: StateKeeper) -> None:
    """Begin the file, so that one that cannot be written is told at the start."""
    try:
        await keeper.open()
    except OSError as error:
        raise ConfigError(f"state file {keeper.path}: {error.strerror}: choose another") from error


def _faults(config: SandboxConfig) -> Faults:
    schedule = FaultSchedule(faults=(), seed=config.seed)
    if config.faults_file is not None:
        schedule = read_schedule(Path(config.faults_file))
    faults = Faults(random.Random(schedule.seed).random)
    schedule.arm(faults)
    if config.chaos_seed is not None:
        chaos(random.Random(config.chaos_seed).random).arm(faults)
    return faults


def _check_faults(config: SandboxConfig, venue: Venue) -> None:
    """Refuse a fault of the file that could never go off, now that markets and routes are known."""
    for one in venue.faults.armed.values():
        try:
            check_place(one, venue.places, venue.exchange.markets)
        except InputError as error:
            raise ConfigError(f"faults file {config.faults_file}: {error}") from error


def _key(config: SandboxConfig, venue: Venue, saved: SavedState | None) -> Key:
    """Return the trading key: the saved state's, or one whose account is opened now. Raises ConfigError for two."""
    exchange, file = venue.exchange, Path(config.key_file) if config.key_file is not None else None
    if saved is not None:
        account = exchange.accounts[saved.api_key]
        known = Key(account.api_key, account.secret)
        if file is not None and read_or_make_key(file, known) != known:
            raise ConfigError(
                f"key file {file} holds another key than state file {config.state_file}: remove the wrong one"
            )
        return known
    key = read_or_make_key(file)
    exchange.open_account(Account(TRADER, key.api_key, key.secret), config.deposits, venue.now_ns())
    return key


def _announcement(config: SandboxConfig, venue: Venue, key: Key, ports: tuple[int, int]) -> Announcement:
    port, admin_port = ports
    host = "127.0.0.1" if config.host in {"0.0.0.0", "::", "localhost"} else config.host  # noqa: S104 - to name it
    host = f"[{host}]" if ":" in host else host
    is_mexc = config.venue is VenueName.MEXC
    return Announcement(
        venue=config.venue,
        rest_url=f"http://{host}:{port}",
        ws_url=f"ws://{host}:{port}" + ("/ws" if is_mexc else ""),
        ws_api_url=None if is_mexc else f"ws://{host}:{port}/ws-api/v3",
        admin_url=f"http://127.0.0.1:{admin_port}/admin",
        api_key=key.api_key,
        secret=key.secret,
        symbols=config.markets or tuple(venue.exchange.markets),
    )


async def _serve(stack: contextlib.AsyncExitStack, app: web.Application, host: str, port: int, name: str) -> int:
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=SHUTDOWN_S, max_line_size=LINE_BYTES_MAX, max_field_size=LINE_BYTES_MAX
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise ConfigError(f"{name} {port} on {host}: {error.strerror or error}: choose another, or 0") from error
    bound: int = runner.addresses[0][1]
    return bound
