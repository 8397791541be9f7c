"""The fleet in numbers, for Prometheus: counted when asked, so that they are those of the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aquiline.broker.broker import Broker

#: Seconds without a poll after which a host counts as silent.
SILENT = 3600.0


class FleetCollector(Collector):
    """Hosts by domain and state, changes by kind and state."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def collect(self) -> Iterator[Metric]:
        """Return the numbers as they are now."""
        with self._broker.store.reading() as tx:
            hosts, changes = tx.hosts(), tx.changes()
        now = self._broker.now()
        states = Counter(
            (one.branch, "held" if one.held else "silent" if now - one.seen > SILENT else one.state or "new")
            for one in hosts
        )
        family = GaugeMetricFamily("aquiline_hosts", "Hosts by branch and state.", labels=["branch", "state"])
        for (branch, state), count in sorted(states.items()):
            family.add_metric([branch, state], count)
        yield family
        kinds = Counter((one.domain, one.kind, one.state) for one in changes)
        family = GaugeMetricFamily("aquiline_changes", "Changes.", labels=["domain", "kind", "state"])
        for labels, count in sorted(kinds.items()):
            family.add_metric(list(labels), count)
        yield family
