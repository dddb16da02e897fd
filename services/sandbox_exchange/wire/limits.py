"""How much a client may ask: weight windows, Retry-After, bans for those who ask on.

In: what a request weighs, for whom, at which time. Out: a verdict. Never: a clock of its own.
"""

from collections.abc import Mapping, Sequence

import msgspec

from shared.clock import NANOSECONDS_PER_SECOND

KEYS_MAX = 10_000  # clients remembered; beyond it windows that have ended are forgotten


class Rule(msgspec.Struct, frozen=True):
    """Allow `weight_max` in each fixed window of `window_s` seconds (they start at multiples of it, as at venues)."""

    weight_max: int
    window_s: int


class Charge(msgspec.Struct, frozen=True):
    """Charge `weight` to `key` (an address, an account, an endpoint of one) under the rule `rule`."""

    rule: str
    key: str
    weight: int = 1


class BanRule(msgspec.Struct, frozen=True):
    """Ban a client that asks `refusals_max` times more while it is refused; each ban is twice as long as the last."""

    refusals_max: int = 20
    ban_min_s: int = 120
    ban_max_s: int = 3 * 86_400


class Verdict(msgspec.Struct, frozen=True):
    """Say whether a request passes. `status` is 200, 429 or 418; `used` is each rule's weight in its window now."""

    status: int
    retry_after_s: int
    used: Mapping[str, int]

    @property
    def is_allowed(self) -> bool:
        """Tell whether the request passes."""
        return self.status == 200


class TooManyRequestsError(Exception):
    """Refuse a request because of its number; `with_faults` turns it into the venue's answer."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"{verdict.status}, again after {verdict.retry_after_s} s")
        self.verdict = verdict


class Limits:
    """Count weights by rule and key, and ban clients (an address each) that do not obey.

    A refused request is charged too, as at the venues; only its count of refusals leads to a ban.
    """

    def __init__(self, rules: Mapping[str, Rule], ban: BanRule | None = None) -> None:
        self.rules = dict(rules)
        self._ban = ban or BanRule()
        self._used: dict[tuple[str, str], tuple[int, int]] = {}
        self._refusals: dict[str, int] = {}
        self._banned_until: dict[str, int] = {}
        self._last_ban_s: dict[str, int] = {}

    def charge(self, client: str, charges: Sequence[Charge], now_ns: int) -> Verdict:
        """Count a request of `client` and say whether it passes."""
        banned_s = self.banned_s(client, now_ns)
        used: dict[str, int] = {}
        if banned_s:
            return Verdict(418, banned_s, used)
        retry_s = 0
        for one in charges:
            rule = self.rules[one.rule]
            window, left_s = _window(rule, now_ns)
            count = self._count(one, window) + one.weight
            self._used[one.rule, one.key] = (window, count)
            used[one.rule] = max(used.get(one.rule, 0), count)
            if count > rule.weight_max:
                retry_s = max(retry_s, left_s)
        if len(self._used) > KEYS_MAX:
            self._forget(now_ns)
        if not retry_s:
            self._refusals.pop(client, None)
            return Verdict(200, 0, used)
        return self._refuse(client, retry_s, used, now_ns)

    def used(self, rule: str, key: str, now_ns: int) -> int:
        """Return what `key` has used of a rule in its current window."""
        return self._count(Charge(rule, key), _window(self.rules[rule], now_ns)[0])

    def banned_s(self, client: str, now_ns: int) -> int:
        """Return how many seconds the client's ban still lasts, rounded up; 0 for none."""
        left_ns = self._banned_until.get(client, 0) - now_ns
        if left_ns <= 0:
            self._banned_until.pop(client, None)
            return 0
        return -(-left_ns // NANOSECONDS_PER_SECOND)

    def ban(self, client: str, seconds: float, now_ns: int) -> None:
        """Ban a client."""
        self._banned_until[client] = now_ns + int(seconds * NANOSECONDS_PER_SECOND)

    def pardon(self) -> None:
        """Forget every count and every ban."""
        for kept in (self._used, self._refusals, self._banned_until, self._last_ban_s):
            kept.clear()

    def _count(self, charge: Charge, window: int) -> int:
        known, count = self._used.get((charge.rule, charge.key), (window, 0))
        return count if known == window else 0

    def _refuse(self, client: str, retry_s: int, used: Mapping[str, int], now_ns: int) -> Verdict:
        refusals = self._refusals.get(client, 0) + 1
        if refusals <= self._ban.refusals_max:
            self._refusals[client] = refusals
            return Verdict(429, retry_s, used)
        self._refusals.pop(client, None)
        seconds = min(self._ban.ban_max_s, 2 * self._last_ban_s.get(client, 0) or self._ban.ban_min_s)
        self._last_ban_s[client] = seconds
        self.ban(client, seconds, now_ns)
        return Verdict(418, seconds, used)

    def _forget(self, now_ns: int) -> None:
        windows = {name: _window(rule, now_ns)[0] for name, rule in self.rules.items()}
        self._used = {key: kept for key, kept in self._used.items() if kept[0] == windows[key[0]]}


def _window(rule: Rule, now_ns: int) -> tuple[int, int]:
    """Return the number of the window that `now_ns` lies in, and the seconds until it ends, rounded up."""
    length_ns = rule.window_s * NANOSECONDS_PER_SECOND
    number, passed_ns = divmod(now_ns, length_ns)
    return number, -(-(length_ns - passed_ns) // NANOSECONDS_PER_SECOND)
