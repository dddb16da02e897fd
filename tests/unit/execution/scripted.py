"""A venue that misbehaves on request, over a real paper venue whose books are the truth."""

from collections import deque
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum, auto

from shared.errors import RejectedError, UnavailableError, UnknownOutcomeError
from shared.exchange.paper import PaperVenue
from shared.exchange.port import OrderRequest, VenueOrder, VenueTrade
from shared.messages import Balance, Bar, BarsClosed, Bbo, BookSnapshot, Instrument


class Act(Enum):
    """Name what happens to one call."""

    PASS = auto()
    REFUSE = auto()
    UNAVAILABLE = auto()
    LOSE_REQUEST = auto()
    LOSE_ANSWER = auto()
    GARBAGE_ANSWER = auto()
    TIMEOUT_AFTER = auto()


class ScriptedVenue:
    """Follow `submits` and `cancels`, one act a call; hide orders for `hidden_queries` questions; skew balances."""

    def __init__(self, real: PaperVenue) -> None:
        self.real = real
        self.submits: deque[Act] = deque()
        self.cancels: deque[Act] = deque()
        self.hidden_queries = 0
        self.failing_queries = 0
        self.extra_balance: dict[str, Decimal] = {}
        self.sent: list[OrderRequest] = []
        self.cancelled: list[str] = []
        self.queries = 0

    @property
    def venue(self) -> str:
        """Return the venue's name."""
        return self.real.venue

    def close(self) -> None:
        """Close the real venue."""
        self.real.close()

    async def submit(self, request: OrderRequest) -> VenueOrder:
        """Submit, or not, and tell the truth, or not."""
        self.sent.append(request)
        act = self.submits.popleft() if self.submits else Act.PASS
        _before(act)
        return _after(act, await self.real.submit(request))

    async def cancel(self, client_order_id: str, instrument: str) -> VenueOrder | None:
        """Cancel, or not."""
        self.cancelled.append(client_order_id)
        act = self.cancels.popleft() if self.cancels else Act.PASS
        _before(act)
        return _after(act, await self.real.cancel(client_order_id, instrument))

    async def query(self, client_order_id: str, instrument: str) -> VenueOrder | None:
        """Answer, fail or say "no such order"."""
        self.queries += 1
        if self.failing_queries:
            self.failing_queries -= 1
            raise UnavailableError("scripted: 503")
        if self.hidden_queries:
            self.hidden_queries -= 1
            return None
        return await self.real.query(client_order_id, instrument)

    async def open_orders(self, instrument: str | None = None) -> tuple[VenueOrder, ...]:
        """Answer, unless orders are hidden."""
        return () if self.hidden_queries else await self.real.open_orders(instrument)

    async def trades_since(
        self, sequence: int, *, limit: int = 1000, instrument: str | None = None
    ) -> tuple[VenueTrade, ...]:
        """Answer, unless orders are hidden; a small page, so that paging is exercised."""
        if self.hidden_queries:
            return ()
        return await self.real.trades_since(sequence, limit=limit, instrument=instrument)

    async def balances(self) -> tuple[Balance, ...]:
        """Answer, with what the script adds."""
        real = {balance.asset: balance for balance in await self.real.balances()}
        for asset, amount in self.extra_balance.items():
            known = real.get(asset, Balance(asset, Decimal(0), Decimal(0)))
            real[asset] = Balance(asset, known.free + amount, known.locked)
        return tuple(real.values())

    async def define_instrument(self, instrument: Instrument) -> None:
        """Define."""
        await self.real.define_instrument(instrument)

    async def deposit(self, deposit_id: str, amounts: Mapping[str, Decimal]) -> bool:
        """Deposit."""
        return await self.real.deposit(deposit_id, amounts)

    async def on_bar(self, bar: Bar) -> tuple[VenueTrade, ...]:
        """Take a bar."""
        return await self.real.on_bar(bar)

    async def on_bbo(self, bbo: Bbo) -> tuple[VenueTrade, ...]:
        """Take a best bid and ask."""
        return await self.real.on_bbo(bbo)

    async def on_book(self, book: BookSnapshot) -> tuple[VenueTrade, ...]:
        """Take a book."""
        return await self.real.on_book(book)

    async def on_bars_closed(self, closed: BarsClosed) -> None:
        """Take a step's end."""
        await self.real.on_bars_closed(closed)

    def market_time_ns(self, instrument: str) -> int:
        """Return the market's time."""
        return self.real.market_time_ns(instrument)


def _before(act: Act) -> None:
    if act is Act.REFUSE:
        raise RejectedError("balance", "scripted")
    if act is Act.UNAVAILABLE:
        raise UnavailableError("scripted: connection refused")
    if act is Act.LOSE_REQUEST:
        raise UnknownOutcomeError("scripted: reset while sending")


def _after[A](act: Act, answer: A) -> A:
    if act is Act.LOSE_ANSWER:
        raise UnknownOutcomeError("scripted: 502 after the request")
    if act is Act.GARBAGE_ANSWER:
        raise ValueError("scripted: <html>Bad gateway</html> is no JSON")
    if act is Act.TIMEOUT_AFTER:
        raise TimeoutError
    return answer
