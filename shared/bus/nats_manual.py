"""A durable consumer whose handler keeps messages and acknowledges them later, when they are safe elsewhere.

In: frames of one stream, in order, up to a bound. Out: deliveries with an `ack`. Never: one acknowledged by itself.
"""

from collections.abc import Awaitable, Callable

from shared.bus.handling import Handling, Outcome
from shared.bus.nats_connection import NatsConnection
from shared.bus.nats_consumer import ConsumerSettings, NatsConsumer
from shared.bus.port import Delivery, PendingAck


class ManualConsumer(NatsConsumer):
    """Leave the acknowledgement to the handler."""

    def __init__(
        self,
        connection: NatsConnection,
        handling: Handling,
        settings: ConsumerSettings,
        handler: Callable[[PendingAck], Awaitable[None]],
    ) -> None:
        super().__init__(connection, handling, settings)
        self._handler = handler
        self._held: dict[int, NatsPendingAck] = {}

    def _is_repetition(self, sequence: int, reply: str) -> bool:
        if sequence > self._handled:
            return False
        held = self._held.get(sequence)
        if held is None:
            self.settle(reply)
        else:
            held.reply = reply
        return True

    def _forget_positions(self) -> None:
        super()._forget_positions()
        self._held.clear()

    def release(self, pending: "NatsPendingAck") -> None:
        """Acknowledge what a handler held; what is not held any more is settled, or of a stream that is gone."""
        sequence = pending.delivery.stream_sequence
        if self._held.get(sequence) is pending:
            del self._held[sequence]
            self.settle(pending.reply)

    async def _receive(self, delivery: Delivery, payload: bytes, reply: str) -> Outcome:
        pending = NatsPendingAck(self, delivery, reply)

        async def hand_over(current: Delivery) -> None:
            pending.delivery_now = current
            await self._handler(pending)

        self._held[delivery.stream_sequence] = pending
        self._handled = delivery.stream_sequence
        return await self._handling.deliver(hand_over, delivery, payload, max_deliver=-1, stopping=self._stopping)


class NatsPendingAck:
    """Acknowledge one durable delivery."""

    def __init__(self, consumer: ManualConsumer, delivery: Delivery, reply: str) -> None:
        self.delivery_now = delivery
        self.reply = reply
        self._consumer = consumer

    @property
    def delivery(self) -> Delivery:
        """Return what was delivered."""
        return self.delivery_now

    async def ack(self) -> None:
        """Confirm that the message is handled."""
        self._consumer.release(self)
