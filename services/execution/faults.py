"""Named places where a test may end the process. In production they do nothing."""

from collections.abc import Callable

FaultPoint = Callable[[str], None]

POINTS = (
    "before_journal",
    "after_journal_before_send",
    "after_send_before_outcome",
    "after_outcome_before_publish",
    "after_publish_before_mark",
    "after_cancel_journal_before_send",
    "after_cancel_before_outcome",
    "after_bar_before_booking",
)


def no_fault(point: str) -> None:
    """Do nothing."""
    del point
