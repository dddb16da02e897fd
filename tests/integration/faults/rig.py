"""Execution over a venue adapter over a sandbox venue, all in one event loop; the sandbox's ledger is the truth.

`crash` ends the service as kill -9 would: nothing is finished, acknowledged or published, the venue hears no good-bye.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from decimal import Decimal
from pathlib import Path

import msgspec

from services.execution.books import Books
from services.execution.config import ExecutionConfig
from services.execution.core.orders import Order, client_order_id
from services.execution.desk import Desk
from services.execution.journal import Journal
from services.execution.service import ExecutionService
from services.sandbox_exchange.app import RunningSandbox, start
from services.sandbox_exchange.config import SandboxConfig, Source, VenueName
from services.sandbox_exchange.core.faults import Fault, FaultName
from services.sandbox_exchange.core.model import HOUSE, Account, OrderKind, Permission, PlaceOrder
from services.sandbox_exchange.wire.socket import kill_sockets
from shared.bus import subjects
from shared.bus.memory import MemoryBus
from shared.domain.instruments import floor_to_grid
from shared.exchange.binance import BinanceVenue
from shared.exchange.live.config import WireConfig
from shared.exchange.mexc import MexcVenue
from shared.messages import Bar, BarsClosed, OrderIntent, OrderState, Side, TimeInForce
from shared.testing.paper import bar, closed
from shared.testing.sandbox import Ledger, LedgerOrder
from tests.unit.execution.rig import FakeHost, Rig, SimulatedCrashError
from tests.unit.execution.samples import approve, intent

VENUES = ("mexc", "binance")
TRADER, MARKET, TOKEN = "trader", "BTCUSDT", "BTC-USDT"
CREATE, CANCEL, QUERY = "POST /api/v3/order", "DELETE /api/v3/order", "GET /api/v3/order"
OPEN = (OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED)
# A request gives up after 0.4 s, and an absence counts after 0.6 s: the waits of production, shortened.
CONFIG = ExecutionConfig(
    reconcile_interval_s=1.0, resolve_interval_s=0.05, misses_min=3, misses_span_s=0.6, venue_timeout_s=6.0
)
STATES = {
    "new": {OrderState.ACCEPTED}, "partially_filled": {OrderState.PARTIALLY_FILLED},
    "filled": {OrderState.FILLED}, "canceled": {OrderState.CANCELED, OrderState.EXPIRED},
    "expired": {OrderState.CANCELED, OrderState.EXPIRED},
}  # fmt: skip


class Host(FakeHost):
    """Be a process that ends when one of its tasks does."""

    rig: "SandboxRig"

    def spawn(self, work: Awaitable[None], name: str) -> asyncio.Task[None]:
        """Run `work`; its failure ends the process."""
        task = super().spawn(work, name)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.rig.on_fatal(error)


class SandboxRig(Rig):
    """Hold a sandbox venue, the broker and the files, which outlive the service, and the service while it lives."""

    def __init__(self, directory: Path, running: RunningSandbox, config: ExecutionConfig = CONFIG) -> None:
        super().__init__(directory, config)
        self.running, self.name = running, running.announcement.venue
        self.exchange, self.faults = running.venue.exchange, running.venue.faults
        self.failure: BaseException | None = None
        self.wire: MexcVenue | BinanceVenue
        self.intents: dict[int, OrderIntent] = {}
        self.hour = 0
        self.tokens: tuple[str, ...] = (TOKEN,)
        self.timeframe = "1h"

    def build(self) -> None:
        """Make the service out of its files and a new adapter."""
        self.crashed.clear()
        bus = MemoryBus(self.broker, service="execution", on_fatal=self.on_fatal)
        bus._client.connected.set()
        self.host = Host(bus)
        self.host.rig = self
        self.journal = Journal(self.directory / "execution.sqlite3", self._identity())
        make = MexcVenue if self.name == "mexc" else BinanceVenue
        self.wire = make(self.wire_config())
        self.desk = Desk(
            self.host, self.wire, Books(self.journal, "USDT"), self.config,
            account="main", simulated=None, fault_point=self._fault_point,
        )  # fmt: skip
        self.service = ExecutionService(
            self.desk, timeframe=self.timeframe, closers=(self.journal.close,), wire=self.wire, symbols=self.tokens
        )

    def wire_config(self) -> WireConfig:
        """Return how the adapter reaches the sandbox, with short waits."""
        told = self.running.announcement
        return WireConfig(
            venue=self.name, rest_url=told.rest_url, ws_url=told.ws_url, ws_api_url=told.ws_api_url,
            api_key=told.api_key, secret=told.secret, request_timeout_s=0.4, ack_timeout_s=0.5, connect_timeout_s=2.0,
            ping_interval_s=0.2, pong_timeout_s=0.3, reconnect_first_s=0.02, reconnect_most_s=0.2,
            clock_interval_s=30.0, wait_max_s=3.0, read_attempts_max=3,
        )  # fmt: skip

    async def crash(self) -> None:
        """End the service at once."""
        self.host.bus.kill()
        for task in self.host.tasks:
            task.cancel()
        await asyncio.gather(*self.host.tasks, return_exceptions=True)
        await asyncio.sleep(0)
        if isinstance(self.wire, MexcVenue):
            self.wire._keys = None  # the dead do not give their listen key back
        await self.wire.close()
        self.journal.close()

    async def step(self, hour: int | None = None, *, wait: bool = True, **closes: float | Bar) -> None:
        """Publish a market step at the sandbox's price and (`wait`) see it finished."""
        del closes
        self.hour = self.hour + 1 if hour is None else hour
        price = float(self.best(Side.BUY))
        one = msgspec.structs.replace(bar(self.hour, price, instrument=TOKEN), venue=self.name)
        await self.outside.publish(subjects.bar("1h", self.name, TOKEN), one, message_id=f"bar-{self.hour}")
        end: BarsClosed = msgspec.structs.replace(closed(self.hour, TOKEN), venue=self.name)
        await self.outside.publish(subjects.bars_closed("1h", self.name), end, message_id=f"closed-{self.hour}")
        if wait:
            await self.until(lambda: self.host.progress_ns >= end.close_time_ns)

    def arm(self, name: FaultName, **fields: object) -> None:
        """Arm a fault switch."""
        self.faults.arm(msgspec.convert({"name": name, **fields}, Fault))

    def kill_stream(self) -> None:
        """Cut the account's socket."""
        kill_sockets(self.running.venue)

    def spoil_key(self, how: str) -> Account:
        """Make the trading key useless and return it as it was."""
        keys = self.exchange._accounts.by_key
        good = next(one for one in keys.values() if one.name == TRADER)
        changes: dict[str, object] = {
            "expired": {"expires_ns": 1},
            "may not trade": {"permissions": frozenset({Permission.READ})},
            "another address": {"allowed_ips": frozenset({"192.0.2.1"})},
        }[how]
        keys[good.api_key] = msgspec.structs.replace(good, **changes)
        return good

    def restore_key(self, good: Account) -> None:
        """Give the key back what it was."""
        self.exchange._accounts.by_key[good.api_key] = good

    def requests_of(self, route: str) -> int:
        """Count the requests of a route that reached the venue."""
        return sum(one.route == route for one in self.running.venue.requests)

    def best(self, side: Side) -> Decimal:
        """Return the best bid (BUY) or ask (SELL)."""
        depth = self.exchange.depth(MARKET, 1)
        return (depth.bids if side is Side.BUY else depth.asks)[0][0]

    def ledger(self) -> Ledger:
        """Return what truly happened."""
        return msgspec.json.decode(self.exchange.ledger(), type=Ledger)

    def orders_at_venue(self, number: int) -> list[LedgerOrder]:
        """Return every order that was ever placed for an intent."""
        return self.ledger().orders_of(client_order_id(f"intent-{number}"))

    async def want(self, number: int, kind: str, *, copy: int = 0) -> None:
        """Publish the approval of an intent: `quote`, `bounded`, `sell`, `limit` (rests), `fok`."""
        tick, step = self._grid()
        bid, ask = self.best(Side.BUY), self.best(Side.SELL)
        about = floor_to_grid(Decimal(200) / ask, step)
        fields: dict[str, object] = {
            "quote": {"quote": "200"},
            "bounded": {"quantity": str(about)},
            "sell": {"side": Side.SELL, "quantity": str(floor_to_grid(about / 2, step))},
            "limit": {"quantity": str(about), "limit": str(floor_to_grid(bid * Decimal("0.99"), tick))},
            "fok": {
                "quantity": str(about), "limit": str(floor_to_grid(ask * Decimal("1.02"), tick)), "tif": TimeInForce.FOK
            },
        }[kind]  # type: ignore[assignment] # five dictionaries of one kind  # fmt: skip
        wanted = intent(number, hour=1, **fields)  # type: ignore[arg-type]
        wanted = self.intents[number] = msgspec.structs.replace(wanted, venue=self.name)
        bound = bid * Decimal("0.95") if wanted.side is Side.SELL else ask * Decimal("1.05")
        await self.approve(approve(wanted, price_bound=floor_to_grid(bound, tick)), copy=copy)

    async def do(self, number: int, kind: str) -> OrderState:
        """Approve an intent and return the state in which its order comes to rest."""
        await self.want(number, kind)
        return (await self.settled(number, states=OPEN if kind == "limit" else ()))[0]

    async def cancel(self, number: int) -> OrderState:
        """Cancel an intent's order as an operator would and wait for its end."""
        await self.command(
            "cancel", msgspec.json.encode({"client_order_id": self.order(number).client_order_id}).decode()
        )
        return (await self.settled(number))[0]

    async def ask_cancel(self, number: int) -> None:
        """Ask for a cancel as an operator would, who may get no answer."""
        arguments = msgspec.json.encode({"client_order_id": self.order(number).client_order_id}).decode()
        asked = asyncio.create_task(self.command("cancel", arguments))
        await self.until(lambda: asked.done() or self.crashed.is_set())
        asked.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asked

    def order(self, number: int) -> Order:
        """Return an intent's order as the journal has it."""
        found = self.journal.order(f"intent-{number}")
        assert found is not None
        return found

    def hit(self, number: int, fraction: str = "1") -> None:
        """Let the house sell into an intent's resting order."""
        for order in self.orders_at_venue(number):
            if order.is_open and order.quantity is not None and order.price is not None:
                rest = (order.quantity - order.executed_quantity) * Decimal(fraction)
                self._sell_down_to(order.price, floor_to_grid(rest, self._grid()[1]))

    async def until(self, done: object) -> None:  # type: ignore[override] # the same callable
        """Wait until something is so; a crash on the way is restarted from, any other failure is raised."""
        assert callable(done)

        def is_done() -> bool:
            if self.failure is not None:
                raise AssertionError(f"the service failed: {self.failure!r}") from self.failure
            return bool(done())

        await super().until(is_done)

    async def quiet(self) -> None:
        """Take every fault back and wait until nothing is open but what rests, and everything was told."""
        self.faults.disarm()
        self.running.venue.limits.pardon()

        def is_quiet() -> bool:
            books = self.desk.books
            if not self.desk.is_reconciled or self.journal.unpublished(1) or books.uncertain_orders():
                return False
            orders = [self.journal.order(f"intent-{number}") for number in self.intents]
            return all(one is not None and (one.state in OPEN or one.is_settled) for one in orders)

        await self.until(is_quiet)
        await self.until(lambda: not self.differences())

    def differences(self) -> list[str]:
        """Return how the books differ from the venue's ledger: orders, executions and balances, to the last digit."""
        ledger, found = self.ledger(), []
        for number in self.intents:
            name = client_order_id(f"intent-{number}")
            placed = ledger.orders_of(name)
            if len(placed) > 1:
                found.append(f"{len(placed)} orders for intent {number}")
            found += self._order_differences(number, placed[-1] if placed else None, ledger)
        known = {client_order_id(f"intent-{number}") for number in self.intents}
        found += [f"unknown order {one.client_order_id}" for one in ledger.orders if one.client_order_id not in known]
        booked = self.desk.books.ledger.balances()
        for asset in ("USDT", "BTC", *self.desk.books.fee_assets):
            held = ledger.holding(asset)
            if held.free + held.locked != booked.get(asset, Decimal(0)):
                found.append(f"{asset}: venue {held.free + held.locked}, books {booked.get(asset)}")
        return found

    async def check(self) -> None:
        """Check after `quiet`: one order an intent, fills once, equal balances, a second look finds nothing."""
        assert self.differences() == []
        events = await self.messages_count()
        entries = len(self.desk.books.ledger.entries)
        reply = await self.command("reconcile")
        assert reply.ok, reply.detail
        assert await self.messages_count() == events, "a second reconciliation told something new"
        assert len(self.desk.books.ledger.entries) == entries
        await self._check_events()
        fresh = Books(self.journal, "USDT")
        assert fresh.ledger.entries == self.desk.books.ledger.entries
        assert fresh.open_orders() == self.desk.books.open_orders()

    async def messages_count(self) -> int:
        """Count the events told so far."""
        return len(await self.events())

    async def _check_events(self) -> None:
        told: dict[str, object] = {}
        fills: dict[str, Decimal] = {}
        for event in await self.events():
            if event.fill is not None:
                key = f"{event.client_order_id} {event.fill.fill_id}"
                assert key not in told, f"fill {key} was told twice"
                told[key] = event
                fills[event.client_order_id] = fills.get(event.client_order_id, Decimal(0)) + event.fill.quantity
        for order in self.ledger().orders:
            assert fills.get(order.client_order_id, Decimal(0)) == order.executed_quantity

    def _order_differences(self, number: int, placed: LedgerOrder | None, ledger: Ledger) -> list[str]:
        order = self.journal.order(f"intent-{number}")
        if order is None:
            return [f"intent {number} has no order"]
        if placed is None:
            never = {OrderState.DENIED, OrderState.REJECTED, OrderState.REJECTED_UNCONFIRMED}
            return [] if order.state in never else [f"intent {number} is {order.state} and never was at the venue"]
        trades = [one for one in ledger.executions if one.order_id == placed.order_id and one.account == TRADER]
        found = []
        if order.state not in STATES[placed.status]:
            found.append(f"intent {number} is {order.state}, at the venue {placed.status}")
        ours = sorted((fill.price, fill.quantity, fill.fee, fill.fee_asset) for fill in order.fills)
        truth = sorted((one.price, one.quantity, one.fee, one.fee_asset) for one in trades)
        if ours != truth:
            found.append(f"intent {number} was filled {ours}, truly {truth}")
        return found

    def _sell_down_to(self, price: Decimal, quantity: Decimal) -> None:
        if not quantity:
            return
        # What rests above is the house's own; it must go first, and comes back afterwards.
        above = sum((size for at, size in self.exchange.depth(MARKET).bids if at > price), Decimal(0))
        request = PlaceOrder(
            HOUSE, MARKET, Side.SELL, OrderKind.LIMIT, quantity=above + quantity, price=price,
            time_in_force=TimeInForce.IOC,
        )  # fmt: skip
        levels = [(at, size) for at, size in self.exchange.depth(MARKET).bids if at > price]
        self.exchange.place(request, self.running.venue.now_ns())
        for at, size in levels:
            back = PlaceOrder(HOUSE, MARKET, Side.BUY, OrderKind.LIMIT, quantity=size, price=at)
            self.exchange.place(back, self.running.venue.now_ns())

    def _grid(self) -> tuple[Decimal, Decimal]:
        grid = self.exchange.markets[MARKET].instrument
        return grid.tick_size, grid.step_size

    def _identity(self) -> dict[str, str]:
        return {"venue": self.name, "account": "main", "quote_asset": "USDT"}

    def on_fatal(self, error: BaseException) -> None:
        """Take what ended the service: a crash on purpose, or a failure."""
        if isinstance(error, SimulatedCrashError):
            self.crashed.set()
        else:
            self.failure = error


@contextlib.asynccontextmanager
async def sandbox_rig(venue: str, directory: Path, **settings: object) -> AsyncIterator[SandboxRig]:
    """Run a sandbox with a still book and an execution service over it that has seen one market step."""
    told = {
        "venue": VenueName(venue), "source": Source.STILL, "symbols": (MARKET,),
        "balances": ("USDT=100000", "MX=50", "BNB=5"), **settings,
    }  # fmt: skip
    running = await start(msgspec.convert(told, SandboxConfig, strict=False))
    rig = SandboxRig(directory, running)
    try:
        await rig.open()
        await rig.start()
        await rig.step()
        await rig.until(lambda: rig.desk.is_reconciled)
        yield rig
        if rig.failure is not None:
            raise AssertionError(f"the service failed: {rig.failure!r}") from rig.failure
    finally:
        await rig.crash()
        await running.close()
