"""The keys by which private streams are opened.

In: accounts, the venue's time. Out: keys and whose they are. Never: a key past its time, more keys than MEXC allows.
"""

from collections.abc import Callable

from services.sandbox_exchange.mexc.errors import ApiError
from shared.clock import NANOSECONDS_PER_MINUTE

VALID_NS = 60 * NANOSECONDS_PER_MINUTE
KEYS_MAX = 60
SOCKETS_MAX = 5


class ListenKeys:
    """Hold the keys. `make_key` returns a new, unguessable one."""

    def __init__(self, make_key: Callable[[], str], valid_ns: int = VALID_NS) -> None:
        self._make_key, self._valid_ns = make_key, valid_ns
        self._owners: dict[str, tuple[str, int]] = {}

    def issue(self, account: str, now_ns: int) -> str:
        """Return a new key of an account."""
        if len(self.of_account(account, now_ns)) >= KEYS_MAX:
            raise ApiError(510, f"Cannot have more than {KEYS_MAX} listen keys")
        key = self._make_key()
        self._owners[key] = (account, now_ns + self._valid_ns)
        return key

    def extend(self, account: str, key: str, now_ns: int) -> None:
        """Let a key live on for as long as a new one."""
        self._own(account, key, now_ns)
        self._owners[key] = (account, now_ns + self._valid_ns)

    def revoke(self, account: str, key: str, now_ns: int) -> None:
        """End a key."""
        self._own(account, key, now_ns)
        del self._owners[key]

    def expire(self, key: str) -> None:
        """End a key whosesoever it is; an unknown one changes nothing."""
        self._owners.pop(key, None)

    def owner(self, key: str, now_ns: int) -> str | None:
        """Return the account of a key that is valid, or None."""
        account, until_ns = self._owners.get(key, (None, 0))
        if account is not None and now_ns >= until_ns:
            self.expire(key)
            return None
        return account

    def of_account(self, account: str, now_ns: int) -> list[str]:
        """Return the account's valid keys, oldest first."""
        return [key for key in list(self._owners) if self.owner(key, now_ns) == account]

    def _own(self, account: str, key: str, now_ns: int) -> None:
        if self.owner(key, now_ns) != account:
            raise ApiError(700004, "Mandatory parameter 'listenKey' is not a valid listen key.")
