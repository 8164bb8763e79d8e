"""What Prometheus asks for, in its text format: counts, and a histogram of seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counts of requests by their route and status; neither holds anything that a client chose."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.seconds: Counter[float] = Counter()
        self.sum = 0.0
        self.count = self.frames = 0

    def add(self, route: str, status: int, seconds: float) -> None:
        self.requests[route, status] += 1
        self.sum += seconds
        self.count += 1
        for bucket in BUCKETS:
            self.seconds[bucket] += seconds <= bucket

    def text(self, gauges: Mapping[str, float]) -> str:
        """All of it, with figures of the moment.

        Example:
            >>> print(Metrics().text({"workers": 2}).splitlines()[-1])
            pocketseg_workers 2
        """
        lines = ["# TYPE pocketseg_requests_total counter"]
        lines += [
            f'pocketseg_requests_total{{route="{route}",status="{status}"}} {count}'
            for (route, status), count in sorted(self.requests.items())
        ]
        lines.append("# TYPE pocketseg_request_seconds histogram")
        lines += [f'pocketseg_request_seconds_bucket{{le="{each}"}} {self.seconds[each]}' for each in BUCKETS]
        lines.append(f'pocketseg_request_seconds_bucket{{le="+Inf"}} {self.count}')
        lines += [f"pocketseg_request_seconds_sum {self.sum:.6f}", f"pocketseg_request_seconds_count {self.count}"]
        lines += ["# TYPE pocketseg_frames_total counter", f"pocketseg_frames_total {self.frames}"]
        for name, value in gauges.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# TYPE pocketseg_{name} {kind}", f"pocketseg_{name} {value:g}"]
        return "\n".join(lines) + "\n"
