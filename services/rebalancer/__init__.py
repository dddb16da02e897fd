"""2: The cascade rebalancer: closed bars and the account come in, order intents and decision records go out.

In: `md.bar`, `md.closed`, `md.instrument` (stream MD_BARS), `ord.event`, `ord.refused` (ORDERS), `acct` (ACCOUNTS),
`risk.state`.
Out: `ord.intent`, `decision.rebalancer`, `progress.rebalancer`; its state in the key-value bucket `state`.
Never: an intent before the state that explains it is stored; two plans at once; a sale made twice, whatever dies when;
a plan while trading is not ACTIVE; a price, balance or position that nobody reported.

`from services.rebalancer import RebalanceConfig, BacktestEngine, LiveRebalancer` is the Python API; the two engines
live in `services.backtest` and are imported only when asked for.
"""

from typing import TYPE_CHECKING

from services.rebalancer.config import RebalanceConfig

if TYPE_CHECKING:
    from services.backtest.api import BacktestEngine
    from services.backtest.live import LiveRebalancer

__all__ = ["BacktestEngine", "LiveRebalancer", "RebalanceConfig"]


def __getattr__(name: str) -> object:
    # The service itself never needs a backtest's parts, so they are not loaded with it.
    if name == "BacktestEngine":
        from services.backtest.api import BacktestEngine  # noqa: PLC0415 - see above

        return BacktestEngine
    if name == "LiveRebalancer":
        from services.backtest.live import LiveRebalancer  # noqa: PLC0415 - see above

        return LiveRebalancer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
