"""What to do when a process has ended: pure.

In: how it ended, how long it ran, what happened before. Out: restart after a delay, give up, or stop everything.
Never: a restart without a delay, a delay beyond the maximum, more crashes in the window than the cap allows, an end
by a full disk counted as a crash: that passes by itself when somebody makes space.
"""

from enum import StrEnum

import msgspec

# What a person reads: in the log, in `cascade status`, and on the page.
DISK_FULL = "its disk is full: stands still until there is space"


class RestartPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bound the restarts; times in seconds. A run of at least `stable_after_s` forgives what was before.

    `configuration_code` is the exit code by which a service says that no restart can help, `disk_full_code` the one by
    which it says that its disk is full: it is restarted then, at last every `disk_full_delay_s`, until there is space.
    """

    delay_first_s: float = 0.25
    delay_max_s: float = 15.0
    factor: float = 2.0
    jitter_share: float = 0.25
    ends_max: int = 8
    window_s: float = 120.0
    stable_after_s: float = 30.0
    configuration_code: int = 2
    disk_full_code: int = 3
    disk_full_delay_s: float = 30.0


class Action(StrEnum):
    """Name what follows the end of a process."""

    RESTART = "restart"
    GIVE_UP = "give_up"
    STOP_STACK = "stop_stack"


class Verdict(msgspec.Struct, frozen=True):
    """Say what to do after `delay_s`, and why, for people."""

    action: Action
    delay_s: float
    reason: str


class History(msgspec.Struct, frozen=True):
    """Remember one process's ends: those within the window, oldest first, and how many came in a row."""

    ended_at_s: tuple[float, ...] = ()
    streak: int = 0


def on_end(
    policy: RestartPolicy,
    history: History,
    *,
    code: int,
    ran_s: float,
    now_s: float,
    jitter: float,
    disk_is_full: bool = False,
) -> tuple[History, Verdict]:
    """Decide on a process that ended without being told to; `jitter` in [0, 1) spreads restarts, `now_s` is monotonic.

    A negative `code` is the signal that ended it; `disk_is_full` what the disk itself says.
    """
    recent = tuple(at for at in history.ended_at_s if now_s - at < policy.window_s)
    streak = 1 if ran_s >= policy.stable_after_s else history.streak + 1
    if code == policy.configuration_code:
        return History(recent, streak), Verdict(Action.STOP_STACK, 0.0, "its configuration cannot work")
    if code == policy.disk_full_code or disk_is_full:
        delay_s = restart_delay_s(policy, streak, jitter, most_s=policy.disk_full_delay_s)
        return History(recent, streak), Verdict(Action.RESTART, delay_s, DISK_FULL)
    history = History((*recent, now_s)[-policy.ends_max - 1 :], streak)
    how = describe_exit(code)
    if len(history.ended_at_s) > policy.ends_max:
        reason = f"{how}: the {len(history.ended_at_s)}. time within {policy.window_s:g} s, not restarted any more"
        return history, Verdict(Action.GIVE_UP, 0.0, reason)
    return history, Verdict(Action.RESTART, restart_delay_s(policy, streak, jitter), how)


def restart_delay_s(policy: RestartPolicy, streak: int, jitter: float, *, most_s: float | None = None) -> float:
    """Return the delay before the restart after the `streak`-th end in a row: exponential, capped, then spread."""
    exponent = min(streak - 1, 64)
    delay = min(most_s or policy.delay_max_s, policy.delay_first_s * policy.factor**exponent)
    return delay * (1 - policy.jitter_share + policy.jitter_share * jitter)


def describe_exit(code: int) -> str:
    """Return the end of a process in words."""
    return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
