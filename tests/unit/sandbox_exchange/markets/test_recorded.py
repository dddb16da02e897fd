"""Recorded frames come back byte for byte, with the snapshot at its place; known answers of the real recording."""

import asyncio
import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.sandbox_exchange.markets.playback import Playback, play
from services.sandbox_exchange.markets.recorded import FrameKind, RecordedFrame, RecordedMarket, load_recorded
from shared.errors import InputError
from shared.testing.data import data_file

START_NS = 1_723_161_253_937_085_768
SNAPSHOT = b'{"lastUpdateId":12,"bids":[["10.00","1.0"]],"asks":[["11.00","2.0"]]}'


def diff(first: int, last: int, bids: str = "[]", asks: str = "[]") -> bytes:
    text = f'{{"stream":"abcusdt@depth@100ms","data":{{"s":"ABCUSDT","U":{first},"u":{last},"b":{bids},"a":{asks}}}}}'
    return text.encode()


LINES = [
    diff(9, 10),
    b'{"stream":"abcusdt@trade","data":{"s":"ABCUSDT","p":"10.5"}}',
    SNAPSHOT,
    diff(11, 13, '[["10.00","0.0"],["9.50","3.0"]]'),
    diff(14, 15, "[]", '[["10.75","1.5"]]'),
]


def write(path: Path, lines: list[bytes]) -> Path:
    body = b"".join(b"%d %s\n" % (START_NS + 1_000_000 * at, line) for at, line in enumerate(lines))
    path.write_bytes(gzip.compress(body) if path.suffix == ".gz" else body)
    return path


@pytest.fixture
def small(tmp_path: Path) -> RecordedMarket:
    return load_recorded(write(tmp_path / "small.gz", LINES))


@pytest.fixture(scope="module")
def real() -> RecordedMarket:
    return load_recorded(data_file("hftbacktest_raw/spot_btcusdt_20240808.gz"))


def test_real_recording_has_its_known_counts(real: RecordedMarket) -> None:
    counts = Counter(frame.kind for frame in real.frames)
    assert counts == {FrameKind.DEPTH: 3_451, FrameKind.BOOK_TICKER: 28_040, FrameKind.TRADE: 9_757}
    assert (real.symbol, real.snapshot_index) == ("BTCUSDT", 7)
    assert msgspec.json.decode(real.snapshot_bytes)["lastUpdateId"] == 50_093_239_218
    offsets = [frame.offset_ns for frame in real.frames]
    assert offsets == sorted(offsets)
    assert offsets[0] == 0


