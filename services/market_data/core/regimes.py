"""The regimes that a synthetic market goes through, day by day.

In: a key and a mean length in days. Out: the regime of any day. Never: one that depends on which day was asked first.
"""

import bisect

import msgspec
import numpy as np


class Regime(msgspec.Struct, frozen=True):
    """Describe a stretch of days, in multiples of the normal day's volatility.

    `drift` is the expected daily log return, `jumps` multiplies the jump rate, `jump_size` is the mean log jump,
    `jump_up` the share of jumps that go up.
    """

    name: str
    drift: float
    volatility: float
    jumps: float
    jump_size: float
    jump_up: float


CALM = Regime("calm", drift=0.0, volatility=0.6, jumps=0.5, jump_size=0.03, jump_up=0.5)
RISE = Regime("rise", drift=0.5, volatility=1.0, jumps=1.0, jump_size=0.05, jump_up=0.6)
FALL = Regime("fall", drift=-0.5, volatility=1.0, jumps=1.0, jump_size=0.05, jump_up=0.4)
MANIA = Regime("mania", drift=2.5, volatility=2.5, jumps=6.0, jump_size=0.18, jump_up=0.75)
CRASH = Regime("crash", drift=-2.5, volatility=2.5, jumps=5.0, jump_size=0.12, jump_up=0.2)

REGIMES = (CALM, RISE, FALL, MANIA, CRASH)
# Mania and crash are rare and short; a mania is often followed by a crash (see `_next`).
WEIGHTS = (0.45, 0.2, 0.2, 0.08, 0.07)
LENGTHS = (1.5, 1.0, 1.0, 0.4, 0.3)


class RegimePath:
    """Give the regime of each day; stretches follow each other with random, geometric lengths."""

    def __init__(self, key: int, mean_days: float) -> None:
        self._draw = np.random.Generator(np.random.Philox(key=key))
        self._mean_days = mean_days
        self._ends: list[int] = []
        self._regimes: list[Regime] = []

    def at(self, day: int) -> Regime:
        """Return the regime of day number `day`, counted from 0."""
        # Stretches are always drawn from the first one on, so the order of questions does not matter.
        while not self._ends or self._ends[-1] <= day:
            self._extend()
        return self._regimes[bisect.bisect_right(self._ends, day)]

    def _extend(self) -> None:
        chosen = self._next()
        length = max(1.0, self._mean_days * LENGTHS[chosen])
        days = int(self._draw.geometric(1.0 / length))
        self._ends.append((self._ends[-1] if self._ends else 0) + days)
        self._regimes.append(REGIMES[chosen])

    def _next(self) -> int:
        weights = np.array(WEIGHTS)
        if self._regimes and self._regimes[-1] is MANIA:
            weights[REGIMES.index(CRASH)] = 0.5
            weights[REGIMES.index(MANIA)] = 0.0
        return int(self._draw.choice(len(REGIMES), p=weights / weights.sum()))
