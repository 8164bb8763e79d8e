"""What `pack --tune` gives: which kernels are kept for the nets of `engine.py`, how long it looks, and what that saves.

python benchmarks/tuning.py --json benchmarks/results/tuning.jsonl
python benchmarks/tuning.py --nets thin-w32-n6:f32 --times 3
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from engine import NETS, Forms, circumstances
from tables import append_line

from pocketseg.engine.codec import file_of, program_in
from pocketseg.engine.tuning import tuned
from pocketseg.pipeline import Pipeline
from pocketseg.predictors import default_threads

TABLE = [
    "thin-w32-n6:int8", "thin-w32-n6:f32", "thin-w16-n5:int8", "thin-w16-n5:f32", "separable-unet:int8", "unet:int8",
    "conv-256:bits",
]  # fmt: skip


def packed(forms: Forms, precision: str) -> bytes:
    """With a pipeline, by which tuning knows the size of the image."""
    program, _ = program_in(forms.packed(precision), forms.name)
    return file_of(program, {"pipeline": asdict(Pipeline((forms.side, forms.side), forms.net.channels))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [f"{name}:{precision}" for name in NETS for precision in ("int8", "f32", "bits")]
    parser.add_argument("--nets", nargs="+", choices=known, default=TABLE)
    parser.add_argument("--times", type=int, default=1, help="how often each is tuned")
    parser.add_argument("--json", type=Path, help="append a line each to this file")
    options = parser.parse_args()
    facts = circumstances()
    print(f"{facts['machine']}, {facts['cores']} cores, {facts['commit']}")
    with tempfile.TemporaryDirectory() as folder:
        for each in options.nets:
            name, precision = each.split(":")
            forms = Forms(name, None, Path(folder))
            content = packed(forms, precision)
            for _ in range(options.times):
                began = time.monotonic()
                found = tuned(content, each, (forms.side, forms.side), default_threads())
                line = {
                    "net": name, "precision": precision, "isa": found.machine, "size": forms.side,
                    "threads": default_threads(), "seconds": round(time.monotonic() - began, 1), "tried": found.tried,
                    "ratio": round(found.ratio, 3), "bytes": len(found.content) - len(content),
                    "changes": [asdict(change) for change in found.changes],
                }  # fmt: skip
                print(
                    f"{each:<20}{line['tried']:>4} tried in {line['seconds']:>5} s   ratio {found.ratio:.3f}",
                    flush=True,
                )
                for change in found.changes:
                    print(f"  {change.instruction:>3} {change.before} → {change.after}  {change.ratio:.3f}")
                if options.json:
                    append_line(options.json, {"benchmark": "tuning", **facts, **line})


if __name__ == "__main__":
    main()
