"""How a venue is reached: addresses, credentials, and how long each thing may take.

In: settings. Out: one frozen value that both sides of an adapter share. Never: a credential in a text about it.
"""

import msgspec

_SECRETS = frozenset({"api_key", "secret"})


class WireConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Configure a connection; an address of None means the real venue. Ages and waits are in seconds.

    `socket_age_max_s` stays below the venue's own limit (24 hours), so that we choose the moment. A market counts as
    stale after `stale_after_s` without data; whether it trades is looked at every `listing_interval_s`. `wait_max_s`
    bounds the wait for a turn within the venue's rate limits. `key_cannot_withdraw` is a person's word for what a
    venue's API does not tell of a key.
    """

    venue: str
    rest_url: str | None = None
    ws_url: str | None = None
    ws_api_url: str | None = None
    api_key: str = ""
    secret: str = ""
    key_cannot_withdraw: bool = False
    connect_timeout_s: float = 10.0
    request_timeout_s: float = 10.0
    ack_timeout_s: float = 10.0
    ping_interval_s: float = 10.0
    pong_timeout_s: float = 10.0
    socket_age_max_s: float = 23 * 3600.0
    stale_after_s: float = 30.0
    reconnect_first_s: float = 0.25
    reconnect_most_s: float = 30.0
    clock_interval_s: float = 60.0
    listing_interval_s: float = 30.0
    wait_max_s: float = 10.0
    read_attempts_max: int = 4

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, float | int) and not isinstance(value, bool) and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be a positive number, got {value}")
        for name in ("rest_url", "ws_url", "ws_api_url"):
            url = getattr(self, name)
            if url is not None and "://" not in url:
                raise ValueError(f"{name} must be an address like https://host, got {url!r}")

    def __repr__(self) -> str:
        shown = (f"{name}={_shown(name, getattr(self, name))}" for name in self.__struct_fields__)
        return f"{type(self).__name__}({', '.join(shown)})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [(name, _shown(name, getattr(self, name))) for name in self.__struct_fields__]


def _shown(name: str, value: object) -> str:
    if name in _SECRETS:
        return "'…'" if value else "''"
    return repr(value)
