"""From the bus into the buffer.

In: deliveries, durable ones with what acknowledges them. Out: rows that wait for the disk.
Never: a message taken beyond the bounds; one left out without being counted.
"""

import hashlib
from collections.abc import Callable

from services.recorder.core import Buffer, Entry, Gaps, Room, unusable, usable_runs
from services.recorder.telemetry import Telemetry
from services.recorder.ticket import Kept, Ticket
from shared.bus import subjects
from shared.bus.port import Bus, Delivery, PendingAck
from shared.errors import DeferError
from shared.logs import Log
from shared.messages import BarsClosed, DeadLetter, Message, Progress, encode
from shared.store.port import Rejected, Row
from shared.store.runs import Run, integers
from shared.store.tables import Table, TableClass, table_of, unpacked

NAME = "recorder"
DEAD_PAYLOAD_MAX = 256 * 1024
FULL_DELAY_S = 0.1


class Intake:
    """Turn deliveries into rows of `buffer`; `on_room_used` is called after each row, `on_step` for each step's end."""

    def __init__(
        self,
        bus: Bus,
        buffer: Buffer[Ticket],
        telemetry: Telemetry,
        log: Log,
        *,
        read_monotonic_ns: Callable[[], int],
        read_wall_ns: Callable[[], int],
        on_row: Callable[[], None],
        on_step: Callable[[BarsClosed], None],
    ) -> None:
        self._bus, self._buffer, self._telemetry, self._log = bus, buffer, telemetry, log
        self._monotonic_ns, self._wall_ns = read_monotonic_ns, read_wall_ns
        self._on_row, self._on_step = on_row, on_step
        self._progress: dict[str, Progress] = {}
        self.gaps = Gaps()

    async def take_durable(self, stream: str, pending: PendingAck) -> None:
        """Take a message of a stream; raises DeferError while there is no room, so that the stream waits."""
        await self.take_stored(stream, pending.delivery, pending)
        if isinstance(pending.delivery.message, BarsClosed):
            self._on_step(pending.delivery.message)

    async def take_stored(self, stream: str, delivery: Delivery, ticket: Ticket) -> None:
        """Take a stream's message that is confirmed by `ticket`; raises DeferError while there is no room."""
        payload = encode(delivery.message)
        row = Row(
            delivery.message, delivery.subject, self._wall_ns(), stream, delivery.stream_sequence, message_hash(payload)
        )
        reason = unusable(table_of(row.message), row.message)
        if reason is not None:
            self._bury(row, reason, payload)
            await ticket.ack()
        elif not self._add(row, len(payload), ticket):
            raise DeferError("the disk is behind", delay_s=FULL_DELAY_S)

    async def take_lossy(self, delivery: Delivery) -> None:
        """Take what came without a stream, or count its loss."""
        if isinstance(delivery.message, Progress):
            # It is repeated each second and says nothing new.
            if self._progress.get(delivery.subject) == delivery.message:
                return
            self._progress[delivery.subject] = delivery.message
        messages = unpacked(delivery.message)
        if not messages:
            return
        table = table_of(delivery.message)
        if table.kind is TableClass.TICKS:
            self._take_ticks(table, Run(messages, delivery.subject, self._wall_ns()), len(encode(delivery.message)))
            return
        for message in messages:
            if unusable(table, message) is not None:
                self._telemetry.lost("unusable")
            elif not self._add(Row(message, delivery.subject, self._wall_ns()), len(encode(message)), None):
                self._telemetry.lost("no_room")

    def take_own(self, subject: str, message: Message) -> bool:
        """Take what the recorder itself has to keep; False when there is no room."""
        return self._add(Row(message, subject, self._wall_ns()), len(encode(message)), Kept())

    def give_up(self, rejected: Rejected) -> None:
        """Keep a row that no column can hold among the dead letters, or count its loss."""
        self._bury(rejected.row, rejected.reason, encode(rejected.row.message))

    def _take_ticks(self, table: Table, run: Run, size: int) -> None:
        """Take what came as one message: each question is asked once for all of it."""
        if missing := self.gaps.missing_in(run.subject, integers(run.messages, "sequence")):
            self._telemetry.lost("before_arrival", missing)
        now_ns, each = self._monotonic_ns(), size // len(run.messages)
        usable = taken = 0
        for part in usable_runs(table, run):
            usable += len(part.messages)
            taken += self._buffer.add_run(table, part, each, now_ns)
        if usable < len(run.messages):
            self._telemetry.lost("unusable", len(run.messages) - usable)
        if taken < usable:
            self._telemetry.lost("no_room", usable - taken)
        self._on_row()

    def _add(self, row: Row, size: int, ticket: Ticket | None) -> bool:
        room = self._buffer.add(table_of(row.message), Entry(row, size, ticket), self._monotonic_ns())
        self._on_row()
        return room is Room.TAKEN

    def _bury(self, row: Row, reason: str, payload: bytes) -> None:
        if row.stream is None or isinstance(row.message, DeadLetter):
            self._telemetry.lost("unusable")
            return
        self._telemetry.lost("dead_lettered")
        self._log.warning("row_refused", subject=row.subject, sequence=row.stream_sequence, reason=reason)
        letter = DeadLetter(NAME, row.subject, reason, payload[:DEAD_PAYLOAD_MAX], self._wall_ns())
        self._bus.publish_lossy(subjects.dead_letter(NAME), letter)


def message_hash(payload: bytes) -> int:
    """Return 64 bits that tell a redelivery from another message under the same sequence number."""
    return int.from_bytes(hashlib.blake2b(payload, digest_size=8).digest(), "little", signed=True)
