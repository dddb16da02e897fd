"""The order state machine as data.

In: where an order stands and where a report would put it. Out: where it stands then. Never: a move that is not listed.

A terminal state absorbs every later report. Late fills are the one exception: they are booked from every state in
`LATE_FILL_STATES`, and complete the order (FILLED) when they reach its quantity.
"""

from shared.errors import IntegrityError
from shared.messages import TERMINAL_STATES, OrderState

_S = OrderState
_CLOSED_BY_VENUE = frozenset({_S.FILLED, _S.CANCELED, _S.EXPIRED})

TRANSITIONS: dict[OrderState, frozenset[OrderState]] = {
    _S.INITIALIZED: frozenset({_S.DENIED, _S.SUBMITTED}),
    _S.SUBMITTED: frozenset({_S.ACCEPTED, _S.PARTIALLY_FILLED, _S.REJECTED, _S.UNKNOWN, *_CLOSED_BY_VENUE}),
    _S.UNKNOWN: frozenset({_S.ACCEPTED, _S.PARTIALLY_FILLED, _S.REJECTED, _S.REJECTED_UNCONFIRMED, *_CLOSED_BY_VENUE}),
    _S.ACCEPTED: frozenset({_S.PARTIALLY_FILLED, _S.PENDING_CANCEL, *_CLOSED_BY_VENUE}),
    _S.PARTIALLY_FILLED: frozenset({_S.PENDING_CANCEL, *_CLOSED_BY_VENUE}),
    _S.PENDING_CANCEL: _CLOSED_BY_VENUE,
    _S.DENIED: frozenset(),
    _S.FILLED: frozenset(),
    _S.CANCELED: frozenset({_S.FILLED}),
    _S.EXPIRED: frozenset({_S.FILLED}),
    _S.REJECTED: frozenset({_S.FILLED}),
    _S.REJECTED_UNCONFIRMED: frozenset({_S.FILLED}),
}

# From these a fill may still arrive; FILLED is complete and DENIED was never sent.
LATE_FILL_STATES = frozenset({_S.CANCELED, _S.EXPIRED, _S.REJECTED, _S.REJECTED_UNCONFIRMED})

# The venue may hold the order now; it counts as exposure.
OPEN_STATES = frozenset(set(OrderState) - TERMINAL_STATES - {_S.INITIALIZED})

# A restated older fact: true once, no news now. Anything else that is not listed is a contradiction.
_STALE: dict[OrderState, frozenset[OrderState]] = {
    _S.UNKNOWN: frozenset({_S.SUBMITTED}),
    _S.ACCEPTED: frozenset({_S.SUBMITTED, _S.UNKNOWN}),
    _S.PARTIALLY_FILLED: frozenset({_S.SUBMITTED, _S.UNKNOWN, _S.ACCEPTED}),
    _S.PENDING_CANCEL: frozenset({_S.SUBMITTED, _S.UNKNOWN, _S.ACCEPTED, _S.PARTIALLY_FILLED}),
}


def can_move(before: OrderState, after: OrderState) -> bool:
    """Tell whether the table lists the move."""
    return after in TRANSITIONS[before]


def move(before: OrderState, reported: OrderState) -> OrderState:
    """Return the state after a report: the reported one where listed, `before` where the report is old news.

    Raises IntegrityError for a report that can be neither.
    """
    if can_move(before, reported):
        return reported
    if before is reported or before in TERMINAL_STATES or reported in _STALE.get(before, frozenset()):
        return before
    raise IntegrityError(f"an order in state {before} cannot become {reported}")
