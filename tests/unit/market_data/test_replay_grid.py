from decimal import Decimal
from pathlib import Path

import pytest

from services.market_data.replay_file import load_replay

ROWS = "symbol,open_time,open,high,low,close,volume\n"


def grid_of(tmp_path: Path, price: str, volume: str) -> tuple[Decimal, Decimal]:
    lines = [
        f"{symbol},{1_767_225_600_000 + hour * 3_600_000},{price},{price},{price},{price},{volume}"
        for symbol in ("AAAUSDT", "BBBUSDT")
        for hour in range(3)
    ]
    path = tmp_path / "candles.csv"
    path.write_text(ROWS + "\n".join(lines))
    instrument = load_replay(path, ("AAA-USDT", "BBB-USDT")).instruments[0]
    return instrument.tick_size, instrument.step_size


def test_the_digits_in_the_file_are_the_grid(tmp_path: Path) -> None:
    assert grid_of(tmp_path, "11.237", "1523.25") == (Decimal("0.001"), Decimal("0.01"))


@pytest.mark.parametrize(("price", "volume"), [("1", "1000000"), ("100", "5000"), ("60000", "12"), ("1.0000", "10.0")])
def test_round_numbers_do_not_make_an_asset_untradable(tmp_path: Path, price: str, volume: str) -> None:
    tick, step = grid_of(tmp_path, price, volume)
    assert tick <= Decimal(price) * Decimal("0.002")
    assert step * Decimal(price) <= 5
