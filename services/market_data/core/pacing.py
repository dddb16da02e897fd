"""When the next step may be published.

In: the pace, the participants' newest progress, the last step, a monotonic reading. Out: go, or how long to wait and
for whom. Never: a step while a participant has not finished the one before, at any speed.

The pace is the slower of the two: a finite speed sets the least time between steps, and the participants bind always,
so a stalled consumer stops the market instead of finding it hours ahead. Time lost is not caught up in a burst.
"""

from collections.abc import Collection, Mapping

import msgspec


class Pace(msgspec.Struct, frozen=True):
    """Say how steps follow each other; `interval_ns` 0 means as fast as the participants."""

    interval_ns: int
    participants: tuple[str, ...]


class LastStep(msgspec.Struct, frozen=True):
    """Remember the step before: its market time, and the monotonic time that it counts as published at."""

    close_time_ns: int
    published_at_ns: int


class Go(msgspec.Struct, frozen=True):
    """Allow the next step; it counts as published at `published_at_ns` (monotonic)."""

    published_at_ns: int


class Wait(msgspec.Struct, frozen=True):
    """Refuse it for now: for `wait_ns` (None: until a participant reports), and because of `laggards`."""

    wait_ns: int | None
    laggards: tuple[str, ...]


def pace_for(timeframe_ns: int, speed_factor: float | None, participants: tuple[str, ...]) -> Pace:
    """Return the pace of bars of `timeframe_ns` at a factor of real time (None: as fast as possible)."""
    interval_ns = 0 if speed_factor is None else max(1, round(timeframe_ns / speed_factor))
    return Pace(interval_ns=interval_ns, participants=participants)


def next_step(
    pace: Pace, last: LastStep | None, progress: Mapping[str, int], alive: Collection[str], now_ns: int
) -> Go | Wait:
    """Decide whether the step after `last` may be published at the monotonic time `now_ns`.

    Before the first step (`last` is None) every participant must have shown that it lives, by a heartbeat that says
    ready (`alive`) or by any progress. After it, every participant must have finished `last`.
    """
    late = laggards(pace, last, progress, alive)
    if last is None or pace.interval_ns == 0:
        return Wait(wait_ns=None, laggards=late) if late else Go(published_at_ns=now_ns)
    due_ns = last.published_at_ns + pace.interval_ns
    if late:
        return Wait(wait_ns=None if due_ns <= now_ns else due_ns - now_ns, laggards=late)
    if due_ns > now_ns:
        return Wait(wait_ns=due_ns - now_ns, laggards=())
    # A small delay is made up, so that the rate holds; after a stall the schedule begins anew.
    return Go(published_at_ns=due_ns if now_ns - due_ns < pace.interval_ns else now_ns)


def laggards(pace: Pace, last: LastStep | None, progress: Mapping[str, int], alive: Collection[str]) -> tuple[str, ...]:
    """Return the participants that the next step has to wait for."""
    if last is None:
        return tuple(name for name in pace.participants if name not in progress and name not in alive)
    return tuple(name for name in pace.participants if progress.get(name, -1) < last.close_time_ns)
