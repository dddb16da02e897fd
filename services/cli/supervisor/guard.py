"""Stop what a supervisor leaves behind when it dies without a chance to do so.

In, on standard input: lines `+ PID` (started), `> PID` (started, stop it last) and `- PID` (ended). At the end of the
input, which the operating system brings about however the supervisor dies, everything still listed is stopped: SIGTERM,
a wait, SIGKILL, process group by process group. Run as a script with the standard library only: it must start fast.
"""

import contextlib
import os
import signal
import sys
import time

GRACE_S = 10.0


def main() -> None:
    """Read the list to its end, then stop what is on it."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    first: list[int] = []
    last: list[int] = []
    for line in sys.stdin:
        sign, _, text = line.strip().partition(" ")
        if not text.isdecimal():
            continue
        pid = int(text)
        if sign == "-":
            for group in (first, last):
                if pid in group:
                    group.remove(pid)
        else:
            (last if sign == ">" else first).append(pid)
    stop(first)
    stop(last)


def stop(groups: list[int], grace_s: float = GRACE_S) -> None:
    """End these process groups: ask, wait at most `grace_s`, then kill what is left."""
    for group in groups:
        _signal(group, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline and any(_signal(group, 0) for group in groups):
        time.sleep(0.05)
    for group in groups:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    main()
