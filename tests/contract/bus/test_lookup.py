"""What is stored can be looked up: the last message, the history, key-value entries."""

import asyncio

import pytest

from shared.bus.port import Bus, KeyValueEntry
from shared.errors import BusUnavailableError, DecodeError, InputError
from tests.contract.bus.conftest import SPECS, Stage, note


async def test_last_is_the_newest_message_of_one_subject(stage: Stage, bus: Bus) -> None:
    assert await bus.last("ORDERS", "ord.a") is None
    for number, subject in enumerate(("ord.a", "ord.b", "ord.a", "ord.c")):
        await bus.publish(subject, note(number), message_id=str(number))
    found = await bus.last("ORDERS", "ord.a")
    assert found is not None
    assert (found.subject, found.message, found.stream_sequence, found.delivered) == ("ord.a", note(2), 3, 0)


async def test_last_of_an_unreadable_frame_is_an_error_not_an_older_message(stage: Stage, bus: Bus) -> None:
    await bus.publish("ord.a", note(1), message_id="1")
    await stage.send_raw("ord.a", b"\xc1")
    with pytest.raises(DecodeError):
        await bus.last("ORDERS", "ord.a")


async def test_last_of_a_missing_stream_fails_loudly(stage: Stage, bus: Bus) -> None:
    with pytest.raises(BusUnavailableError):
        async with asyncio.timeout(20):
            await bus.last("NOSUCH", "ord.a")


async def test_history_pages_through_a_pattern_oldest_first(stage: Stage, bus: Bus) -> None:
    await bus.publish_all([(f"ord.{'ab'[n % 2]}.x", note(n), str(n)) for n in range(620)], timeout_s=25.0)
    assert [d.stream_sequence for d in await bus.history("ORDERS", "ord.>", limit=610)] == list(range(1, 611))
    page = await bus.history("ORDERS", "ord.b.*", start_sequence=600, limit=10)
    assert [d.stream_sequence for d in page] == list(range(600, 620, 2))
    assert {d.subject for d in page} == {"ord.b.x"}
    assert len(await bus.history("ORDERS", "ord.a.x", limit=5_000)) == 310
    assert await bus.history("ORDERS", "ord.>", start_sequence=621) == []
    assert await bus.history("ORDERS", "ord.none") == []


async def test_the_end_of_a_stream_is_known_without_reading_it(stage: Stage, bus: Bus) -> None:
    assert await bus.last_sequence("SMALL") == 0
    for number in range(8):
        await bus.publish("small.a", note(number), message_id=str(number))
    assert await bus.last_sequence("SMALL") == 8
    assert [d.stream_sequence for d in await bus.history("SMALL", "small.>", start_sequence=7)] == [7, 8]


async def test_history_passes_over_unreadable_frames_and_counts_them(stage: Stage, bus: Bus) -> None:
    await bus.publish("ord.a", note(1), message_id="1")
    await stage.send_raw("ord.a", b"junk")
    await bus.publish("ord.a", note(2), message_id="2")
    assert [d.stream_sequence for d in await bus.history("ORDERS", "ord.a")] == [1, 3]
    assert bus.counters()["dead_lettered"] == 1


async def test_a_full_stream_drops_the_oldest(stage: Stage, bus: Bus) -> None:
    for number in range(1, 9):
        await bus.publish("small.a", note(number), message_id=str(number))
    assert [d.stream_sequence for d in await bus.history("SMALL", "small.>")] == [4, 5, 6, 7, 8]


async def test_a_stream_may_keep_only_the_latest_of_each_subject(stage: Stage, bus: Bus) -> None:
    for number in range(1, 7):
        await bus.publish(f"latest.{number % 2}", note(number), message_id=str(number))
    assert [d.stream_sequence for d in await bus.history("LATEST", "latest.>")] == [5, 6]


async def test_bootstrap_can_run_again_and_keeps_what_is_stored(stage: Stage, bus: Bus) -> None:
    await bus.publish("ord.a", note(1), message_id="1")
    values = await bus.key_value("state")
    await values.put("key", b"value")
    await bus.bootstrap(SPECS, ("state", "other"))
    assert len(await bus.history("ORDERS", "ord.>")) == 1
    assert await values.get("key") == KeyValueEntry(value=b"value", revision=1)


async def test_a_key_value_entry_is_created_once(stage: Stage) -> None:
    one = await (await stage.bus("one")).key_value("state")
    two = await (await stage.bus("two")).key_value("state")
    assert await one.get("lease.a") is None
    results = await asyncio.gather(one.create("lease.a", b"one"), two.create("lease.a", b"two"))
    assert sorted(result is None for result in results) == [False, True]
    winner = b"one" if results[0] is not None else b"two"
    assert await one.get("lease.a") == await two.get("lease.a")
    entry = await one.get("lease.a")
    assert entry is not None
    assert entry.value == winner


async def test_a_key_value_update_needs_the_current_revision(stage: Stage, bus: Bus) -> None:
    values = await bus.key_value("state")
    first = await values.create("plan", b"1")
    assert first is not None
    second = await values.update("plan", b"2", revision=first)
    assert second is not None
    assert second > first
    assert await values.update("plan", b"stale", revision=first) is None
    assert await values.update("absent", b"x", revision=first) is None
    assert await values.get("plan") == KeyValueEntry(value=b"2", revision=second)


async def test_a_deleted_key_is_absent_and_can_be_created_again(stage: Stage, bus: Bus) -> None:
    values = await bus.key_value("state")
    first = await values.put("k", b"1")
    await values.delete("k")
    assert await values.get("k") is None
    again = await values.create("k", b"2")
    assert again is not None
    assert again > first
    assert await values.create("k", b"3") is None
    assert await values.get("k") == KeyValueEntry(value=b"2", revision=again)


async def test_keys_do_not_disturb_each_other(stage: Stage, bus: Bus) -> None:
    values = await bus.key_value("state")
    a = await values.put("a", b"1")
    await values.put("a.b", b"2")
    assert await values.update("a", b"3", revision=a) is not None
    assert (await values.get("a.b")) is not None
    assert (await values.get("a.b.c")) is None


async def test_an_empty_value_is_a_value(stage: Stage, bus: Bus) -> None:
    values = await bus.key_value("state")
    revision = await values.put("k", b"")
    assert await values.get("k") == KeyValueEntry(value=b"", revision=revision)


@pytest.mark.parametrize("key", ["", "a b", "a.*", ">", ".a", "a.", "a..b", "ä", "a\r\n"])
async def test_an_impossible_key_is_refused(stage: Stage, bus: Bus, key: str) -> None:
    values = await bus.key_value("state")
    with pytest.raises(InputError):
        await values.put(key, b"x")
    with pytest.raises(InputError):
        await values.get(key)
