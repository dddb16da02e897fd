"""The account's stream: opened by a listen key, told as it comes.

In: frames of our orders and executions. Out: reports, one for each frame, at once. Never: a report held back until the
next; an expired key used again; silence about a stream that is down.
"""

import asyncio
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Protocol

from google.protobuf.message import DecodeError

from shared.clock import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND, wall_ns
from shared.errors import RejectedError, UnavailableError
from shared.exchange.live.socket import LiveSocket
from shared.exchange.mexc.frames import ChannelWords, parse
from shared.exchange.mexc.orders import OrderBody, is_order_id, number_of, order_of_frame
from shared.exchange.mexc.rest import MexcRest, NoSuchOrderError
from shared.exchange.mexc.shapes import ListenKey
from shared.exchange.mexc.words import PRIVATE, SIDE_NUMBERS, WS_URL
from shared.exchange.port import StreamState, VenueReport, VenueTrade
from shared.messages import Fill, Liquidity

# A key lives for 60 minutes; after a failure there is time for many more attempts.
KEEP_EVERY_S, KEEP_AGAIN_S = 20 * 60.0, 30.0
# By the wall clock, which goes on while a computer sleeps: after this one it may have ended.
LIFE_S = 50 * 60.0
GOODBYE_S = 2.0
PATH = "userDataStream"


class DealBody(Protocol):
    """Be an execution's frame."""

    price: str
    quantity: str
    tradeType: int  # noqa: N815 - the field's name
    isMaker: bool  # noqa: N815 - the field's name
    tradeId: str  # noqa: N815 - the field's name
    clientOrderId: str  # noqa: N815 - the field's name
    orderId: str  # noqa: N815 - the field's name
    feeAmount: str  # noqa: N815 - the field's name
    feeCurrency: str  # noqa: N815 - the field's name
    time: int


class AccountWire(ChannelWords):
    """Speak on the account's socket. `on_missing_fee` learns of an execution whose fee is to be asked for."""

    def __init__(
        self, tokens: Mapping[str, str], on_report: Callable[[VenueReport], None],
        on_missing_fee: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        super().__init__(PRIVATE)
        self._tokens, self._on_report, self._on_missing_fee = tokens, on_report, on_missing_fee
        self._is_up: bool | None = None
        self.on_good: Callable[[], None] = lambda: None

    def on_frame(self, frame: bytes | str) -> None:
        """Take a frame. ValueError for one that cannot be read: then only a look at everything helps."""
        if isinstance(frame, str):
            self.on_text(frame)
            return
        try:
            wrapper = parse(frame)
        except DecodeError as error:
            raise ValueError(f"a frame of {len(frame)} bytes is no protobuf") from error
        kind, instrument = wrapper.WhichOneof("body"), self._tokens.get(wrapper.symbol)
        if instrument is None:
            return
        if kind == "privateOrders":
            body = wrapper.privateOrders
            order = OrderBody(
                id=body.id, client_id=body.clientId, price=body.price, quantity=body.quantity, amount=body.amount,
                order_type=body.orderType, trade_type=body.tradeType, filled=body.cumulativeQuantity,
                filled_quote=body.cumulativeAmount, status=body.status, created_ms=body.createTime,
            )  # fmt: skip
            self._on_report(order_of_frame(order, instrument, wrapper.sendTime or wrapper.createTime))
        elif kind == "privateDeals":
            self._on_deal(wrapper.privateDeals, instrument)

    def on_refused(self, channel: str, reason: str) -> None:
        """Take the whole stream for refused: an account that is heard in part is not heard."""
        raise ValueError(f"{channel} was refused: {reason}")

    def on_up(self) -> None:
        """Say that the stream is there."""
        self._is_up = True
        self.on_good()
        self._on_report(StreamState(True, ""))

    def on_down(self, reason: str) -> None:
        """Say that the stream is not there, once."""
        if self._is_up is not False:
            self._is_up = False
            self._on_report(StreamState(False, reason))

    def _on_deal(self, body: DealBody, instrument: str) -> None:
        side = SIDE_NUMBERS.get(body.tradeType)
        price, quantity = number_of(body.price), number_of(body.quantity)
        if side is None or not price or not quantity or not body.tradeId or not is_order_id(body.orderId):
            raise ValueError(f"execution {body.tradeId} of order {body.orderId}: {body.quantity} at {body.price}")
        if not body.feeAmount or (number_of(body.feeAmount) and not body.feeCurrency):
            # A fee that was not said is not none: the list of executions has it.
            self._on_missing_fee(instrument, body.orderId)
            return
        fee = number_of(body.feeAmount)
        fill = Fill(
            fill_id=body.tradeId, price=price, quantity=quantity, fee=fee or Decimal(0),
            fee_asset=body.feeCurrency or instrument.rpartition("-")[2],
            liquidity=Liquidity.MAKER if body.isMaker else Liquidity.TAKER,
            ts_event_ns=body.time * NANOSECONDS_PER_MILLISECOND,
        )  # fmt: skip
        trade = VenueTrade(body.time, body.clientOrderId or None, body.orderId, instrument, side, fill)
        self._on_report(trade)


class ListenKeys:
    """Hold the key of the account's stream; a key that led to nothing is given up for a new one."""

    def __init__(self, rest: MexcRest, ws_url: str | None, *, now_ns: Callable[[], int] = wall_ns) -> None:
        self._rest, self._url, self._now_ns = rest, ws_url or WS_URL, now_ns
        self._key: str | None = None
        self._is_good, self._kept_ns = False, 0

    def mark_good(self) -> None:
        """Learn that the stream came up with the key."""
        self._is_good = True

    async def address(self) -> str:
        """Return where to connect. Raises UnavailableError when no key was to be had."""
        age_s = (self._now_ns() - self._kept_ns) / NANOSECONDS_PER_SECOND
        if not self._is_good or self._key is None or not 0.0 <= age_s < LIFE_S:
            await self.give_up()
            self._kept_ns = self._now_ns()
            try:
                self._key = (await self._rest.keep("POST", PATH, ListenKey)).listen_key
            except (RejectedError, NoSuchOrderError) as error:
                raise UnavailableError(f"no listen key: {error}") from error
        # Used again only after it has led to a stream once more.
        self._is_good = False
        return f"{self._url}{'&' if '?' in self._url else '?'}listenKey={self._key}"

    async def keep_alive(self, socket: LiveSocket, *, every_s: float = KEEP_EVERY_S) -> None:
        """Keep the key alive until cancelled; when it has ended, the socket is to get a new one."""
        wait_s = every_s
        while True:
            await asyncio.sleep(wait_s)
            wait_s = every_s
            if self._key is None:
                continue
            asked_ns = self._now_ns()
            try:
                await self._rest.keep("PUT", PATH, ListenKey, {"listenKey": self._key})
                self._kept_ns = asked_ns
            except UnavailableError:
                wait_s = min(every_s, KEEP_AGAIN_S)
            except (RejectedError, NoSuchOrderError) as error:
                self._is_good = False
                socket.fail(f"the listen key has ended: {error}")

    async def give_up(self) -> None:
        """Give the key back, if the venue listens; 60 are all that an account may have."""
        key, self._key, self._is_good = self._key, None, False
        if key is None:
            return
        try:
            async with asyncio.timeout(GOODBYE_S):
                await self._rest.keep("DELETE", PATH, ListenKey, {"listenKey": key})
        except (UnavailableError, RejectedError, NoSuchOrderError, TimeoutError):
            # It ends by itself within the hour.
            return
