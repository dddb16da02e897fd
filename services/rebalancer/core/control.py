"""What a person may ask of the strategy, what a transfer leads to, and the comparison with holding: changes of state.

In: requests, holdings. Out: a new state and an answer. Never: a request granted while a plan is under way, two plans
for one correlation id.
"""

from decimal import Decimal

from msgspec.structs import replace

from services.rebalancer.core import transfers
from services.rebalancer.core.events import BarsArrived, Decision, Holdings, Params, PauseRequested, RebalanceRequested
from services.rebalancer.core.state import Hold, Pause, RebalancerState, Request
from services.rebalancer.core.transfers import QUOTE, Known
from services.rebalancer.modes import OnTransfer
from shared.messages import OrderEvent

REQUESTS_KEPT = 64
# A wish that cannot be carried out within so many closes is forgotten: nobody expects it any more.
CLOSES_WAITED = 3

Answer = tuple[RebalancerState, Decision]


def on_request(state: RebalancerState, event: RebalanceRequested, params: Params) -> Answer:
    """Take the request, or say why not; the same correlation id again changes nothing."""
    if event.correlation_id in state.requests_seen:
        return state, Decision(notes=(f"request {event.correlation_id} was taken before",))
    refusal = _refusal(state, params)
    who = f"rebalance asked by {event.user}: {event.reason}"
    if refusal:
        return state, Decision(notes=(who, f"refused: {refusal}"), refusal=refusal)
    seen = (*state.requests_seen, event.correlation_id)[-REQUESTS_KEPT:]
    request = Request(event.correlation_id, event.user, event.reason, CLOSES_WAITED)
    note = f"{who}; to be done at the next closed bars"
    decision_id = f"{params.config.strategy}-{params.venue}-request-{event.correlation_id}"
    return replace(state, request=request, requests_seen=seen), Decision(notes=(note,), decision_id=decision_id)


def on_pause(state: RebalancerState, event: PauseRequested, params: Params) -> Answer:
    """Stop new plans, or go on; a plan under way is finished in either case."""
    if event.paused == (state.paused is not None):
        return state, Decision(notes=("paused already" if event.paused else "not paused",))
    pause = Pause(event.user, event.reason, state.last_close_ns) if event.paused else None
    verb = "paused" if event.paused else "resumed"
    note = f"{verb} by {event.user}: {event.reason}"
    decision_id = f"{params.config.strategy}-{params.venue}-{verb}-{event.correlation_id}"
    # A wish from before the pause is not to come true long after it.
    request = None if event.paused else state.request
    return replace(state, paused=pause, request=request), Decision(notes=(note,), decision_id=decision_id)


def after_fill(state: RebalancerState, event: OrderEvent, params: Params) -> RebalancerState:
    """Return the state that remembers the event's fill until an account snapshot contains it."""
    fill = event.fill
    known = state.known
    if fill is None or fill.fill_id in state.moved or (known and event.ledger_sequence <= known.ledger_sequence):
        return state
    moved = transfers.moved_by(event, params.config.assets)
    return state if moved is None else replace(state, moved=state.moved | {fill.fill_id: moved})


def after_holdings(state: RebalancerState, event: BarsArrived, params: Params) -> tuple[RebalancerState, Decision]:
    """Return the state that knows these holdings, and notes on transfers since the last ones (none: nothing to say).

    Called when no plan is under way. The decision's notes hold plans back unless `on_transfer` is ignore.
    """
    policy = params.config.on_transfer
    now = _known(event.holdings)
    changes = transfers.unexplained(state.known, state.moved, now, event.closes)
    if not changes and now == state.known and not state.moved and state.hold is not None:
        return state, Decision()
    moved = transfers.still_to_come(state.moved, now.ledger_sequence)
    state = replace(state, known=now, moved=moved, hold=_held(state.hold, changes, event, params))
    if not changes:
        return state, Decision()
    if policy is OnTransfer.REBALANCE and state.request is None:
        request = Request(f"transfer-{event.close_time_ns}", "cascade", "money came in or went out", CLOSES_WAITED)
        state = replace(state, request=request)
    return state, Decision(notes=transfers.describe(changes, policy))


def after_waiting(state: RebalancerState) -> RebalancerState:
    """Return the state after a close at which a request could not be carried out."""
    request = state.request
    if request is None:
        return state
    left = request.closes_left - 1
    return replace(state, request=None if left <= 0 else replace(request, closes_left=left))


def _refusal(state: RebalancerState, params: Params) -> str:
    if not params.config.enabled:
        return "the strategy is switched off: set enabled to true"
    if state.paused is not None:
        return f"the strategy was paused by {state.paused.user} ({state.paused.reason}): resume it first"
    if state.plan is not None:
        return f"plan {state.plan.plan_id} is under way: ask again when it is done"
    if state.request is not None:
        return f"a rebalance asked by {state.request.user} waits for the next closed bars already"
    return ""


def _known(holdings: Holdings) -> Known:
    amounts = dict(holdings.quantities)
    amounts[QUOTE] = holdings.usdt + holdings.usdt_locked
    return Known(holdings.ledger_sequence, amounts)


def _held(hold: Hold | None, changes: dict[str, Decimal], event: BarsArrived, params: Params) -> Hold | None:
    if hold is None:
        quantities = {asset: event.holdings.quantities.get(asset, Decimal(0)) for asset in params.config.traded}
        prices = [event.closes.get(asset) for asset, held in quantities.items() if held]
        if any(price is None or not price.is_finite() for price in prices):
            return None
        worth = sum((held * event.closes[asset] for asset, held in quantities.items() if held), Decimal(0))
        # Before the initial allocation there is nothing to hold; dust is no start.
        if worth < max(params.config.min_order_value, Decimal(1)):
            return None
        return Hold(event.close_time_ns, quantities, event.holdings.usdt + event.holdings.usdt_locked)
    if not changes:
        return hold
    quantities = dict(hold.quantities)
    for market, change in changes.items():
        if market != QUOTE and market in quantities:
            quantities[market] = max(quantities[market] + change, Decimal(0))
    return replace(hold, quantities=quantities, usdt=hold.usdt + changes.get(QUOTE, Decimal(0)))
