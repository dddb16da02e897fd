"""Binance's request limits, and how much of them is used.

In: who asks, what it weighs. Out: a verdict, headers, the `rateLimits` of ws-api answers.
Never: an order beyond the account's limit.
"""

from collections.abc import Mapping

from services.sandbox_exchange.binance.errors import ApiError
from services.sandbox_exchange.binance.words import Payload
from services.sandbox_exchange.wire.context import Venue
from services.sandbox_exchange.wire.limits import Charge, Rule, TooManyRequestsError

WEIGHT, ORDERS_SOON, ORDERS_DAY, CONNECTIONS = "weight", "orders_10s", "orders_1d", "connections"
RULES: Mapping[str, Rule] = {
    WEIGHT: Rule(6_000, 60),
    ORDERS_SOON: Rule(100, 10),
    ORDERS_DAY: Rule(200_000, 86_400),
    CONNECTIONS: Rule(300, 300),
}
ORDER_WINDOWS = ((ORDERS_SOON, "SECOND", 10), (ORDERS_DAY, "DAY", 1))

RATE_LIMITS: list[Payload] = [
    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": RULES[WEIGHT].weight_max},
    *(
        {"rateLimitType": "ORDERS", "interval": unit, "intervalNum": number, "limit": RULES[name].weight_max}
        for name, unit, number in ORDER_WINDOWS
    ),
]


def charge_weight(venue: Venue, client: str, weight: int) -> int:
    """Count a request and return what the address has used in this minute. Raises TooManyRequestsError."""
    verdict = venue.limits.charge(client, [Charge(WEIGHT, client, weight)], venue.now_ns())
    if not verdict.is_allowed:
        raise TooManyRequestsError(verdict)
    return verdict.used[WEIGHT]


def charge_connection(venue: Venue, client: str) -> None:
    """Count a websocket connection. Raises TooManyRequestsError beyond 300 in five minutes."""
    verdict = venue.limits.charge(client, [Charge(CONNECTIONS, client)], venue.now_ns())
    if not verdict.is_allowed:
        raise TooManyRequestsError(verdict)


def charge_orders(venue: Venue, client: str, account: str, orders: int) -> None:
    """Count new orders of an account; -1015 beyond its limit."""
    charges = [Charge(name, account, orders) for name, _, _ in ORDER_WINDOWS]
    verdict = venue.limits.charge(client, charges, venue.now_ns())
    if verdict.is_allowed:
        return
    name, unit, number = next(one for one in ORDER_WINDOWS if verdict.used.get(one[0], 0) > RULES[one[0]].weight_max)
    words = f"Too many new orders; current limit is {RULES[name].weight_max} orders per {number} {unit}."
    raise ApiError(-1015, words, status=429)


def order_counts(venue: Venue, account: str, now_ns: int) -> list[Payload]:
    """Return how many orders the account has placed in the windows that are limited."""
    return [
        {
            "rateLimitType": "ORDERS",
            "interval": unit,
            "intervalNum": number,
            "limit": RULES[name].weight_max,
            "count": venue.limits.used(name, account, now_ns),
        }
        for name, unit, number in ORDER_WINDOWS
    ]


def weight_count(used: int) -> Payload:
    """Return the weight that an address has used in this minute."""
    return {**RATE_LIMITS[0], "count": used}
