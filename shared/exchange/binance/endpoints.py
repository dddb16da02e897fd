"""Where Binance is, and what it lets one client do. Source: binance-spot-api-docs, rest-api and web-socket-streams.

In: settings. Out: addresses without a slash at their end, limits. Never: an address of the real venue when another
one was given.
"""

from urllib.parse import urlsplit, urlunsplit

from shared.errors import ConfigError
from shared.exchange.live.config import WireConfig
from shared.exchange.live.limits import PriorityBucket, VenueLimits

REST_URL = "https://api.binance.com"
STREAM_URL = "wss://stream.binance.com:9443/ws"
WS_API_URL = "wss://ws-api.binance.com:443/ws-api/v3"

WEIGHT_PER_MINUTE = 6_000
# Of that, questions leave so much to orders and cancels at any time.
RESERVE = 200
ORDERS_PER_10_S = 100
# What the venue wants to rest after a refusal that names no time: its window is a minute, its shortest ban is two.
PAUSE_S = 60.0
BAN_S = 120.0


def rest_url(config: WireConfig) -> str:
    """Return the address of the REST interface, without `/api`."""
    return (config.rest_url or REST_URL).rstrip("/")


def stream_url(config: WireConfig) -> str:
    """Return the address of raw market streams."""
    if config.ws_url is None:
        if config.rest_url is not None:
            raise ConfigError("ws_url must be set where rest_url is: market data and orders belong to one venue")
        return STREAM_URL
    url = config.ws_url.rstrip("/")
    return url if urlsplit(url).path else f"{url}/ws"


def ws_api_url(config: WireConfig) -> str:
    """Return the address of the websocket interface, by default on the host of the streams."""
    if config.ws_api_url is not None:
        return config.ws_api_url.rstrip("/")
    if config.ws_url is None:
        if config.rest_url is not None:
            raise ConfigError("ws_api_url must be set where rest_url is: reports and orders belong to one venue")
        return WS_API_URL
    parts = urlsplit(config.ws_url)
    return urlunsplit((parts.scheme, parts.netloc, "/ws-api/v3", "", ""))


def limits(config: WireConfig) -> VenueLimits:
    """Return Binance's limits of one address and one account."""
    return VenueLimits(
        PriorityBucket(WEIGHT_PER_MINUTE, 60.0, reserve=RESERVE),
        PriorityBucket(ORDERS_PER_10_S, 10.0),
        wait_max_s=config.wait_max_s,
    )
