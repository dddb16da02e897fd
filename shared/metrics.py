"""Prometheus metrics, named `cascade_<service>_<what>_<unit>[_total]`, in base units.

Labels are bound once, at start; an id or a price is never a label.
"""

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily

SECONDS_BUCKETS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
)  # fmt: skip


class Metrics:
    """Make one service's metrics in a registry of their own."""

    def __init__(self, service: str) -> None:
        self.registry = CollectorRegistry()
        self._prefix = f"cascade_{service}_"
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """Return a counter; `name` without prefix and without `_total`."""
        return Counter(self._prefix + name, text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """Return a gauge; `name` without prefix."""
        return Gauge(self._prefix + name, text, labels, registry=self.registry)

    def histogram(
        self, name: str, text: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS_BUCKETS
    ) -> Histogram:
        """Return a histogram; `name` without prefix, in seconds unless `buckets` say otherwise."""
        return Histogram(self._prefix + name, text, labels, buckets=buckets, registry=self.registry)

    def plain_counters(self, name: str, text: str, read: Callable[[], dict[str, int]]) -> None:
        """Expose plain integers, read at each scrape, as one counter with the label `kind`."""
        self.registry.register(_PlainCounters(self._prefix + name, text, read))


class _PlainCounters:
    def __init__(self, name: str, text: str, read: Callable[[], dict[str, int]]) -> None:
        self._name, self._text, self._read = name, text, read

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._text, labels=["kind"])
        for kind, value in self._read().items():
            family.add_metric([kind], value)
        yield family
