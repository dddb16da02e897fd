"""ccxt is imported before any test: on a busy machine that takes many seconds, of which no test's time limit knows."""

import ccxt.async_support  # noqa: F401
