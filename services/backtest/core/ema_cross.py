"""The smallest strategy beside the rebalancer: in while a fast average of closes is above a slow one, out while below.

In: closed bars. Out: one market order for each crossing. Never: an order before `slow` bars were seen.
It is an example of the engine's `Strategy`, and the second one that every look-ahead test runs on.
"""

import hashlib
from decimal import Decimal

import msgspec

from services.backtest.core.strategy import (
    NOTHING,
    Answer,
    Opened,
    StepClosed,
    StrategyEvent,
    StrategyParams,
)
from shared.clock import NANOSECONDS_PER_SECOND
from shared.domain.instruments import floor_to_grid
from shared.messages import DecisionRecord, OrderIntent, OrderType, Side, TimeInForce

QUOTE_GRID = Decimal("0.01")
# Fees and slippage of the purchases must fit beside them.
SPENT_SHARE = Decimal("0.95")


class Averages(msgspec.Struct, frozen=True):
    """Hold an asset's two averages, and how many closes they are made of."""

    fast: float
    slow: float
    count: int


class EmaCross:
    """Trade each asset for an equal part of the money. `fast` < `slow` are spans in bars (alpha = 2 / (span + 1))."""

    def __init__(self, assets: tuple[str, ...], *, fast: int = 12, slow: int = 26, lifetime_s: int = 120) -> None:
        if not 1 <= fast < slow:
            raise ValueError(f"fast must be from 1 to below slow, got fast {fast} and slow {slow}: 12 and 26 are usual")
        self._assets, self._fast, self._slow, self._lifetime_s = assets, fast, slow, lifetime_s

    @property
    def name(self) -> str:
        """Return the strategy's name."""
        return "ema_cross"

    @property
    def assets(self) -> tuple[str, ...]:
        """Return the markets."""
        return self._assets

    @property
    def warmup_bars(self) -> int:
        """Return the slow span."""
        return self._slow

    def first_state(self) -> dict[str, Averages]:
        """Return that nothing was seen."""
        return {}

    def decide(
        self, state: dict[str, Averages], event: StrategyEvent, params: StrategyParams, now_ns: int
    ) -> tuple[dict[str, Averages], Answer]:
        """Return the averages after a step, and the orders of its crossings."""
        if not isinstance(event, StepClosed):
            return state, NOTHING
        after = dict(state)
        intents: list[OrderIntent] = []
        for asset in self._assets:
            bar = event.bars.get(asset)
            if bar is None:
                continue
            known = state.get(asset)
            now = after[asset] = self._moved(known, bar.close)
            if known is None or now.count <= self._slow:
                continue
            side = Side.BUY if now.fast > now.slow else Side.SELL
            intents += self._order(asset, side, event, params, now_ns)
        if not intents:
            return after, NOTHING
        plan_id = intents[0].correlation_id
        record = self._record(plan_id, intents, params, now_ns)
        return after, Answer(tuple(intents), record, Opened(plan_id, None, "cross", None))

    def _moved(self, known: Averages | None, close: float) -> Averages:
        if known is None:
            return Averages(close, close, 1)
        fast = known.fast + 2.0 / (self._fast + 1) * (close - known.fast)
        slow = known.slow + 2.0 / (self._slow + 1) * (close - known.slow)
        return Averages(fast, slow, known.count + 1)

    def _order(
        self, asset: str, side: Side, event: StepClosed, params: StrategyParams, now_ns: int
    ) -> list[OrderIntent]:
        held, instrument = event.account.quantities.get(asset, Decimal(0)), params.instruments[asset]
        close = Decimal(repr(event.bars[asset].close))
        quantity = floor_to_grid(held, instrument.step_size)
        is_in = quantity * close >= instrument.notional_min and quantity >= instrument.quantity_min
        if is_in is (side is Side.BUY):
            return []
        empty = sum(
            params.instruments[other].notional_min > amount * Decimal(repr(event.bars[other].close))
            for other, amount in event.account.quantities.items()
            if other in event.bars
        )
        part = floor_to_grid(event.account.quote_free * SPENT_SHARE / max(empty, 1), QUOTE_GRID)
        if side is Side.BUY and part < instrument.notional_min:
            return []
        plan_id = hashlib.sha256(f"{self.name} {params.venue} {now_ns}".encode()).hexdigest()[:16]
        intent = OrderIntent(
            intent_id=hashlib.sha256(f"{plan_id} {asset}".encode()).hexdigest()[:24],
            strategy=self.name,
            venue=params.venue,
            instrument=asset,
            side=side,
            type=OrderType.MARKET,
            quantity=quantity if side is Side.SELL else None,
            quote_amount=part if side is Side.BUY else None,
            limit_price=None,
            price_bound=None,
            time_in_force=TimeInForce.IOC,
            decided_at_ns=event.close_time_ns,
            expires_at_ns=event.close_time_ns + self._lifetime_s * NANOSECONDS_PER_SECOND,
            reason=f"the average of {self._fast} bars crossed that of {self._slow}",
            correlation_id=plan_id,
        )
        return [intent]

    def _record(self, plan_id: str, intents: list[OrderIntent], params: StrategyParams, now_ns: int) -> DecisionRecord:
        return DecisionRecord(
            decision_id=plan_id,
            service="backtest",
            strategy=self.name,
            venue=params.venue,
            action="cross",
            decided_at_ns=now_ns,
            correlation_id=plan_id,
            inputs="{}",
            outcome="{}",
            notes=tuple(f"{intent.side} {intent.instrument}: {intent.reason}" for intent in intents),
        )
