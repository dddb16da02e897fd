"""What the venue's /metrics say: answers by class, sockets, faults that went off, size of the market."""

from services.sandbox_exchange.config import NAME
from services.sandbox_exchange.core.model import Event, OrderChanged, TradePrinted
from services.sandbox_exchange.wire.context import Venue
from shared.metrics import Metrics


class Telemetry:
    """Count what happens at a venue, and expose it."""

    def __init__(self, venue: Venue) -> None:
        self.metrics = Metrics(NAME)
        self._venue = venue
        self._events = {"trades": 0, "order_changes": 0}
        venue.exchange.listen(self._on_event)
        self.metrics.plain_counters("wire_events", "Answers by class, sockets opened and cut", lambda: venue.counts)
        self.metrics.plain_counters("exchange_events", "Public trades and changes of orders", lambda: self._events)
        self.metrics.plain_counters(
            "faults_fired", "Faults that went off", lambda: {name.value: n for name, n in venue.faults.fired.items()}
        )
        for name, text, read in (
            ("open_sockets", "Websockets that are open", lambda: len(venue.sockets)),
            ("armed_faults", "Fault switches that are set", lambda: len(venue.faults.armed)),
            ("markets", "Markets that are listed", lambda: len(venue.exchange.markets)),
        ):
            self.metrics.gauge(name, text).set_function(read)

    def counts(self) -> dict[str, int]:
        """Return the counters of the wire and of the exchange together."""
        return {**self._venue.counts, **self._events}

    def _on_event(self, event: Event) -> None:
        if isinstance(event, TradePrinted):
            self._events["trades"] += 1
        elif isinstance(event, OrderChanged):
            self._events["order_changes"] += 1
