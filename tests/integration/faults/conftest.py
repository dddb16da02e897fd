"""Short waits for every test of this folder: the venues' pace of our own requests is production's, and only waits.

ccxt is imported here: on a busy machine that takes many seconds, of which no test's time limit and no ping knows.
"""

import ccxt.async_support  # noqa: F401
import pytest

from shared.exchange.binance import endpoints as binance_endpoints
from shared.exchange.binance import rest as binance_rest
from shared.exchange.mexc import rest as mexc_rest


@pytest.fixture(autouse=True)
def quick_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the venues be asked as fast as they answer; what they refuse for that is a fault of its own."""
    monkeypatch.setattr(mexc_rest, "REQUESTS_PER_S", 1000.0)
    monkeypatch.setitem(mexc_rest.PAUSES_S, 403, 0.5)
    monkeypatch.setattr(binance_rest, "PAUSE_S", 0.5)
    monkeypatch.setattr(binance_endpoints, "WEIGHT_PER_MINUTE", 600_000.0)
