"""A recording on its way to one or many clients.

In: a recording, a callable that sends a frame, the speed. Out: every frame once, in order, and the REST snapshot that
belongs to the place where the stream stands. Never: a snapshot before its place, or one that lacks a frame sent.
"""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal

import msgspec

from services.sandbox_exchange.markets.recorded import FrameKind, RecordedFrame, RecordedMarket
from shared.clock import NANOSECONDS_PER_SECOND, monotonic_ns

Send = Callable[[RecordedFrame], Awaitable[None] | None]

FRAMES_PER_BREATH = 32
LATE_NS_MAX = 250_000_000
Level = tuple[str, str]


class _Snapshot(msgspec.Struct, rename="camel"):
    last_update_id: int
    bids: list[Level]
    asks: list[Level]


class _Diff(msgspec.Struct):
    last: int = msgspec.field(name="u")
    bids: list[Level] = msgspec.field(name="b")
    asks: list[Level] = msgspec.field(name="a")


class Playback:
    """Play one recording once. `position` is the number of frames sent; `done` is set after the last."""

    def __init__(
        self,
        recorded: RecordedMarket,
        *,
        hold_s: float = 5.0,
        now_ns: Callable[[], int] = monotonic_ns,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.recorded = recorded
        self.position = 0
        self.done = asyncio.Event()
        self._hold_s = hold_s
        self._now_ns, self._sleep = now_ns, sleep
        self._at_snapshot, self._was_asked = asyncio.Event(), asyncio.Event()
        self._book: dict[str, dict[str, str]] | None = None
        self._applied, self._last = 0, 0

    async def run(self, send: Send, speed: float | None) -> None:
        """Send every frame, at `speed` recorded seconds a second, or as fast as `send` takes them (None).

        At the snapshot's place it waits up to `hold_s` seconds for somebody to ask, so that a first client's snapshot
        is the recorded one. A stall of more than a quarter of a second is not caught up: the rest comes later.
        """
        frames, start_ns = self.recorded.frames, self._now_ns()
        for index, frame in enumerate(frames):
            if index == self.recorded.snapshot_index:
                start_ns += await self._hold()
            if speed is not None:
                due_ns = start_ns + int(frame.offset_ns / speed)
                late_ns = self._now_ns() - due_ns
                if late_ns > LATE_NS_MAX:
                    start_ns += late_ns
                elif late_ns < 0:
                    await self._sleep(-late_ns / NANOSECONDS_PER_SECOND)
            elif index % FRAMES_PER_BREATH == 0:
                await self._sleep(0)
            sent = send(frame)
            self.position = index + 1
            if sent is not None:
                await sent
        self._at_snapshot.set()
        self.done.set()

    async def snapshot(self, timeout_s: float = 10.0) -> bytes:
        """Return the body of a REST depth answer; raises TimeoutError when its place does not come in time.

        At its place that is the recorded body, byte for byte. Later it is the recorded book with every diff sent so
        far, so that a client that comes late, or comes back, can go on from there.
        """
        is_early = not self._at_snapshot.is_set()
        self._was_asked.set()
        async with asyncio.timeout(timeout_s):
            await self._at_snapshot.wait()
        if is_early or self.position == self.recorded.snapshot_index:
            return self.recorded.snapshot_bytes
        # Frames from before the snapshot may be newer than it is: the recorder's answer was on its way meanwhile.
        diffs = [f for f in self.recorded.frames[self._applied : self.position] if f.kind is FrameKind.DEPTH]
        return self._rebuilt(diffs)

    async def _hold(self) -> int:
        began_ns = self._now_ns()
        self._at_snapshot.set()
        if self._hold_s > 0:
            try:
                async with asyncio.timeout(self._hold_s):
                    await self._was_asked.wait()
            except TimeoutError:
                pass
        await self._sleep(0)  # lets whoever asked have the answer before the next frame goes out
        return self._now_ns() - began_ns

    def _rebuilt(self, diffs: list[RecordedFrame]) -> bytes:
        if self._book is None:
            first = msgspec.json.decode(self.recorded.snapshot_bytes, type=_Snapshot)
            self._book, self._last = {"b": dict(first.bids), "a": dict(first.asks)}, first.last_update_id
        for frame in diffs:
            diff = msgspec.json.decode(frame.data, type=_Diff)
            if diff.last <= self._last:
                continue
            for side, levels in (("b", diff.bids), ("a", diff.asks)):
                for price, quantity in levels:
                    if Decimal(quantity) == 0:
                        self._book[side].pop(price, None)
                    else:
                        self._book[side][price] = quantity
            self._last = diff.last
        self._applied = self.position
        bids = sorted(self._book["b"].items(), key=lambda level: Decimal(level[0]), reverse=True)
        asks = sorted(self._book["a"].items(), key=lambda level: Decimal(level[0]))
        return msgspec.json.encode(_Snapshot(self._last, bids, asks))


async def play(recorded: RecordedMarket, send: Send, speed: float | None) -> None:
    """Send every frame of a recording once, without waiting for a snapshot to be asked for."""
    await Playback(recorded, hold_s=0).run(send, speed)
