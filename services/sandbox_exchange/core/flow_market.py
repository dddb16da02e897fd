"""One market's background: a fair price, makers around it, takers that trade with them.

In: wall time that passes, what became of the house's orders. Out: the house's next actions, in small groups; each is
carried out before the next is asked for. Never: a taker outside the moment's range, or in a quiet one.
"""

import math
from collections.abc import Iterator

from services.sandbox_exchange.core.flow import (
    Action,
    Draw,
    FairPath,
    FlowShape,
    Grid,
    Moment,
    Quote,
    Take,
    count,
    tail,
)
from services.sandbox_exchange.core.flow_makers import BASIS_POINT, Makers

LEAN = 0.35  # how much likelier a taker is to trade towards the fair price when the book lies half a spread off
TAKE_TAIL_MAX = 40.0
REACH_BPS = 60.0


class MarketFlow:
    """Decide what the house does in one market."""

    def __init__(self, shape: FlowShape, grid: Grid, path: FairPath, draw: Draw) -> None:
        self.path, self.makers = path, Makers(shape, grid, draw)
        self._shape, self._draw = shape, draw
        self._was_buy = False
        self.volume_id, self._volume_done = 0, 0

    @property
    def turnover_per_s(self) -> float:
        """Return about how much trades in a wall second, in quote units."""
        return self._shape.takes * self._shape.take_notional

    def change_grid(self, grid: Grid, ticks_factor: float) -> None:
        """Go on with another grid; `ticks_factor` is how many new ticks an old one is. Nothing rests afterwards."""
        if ticks_factor != 1.0:
            self.path.rescale(ticks_factor)
        self.makers = Makers(self._shape, grid, self._draw)

    def step(self, elapsed_s: float) -> Iterator[list[Action]]:
        """Let wall time pass and yield groups of actions."""
        if not self.makers.bids.orders or not self.makers.asks.orders:
            yield self.makers.open_book(self.path.ticks)
        for moment in self.path.advance(elapsed_s):
            if moment.volume_id != self.volume_id:
                self.volume_id, self._volume_done = moment.volume_id, 0
            yield self.makers.step(moment.fair_ticks, elapsed_s, at_once=moment.touch_ticks is not None)
            if moment.touch_ticks is not None:
                yield from self._touch(moment, moment.touch_ticks)
            elif not moment.is_quiet:
                yield self._takes(moment, elapsed_s)

    def traded(self, lots: int) -> None:
        """Note what a Take traded."""
        self._volume_done += lots

    def _takes(self, moment: Moment, elapsed_s: float) -> list[Action]:
        makers, draw, taken = self.makers, self._draw, list[Action]()
        for _ in range(count(draw, self._shape.takes * elapsed_s)):
            is_buy = self._side(moment)
            ladder = makers.asks if is_buy else makers.bids
            fair, reach = moment.fair_ticks, REACH_BPS * BASIS_POINT * moment.fair_ticks + 1
            limit = (
                min(int(fair + reach), moment.high_ticks) if is_buy else max(math.ceil(fair - reach), moment.low_ticks)
            )
            within = [one.lots for one in ladder.orders if ladder.sign * (limit - one.ticks) >= 0]
            if not within:
                continue
            lots = self._lots(moment, limit)
            if lots is not None:
                self._was_buy = is_buy
                taken.append(Take(is_buy, max(makers.grid.bounded(0, limit), min(lots, sum(within))), limit))
        return taken

    def _side(self, moment: Moment) -> bool:
        bid, ask = self.makers.bids.best, self.makers.asks.best
        towards = 0.0
        if bid is not None and ask is not None:
            half = max(0.5 * self._shape.spread_bps * BASIS_POINT * moment.fair_ticks, 1.0)
            towards = min(max((moment.fair_ticks - 0.5 * (bid + ask)) / half, -1.0), 1.0)
        # Order flow repeats itself: somebody who buys goes on buying.
        habit = 0.08 if self._was_buy else -0.08
        return self._draw.random() < 0.5 + LEAN * towards + habit

    def _lots(self, moment: Moment, ticks: int) -> int | None:
        grid, draw = self.makers.grid, self._draw
        if moment.volume_lots is None:
            return grid.lots(self._shape.take_notional * tail(draw, self._shape.size_tail, TAKE_TAIL_MAX), ticks)
        due = moment.volume_lots - self._volume_done
        lots = grid.bounded(round(due * (0.4 + 0.6 * draw.random())), ticks)
        return lots if lots <= due else None

    def _touch(self, moment: Moment, ticks: int) -> Iterator[list[Action]]:
        """Print a trade at that price: the low is sold at, the high is bought at, the others either way."""
        is_sold = ticks == moment.low_ticks or (ticks != moment.high_ticks and self._draw.random() < 0.5)
        due = (moment.volume_lots or 0) - self._volume_done
        lots = self.makers.grid.bounded(due, ticks)
        yield [Quote(is_sold, ticks, lots)]
        yield [Take(not is_sold, lots, ticks, clears=True)]
