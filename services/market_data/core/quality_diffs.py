"""Keep a book's differences in step with its snapshot (Binance's and Bybit's rule).

In: a snapshot's last update id, then differences, each with its first and last id and, at some venues, the id before
it. Out: apply, drop, or take a new snapshot. Never: a difference applied over a hole.

A difference that ends at or before the snapshot is dropped. The first one applied must straddle the snapshot's end;
each later one must begin right after the one before. Anything else is a gap: the book is invalid until a new snapshot.
"""

from enum import StrEnum

import msgspec

from services.market_data.core.quality_words import Finding, Verdict, verdict_of


class Sync(StrEnum):
    """Name where a book stands."""

    WAITING = "waiting"
    STARTING = "starting"
    FOLLOWING = "following"


class DiffState(msgspec.Struct, frozen=True):
    """Remember the last update id that the book contains."""

    sync: Sync = Sync.WAITING
    last_id: int = 0


class DiffIds(msgspec.Struct, frozen=True):
    """Name a difference: its first and last update id, and the last id of the one before where the venue gives it."""

    first_id: int
    last_id: int
    previous_last_id: int | None = None


def on_snapshot(last_id: int) -> DiffState:
    """Return the state of a book that was just read whole."""
    return DiffState(Sync.STARTING, last_id)


def assess_diff(state: DiffState, ids: DiffIds) -> tuple[DiffState, Verdict]:
    """Return the state after a difference, and whether to apply it (accept), drop it, or ask for a snapshot.

    While a book waits for its snapshot the caller keeps the differences and offers them again after it.
    """
    if state.sync is Sync.WAITING:
        return state, verdict_of((Finding.BOOK_GAP,), "there is no snapshot yet")
    if ids.last_id < ids.first_id:
        return state, verdict_of((Finding.DISORDER,), f"ends at {ids.last_id}, before it begins at {ids.first_id}")
    if ids.last_id <= state.last_id:
        finding = Finding.OUT_OF_ORDER if state.sync is Sync.STARTING else Finding.DUPLICATE
        return state, verdict_of((finding,))
    if not _follows(state, ids):
        detail = f"{ids.first_id} to {ids.last_id} after {state.last_id}"
        return DiffState(), verdict_of((Finding.BOOK_GAP,), detail)
    return DiffState(Sync.FOLLOWING, ids.last_id), verdict_of(())


def _follows(state: DiffState, ids: DiffIds) -> bool:
    if state.sync is Sync.STARTING:
        return ids.first_id <= state.last_id + 1
    if ids.previous_last_id is not None:
        return ids.previous_last_id == state.last_id
    return ids.first_id == state.last_id + 1
