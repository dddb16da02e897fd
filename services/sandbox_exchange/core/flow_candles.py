"""Candles of history as a path of the fair price: open, one extreme, the other, close.

In: candles in ticks and lots, oldest first; wall time. Out: moments inside each candle's range, with a trade demanded
at each of its four prices. Never: a price outside the range, a trade in a candle without volume or where none is.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec

from services.sandbox_exchange.core.flow import Draw, Moment

MOMENTS_MAX = 16
NOISE = 0.5
CORNERS = 4


class TickCandle(msgspec.Struct, frozen=True):
    """Hold a candle in ticks and lots; `open_s` is its open time in seconds."""

    open_s: float
    open: int
    high: int
    low: int
    close: int
    volume: int

    def __post_init__(self) -> None:
        if not 1 <= self.low <= min(self.open, self.close) <= max(self.open, self.close) <= self.high:
            raise ValueError(f"candle at {self.open_s}: prices are out of order: {msgspec.structs.astuple(self)}")
        if self.volume < 0:
            raise ValueError(f"candle at {self.open_s}: volume is negative")

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """Return the four prices in the order in which they are visited: against the close first."""
        first, second = (self.low, self.high) if self.close >= self.open else (self.high, self.low)
        return self.open, first, second, self.close

    def rescaled(self, factor: float) -> "TickCandle":
        """Return the candle with prices multiplied, on the grid."""
        first, high, low, close = (
            max(1, round(price * factor)) for price in (self.open, self.high, self.low, self.close)
        )
        return TickCandle(self.open_s, first, high, low, close, self.volume)


class CandleState(msgspec.Struct):
    """Hold where a path stands: before corner `corner` of candle `index`, `at_s` seconds after its open."""

    index: int
    corner: int
    at_s: float
    ticks: float


class CandlePath:
    """Walk along candles, `speed` market seconds a wall second. Where candles are missing the market keeps quiet."""

    def __init__(
        self,
        candles: Sequence[TickCandle],
        interval_s: float,
        draw: Draw,
        *,
        speed: float,
        start_s: float | None = None,
    ) -> None:
        if not candles:
            raise ValueError("candles must not be empty")
        if any(after.open_s - before.open_s < interval_s for before, after in pairwise(candles)):
            raise ValueError(f"candles must be in order and at least {interval_s} s apart")
        self._candles, self._interval_s, self._draw, self._speed = candles, interval_s, draw, speed
        start_s = candles[0].open_s if start_s is None else start_s
        index = next((at for at, one in enumerate(candles) if one.open_s >= start_s), len(candles))
        first = candles[min(index, len(candles) - 1)]
        self.state = CandleState(index, 0, start_s - first.open_s, float(first.open))

    @property
    def ticks(self) -> float:
        """Return the fair price now, in ticks."""
        return self.state.ticks

    @property
    def volatility_per_s(self) -> float:
        """Return the standard deviation of the log price over one wall second, from open to close."""
        squares = sum(math.log(one.close / one.open) ** 2 for one in self._candles) / len(self._candles)
        return math.sqrt(squares * self._speed / self._interval_s)

    @property
    def is_over(self) -> bool:
        """Tell whether the last candle has closed; the market keeps its last price then, and nobody trades."""
        return self.state.index >= len(self._candles)

    def advance(self, wall_s: float) -> Iterator[Moment]:
        """Let time pass; yields a moment at each corner and one at the end.

        At most sixteen a call: a speed that wants more is slowed down to them.
        """
        left_s, state = wall_s * self._speed, self.state
        for _ in range(MOMENTS_MAX):
            if self.is_over or left_s < -state.at_s:
                state.at_s += left_s
                yield Moment(state.ticks, is_quiet=True)
                return
            if state.at_s < 0:
                left_s, state.at_s = left_s + state.at_s, 0.0
            candle = self._candles[state.index]
            due_s = self._due_s(candle, state.corner)
            passed_s = min(left_s, due_s - state.at_s)
            left_s -= passed_s
            if passed_s < due_s - state.at_s:
                self._walk(candle, passed_s, due_s - state.at_s)
                state.at_s += passed_s
                yield self._moment(candle, None)
                return
            state.at_s, state.ticks = due_s, float(candle.corners[state.corner])
            moment = self._moment(candle, candle.corners[state.corner])
            self._turn(candle)
            yield moment
            if left_s <= 0:
                return

    def rescale(self, factor: float) -> None:
        """Multiply the price in ticks, as another tick size does."""
        self._candles = [one.rescaled(factor) for one in self._candles]
        self.state.ticks *= factor

    def dump(self) -> bytes:
        """Return the state as bytes."""
        return msgspec.msgpack.encode(self.state)

    def restore(self, state: bytes) -> None:
        """Become what `dump` returned; raises msgspec.DecodeError for anything else."""
        found = msgspec.msgpack.decode(state, type=CandleState)
        if not (0 <= found.index <= len(self._candles) and 0 <= found.corner < CORNERS):
            raise msgspec.DecodeError("the state belongs to other candles")
        self.state = found

    def _due_s(self, candle: TickCandle, corner: int) -> float:
        prices = candle.corners
        # A way of no length still takes its time.
        least = 0.05 * max(candle.high - candle.low, 1)
        ways = [abs(after - before) + least for before, after in pairwise(prices)]
        return self._interval_s * sum(ways[:corner]) / sum(ways)

    def _walk(self, candle: TickCandle, passed_s: float, leg_left_s: float) -> None:
        state = self.state
        target = candle.corners[state.corner]
        share = passed_s / leg_left_s
        # A Brownian bridge: it wanders, and it arrives.
        wide = NOISE * (candle.high - candle.low) * math.sqrt(passed_s * (1.0 - share) / self._interval_s)
        ticks = state.ticks + (target - state.ticks) * share + wide * self._draw.standard_normal()
        state.ticks = min(max(ticks, float(candle.low)), float(candle.high))

    def _moment(self, candle: TickCandle, touch: int | None) -> Moment:
        state, has_volume = self.state, candle.volume > 0
        return Moment(
            state.ticks,
            candle.low,
            candle.high,
            is_quiet=not has_volume,
            touch_ticks=touch if has_volume else None,
            volume_id=state.index + 1,
            volume_lots=int(candle.volume * min(state.at_s / self._interval_s, 1.0)),
        )

    def _turn(self, candle: TickCandle) -> None:
        state = self.state
        state.corner += 1
        if state.corner == CORNERS:
            state.corner, state.index = 0, state.index + 1
            state.at_s = self._interval_s
            if not self.is_over:
                state.at_s -= self._candles[state.index].open_s - candle.open_s
