"""The bars that QuestDB makes of trades equal our own aggregation, whatever the order and the batches."""

import random
from collections.abc import Callable

import pytest

from shared.store.questdb.frame import frame_of
from shared.store.questdb.reader import QuestdbReader
from shared.store.questdb.schema import VIEW_TIMEFRAMES
from shared.store.questdb.sink import QuestdbSink
from shared.store.questdb.writer import QuestdbWriter
from shared.store.tables import TABLE_BY_NAME
from shared.testing.ticks import bars_of, rows_of, trades
from tests.integration.questdb.conftest import until

MINUTE_NS = 60 * 1_000_000_000
WIDTHS = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440}
N = 12_000
# Five hours, every fourth trade at the time of the one before.
FOUND = trades(N, venue="views", step_ns=2_000_000_000)


@pytest.fixture(scope="module")
def filled(connected: QuestdbSink) -> QuestdbSink:
    sink = connected
    sink.prepare()
    rows = rows_of(FOUND)
    parts = [rows[start : start + 997] for start in range(0, N, 997)]
    random.Random(1).shuffle(parts)
    for part in [*parts, parts[3]]:
        shuffled = list(part)
        random.Random(2).shuffle(shuffled)
        sink.send([frame_of(TABLE_BY_NAME["trades"], shuffled)[0]])
    until(sink.refresh)
    until(lambda: sink._query("SELECT sum(trades) FROM trades_1d WHERE venue = 'views'") == [[N]])
    return sink


@pytest.mark.parametrize("timeframe", VIEW_TIMEFRAMES)
async def test_bars_of_the_database_equal_our_own(timeframe: str, filled: QuestdbSink, reader: QuestdbReader) -> None:
    width_ns = WIDTHS[timeframe] * MINUTE_NS
    expected = bars_of(FOUND, width_ns)
    assert len(expected) > 1 or timeframe == "1d"
    for instrument in ("A-USDT", "B-USDT"):
        made = await reader.trade_bars(timeframe, venue="views", instrument=instrument)
        assert {
            (bar.instrument, bar.open_time_ns): (
                bar.open, bar.high, bar.low, bar.close, bar.volume, bar.quote_volume, bar.trades
            )
            for bar in made
        } == {key: bar for key, bar in expected.items() if key[0] == instrument}  # fmt: skip


async def test_a_late_trade_corrects_its_bars(filled: QuestdbSink, reader: QuestdbReader) -> None:
    late = trades(30, venue="late", instruments=("L-USDT",), step_ns=10_000_000_000)
    table = TABLE_BY_NAME["trades"]
    filled.send([frame_of(table, rows_of(late[5:]))[0]])
    until(filled.refresh)
    until(lambda: filled._query("SELECT sum(trades) FROM trades_1h WHERE venue = 'late'") == [[25]])
    filled.send([frame_of(table, rows_of(late[:5]))[0]])
    until(filled.refresh)
    until(lambda: filled._query("SELECT sum(trades) FROM trades_1h WHERE venue = 'late'") == [[30]])
    (bar,) = await reader.trade_bars("1h", venue="late", instrument="L-USDT")
    assert (bar.open, bar.close) == (late[0].price, late[-1].price)


def test_bars_follow_the_writer_without_being_asked_for(
    make_writer: Callable[[], QuestdbWriter], sink: QuestdbSink
) -> None:
    writer = make_writer()
    for start in range(0, 300, 100):
        writer.offer(rows_of(trades(300, venue="followed")[start : start + 100]))
        assert writer.flush(20)
    until(lambda: sink._query("SELECT sum(trades) FROM trades_1d WHERE venue = 'followed'") == [[300]])


def test_a_view_of_an_earlier_build_is_no_longer_made_anew_at_each_commit(sink: QuestdbSink) -> None:
    def kind() -> list[list[object]]:
        return sink._query("SELECT refresh_type FROM materialized_views() WHERE view_name = 'trades_1m'")

    sink._execute('ALTER MATERIALIZED VIEW "trades_1m" SET REFRESH IMMEDIATE')
    until(lambda: kind() == [["immediate"]])
    sink.prepare()
    until(lambda: kind() == [["timer"]])
