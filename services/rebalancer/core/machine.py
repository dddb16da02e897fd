"""Carry a plan from its first sale to its last fill: `decide(state, event, params, now_ns)`.

Stages: sells are out; when every one is over, buys scaled to what the sells really brought; when those are over, an
account snapshot that contains them; done. One plan at a time. Every intent is in the state before it is anywhere else,
so `Resumed` sends the unfinished ones again under the same ids: nothing is ever sold twice.
"""

from decimal import Decimal, localcontext

from msgspec.structs import replace

from services.rebalancer.core import control, intents, past, retarget
from services.rebalancer.core.events import (
    AccountSeen,
    BarsArrived,
    Decision,
    Holdings,
    IntentRefused,
    MachineEvent,
    OrderChanged,
    Params,
    PauseRequested,
    RebalanceRequested,
    Resumed,
)
from services.rebalancer.core.model import EXACT, MONEY, Direction, Leg, Plan, Portfolio, money
from services.rebalancer.core.planning import buys_for, plan_for
from services.rebalancer.core.report import report_on, sentences
from services.rebalancer.core.state import (
    ALLOCATION_KEY,
    REBALANCE_KEY,
    Execution,
    RebalancerState,
    RunningPlan,
    Stage,
    allocation_trigger,
)
from services.rebalancer.modes import OnTransfer
from shared.messages import OrderIntent, OrderState, Side

NANOSECONDS_PER_SECOND = 1_000_000_000

Answer = tuple[RebalancerState, Decision]


def decide(state: RebalancerState, event: MachineEvent, params: Params, now_ns: int) -> Answer:
    """Return the state after `event`, and what is to be published because of it.

    `now_ns` (market time in a replay, else the machine's) dates the intents' lifetime and the age of bars; cooldowns
    go by the bars' own close times. Events may repeat, overtake one another, or belong to plans long done.
    """
    with localcontext(EXACT):
        match event:
            case BarsArrived():
                return _on_bars(state, event, params, now_ns)
            case OrderChanged():
                return _on_order(state, event, params, now_ns)
            case IntentRefused():
                return _on_refusal(state, event, params, now_ns)
            case AccountSeen():
                seen = max(state.ledger_sequence_seen, event.ledger_sequence)
                return _advance(replace(state, ledger_sequence_seen=seen), params, now_ns, ())
            case Resumed():
                return _on_resume(state)
            case RebalanceRequested():
                return control.on_request(state, event, params)
            case PauseRequested():
                return control.on_pause(state, event, params)


def settled(state: RebalancerState, event: BarsArrived, params: Params) -> RebalancerState | None:
    """Return the state that has taken the holdings in, or None when they, or a wish, ask for more than that.

    From a settled state bars on which nothing fires change times and closes alone, as long as nothing looks back.
    """
    if state.plan is not None or state.request is not None or state.paused is not None:
        return None
    with localcontext(EXACT):
        state, told = control.after_holdings(state, event, params)
    # Holding is compared from the first bar on which all that is held has a price.
    is_unset = state.hold is None and any(event.holdings.quantities.values())
    return None if told.notes or is_unset else state


def _on_bars(state: RebalancerState, event: BarsArrived, params: Params, now_ns: int) -> Answer:
    if event.close_time_ns <= state.last_close_ns:
        return state, Decision(notes=(f"bars of {event.close_time_ns} were handled before",))
    seen = max(state.ledger_sequence_seen, event.holdings.ledger_sequence)
    state = replace(
        state,
        last_close_ns=event.close_time_ns,
        closes=state.closes | event.closes,
        ledger_sequence_seen=seen,
        past=past.extended(state.past, event.closes, event.volumes, params.config),
    )
    journal = f"{params.config.strategy}-{params.venue}-{event.close_time_ns}"
    if state.plan is not None:
        waiting = Decision(notes=(_waiting(state.plan),), action="wait", plan_id=state.plan.plan_id)
        return state, replace(waiting, decision_id=journal)
    wish = state.request
    state, transfer = control.after_holdings(state, event, params)
    obstacle = _obstacle(state, event, params, now_ns)
    if transfer.notes and params.config.on_transfer is not OnTransfer.IGNORE:
        obstacle = transfer.notes + obstacle
    if obstacle:
        state = replace(state if wish is None else control.after_waiting(state), finished_ns=event.close_time_ns)
        return state, Decision(notes=obstacle, decision_id=journal)
    if wish is None and params.config.is_cascade:
        state, decision = _look_for_plan(state, event, params, now_ns)
    else:
        state, decision = _go_to_target(state, event, params, now_ns)
    return state, replace(decision, notes=transfer.notes + decision.notes, decision_id=journal)


