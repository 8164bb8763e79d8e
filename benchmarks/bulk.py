"""Large folders and videos, in seconds of the processor: finding the images of a folder, and a clip.

Both are of one process. Processor time depends little on what else the machine does. The clip is the phantom's, 30
seconds of 256 × 256 pixels at 25 frames a second, and gets masks and an overlay.

    python benchmarks/bulk.py model.pseg --json benchmarks/results/bulk.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pocketseg
from pocketseg.errors import DataError

LAST = "z.png"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--json", type=Path, help="a line is added to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        listing = seconds_to_list(options.model, Path(folder), options.images)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        clip, played = seconds_of_clip(options.model, Path(folder))
    line = {
        "benchmark": "bulk",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "pocketseg": pocketseg.__version__,
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "model": options.model.name,
        "images": options.images,
        "listing_cpu_s": round(listing, 1),
        "memory_mib": memory,
        "clip_s": played,
        "clip_cpu_s": round(clip, 1),
    }
    print(json.dumps(line))
    if options.json:
        with options.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    return 0


def seconds_to_list(model: Path, folder: Path, images: int) -> float:
    """Until the last check before anything is segmented, which finds that a file of somebody else has a mask's name."""
    (folder / "images").mkdir()
    for number in range(images - 1):
        (folder / f"images/image-{number:06d}.png").touch()
    (folder / "images" / LAST).touch()
    (folder / "out").mkdir()
    (folder / "out" / LAST).touch()
    begun = time.process_time()
    try:
        pocketseg.predict(model, [folder / "images"], folder / "out", table=True)
    except DataError as error:
        assert "was not written by predict" in str(error), error
        return time.process_time() - begun
    raise AssertionError("the file of somebody else was not seen")


def seconds_of_clip(model: Path, folder: Path) -> tuple[float, float]:
    """Of the processor, and of the clip."""
    pocketseg.phantom(folder / "clips", kind="cine")
    begun = time.process_time()
    found = pocketseg.predict(model, [folder / "clips/images"], folder / "masks", with_overlay=True)
    assert len(found.written) == 2 and not found.problems
    return time.process_time() - begun, 30.0


if __name__ == "__main__":
    raise SystemExit(main())
