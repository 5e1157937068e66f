"""What the registry counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class RegistryMetrics:
    """The series of one process."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self._requests = Counter(
            "sampan_registry_requests", "Requests, by method, route and code.", ["method", "route", "code"],
            registry=metrics,
        )  # fmt: skip
        self._seconds = Histogram(
            "sampan_registry_request_seconds", "Time to answer a request.", ["method", "route"], registry=metrics
        )
        self.received = Counter("sampan_registry_received_bytes", "Bytes of blobs and manifests.", registry=metrics)
        self.sent = Counter("sampan_registry_sent_bytes", "Bytes of blobs and manifests.", registry=metrics)
        self.in_flight = Gauge("sampan_registry_requests_in_flight", "Requests being answered.", registry=metrics)

    def answered(self, method: str, route: str, code: int, seconds: float) -> None:
        """Count one answer."""
        self._requests.labels(method, route, str(code)).inc()
        self._seconds.labels(method, route).observe(seconds)
