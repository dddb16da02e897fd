"""Compile kernels where Numba is installed; without it they run as plain Python.

In: a kernel written for both. Out: the same function as machine code, or None. Never: other bits. The kernels use
only + - * /, comparisons, sqrt and log of single values; Numba without fastmath neither reorders nor fuses these.
"""

import importlib
import importlib.util
from collections.abc import MutableSequence, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

type Columns = Sequence[Sequence[float]] | NDArray[np.float64]
type Rows = Sequence[MutableSequence[float]] | NDArray[np.float64]
type Numbers = Sequence[float] | NDArray[np.float64]
type State = MutableSequence[float] | NDArray[np.float64]


class Kernel(Protocol):
    """Compute `out[k][i]` for the inputs `columns[c][start + i]`, reading nothing after them.

    `columns` begin with as many earlier inputs as the indicator's lookback has (fewer at the beginning); `state` is
    all zero before the first input and is left as the next call needs it. Every input is within the domain.
    """

    def __hash__(self) -> int:
        """Return the hash of a function: its identity."""
        ...

    def __call__(self, columns: Columns, start: int, parameters: Numbers, state: State, out: Rows, /) -> None:
        """Run over the inputs from `start` on."""
        ...


_COMPILED: dict[Kernel, Kernel | None] = {}


def is_compiled(kernel: Kernel) -> bool:
    """Tell whether `compiled` has been asked for this kernel in this process."""
    return kernel in _COMPILED


def compiled(kernel: Kernel) -> Kernel | None:
    """Return the kernel as machine code, or None where Numba is not installed."""
    if kernel not in _COMPILED:
        _COMPILED[kernel] = _compile(kernel)
    return _COMPILED[kernel]


def _compile(kernel: Kernel) -> Kernel | None:
    if importlib.util.find_spec("numba") is None:
        return None
    numba = importlib.import_module("numba")
    result: Kernel
    try:
        result = numba.njit(cache=True)(kernel)
    except RuntimeError:
        # Nowhere to keep the machine code, as in a read-only container: compile in each process.
        result = numba.njit(kernel)
    return result