def _obstacle(state: RebalancerState, event: BarsArrived, params: Params, now_ns: int) -> tuple[str, ...]:
    config = params.config
    if not config.enabled:
        return ("the strategy is switched off: set enabled to true",)
    if state.paused is not None:
        return (f"paused by {state.paused.user}: {state.paused.reason}",)
    if event.withheld:
        return (event.withheld,)
    age_s = (now_ns - event.close_time_ns) // NANOSECONDS_PER_SECOND
    if age_s > config.bar_age_max_s:
        return (f"the bars are {age_s} s old, more than bar_age_max_s {config.bar_age_max_s}: no decision on them",)
    return tuple(
        f"instrument {asset} is not defined: no plan until the feed announces its grid"
        for asset in config.traded
        if asset not in params.instruments
    )


def _go_to_target(state: RebalancerState, event: BarsArrived, params: Params, now_ns: int) -> Answer:
    """Open a plan to the target weights, when bands or dates say so or a person asked for it."""
    config, wish = params.config, state.request
    portfolio, obstacle = retarget.aimed(_portfolio(state, event, params), config, state.past)
    if obstacle:
        state = replace(control.after_waiting(state), finished_ns=event.close_time_ns)
        return state, Decision(notes=(obstacle,))
    forced = "" if wish is None else f"asked by {wish.user}: {wish.reason}"
    plan = retarget.plan_to_target(portfolio, config, params.instruments, forced=forced)
    if plan.legs:
        state = replace(state, request=None)
        portfolio = replace(portfolio, targets=plan.goals)
        return _open(state, plan, portfolio, plan.notes, params, now_ns=now_ns)
    notes = plan.notes
    if plan.checked:
        # Nothing worth an order: looked at all the same, so a date is used up and the rest cools down.
        state = replace(state, request=None, fired_at_ns=state.fired_at_ns | {REBALANCE_KEY: event.close_time_ns})
        notes += () if plan.trigger is None else ("no leg is left: nothing to trade",)
    else:
        state = control.after_waiting(state)
    return replace(state, finished_ns=event.close_time_ns), Decision(notes=notes)


def _look_for_plan(state: RebalancerState, event: BarsArrived, params: Params, now_ns: int) -> Answer:
    """Open the first plan that has a leg; an asset whose legs are all too small has had its turn and cools down."""
    notes: tuple[str, ...] = ()
    fired: dict[str, int] = {}
    for _ in range(len(params.config.traded) + 1):
        portfolio = _portfolio(replace(state, fired_at_ns=state.fired_at_ns | fired), event, params)
        plan = plan_for(portfolio, params.config, params.instruments)
        notes += tuple(note for note in plan.notes if note not in notes)
        if plan.legs:
            if plan.trigger is None and _allocation_is_cooling(state, event, params):
                notes += ("the initial allocation was tried less than the cooldown ago",)
                break
            state = replace(state, fired_at_ns=state.fired_at_ns | fired)
            return _open(state, plan, portfolio, notes, params, now_ns=now_ns)
        if plan.trigger is None:
            break
        notes += (f"no leg is left for {plan.trigger.asset}: it cools down, the next breach has its turn",)
        fired[plan.trigger.asset] = event.close_time_ns
    state = replace(state, fired_at_ns=state.fired_at_ns | fired, finished_ns=event.close_time_ns)
    return state, Decision(notes=notes)


