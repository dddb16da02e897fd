"""The EMA cross in NautilusTrader, run by a Python that has it: nautilus_ema.py CANDLES.npz FAST SLOW REPEATS

Its own example strategy (long only, market orders, bars as they come) on its own spot instrument, quotes left out.
Prints one JSON object: CPU seconds of the engine's runs, orders, bars.
"""

import json
import sys
import time
from decimal import Decimal

import nautilus_trader
import numpy as np
from nautilus_trader.backtest.config import BacktestEngineConfig
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.config import LoggingConfig
from nautilus_trader.examples.strategies.ema_cross_long_only import EMACrossLongOnly, EMACrossLongOnlyConfig
from nautilus_trader.model.currencies import ETH, USDT
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import AccountType, OmsType
from nautilus_trader.model.identifiers import Venue
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.test_kit.providers import TestInstrumentProvider


def once(bars: list, instrument, bar_type: BarType, fast: int, slow: int) -> tuple[float, int]:
    """Return the CPU seconds of one run, and its orders."""
    quiet = LoggingConfig(bypass_logging=True)
    engine = BacktestEngine(BacktestEngineConfig(logging=quiet, run_analysis=False))
    engine.add_venue(
        venue=Venue("BINANCE"),
        oms_type=OmsType.NETTING,
        account_type=AccountType.CASH,
        base_currency=None,
        starting_balances=[Money(10_000_000, USDT), Money(0, ETH)],
    )
    engine.add_instrument(instrument)
    engine.add_data(bars)
    config = EMACrossLongOnlyConfig(
        instrument_id=instrument.id,
        bar_type=bar_type,
        trade_size=Decimal("1"),
        fast_ema_period=fast,
        slow_ema_period=slow,
        request_historical_bars=False,
    )
    engine.add_strategy(EMACrossLongOnly(config=config))
    began = time.process_time()
    engine.run()
    seconds = time.process_time() - began
    orders = engine.cache.orders_total_count()
    engine.dispose()
    return seconds, orders


def main() -> None:
    """Print the figures."""
    path, fast, slow, repeats = sys.argv[1], *(int(text) for text in sys.argv[2:5])
    found = np.load(path)
    instrument = TestInstrumentProvider.ethusdt_binance()
    bar_type = BarType.from_str(f"{instrument.id}-1-MINUTE-LAST-EXTERNAL")
    closes = np.round(found["closes"][:, 0], 2)
    volume = Quantity(1_000_000, precision=instrument.size_precision)
    bars = []
    for close, at_ns in zip(closes.tolist(), found["close_ns"].tolist(), strict=True):
        # A tick around the close: the example passes over bars of a single price.
        low, price, high = (Price(close + tick, instrument.price_precision) for tick in (-0.01, 0.0, 0.01))
        bars.append(Bar(bar_type, price, high, low, price, volume, at_ns, at_ns))
    runs = [once(bars, instrument, bar_type, fast, slow) for _ in range(repeats)]
    answer = {
        "version": nautilus_trader.__version__,
        "seconds": [seconds for seconds, _ in runs],
        "orders": runs[0][1],
        "bars": len(bars),
    }
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
