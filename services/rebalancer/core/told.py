"""What a journal entry tells of its plan: what fired, and how it ended.

In: decision records, also those of an older build. Out: the parts that can be read. Never: an error for a part that
is not there.
"""

from decimal import Decimal

import msgspec

from services.rebalancer.core.report import Report
from shared.messages import DecisionRecord

# Looks that led to no plan; a refusal may be stored before the record of the plan that it belongs to.
QUIET_ACTIONS = frozenset({"none", "wait", "refuse"})


class Fired(msgspec.Struct, frozen=True):
    """Name the asset that fired a plan and its deviation; "" and None where no single one did."""

    asset: str = ""
    deviation: Decimal | None = None


class _Plan(msgspec.Struct, frozen=True):
    trigger: Fired


class _State(msgspec.Struct, frozen=True):
    plan: _Plan | None = None


class _Decision(msgspec.Struct, frozen=True):
    report: Report | None = None


class _Began(msgspec.Struct, frozen=True):
    state: _State = _State()


class _Ended(msgspec.Struct, frozen=True):
    decision: _Decision = _Decision()


def fired(record: DecisionRecord) -> Fired:
    """Return what fired the plan that this record begins."""
    plan = _told(record, _Began).state.plan
    return Fired() if plan is None or not plan.trigger.asset else plan.trigger


def report_of(record: DecisionRecord) -> Report | None:
    """Return the report of the plan that ended with this record, None for any other record."""
    return _told(record, _Ended).decision.report


def _told[T: (_Began, _Ended)](record: DecisionRecord, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(record.outcome, type=kind)
    except msgspec.MsgspecError:
        return kind()
