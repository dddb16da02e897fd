"""Background makers: they keep a plausible book around the fair price, and follow it at a bounded speed.

In: the fair price in ticks, the time that passed, what became of the makers' orders. Out: orders and cancels.
Never: a maker that crosses another, or that is left behind on the wrong side of the price for long.

A side is a ladder of orders, best first. When the price moves away the ladder grows towards it; when it comes near, the
touched orders are pulled. What somebody ate is put back at `requotes` a second, so that an impact decays.
"""

import math

import msgspec

from services.sandbox_exchange.core.flow import Action, Draw, FlowShape, Grid, Pull, Quote, count, tail

BASIS_POINT = 1e-4
WIDER_PER_ORDER = 0.06
PULL_CHANCE = 0.7  # of a maker that sees the price at its order, each step: the others are picked off
JOIN_CHANCE = 0.3
SIZE_TAIL_MAX = 25.0


class Resting(msgspec.Struct, frozen=True):
    """Note an order of the house that rests."""

    order_id: int
    ticks: int
    lots: int


class Ladder:
    """Hold the makers' orders of one side, best first."""

    def __init__(self, *, is_buy: bool) -> None:
        self.is_buy = is_buy
        self.sign = -1 if is_buy else 1
        self.orders: list[Resting] = []

    @property
    def best(self) -> int | None:
        """Return the best price in ticks, or None."""
        return self.orders[0].ticks if self.orders else None

    def add(self, order: Resting) -> None:
        """Note an order; at a price it is behind those that were there."""
        key, at = self.sign * order.ticks, len(self.orders)
        while at and self.sign * self.orders[at - 1].ticks > key:
            at -= 1
        self.orders.insert(at, order)

    def drop(self, order_id: int) -> None:
        """Forget an order; an unknown one changes nothing."""
        self.orders = [order for order in self.orders if order.order_id != order_id]


