"""Events on their way to the listeners, in order.

In: events of the call under way. Out: each event to each listener when the call has finished its changes.
Never: a listener that sees half a change, or the events of a nested call before those of the outer one.
"""

from collections import deque
from collections.abc import Callable

from services.sandbox_exchange.core.model import Event


class Events:
    """Queue the events of a call and hand them out at its end; `wanted` is False while nobody listens."""

    __slots__ = ("_is_handing_out", "_listeners", "_queue", "wanted")

    def __init__(self) -> None:
        self.wanted = False
        self._listeners: list[Callable[[Event], None]] = []
        self._queue: deque[Event] = deque()
        self._is_handing_out = False

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Add a listener for the events from now on."""
        self._listeners.append(listener)
        self.wanted = True

    def add(self, event: Event) -> None:
        """Queue an event; callers ask `wanted` first where building it costs."""
        if self.wanted:
            self._queue.append(event)

    def hand_out(self) -> None:
        """Call the listeners; a listener's own calls append to the same queue."""
        if self._is_handing_out or not self._queue:
            return
        self._is_handing_out = True
        try:
            while self._queue:
                event = self._queue.popleft()
                for listener in self._listeners:
                    listener(event)
        finally:
            self._is_handing_out = False
