"""What Prometheus is told: requests by route and status, bytes both ways, pushes by outcome."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_BUCKETS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600)


class Measures:
    """The figures of one process, in a registry of their own.

    Attributes:
        running: how many requests have begun and not ended.
    """

    def __init__(self) -> None:
        self.running = 0
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "weighbridge_requests_total", "Requests answered.", ("method", "route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "weighbridge_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ("method", "route"),
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._received = Counter(
            "weighbridge_received_bytes_total", "Bytes of request bodies.", registry=self._registry
        )
        self._sent = Counter("weighbridge_sent_bytes_total", "Bytes of answers' bodies.", registry=self._registry)
        self._pushes = Counter(
            "weighbridge_pushes_total", "Pushes by how they ended.", ("outcome",), registry=self._registry
        )
        self._collections = Counter(
            "weighbridge_collections_total",
            "Collections of garbage by how they ended; `refused` wants somebody to look.",
            ("outcome",),
            registry=self._registry,
        )
        running = Gauge("weighbridge_requests_running", "Requests that are being answered.", registry=self._registry)
        running.set_function(lambda: self.running)

    def observe(self, method: str, route: str, status: int | None, seconds: float) -> None:
        """Count a request; `route` is the pattern of its path, so that there are few."""
        self._requests.labels(method, route, str(status or 0)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def count_bytes(self, received: int, sent: int) -> None:
        """Count the bodies of a request and of its answer."""
        self._received.inc(received)
        self._sent.inc(sent)

    def count_push(self, outcome: str) -> None:
        """Count a push: `published`, `interrupted`, or the code of the error that ended it."""
        self._pushes.labels(outcome).inc()

    def count_collection(self, outcome: str) -> None:
        """Count a collection: `done`, `left to another`, `refused` or `failed`."""
        self._collections.labels(outcome).inc()

    def render(self) -> bytes:
        """Return the text format of Prometheus."""
        return generate_latest(self._registry)
