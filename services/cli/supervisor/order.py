"""In which order processes start and stop: pure."""

from collections.abc import Mapping
from enum import StrEnum


class Phase(StrEnum):
    """Name where a supervised process stands."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


def start_order(after: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the names so that each comes after all that it needs, otherwise in the order given.

    Raises ValueError for an unknown name or a circle.
    """
    placed: list[str] = []
    waiting = list(after)
    for name, needs in after.items():
        for need in needs:
            if need not in after:
                raise ValueError(f"{name} needs {need}, which is not part of the stack")
    while waiting:
        free = next((name for name in waiting if all(need in placed for need in after[name])), None)
        if free is None:
            raise ValueError(f"these wait for each other: {', '.join(waiting)}")
        waiting.remove(free)
        placed.append(free)
    return tuple(placed)


def stop_order(after: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the names so that each stops before what it needs."""
    return tuple(reversed(start_order(after)))


def may_start(
    needs: tuple[str, ...], phases: Mapping[str, Phase], *, starting_for_s: Mapping[str, float], patience_s: float
) -> bool:
    """Tell whether a process may start: all that it needs is ready, given up, or slower than `patience_s`.

    Waiting is a courtesy that keeps logs quiet, not a lock: every service also waits by itself for what it needs.
    """
    return all(
        phases[need] in (Phase.READY, Phase.FAILED) or starting_for_s.get(need, 0.0) >= patience_s for need in needs
    )