def test_payloads_are_the_lines_of_the_file(real: RecordedMarket) -> None:
    path = data_file("hftbacktest_raw/spot_btcusdt_20240808.gz")
    bodies = [line.partition(b" ")[2] for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert bodies.pop(real.snapshot_index) == real.snapshot_bytes
    assert [frame.payload for frame in real.frames] == bodies


async def test_rebuilt_snapshot_of_the_whole_recording_has_the_known_book(real: RecordedMarket) -> None:
    playback = Playback(real, hold_s=0)
    await playback.run(lambda frame: None, None)
    book = msgspec.json.decode(await playback.snapshot())
    assert book["lastUpdateId"] == 50_093_421_584
    assert [book["bids"][0], book["asks"][0]] == [["61685.99000000", "1.00870000"], ["61686.00000000", "2.29327000"]]
    assert (len(book["bids"]), len(book["asks"])) == (1_209, 2_196)


async def test_snapshots_asked_for_anywhere_agree_with_the_book_ticker(real: RecordedMarket) -> None:
    playback, snapshots = Playback(real, hold_s=0), dict[int, Any]()

    async def ask_at_each_hundredth_diff(frame: RecordedFrame) -> None:
        if frame.kind is FrameKind.DEPTH and playback.position % 100 == 0:
            book = msgspec.json.decode(await playback.snapshot())
            snapshots[book["lastUpdateId"]] = (book["bids"][0], book["asks"][0])

    await playback.run(ask_at_each_hundredth_diff, None)
    tickers = [msgspec.json.decode(f.data) for f in real.frames if f.kind is FrameKind.BOOK_TICKER]
    shared = {t["u"]: ([t["b"], t["B"]], [t["a"], t["A"]]) for t in tickers if t["u"] in snapshots}
    assert len(shared) > 2
    assert {update: snapshots[update] for update in shared} == shared


async def test_every_frame_is_sent_once_and_in_order(small: RecordedMarket) -> None:
    sent: list[RecordedFrame] = []
    await play(small, sent.append, None)
    assert sent == list(small.frames)
    assert [frame.offset_ns for frame in sent] == [0, 1_000_000, 3_000_000, 4_000_000]


async def test_snapshot_waits_for_its_place_and_is_the_recorded_body(small: RecordedMarket) -> None:
    playback, sent = Playback(small, hold_s=30), list[RecordedFrame]()

    async def ask() -> tuple[bytes, int]:
        return await playback.snapshot(), len(sent)

    asked = asyncio.ensure_future(ask())
    await asyncio.sleep(0)
    assert not asked.done()
    await playback.run(sent.append, None)
    assert await asked == (SNAPSHOT, 2)


async def test_stream_stops_at_the_snapshot_until_somebody_asks(small: RecordedMarket) -> None:
    playback, sent = Playback(small, hold_s=30), list[RecordedFrame]()
    running = asyncio.ensure_future(playback.run(sent.append, None))
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(sent) == small.snapshot_index
    assert await playback.snapshot() == SNAPSHOT
    await running
    assert playback.done.is_set()


async def test_late_client_gets_a_book_of_every_frame_sent(small: RecordedMarket) -> None:
    playback = Playback(small, hold_s=0)
    await playback.run(lambda frame: None, None)
    for _ in range(2):
        assert msgspec.json.decode(await playback.snapshot()) == {
            "lastUpdateId": 15,
            "bids": [["9.50", "3.0"]],
            "asks": [["10.75", "1.5"], ["11.00", "2.0"]],
        }


async def test_snapshot_that_never_comes_times_out(small: RecordedMarket) -> None:
    with pytest.raises(TimeoutError):
        await Playback(small).snapshot(timeout_s=0.01)


async def test_frames_keep_their_distances_at_the_given_speed(small: RecordedMarket) -> None:
    now, sent = [0], list[tuple[int, int]]()

    async def sleep(seconds: float) -> None:
        now[0] += round(seconds * 1e9)

    playback = Playback(small, hold_s=0, now_ns=lambda: now[0], sleep=sleep)
    await playback.run(lambda frame: sent.append((now[0], frame.offset_ns)), 0.5)
    assert [at for at, _ in sent] == [2 * offset for _, offset in sent]


async def test_stall_is_not_caught_up_in_a_burst(small: RecordedMarket) -> None:
    now, sent = [0], list[int]()

    async def sleep(seconds: float) -> None:
        now[0] += round(seconds * 1e9)

    def send(frame: RecordedFrame) -> None:
        sent.append(now[0])
        if len(sent) == 2:
            now[0] += 10_000_000_000

    await Playback(small, hold_s=0, now_ns=lambda: now[0], sleep=sleep).run(send, 1.0)
    assert sent[3] - sent[2] == 1_000_000


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([LINES[0]], "one REST snapshot"),
        ([*LINES, SNAPSHOT], "line 6: holds a second snapshot"),
        ([*LINES, b'{"stream":"abcusdt@kline_1m","data":{"s":"ABCUSDT"}}'], "line 6: is no depth"),
        ([*LINES, b'{"stream":"xyzusdt@trade","data":{"s":"XYZUSDT"}}'], "ABCUSDT, XYZUSDT"),
        ([*LINES, b'{"stream":"abcusdt@trade","data":{'], "line 6: is no depth"),
        ([b""], "line 1: is not"),
    ],
)
def test_unusable_recording_is_refused_with_its_line(tmp_path: Path, lines: list[bytes], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_recorded(write(tmp_path / "bad.txt", lines))


def test_recording_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    cut = write(tmp_path / "cut.gz", LINES)
    cut.write_bytes(cut.read_bytes()[:-12])
    for path in (cut, tmp_path / "absent.gz"):
        with pytest.raises(InputError, match="cannot be read"):
            load_recorded(path)
