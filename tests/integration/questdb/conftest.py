"""One real QuestDB for the session, and writers and readers on it."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from shared.store.questdb.options import WriterOptions
from shared.store.questdb.reader import QuestdbReader
from shared.store.questdb.sink import QuestdbSink
from shared.store.questdb.writer import QuestdbWriter
from shared.testing.questdb import RealQuestdb, questdb_server

__all__ = ["questdb_server"]

QUICK = WriterOptions(flush_interval_s=0.02, retry_first_s=0.05, retry_max_s=0.3, watch_interval_s=0.2, watch_grace_s=1)


@pytest.fixture(scope="session")
def connected(questdb_server: RealQuestdb) -> Iterator[QuestdbSink]:
    """Hold one connection: the client warns of many."""
    made = questdb_server.sink()
    yield made
    made.close()


@pytest.fixture
def sink(connected: QuestdbSink) -> QuestdbSink:
    """Write to the server, every table in place."""
    connected.prepare()
    return connected


@pytest.fixture
def make_writer(questdb_server: RealQuestdb, tmp_path: Path) -> Iterator[Callable[[], QuestdbWriter]]:
    """Return a maker of writers that share one spool; all are closed at the end."""
    made: list[QuestdbWriter] = []

    def make() -> QuestdbWriter:
        writer = QuestdbWriter(questdb_server.sink(), tmp_path / "spool", QUICK)
        writer.start()
        made.append(writer)
        return writer

    yield make
    for writer in made:
        writer.close()


@pytest.fixture
async def reader(sink: QuestdbSink, questdb_server: RealQuestdb) -> AsyncIterator[QuestdbReader]:
    """Read from the server."""
    async with questdb_server.reader() as made:
        yield made


def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Poll until true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.02)
