"""The live rebalancer's core as a strategy of the engine: the very `decide` that the service calls.

In: the engine's events. Out: the core's intents and journal entries. Never: a rule of its own.
"""

from decimal import Decimal

import msgspec

from services.backtest.core.strategy import (
    NOTHING,
    AccountMoved,
    Answer,
    IntentRefused,
    Opened,
    OrderMoved,
    StepClosed,
    StrategyEvent,
    StrategyParams,
)
from services.market_data.core.feed import Candle
from services.rebalancer import core
from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core.record import SERVICE
from shared.messages import DecisionRecord


class Rebalancing:
    """Run the cascade rules. `config.assets` are bus tokens.

    With `full_journal` every decision record holds the inputs and the outcome as JSON, as the service publishes them;
    without, both are `{}`: nothing else differs, and a run takes half the time.
    """

    def __init__(self, config: RebalanceConfig, *, full_journal: bool = False) -> None:
        self.config = config
        self._full_journal = full_journal
        self._params: tuple[StrategyParams, core.Params] | None = None

    @property
    def name(self) -> str:
        """Return the strategy's name."""
        return self.config.strategy

    @property
    def assets(self) -> tuple[str, ...]:
        """Return the basket."""
        return self.config.assets

    @property
    def warmup_bars(self) -> int:
        """Return how many steps the target weights' estimator must have seen."""
        return self.config.warmup_bars

    def first_state(self) -> core.RebalancerState:
        """Return the state of a strategy that has never decided anything."""
        return core.RebalancerState()

    def decide(
        self, state: core.RebalancerState, event: StrategyEvent, params: StrategyParams, now_ns: int
    ) -> tuple[core.RebalancerState, Answer]:
        """Return what the core decides."""
        own = self._own(params)
        inputs = core.Inputs(state, self._translated(event), own, now_ns)
        outcome = core.Outcome(*core.decide(inputs.state, inputs.event, inputs.params, inputs.now_ns))
        decision = outcome.decision
        if not decision.intents and decision.decision_id is None:
            return outcome.state, NOTHING
        record = core.record_of(inputs, outcome) if self._full_journal else _short_record(outcome, own)
        plan = outcome.state.plan
        opened = None
        if plan is not None and (state.plan is None or state.plan.plan_id != plan.plan_id):
            trigger = plan.trigger
            deviation = trigger.deviation if trigger.asset else None
            # From money alone a plan to target is the initial allocation, too.
            is_start = not any(plan.portfolio.quantities.values())
            direction = core.Direction.ALLOCATE if is_start else trigger.direction
            opened = Opened(plan.plan_id, trigger.asset or None, direction.value, deviation)
        return outcome.state, Answer(decision.intents, record, opened)

    def settled(
        self, state: core.RebalancerState, closed: StepClosed, params: StrategyParams
    ) -> core.RebalancerState | None:
        """Return the state that has taken the account of this step in, None where the core would do more than look."""
        event = self._translated(closed)
        assert isinstance(event, core.BarsArrived)
        return core.settled(state, event, self._own(params))

    def _own(self, params: StrategyParams) -> core.Params:
        if self._params is None or self._params[0] is not params:
            instruments = {asset: params.instruments[asset] for asset in self.assets if asset in params.instruments}
            self._params = (params, core.Params(self.config, params.venue, instruments))
        return self._params[1]

    def _translated(self, event: StrategyEvent) -> core.MachineEvent:
        match event:
            case StepClosed():
                account, bars = event.account, event.bars
                closes = {asset: Decimal(repr(bars[asset].close)) for asset in self.assets if asset in bars}
                quantities = {asset: account.quantities.get(asset, Decimal(0)) for asset in self.assets}
                holdings = core.Holdings(account.ledger_sequence, quantities, account.quote_free)
                volumes = _volumes(bars, self.assets) if self.config.wants_volumes else {}
                return core.BarsArrived(event.close_time_ns, closes, holdings, volumes)
            case OrderMoved():
                return core.OrderChanged(event.event)
            case IntentRefused():
                return core.IntentRefused(event.refusal)
            case AccountMoved():
                return core.AccountSeen(event.ledger_sequence)


def _volumes(bars: dict[str, Candle], assets: tuple[str, ...]) -> dict[str, Decimal]:
    # Where the data tell no quote volume, the base volume at the close stands for it, as in the service.
    found: dict[str, Decimal] = {}
    for asset in assets:
        if (bar := bars.get(asset)) is not None:
            volume = bar.quote_volume if bar.quote_volume is not None else bar.volume * bar.close
            found[asset] = Decimal(repr(volume))
    return found


def _short_record(outcome: core.Outcome, params: core.Params) -> DecisionRecord | None:
    decision = outcome.decision
    if decision.decision_id is None:
        return None
    return DecisionRecord(
        decision_id=decision.decision_id,
        service=SERVICE,
        strategy=params.config.strategy,
        venue=params.venue,
        action=decision.action,
        decided_at_ns=outcome.state.last_close_ns,
        correlation_id=decision.plan_id or decision.decision_id,
        inputs="{}",
        outcome="{}",
        notes=decision.notes,
    )


def with_assets(config: RebalanceConfig, assets: tuple[str, ...]) -> RebalanceConfig:
    """Return the rules for this basket; raises ValueError when they do not fit it."""
    return msgspec.structs.replace(config, assets=assets)
