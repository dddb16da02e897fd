"""Loopback ports for a stack: the usual one, or the next that is free.

Out: a port that nothing listens on and that no other stack of this user has chosen. Never: two stacks that start in one
instant and take the same port, so that one speaks to the other's server: a chosen port stays claimed by a lock on a
file, until this process ends.
"""

import contextlib
import fcntl
import os
import socket
import tempfile
from pathlib import Path

_claims: dict[int, int] = {}


def port_is_free(port: int) -> bool:
    """Tell whether a loopback TCP port can be bound now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(preferred: int, *, taken: frozenset[int] = frozenset(), tries: int = 200) -> int:
    """Return `preferred` or the next free loopback port above it that is not in `taken`; raises OSError if none."""
    for port in range(preferred, min(preferred + tries, 65_536)):
        if port not in taken and _claim(port):
            if port_is_free(port):
                return port
            _release(port)
    raise OSError(f"no free port between {preferred} and {preferred + tries}")


def _claim(port: int) -> bool:
    if port in _claims:
        return True
    folder = Path(tempfile.gettempdir()) / f"cascade-ports-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        claim = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:
        # Without a place for claims, what is free now must do.
        return True
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(claim)
        return False
    _claims[port] = claim
    return True


def _release(port: int) -> None:
    claim = _claims.pop(port, None)
    if claim is not None:
        with contextlib.suppress(OSError):
            os.close(claim)
