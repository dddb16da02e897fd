"""Which side of the order book weighs more."""

import math
from collections.abc import Sequence

from shared.domain.indicators.compiled import Columns, Numbers, Rows, State
from shared.domain.indicators.indicator import LARGEST, Indicator


def imbalance() -> Indicator:
    """Make the order book's imbalance, (bid - ask) / (bid + ask) of the sizes given: 1 all bids, -1 all asks.

    No value where both sides are empty; a negative size is a gap.
    """
    return Indicator(
        name="imbalance",
        inputs=("bid_quantity", "ask_quantity"),
        outputs=("imbalance",),
        parameters=(),
        warm_ups=(0,),
        kernel=imbalance_kernel,
        lowest=0.0,
    )


def book_imbalance(
    bids: Sequence[tuple[float, float]], asks: Sequence[tuple[float, float]], levels: int
) -> float | None:
    """Return the imbalance of the best `levels` of a book, each `(price, quantity)`, best first; None when empty.

    The same number as `imbalance` gives for the two sums. Raises ValueError when `levels` is below 1.
    """
    if levels < 1:
        raise ValueError(f"levels must be at least 1, got {levels}")
    sums = []
    for side in (bids, asks):
        total = 0.0
        for _, quantity in side[:levels]:
            if not 0.0 <= quantity <= LARGEST:
                return None
            total += quantity
        sums.append(total)
    return imbalance().stream().update(*sums)


def imbalance_kernel(columns: Columns, start: int, _parameters: Numbers, _state: State, out: Rows) -> None:
    """Compute `imbalance`."""
    bids, asks, line = columns[0], columns[1], out[0]
    for j in range(start, len(bids)):
        total = bids[j] + asks[j]
        line[j - start] = (bids[j] - asks[j]) / total if total > 0.0 else math.nan
