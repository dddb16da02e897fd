"""What the strategy tells an operator about itself: enough to show a preview anywhere with the same core.

In: the stored state, the settings, the newest account. Out: a `Status`. Never: a figure that was not reported.
"""

import msgspec

from services.rebalancer.core.events import Holdings, Params
from services.rebalancer.core.machine import portfolio_of
from services.rebalancer.core.model import Portfolio
from services.rebalancer.core.past import Past
from services.rebalancer.core.state import Pause, RebalancerState, Request


class Status(msgspec.Struct, frozen=True):
    """Describe the strategy now. `portfolio` is None until an account and a close were seen; `as_of_ns` is its close.

    `plan` is empty when none is under way.
    """

    params: Params
    trading_state: str | None
    as_of_ns: int
    portfolio: Portfolio | None
    past: Past
    plan: str
    plan_stage: str
    request: Request | None
    paused: Pause | None
    warmup_left_bars: int


def status_of(state: RebalancerState, params: Params, holdings: Holdings | None, trading_state: str | None) -> Status:
    """Return the status of a strategy at its newest close."""
    portfolio = None
    if holdings is not None and state.last_close_ns:
        portfolio = portfolio_of(state, state.last_close_ns, state.closes, holdings, params)
    return Status(
        params=params,
        trading_state=trading_state,
        as_of_ns=state.last_close_ns,
        portfolio=portfolio,
        past=state.past,
        plan="" if state.plan is None else state.plan.plan_id,
        plan_stage="" if state.plan is None else state.plan.stage.value,
        request=state.request,
        paused=state.paused,
        warmup_left_bars=max(params.config.warmup_bars + 1 - state.past.bars, 0) if params.config.warmup_bars else 0,
    )