def _open(
    state: RebalancerState, plan: Plan, portfolio: Portfolio, notes: tuple[str, ...], params: Params, *, now_ns: int
) -> Answer:
    trigger = plan.trigger or allocation_trigger()
    at_ns = state.last_close_ns
    plan_id = intents.plan_id(params, trigger, at_ns)
    stage, legs = (Stage.SELLING, plan.sells) if plan.sells else (Stage.BUYING, plan.buys)
    orders = intents.intents_for(legs, plan_id, stage, params, state.closes, at_ns=at_ns, now_ns=now_ns)
    running = RunningPlan(plan_id, trigger, at_ns, portfolio, stage, tuple(Execution(order) for order in orders))
    key = REBALANCE_KEY if trigger.direction is Direction.REBALANCE else trigger.asset or ALLOCATION_KEY
    state = replace(state, plan=running, fired_at_ns=state.fired_at_ns | {key: at_ns})
    return state, Decision(orders, notes, trigger.direction.value, plan_id)


def _on_order(state: RebalancerState, event: OrderChanged, params: Params, now_ns: int) -> Answer:
    needed = max(state.ledger_sequence_needed, event.event.ledger_sequence)
    state = control.after_fill(replace(state, ledger_sequence_needed=needed), event.event, params)
    plan, order = state.plan, event.event
    if plan is None or all(order.intent_id != each.intent.intent_id for each in plan.executions):
        return state, Decision(notes=(f"{order.intent_id} belongs to no plan under way",))
    executions = tuple(
        execution.after(order) if execution.intent.intent_id == order.intent_id else execution
        for execution in plan.executions
    )
    plan = replace(plan, executions=executions, ledger_sequence=max(plan.ledger_sequence, order.ledger_sequence))
    return _advance(replace(state, plan=plan), params, now_ns, ())


def _on_refusal(state: RebalancerState, event: IntentRefused, params: Params, now_ns: int) -> Answer:
    plan, refusal = state.plan, event.refusal
    if plan is None or all(refusal.intent_id != each.intent.intent_id for each in plan.executions):
        return state, Decision(notes=(f"refused {refusal.intent_id} belongs to no plan under way",))
    why = f"{refusal.code}: {refusal.detail}"
    executions = tuple(
        replace(each, refusal=why) if each.intent.intent_id == refusal.intent_id else each for each in plan.executions
    )
    note = f"{refusal.instrument} refused by risk, {why}"
    return _advance(replace(state, plan=replace(plan, executions=executions)), params, now_ns, (note,))


def _on_resume(state: RebalancerState) -> Answer:
    plan = state.plan
    if plan is None:
        return state, Decision(notes=("no plan is under way",))
    again = tuple(execution.intent for execution in plan.open_executions)
    note = f"resumed plan {plan.plan_id} in stage {plan.stage}: {len(again)} open orders are sent again, same ids"
    return state, Decision(again, (note,), plan.trigger.direction.value, plan.plan_id)


def _advance(state: RebalancerState, params: Params, now_ns: int, notes: tuple[str, ...]) -> Answer:
    """Take the plan through every stage that is over; journal the buys' start and the orders' end.

    Whether the account or the last order event comes first is chance, so settling leaves no entry of its own.
    """
    sent: tuple[OrderIntent, ...] = ()
    plan = state.plan
    if plan is None:
        return state, Decision(notes=notes)
    journal, report = None, None
    if plan.stage is Stage.SELLING and not plan.open_executions:
        plan, sent, bought_notes = _start_buying(plan, state, params, now_ns)
        notes += bought_notes
        journal = f"{plan.plan_id}-{plan.stage}"
    if plan.stage is Stage.BUYING and not plan.open_executions:
        plan = replace(plan, stage=Stage.SETTLING)
        journal = f"{plan.plan_id}-over"
        report = report_on(plan, state.closes, state.hold)
        notes += (_spent(plan), *sentences(report))
    state = replace(state, plan=plan)
    if plan.stage is Stage.SETTLING and state.ledger_sequence_seen >= plan.ledger_sequence:
        state = replace(state, plan=None, finished_ns=state.last_close_ns)
    return state, Decision(sent, notes, plan.trigger.direction.value, plan.plan_id, journal, report=report)


