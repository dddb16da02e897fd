"""The markets on the wall clock: each is stepped about twenty times a second, one after the other.

In: an exchange, one flow for each market. Out: the house's orders, at a steady pace. Never: a burst that catches up
with a stall: time that nobody watched is lost.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from services.sandbox_exchange.core.flow_market import MarketFlow
from services.sandbox_exchange.core.model import Event, LevelChanged, MarketChanged
from services.sandbox_exchange.core.port import Exchange
from services.sandbox_exchange.markets.orders import House
from shared.clock import NANOSECONDS_PER_SECOND, monotonic_ns

STEP_S = 0.05
ELAPSED_S_MAX = 0.25


class MarketRunner:
    """Drive the background of every market that has a flow.

    `now_ns` is the venue's time for the orders; the pace comes from `pace_ns`, which only ever moves on.
    """

    def __init__(
        self,
        exchange: Exchange,
        flows: Mapping[str, MarketFlow],
        *,
        now_ns: Callable[[], int],
        pace_ns: Callable[[], int] = monotonic_ns,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._exchange, self._now_ns, self._pace_ns, self._sleep = exchange, now_ns, pace_ns, sleep
        self.houses = {symbol: House(exchange, exchange.markets[symbol], flow) for symbol, flow in flows.items()}
        self._task: asyncio.Task[None] | None = None
        exchange.listen(self._heard)

    async def start(self) -> None:
        """Take over what rests in the books, open those that are empty, and go on from there."""
        if self._task is not None:
            raise RuntimeError("the markets are running")
        for symbol, house in self.houses.items():
            house.adopt(self._exchange.markets[symbol])
        self.step(0.0)
        self._task = asyncio.create_task(self._run(), name="markets")

    async def stop(self) -> None:
        """Stop where the markets are; their orders stay in the books. Raises what broke them, if anything did."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    @property
    def failure(self) -> BaseException | None:
        """Return what ended the markets, or None while they run or were stopped."""
        task = self._task
        return task.exception() if task is not None and task.done() and not task.cancelled() else None

    def step(self, elapsed_s: float) -> None:
        """Let wall time pass in every market at once."""
        for house in self.houses.values():
            if house.is_trading:
                house.step(elapsed_s, self._now_ns())

    def dump(self) -> bytes:
        """Return what the markets need, besides the exchange's state, to go on."""
        return msgspec.msgpack.encode({symbol: house.flow.path.dump() for symbol, house in self.houses.items()})

    def restore(self, state: bytes) -> None:
        """Go on from `dump`; call it before `start`. Markets that it does not hold begin anew.

        Raises msgspec.DecodeError for other bytes.
        """
        for symbol, path in msgspec.msgpack.decode(state, type=dict[str, bytes]).items():
            if symbol in self.houses:
                self.houses[symbol].flow.path.restore(path)

    async def _run(self) -> None:
        last_ns = self._pace_ns()
        while True:
            await self._sleep(STEP_S)
            now_ns = self._pace_ns()
            elapsed_s = min((now_ns - last_ns) / NANOSECONDS_PER_SECOND, ELAPSED_S_MAX)
            last_ns = now_ns
            for house in self.houses.values():
                if house.is_trading:
                    house.step(elapsed_s, self._now_ns())
                    await self._sleep(0)  # whoever waits for an answer comes in between

    def _heard(self, event: Event) -> None:
        if isinstance(event, LevelChanged):
            house = self.houses.get(event.symbol)
            if house is not None:
                house.level_changed(event.side, event.price, event.quantity)
        elif isinstance(event, MarketChanged):
            house = self.houses.get(event.market.symbol)
            if house is not None:
                house.market_changed(event.market)
