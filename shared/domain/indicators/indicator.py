"""What an indicator is: a kernel, its parameters, its warm-up; run over arrays or value by value.

In: one or more columns of floats. Out: one or more columns, as long as the input. Gaps are taken out before a kernel
sees anything and put back after it, so the policy is in one place and the same for batch and stream.
"""

import math
from collections.abc import MutableSequence, Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.domain.indicators.compiled import Kernel, compiled, is_compiled

type Array = NDArray[np.float64]

# Squares of what lies within these bounds are finite and not zero.
LARGEST = 1e150
SMALLEST_POSITIVE = 1e-150
# Years of minutes. A stream remembers so many values: beyond that, a slip of the hand would take the machine's memory.
PERIOD_MAX = 10_000_000
# From here on compiling pays, or reading what was compiled before; the values are the same either way.
BARS_TO_COMPILE = 20_000


class StreamState(msgspec.Struct, frozen=True):
    """Hold all that a stream remembers; floats survive msgpack and JSON exactly."""

    name: str
    parameters: tuple[float, ...]
    history: tuple[tuple[float, ...], ...]
    state: tuple[float, ...]


class Indicator(msgspec.Struct, frozen=True):
    """Describe an indicator; made by the functions of this package, for example `rsi(14)`.

    `warm_ups` say for each output how many valid bars come before its first value. `lookback` inputs before the newest
    are given to the kernel again; what else it remembers is in `state_size` floats. Inputs below `lowest` are gaps.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: tuple[float, ...]
    warm_ups: tuple[int, ...]
    kernel: Kernel
    lookback: int = 0
    state_size: int = 0
    lowest: float = -LARGEST

    @property
    def warm_up(self) -> int:
        """Return how many valid bars come before every output has a value."""
        return max(self.warm_ups)

    def batch(self, *columns: ArrayLike) -> Array:
        """Return the first output for columns of shape (bars,): float64 of shape (bars,), NaN where there is none."""
        return self.batch_all(*columns)[0]

    def batch_all(self, *columns: ArrayLike) -> tuple[Array, ...]:
        """Return every output, in the order of `outputs`; raises ValueError for columns of the wrong shape."""
        arrays = [np.ascontiguousarray(column, dtype=np.float64) for column in columns]
        self._check(len(arrays))
        if any(array.ndim != 1 or array.shape != arrays[0].shape for array in arrays):
            raise ValueError(f"{self.name} takes columns of one length, got {[array.shape for array in arrays]}")
        stacked = np.stack(arrays)
        valid = np.all((stacked >= self.lowest) & (stacked <= LARGEST), axis=0)
        if bool(valid.all()):
            return tuple(self._run(stacked))
        filled = np.full((len(self.outputs), arrays[0].size), math.nan)
        filled[:, valid] = self._run(np.ascontiguousarray(stacked[:, valid]))
        return tuple(filled)

    def stream(self, state: StreamState | None = None) -> "Stream":
        """Return a stream, new or as `state` left it; raises ValueError when the state is another indicator's."""
        return Stream(self, state)

    def compile(self) -> bool:
        """Compile now, for many short batches to come; returns whether Numba is installed. Values stay the same."""
        return compiled(self.kernel) is not None

    def _run(self, columns: Array) -> Array:
        bars = columns.shape[1]
        kernel = compiled(self.kernel) if bars >= BARS_TO_COMPILE or is_compiled(self.kernel) else None
        if kernel is not None:
            out = np.full((len(self.outputs), bars), math.nan)
            kernel(columns, 0, np.array(self.parameters), np.zeros(self.state_size), out)
            return out
        rows = [[math.nan] * bars for _ in self.outputs]
        self.kernel(columns.tolist(), 0, self.parameters, [0.0] * self.state_size, rows)
        return np.array(rows)

    def _check(self, count: int) -> None:
        if count != len(self.inputs):
            raise ValueError(f"{self.name} takes {', '.join(self.inputs)}: {len(self.inputs)} columns, got {count}")


class Stream:
    """Compute an indicator value by value."""

    def __init__(self, indicator: Indicator, state: StreamState | None = None) -> None:
        self._indicator = indicator
        # Without a look back a column is one place that each value takes in turn.
        self._history: list[list[float]] = [[] if indicator.lookback else [math.nan] for _ in indicator.inputs]
        self._state: MutableSequence[float] = [0.0] * indicator.state_size
        self._row: list[list[float]] = [[math.nan] for _ in indicator.outputs]
        self._kernel, self._parameters = indicator.kernel, indicator.parameters
        self._keep, self._lowest = indicator.lookback + 1, indicator.lowest
        if state is not None:
            self._restore(state)

    def update(self, *values: float) -> float | None:
        """Take the next bar's inputs and return the first output, or None: still warming up, or a gap."""
        if not self._advance(values):
            return None
        value = self._row[0][0]
        return None if value != value else value  # noqa: PLR0124 - only NaN differs from itself, and this is the hot path

    def update_all(self, *values: float) -> tuple[float | None, ...]:
        """Take the next bar's inputs and return every output, each a value or None."""
        if not self._advance(values):
            return (None,) * len(self._row)
        return tuple(None if math.isnan(row[0]) else row[0] for row in self._row)

    def state(self) -> StreamState:
        """Return all that the stream remembers."""
        history = tuple(tuple(column[-self._indicator.lookback :]) for column in self._history)
        if not self._indicator.lookback:
            history = ((),) * len(self._history)
        return StreamState(self._indicator.name, self._indicator.parameters, history, tuple(self._state))

    def _advance(self, values: Sequence[float]) -> bool:
        history, keep = self._history, self._keep
        if len(values) != len(history):
            self._indicator._check(len(values))
        lowest = self._lowest
        for value in values:
            # A comparison with NaN is false, so NaN is a gap here too.
            if not lowest <= value <= LARGEST:
                return False
        if keep == 1:
            for at, value in enumerate(values):
                history[at][0] = value
            self._kernel(history, 0, self._parameters, self._state, self._row)
            return True
        for at, value in enumerate(values):
            column = history[at]
            column.append(value)
            if len(column) > keep:
                del column[0]
        self._kernel(history, len(history[0]) - 1, self._parameters, self._state, self._row)
        return True

    def _restore(self, state: StreamState) -> None:
        own = self._indicator
        if (state.name, state.parameters) != (own.name, own.parameters):
            raise ValueError(f"the state is that of {state.name}{state.parameters}, not of {own.name}{own.parameters}")
        if len(state.history) != len(own.inputs) or len(state.state) != own.state_size:
            raise ValueError(f"the state of {own.name} has another shape: it was written by another version")
        if own.lookback:
            self._history = [list(column) for column in state.history]
        self._state = list(state.state)


def whole(name: str, value: int, least: int = 1) -> float:
    """Return a period as the float that kernels take; raises ValueError unless it is whole, from `least` on."""
    if not least <= value <= PERIOD_MAX or value != int(value):
        raise ValueError(f"{name} must be a whole number of at least {least}, at most {PERIOD_MAX}, got {value}")
    return float(value)