def _start_buying(
    plan: RunningPlan, state: RebalancerState, params: Params, now_ns: int
) -> tuple[RunningPlan, tuple[OrderIntent, ...], tuple[str, ...]]:
    legs, notes = _real_buys(plan, params)
    orders = intents.intents_for(
        legs, plan.plan_id, Stage.BUYING, params, state.closes, at_ns=state.last_close_ns, now_ns=now_ns
    )
    executions = plan.executions + tuple(Execution(order) for order in orders)
    return replace(plan, stage=Stage.BUYING, executions=executions), orders, notes


def _real_buys(plan: RunningPlan, params: Params) -> tuple[tuple[Leg, ...], tuple[str, ...]]:
    sales = plan.of_side(Side.SELL)
    received = sum((sale.net_quote(params.config.fee_rate) for sale in sales), Decimal(0))
    proceeds = max(MONEY.plus(received), Decimal(0))
    sold = {sale.intent.instrument: sale.quantity_done for sale in sales}
    notes = (*(_sold(sale) for sale in sales), f"the sells brought {money(proceeds)} net of fees")
    legs, skipped, more = buys_for(
        plan.portfolio, params.config, params.instruments, plan.trigger, proceeds=proceeds, sold=sold
    )
    return legs, notes + more + tuple(skip.reason for skip in skipped)


def portfolio_of(
    state: RebalancerState, at_ns: int, closes: dict[str, Decimal], holdings: Holdings, params: Params
) -> Portfolio:
    """Return what the rules look at: these closes and holdings, and how long ago what was done."""
    assets = params.config.traded
    rebalanced_ns = state.fired_at_ns.get(REBALANCE_KEY)
    return Portfolio(
        assets=assets,
        prices={asset: closes[asset] for asset in assets if asset in closes},
        quantities={asset: holdings.quantities.get(asset, Decimal(0)) for asset in assets},
        usdt=holdings.usdt,
        elapsed_ns={asset: Decimal(at_ns - fired) for asset, fired in state.fired_at_ns.items() if asset in assets},
        trending=past.trending(state.past, params.config),
        rebalanced_ago_ns=None if rebalanced_ns is None else Decimal(at_ns - rebalanced_ns),
    )


def _portfolio(state: RebalancerState, event: BarsArrived, params: Params) -> Portfolio:
    return portfolio_of(state, event.close_time_ns, event.closes, event.holdings, params)


def _allocation_is_cooling(state: RebalancerState, event: BarsArrived, params: Params) -> bool:
    at_ns = state.fired_at_ns.get(ALLOCATION_KEY)
    cooldown_ns = params.config.cooldown_minutes * 60 * NANOSECONDS_PER_SECOND
    return at_ns is not None and event.close_time_ns - at_ns < cooldown_ns


def _waiting(plan: RunningPlan) -> str:
    open_now = plan.open_executions
    unknown = [each.intent.instrument for each in open_now if each.state is OrderState.UNKNOWN]
    state = f"{len(open_now)} of {len(plan.executions)} orders are open" if open_now else "the account is to follow"
    doubt = f"; nobody knows yet what became of {', '.join(unknown)}" if unknown else ""
    return f"waiting for plan {plan.plan_id} ({_name(plan)}) in stage {plan.stage}: {state}{doubt}"


def _name(plan: RunningPlan) -> str:
    direction = plan.trigger.direction
    return f"{direction} {plan.trigger.asset}".strip()


def _sold(sale: Execution) -> str:
    end = f"refused, {sale.refusal}" if sale.refusal else sale.state.value
    return f"sold {sale.quantity_done:f} of {sale.intent.quantity:f} {sale.intent.instrument} ({end})"


def _spent(plan: RunningPlan) -> str:
    bought = plan.of_side(Side.BUY)
    spent = sum((each.filled_quote for each in bought), Decimal(0))
    failed = [
        f"{each.intent.instrument} {each.refusal or each.state.value}"
        for each in bought
        if each.refusal or each.state is not OrderState.FILLED
    ]
    return f"bought for {money(spent)} in {len(bought)} orders" + (
        f"; not filled: {', '.join(failed)}" if failed else ""
    )
