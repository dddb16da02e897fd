"""What the rebalancer tells Prometheus."""

from services.rebalancer.core import Decision, RebalancerState
from shared.metrics import Metrics

ACTIONS = ("none", "wait", "allocate", "upside", "downside", "position_limit")


class Telemetry:
    """Count decisions and intents, and show whether a plan is under way."""

    def __init__(self, metrics: Metrics) -> None:
        decisions = metrics.counter("decisions", "Journalled decisions by action", ["action"])
        intents = metrics.counter("intents", "Order intents by side", ["side"])
        self._decisions = {action: decisions.labels(action) for action in ACTIONS}
        self._intents = {side: intents.labels(side) for side in ("buy", "sell")}
        self._plan_open = metrics.gauge("plan_open", "1 while a plan is under way")
        self._decision_seconds = metrics.histogram("decision_seconds", "Time from an event to its stored decision")

    def count(self, state: RebalancerState, decision: Decision, seconds: float) -> None:
        """Count one decision that took `seconds` until it was stored."""
        if decision.decision_id is not None:
            self._decisions[decision.action].inc()
        for intent in decision.intents:
            self._intents[intent.side.value].inc()
        self._plan_open.set(state.plan is not None)
        self._decision_seconds.observe(seconds)
