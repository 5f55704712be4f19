"""What Prometheus is told: requests by route and status, and how long they took."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_BUCKETS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600)


class Measures:
    """The figures of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "weighbridge_requests_total", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "weighbridge_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ("method", "route"),
            registry=self.registry,
            buckets=_BUCKETS,
        )

    def observe(self, method: str, route: str, status: int | None, seconds: float) -> None:
        """Count a request; `route` is the pattern of its path, so that there are few."""
        self._requests.labels(method, route, str(status or 0)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def render(self) -> bytes:
        """Return the text format of Prometheus."""
        return generate_latest(self.registry)
