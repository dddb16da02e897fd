"""The vocabulary of market data quality: what can be wrong, what is done then, and the limits.

In: nothing. Out: findings (each the name of a counter), their actions, limits with their units.

| action | what happens to the message | what happens to the instrument |
|---|---|---|
| accept | used; the finding is only counted | nothing |
| drop | discarded: it is wrong in itself, or was there before | nothing; it is as if it had not come |
| hold | not used; the last good one stays in force and ages out | nothing; risk refuses when the age is too great |
| resnapshot | not used; the local book is invalid | no book until a new snapshot |
| freeze | not used, nor any later one | not traded until an operator releases it |
"""

from enum import StrEnum

import msgspec

from shared.clock import NANOSECONDS_PER_SECOND

# Trading on these markets began after 2009; a time in ms or us, read as ns, lies in 1970.
EARLIEST_NS = 1_230_768_000 * NANOSECONDS_PER_SECOND
LATEST_NS = 4_102_444_800 * NANOSECONDS_PER_SECOND


class Finding(StrEnum):
    """Name what is wrong with a message; the label `kind` of `cascade_market_data_quality_findings_total`."""

    NOT_A_NUMBER = "not_a_number"
    BAD_PRICE = "bad_price"
    BAD_QUANTITY = "bad_quantity"
    DISORDER = "disorder"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"
    TIME_UNIT = "time_unit"
    SEQUENCE_GAP = "sequence_gap"
    NEGATIVE_LATENCY = "negative_latency"
    CLOCK_SKEW = "clock_skew"
    STALE = "stale"
    ONE_SIDED = "one_sided"
    LOCKED = "locked"
    CROSSED = "crossed"
    JUMP_SUSPECTED = "jump_suspected"
    BOOK_GAP = "book_gap"
    BOOK_CROSSED = "book_crossed"
    JUMP = "jump"
    FROZEN = "frozen"


class Action(StrEnum):
    """Name what is done; the most severe action of a message's findings counts."""

    ACCEPT = "accept"
    DROP = "drop"
    HOLD = "hold"
    RESNAPSHOT = "resnapshot"
    FREEZE = "freeze"


SEVERITY = tuple(Action)

ACTIONS = {
    Finding.NOT_A_NUMBER: Action.DROP,
    Finding.BAD_PRICE: Action.DROP,
    Finding.BAD_QUANTITY: Action.DROP,
    Finding.DISORDER: Action.DROP,
    Finding.DUPLICATE: Action.DROP,
    Finding.OUT_OF_ORDER: Action.DROP,
    Finding.TIME_UNIT: Action.DROP,
    # Trades that were missed cannot be had again on the feed, and quotes are whole: counted, and gone on.
    Finding.SEQUENCE_GAP: Action.ACCEPT,
    Finding.NEGATIVE_LATENCY: Action.ACCEPT,
    Finding.CLOCK_SKEW: Action.HOLD,
    Finding.STALE: Action.HOLD,
    Finding.ONE_SIDED: Action.HOLD,
    Finding.LOCKED: Action.HOLD,
    Finding.CROSSED: Action.HOLD,
    Finding.JUMP_SUSPECTED: Action.HOLD,
    Finding.BOOK_GAP: Action.RESNAPSHOT,
    # A book that was built from differences and crosses was built wrongly.
    Finding.BOOK_CROSSED: Action.RESNAPSHOT,
    Finding.JUMP: Action.FREEZE,
    Finding.FROZEN: Action.FREEZE,
}


class Verdict(msgspec.Struct, frozen=True):
    """Say what to do with a message, why (for counters), and in words where a person must act."""

    action: Action
    findings: tuple[Finding, ...] = ()
    detail: str = ""

    @property
    def is_usable(self) -> bool:
        """Tell whether the message may be used and published."""
        return self.action is Action.ACCEPT


ACCEPTED = Verdict(Action.ACCEPT)


def verdict_of(findings: tuple[Finding, ...], detail: str = "") -> Verdict:
    """Return the most severe action of the findings."""
    if not findings:
        return ACCEPTED
    action = max((ACTIONS[finding] for finding in findings), key=SEVERITY.index)
    return Verdict(action, findings, detail)


class Limits(msgspec.Struct, frozen=True):
    """Say how much is too much.

    `jump_factor_max`: how far (times, or one through) a bar may open from the close before it, or a quote or trade may
    lie from the last good price. `bar_factor_max`: the same for a bar's close against its open. A market that falls
    trades on its way, so a bar opens where the one before closed, however far it then goes; a redenomination does not.
    `jump_confirmations`: so many ticks in a row at the other price freeze the instrument; fewer are bad prints.
    """

    jump_factor_max: float = 3.0
    bar_factor_max: float = 50.0
    jump_confirmations: int = 3
    clock_ahead_ns_max: int = 5 * NANOSECONDS_PER_SECOND
    age_ns_max: int = 10 * NANOSECONDS_PER_SECOND
    silence_ns_max: int = 30 * NANOSECONDS_PER_SECOND
