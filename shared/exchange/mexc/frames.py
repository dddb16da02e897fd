"""MEXC's words on a public socket: subscriptions, acknowledgements, pings, protobuf.

In: frames. Out: calls of the markets' feeds. Never: a refused subscription taken for a quiet market; a frame through
an intermediate dictionary, where default values disappear and numbers become texts.

Each channel is asked for in a message of its own, so that each answer names one channel.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import msgspec
from ccxt.protobuf.mexc import PushDataV3ApiWrapper_pb2
from google.protobuf.message import DecodeError

from shared.clock import wall_ns
from shared.exchange.mexc.feed import MarketFeed
from shared.exchange.mexc.words import PING

parse = PushDataV3ApiWrapper_pb2.PushDataV3ApiWrapper.FromString
_CHANNEL = re.compile(r"spot@[^\s\],]+")
_REFUSED = "Not Subscribed"


class _Reply(msgspec.Struct, frozen=True):
    msg: str = ""
    code: int = 0


class ChannelWords:
    """Ask for channels on one socket and keep count of what was acknowledged or refused."""

    def __init__(self, channels: Sequence[str]) -> None:
        self.channels = tuple(channels)
        self._open = dict.fromkeys(channels)
        self.refused: dict[str, str] = {}
        self.on_pong: Callable[[], None] = lambda: None

    @property
    def is_settled(self) -> bool:
        """Tell whether every channel was answered for: acknowledged, or refused and to be asked for again."""
        return self._open.keys() <= self.refused.keys()

    def greet(self) -> Sequence[str]:
        """Forget the last connection and return a subscription for each channel."""
        self._open = dict.fromkeys(self.channels)
        self.refused = {}
        return [self.subscription(channel) for channel in self.channels]

    def subscription(self, channel: str) -> str:
        """Return the message that asks for a channel."""
        return msgspec.json.encode({"method": "SUBSCRIPTION", "params": [channel]}).decode()

    def ping(self) -> str | None:
        """Return the application's ping."""
        return PING

    def on_text(self, text: str) -> None:
        """Take a reply. ValueError means that it is none: MEXC refuses a listen key in plain text, for example."""
        try:
            reply = msgspec.json.decode(text, type=_Reply, strict=False)
        except msgspec.MsgspecError:
            raise ValueError(" ".join(text.split())[:200]) from None
        if reply.msg.upper() == "PONG":
            self.on_pong()
            return
        named = [channel for channel in _CHANNEL.findall(reply.msg) if channel in self.channels]
        is_refused = reply.msg.startswith(_REFUSED) or reply.code != 0
        if is_refused and not named:
            raise ValueError(f"a request was refused: {reply.code} {reply.msg}"[:200])
        for channel in named:
            if is_refused:
                self.refused[channel] = reply.msg
                self.on_refused(channel, reply.msg)
            else:
                self._open.pop(channel, None)
                if self.refused.pop(channel, None) is not None:
                    self.on_accepted(channel)

    def on_refused(self, channel: str, reason: str) -> None:
        """Learn that a channel was refused."""

    def on_accepted(self, channel: str) -> None:
        """Learn that a channel was acknowledged that had been refused."""


class PublicWire(ChannelWords):
    """Speak on one socket for the markets in `feeds` (by market id). `on_refused` learns of a refused channel."""

    def __init__(
        self, channels: Sequence[str], feeds: Mapping[str, MarketFeed], *,
        on_state: Callable[["PublicWire", bool, str], None], on_no: Callable[["PublicWire", str, str], None],
        now_ns: Callable[[], int] = wall_ns, offset_ns: Callable[[], int] = lambda: 0,
    ) -> None:  # fmt: skip
        super().__init__(channels)
        self.feeds, self._on_state, self._on_no, self._now_ns = feeds, on_state, on_no, now_ns
        self._offset_ns = offset_ns
        self._is_up = False
        self.unread = 0

    def on_frame(self, frame: bytes | str) -> None:
        """Take a frame. Raises ValueError for one that is no protobuf of MEXC's."""
        if isinstance(frame, str):
            self.on_text(frame)
            return
        try:
            wrapper = parse(frame)
        except DecodeError as error:
            raise ValueError(f"a frame of {len(frame)} bytes is no protobuf") from error
        feed = self.feeds.get(wrapper.symbol)
        kind = wrapper.WhichOneof("body")
        if feed is None or kind is None:
            # A market that nobody asked for, or a kind of message that is newer than this program.
            self.unread += 1
            return
        recv_ns = self._now_ns()
        feed.heard_ns = recv_ns
        event_ms = wrapper.sendTime or wrapper.createTime
        if kind == "publicAggreDepths":
            feed.on_depth(wrapper.publicAggreDepths, event_ms, recv_ns)
        elif kind == "publicAggreDeals":
            feed.on_deals(wrapper.publicAggreDeals, frame, event_ms, recv_ns)
        elif kind == "publicAggreBookTicker":
            feed.on_ticker(wrapper.publicAggreBookTicker, event_ms, recv_ns)
        else:
            self.unread += 1

    def on_refused(self, channel: str, reason: str) -> None:
        """Take the market's data for lost until the channel is accepted."""
        feed = self.feeds[channel.rpartition("@")[2]]
        if self._is_up:
            feed.on_stream(False, reason)
        self._on_no(self, channel, reason)

    def on_accepted(self, channel: str) -> None:
        """Begin with a market whose last missing channel this was."""
        market_id = channel.rpartition("@")[2]
        if self._is_up and not self._lacks(market_id):
            self._begin(self.feeds[market_id])

    def on_up(self) -> None:
        """Begin with the markets that nothing was refused for."""
        self._is_up = True
        for market_id, feed in self.feeds.items():
            if self._lacks(market_id):
                feed.on_stream(False, "a subscription was refused")
            else:
                self._begin(feed)
        self._on_state(self, True, "")

    def on_down(self, reason: str) -> None:
        """Tell the markets that their data does not come."""
        self._is_up = False
        for feed in self.feeds.values():
            feed.on_stream(False, reason)
        self._on_state(self, False, reason)

    def _begin(self, feed: MarketFeed) -> None:
        feed.heard_ns = now_ns = self._now_ns()
        feed.on_stream(True, "", now_ns + self._offset_ns())

    def _lacks(self, market_id: str) -> bool:
        return any(channel.rpartition("@")[2] == market_id for channel in self.refused)
