"""The HTTP service under load: masks compared with those of `predict` first, then times and refusals.

Clients send one picture again and again over kept connections, first as many as there are workers, then several
times as many, so that the queue fills. Clients and service share the machine: where it has few cores, the time of
the clients is part of what is measured.

    python benchmarks/serve.py model.pseg scan.png --json benchmarks/results/serve.jsonl
    python benchmarks/serve.py model.pseg scan.png --workers 2 --clients 2 64 --seconds 5
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pocketseg
from pocketseg.data.readers import decode_image
from pocketseg.png import png_bytes

WARM_UP = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--clients", type=int, nargs="+", help="default: as many as workers, and 16 times as many")
    parser.add_argument("--queue", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10, help="of each number of clients")
    parser.add_argument("--json", type=Path, help="a line for each number of clients is added to this file")
    options = parser.parse_args()
    content = options.image.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        right = pocketseg.predict(options.model, [options.image], folder).written[0].read_bytes()
    alone = seconds_alone(options.model, content)
    for clients in options.clients or [options.workers, 16 * options.workers]:
        line = {
            "benchmark": "serve",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "pocketseg": pocketseg.__version__,
            "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
            "model": options.model.name,
            "image_bytes": len(content),
            "workers": options.workers,
            "queue": options.queue,
            "clients": clients,
            "alone_ms": round(alone * 1000, 3),
            **loaded(options, content, right, clients, alone),
        }
        print(json.dumps(line))
        if options.json:
            with options.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
    return 0


def seconds_alone(model: Path, content: bytes) -> float:
    """Median of one image in this process, with one thread: decode, segment, encode."""
    predictor = pocketseg.load(model, threads=1)
    times = []
    for _ in range(60):
        began = time.perf_counter()
        png_bytes(predictor.mask(decode_image(content, Path("image"))))
        times.append(time.perf_counter() - began)
    return statistics.median(times[10:])


def loaded(options: argparse.Namespace, content: bytes, right: bytes, clients: int, alone: float) -> dict[str, Any]:
    """Figures of one load."""
    command = [sys.executable, "-m", "pocketseg.cli.main", "serve", str(options.model), "--port", "0"]
    command += ["--workers", str(options.workers), "--queue", str(options.queue)]
    service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        port = ready(service)
        threading.Thread(target=service.stderr.read, daemon=True).start()  # type: ignore[union-attr]
        times: list[float] = []
        refused: list[float] = []
        statuses: Counter[str] = Counter()
        until = time.monotonic() + options.seconds

        def client() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            for turn in range(10**9):
                began = time.monotonic()
                if began > until:
                    break
                connection.request("POST", "/v1/segment", content)
                response = connection.getresponse()
                body = response.read()
                seconds = time.monotonic() - began
                wrong = response.status == 200 and body != right
                statuses["wrong" if wrong else str(response.status)] += 1
                if turn >= WARM_UP // clients:
                    (times if response.status == 200 else refused).append(seconds)
                if response.status == 503:
                    time.sleep(0.05)

        threads = [threading.Thread(target=client) for _ in range(clients)]
        began = time.monotonic()
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        passed = time.monotonic() - began
        rate = statuses["200"] / passed
        return {
            "statuses": dict(statuses),
            "images_per_second": round(rate, 1),
            "share_of_cores": round(rate * alone / options.workers, 3),
            "ms_median": of(times, 0.5),
            "ms_p99": of(times, 0.99),
            "refused_ms_p99": of(refused, 0.99),
        }
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(60)


def of(times: list[float], share: float) -> float | None:
    """A quantile in milliseconds."""
    return round(sorted(times)[min(int(share * len(times)), len(times) - 1)] * 1000, 2) if times else None


def ready(service: subprocess.Popen[str]) -> int:
    """The port, once the models are loaded."""
    for line in service.stderr or ():
        if found := re.search(r"ready on http://\S+:(\d+)", line):
            return int(found[1])
    raise SystemExit("the service did not start")


if __name__ == "__main__":
    sys.exit(main())