class Makers:
    """Decide what the makers of one market do. The caller tells what came to rest and what is gone."""

    def __init__(self, shape: FlowShape, grid: Grid, draw: Draw) -> None:
        self.bids, self.asks = Ladder(is_buy=True), Ladder(is_buy=False)
        self.grid, self._shape, self._draw = grid, shape, draw
        self._credit = 0.0

    def rested(self, order_id: int, *, is_buy: bool, ticks: int, lots: int) -> None:
        """Note that an order of the house rests."""
        (self.bids if is_buy else self.asks).add(Resting(order_id, ticks, lots))

    def open_book(self, fair_ticks: float) -> list[Action]:
        """Return the orders that make a whole side out of each empty one."""
        actions: list[Action] = []
        for ladder in (self.bids, self.asks):
            if ladder.orders:
                continue
            ticks, other = self._touch(ladder, fair_ticks), (self.asks if ladder.is_buy else self.bids).best
            if other is not None:
                # After a leap of the price the other side is still behind: to quote through it would be to trade.
                ticks = other + ladder.sign * max(1, ladder.sign * (ticks - other))
                if ticks < 1:
                    continue
            for at in range(self._shape.orders):
                actions.append(self._quote(ladder, ticks, at))
                if self._draw.random() >= JOIN_CHANCE:
                    ticks = max(1, ticks + ladder.sign * self._space(fair_ticks, at))
        return actions

    def step(self, fair_ticks: float, elapsed_s: float, *, at_once: bool = False) -> list[Action]:
        """Return what the makers do now; with `at_once` nobody is left behind the price."""
        actions: list[Action] = []
        for ladder in (self.bids, self.asks):
            actions += self._pull_behind(ladder, fair_ticks, at_once=at_once)
        self._credit = min(self._credit + self._shape.requotes * elapsed_s, 4.0)
        ladders = [self.bids, self.asks] if self._draw.random() < 0.5 else [self.asks, self.bids]
        for ladder in ladders:
            while self._credit >= 1.0 and (action := self._heal(ladder, fair_ticks)) is not None:
                self._credit -= 1.0
                actions.append(action)
                if isinstance(action, Quote):
                    break  # the next one waits for what became of this one
        for _ in range(count(self._draw, self._shape.churn * elapsed_s)):
            actions += self._change_mind(ladders[0])
        return actions

    def _pull_behind(self, ladder: Ladder, fair_ticks: float, *, at_once: bool) -> list[Action]:
        near = 0.35 * self._half(fair_ticks)
        pulled: list[Action] = []
        for order in ladder.orders:
            # Three tenths of a tick keep a coarse grid from flapping when the price lies on it.
            if ladder.sign * (order.ticks - fair_ticks) >= near - 0.3:
                break
            if at_once or self._draw.random() < PULL_CHANCE:
                pulled.append(Pull(order.order_id))
        for action in pulled:
            assert isinstance(action, Pull)
            ladder.drop(action.order_id)
        return pulled

    def _heal(self, ladder: Ladder, fair_ticks: float) -> Action | None:
        target, best, orders = self._touch(ladder, fair_ticks), ladder.best, ladder.orders
        if best is None:
            return self._checked(ladder, target, 0)
        gap = ladder.sign * (best - target)
        space = self._space(fair_ticks, 0)
        if gap >= space * (0.5 + self._draw.random()):
            # Makers come back in steps, not all the way at once.
            way = max(1, round(gap * (0.4 + 0.6 * self._draw.random())))
            return self._checked(ladder, best - ladder.sign * way, 0)
        if len(orders) > self._shape.orders:
            ladder.drop(orders[-1].order_id)
            return Pull(orders[-1].order_id)
        if len(orders) < self._shape.orders:
            return self._fill_hole(ladder, fair_ticks)
        return None

    def _fill_hole(self, ladder: Ladder, fair_ticks: float) -> Action | None:
        orders = ladder.orders
        for at in range(len(orders) - 1):
            hole = ladder.sign * (orders[at + 1].ticks - orders[at].ticks)
            if hole > 2 * self._space(fair_ticks, at):
                return self._checked(ladder, orders[at].ticks + ladder.sign * max(1, round(hole / 2)), at)
        if self._draw.random() < JOIN_CHANCE:
            at = int(self._draw.random() ** 2 * len(orders))
            return self._checked(ladder, orders[at].ticks, at)
        at = len(orders)
        return self._checked(ladder, orders[-1].ticks + ladder.sign * self._space(fair_ticks, at), at)

    def _change_mind(self, ladder: Ladder) -> list[Action]:
        orders = ladder.orders
        if len(orders) < 2:
            return []
        at = int(self._draw.random() ** 1.5 * len(orders))
        order = orders[at]
        ladder.drop(order.order_id)
        # Most makers come back with another size at the end of the queue; `_heal` fills in for the others.
        again = [self._quote(ladder, order.ticks, at)] if self._draw.random() < 0.7 else []
        return [Pull(order.order_id), *again]

    def _checked(self, ladder: Ladder, ticks: int, at: int) -> Action | None:
        other = (self.asks if ladder.is_buy else self.bids).best
        if ticks < 1 or (other is not None and ladder.sign * (ticks - other) <= 0):
            return None
        return self._quote(ladder, ticks, at)

    def _quote(self, ladder: Ladder, ticks: int, at: int) -> Quote:
        size = self._shape.depth_notional * (0.4 + WIDER_PER_ORDER * at)
        lots = self.grid.lots(size * tail(self._draw, self._shape.size_tail, SIZE_TAIL_MAX), ticks)
        return Quote(ladder.is_buy, ticks, lots)

    def _half(self, fair_ticks: float) -> float:
        return 0.5 * self._shape.spread_bps * BASIS_POINT * fair_ticks

    def _touch(self, ladder: Ladder, fair_ticks: float) -> int:
        wanted = fair_ticks + ladder.sign * self._half(fair_ticks) * (0.8 + 0.4 * self._draw.random())
        return max(1, math.floor(wanted)) if ladder.is_buy else max(1, math.ceil(wanted))

    def _space(self, fair_ticks: float, at: int) -> int:
        wide = self._shape.spacing_bps * BASIS_POINT * fair_ticks * (1.0 + WIDER_PER_ORDER * at)
        return max(1, round(wide * (0.5 + self._draw.random())))
