"""The engine beside ONNX Runtime and OpenVINO: the same net, the same image, in turns; results checked, then timed.

Nets have random weights (batch norms have seen some noise, 8-bit ranges too): what is timed does not depend on them.
Every runtime's logits are compared with torch's first: where ours are others, the measurement ends; a peer's line says
`wrong` (8-bit weights overflow 16-bit sums in a oneDNN that is limited to AVX2). Ratios are turn by turn in one
process; the best peer is the one with the smallest median.

    python benchmarks/engine.py --json benchmarks/results/engine.jsonl      # all nets, all runtimes
    python benchmarks/engine.py --nets thin-w32-n6 --runtimes pseg:int8 openvino --rounds 20
    python benchmarks/engine.py --isa auto avx2                             # once each, peers limited too
    python benchmarks/engine.py --parts scaling example                     # 128² … 2048², threads; the example in C

`openvino` is not needed: a runtime that is not installed is reported and left out. With `nncf`, OpenVINO's own
quantizer makes a second int8 peer, `openvino:int8-nncf`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import pocketseg
from pocketseg.engine.library import library_file
from pocketseg.engine.session import Session
from pocketseg.engine.verification import generated
from pocketseg.errors import EnvironmentProblem, missing_package
from pocketseg.exporters.onnx import export_onnx
from pocketseg.nets import build, parameter_count
from pocketseg.packing.compile import file_of, program_of
from pocketseg.pipeline import Pipeline
from pocketseg.predictors import load_onnx, load_openvino
from pocketseg.quant import Scheme, calibrate, integer_net, quantize_net
from pocketseg.quant.binary import Binary
from pocketseg.quant.layers import QuantConv2d
from pocketseg.timing import Timing, in_turns

ROOT = Path(__file__).parents[1]
Array = NDArray[np.float32]
Forward = Callable[[Array], Array]


def thin(width: int, blocks: int) -> nn.Module:
    return build("thin_unet", 1, 1, width=width, blocks=blocks, conv="separable").core


def one_convolution() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(256, 256, 3, padding=1))


@dataclass(frozen=True)
class Net:
    """A net of the table: how it is made, its input, and the runtimes that it is timed in."""

    make: Callable[[], nn.Module]
    channels: int = 1
    side: int = 256
    bits: bool = False


NETS = {
    "thin-w32-n6": Net(partial(thin, 32, 6)),
    "thin-w16-n5": Net(partial(thin, 16, 5)),
    "separable-unet": Net(lambda: build("separable_unet", 1, 1).core),
    "unet": Net(lambda: build("unet", 1, 1).core),
    "conv-256": Net(one_convolution, channels=256, side=64, bits=True),
    "tiny": Net(partial(thin, 8, 2), side=64),
}
TABLE = [name for name in NETS if name != "tiny"]
RUNTIMES = (
    "pseg:int8", "pseg:f32", "pseg:bits", "onnxruntime:f32", "onnxruntime:int8", "openvino:f32", "openvino:bf16",
    "openvino:int8", "openvino:int8-nncf", "openvino:bits",
)  # fmt: skip
# Root mean square of what differs from torch, as a share of the logits' standard deviation. Nets of random weights do
# not damp what rounding does: there int8 is as far from f32 as half of the spread. So a peer's int8, which divides by
# scales and rounds biases, must be about as near to the float net as the integers that torch computes.
EQUAL = 1e-4
MAX_BF16 = 0.4
MAX_INT8 = 1.5  # times what the integers' own distance is
PEER_ISA = {
    "sse41": "SSE41",
    "avx2": "AVX2",
    "avxvnni": "AVX2_VNNI",
    "avx512": "AVX512_CORE_BF16",
    "amx": "AVX512_CORE_AMX",
}
WITHOUT_BF16 = {"SSE41", "AVX2", "AVX2_VNNI"}
SIDES = (128, 256, 512, 1024, 2048)


class Forms:
    """A net in every form that a runtime takes; made when asked for."""

    def __init__(self, name: str, side: int | None, folder: Path) -> None:
        self.net, self.name, self.folder = NETS[name], name, folder
        self.side = side or self.net.side
        self.logits: dict[str, Array] = {}
        # Half a step beside the generator's grid: 0 has the sign + here and − in OpenVINO.
        self.image: Array = (generated(self.net.channels, self.side, self.side) + np.float32(2**-15))[None]

    @cached_property
    def core(self) -> nn.Module:
        core = self.net.make()
        norms = [module for module in core.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = None  # the mean of all batches
        core.train()
        with torch.no_grad():
            core(torch.cat([torch.from_numpy(self.image)] * 2))
        return core.eval().requires_grad_(False)

    @cached_property
    def integers(self) -> nn.Module:
        whole = self.net.make()
        whole.load_state_dict(self.core.state_dict())
        quantize_net(whole, Scheme("w8a8"))
        calibrate(whole, [torch.from_numpy(self.image)])
        return integer_net(whole)

    @cached_property
    def signs(self) -> nn.Module:
        layer = self.core[0]
        return integer_net(nn.Sequential(QuantConv2d(layer, Binary(scale="mean", axis=0), Binary())))

    def of(self, precision: str) -> nn.Module:
        match precision:
            case "int8":
                return self.integers
            case "bits":
                return self.signs
        return self.core

    def expected(self, precision: str) -> Array:
        """What torch computes, on integers where they are."""
        if precision not in self.logits:
            with torch.no_grad():
                self.logits[precision] = self.of(precision)(torch.from_numpy(self.image)).numpy()
        return self.logits[precision]

    def packed(self, precision: str) -> bytes:
        return file_of(program_of(self.of(precision), self.net.channels), {"pipeline": self.pipeline.to_dict()})

    def onnx(self, precision: str) -> Path:
        path = self.folder / f"{self.name}-{precision}.onnx"
        if not path.exists():
            export_onnx(self.of(precision), self.pipeline, {}, path)
        return path

    @property
    def pipeline(self) -> Pipeline:
        """Of bytes over 255, and masks where a logit is not below 0."""
        return Pipeline(size=(self.side, self.side), channels=self.net.channels)


def forward_of(runtime: str, forms: Forms, threads: int) -> tuple[Forward, str]:
    """How a runtime computes the net, and with which instruction set."""
    kind, precision = runtime.split(":")
    limited = os.environ.get("ONEDNN_MAX_CPU_ISA", "auto")
    if kind == "pseg":
        session = Session(forms.packed(precision), runtime, threads)
        return session, session.isa
    if kind == "onnxruntime":
        return load_onnx(forms.onnx(precision), threads).forward, "auto"
    if precision == "bits":
        return binary_openvino(forms, threads), limited
    if precision == "int8-nncf":
        return nncf_openvino(forms, threads), limited
    # What int8 leaves over runs in bf16 where the set has it, as OpenVINO itself would choose.
    beside = "f32" if precision == "f32" or limited in WITHOUT_BF16 else "bf16"
    return load_openvino(forms.onnx("int8" if precision == "int8" else "f32"), threads, beside).forward, limited


def compiled(model: Any, threads: int) -> Forward:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda image: np.array(request.infer([image], share_inputs=True, share_outputs=True)[0])


def binary_openvino(forms: Forms, threads: int) -> Forward:
    """OpenVINO's BinaryConvolution, which has no form in ONNX; scale and bias behind it as in ours."""
    try:
        import openvino
        from openvino import opset1 as op
        from openvino.op import Constant
    except Exception as error:
        raise missing_package("openvino", "openvino", error) from error
    layer = forms.signs[0]
    out, channels, height, width = layer.codes[0].shape
    kept = np.packbits(layer.codes[0].numpy() > 0, bitorder="little")
    image = op.parameter(forms.image.shape, np.float32)
    one = np.ones((1, 1, 1, 1), np.float32)
    signs = op.fake_quantize(image, -one, one, -one, one, 2)
    shape = openvino.Shape([out, channels, height, width])
    kernel = Constant(openvino.Tensor(kept, shape, openvino.Type.u1))
    sums = op.binary_convolution(signs, kernel, [1, 1], [1, 1], [1, 1], [1, 1], "xnor-popcount", 1.0)
    m, b = (values.numpy().reshape(1, out, 1, 1) for values in (layer.m[0, 0], layer.b))
    forward = compiled(openvino.Model([op.add(op.multiply(sums, m), b)], [image]), threads)

    def keeping(batch: Array, _kept: NDArray[np.uint8] = kept) -> Array:
        return forward(batch)  # the constant uses the array's memory

    return keeping


def nncf_openvino(forms: Forms, threads: int) -> Forward:
    """OpenVINO's own quantizer on the float net: a peer whose integers are others than ours."""
    try:
        import nncf
        import openvino
    except Exception as error:
        raise EnvironmentProblem(
            "nncf", f"cannot be imported ({error})", "install it with: pip install nncf"
        ) from error
    model = openvino.Core().read_model(forms.onnx("f32"))
    model.reshape(list(forms.image.shape))
    return compiled(nncf.quantize(model, nncf.Dataset([forms.image])), threads)


def difference(found: Array, expected: Array) -> float:
    """Root mean square of what differs, as a share of the standard deviation of what should be."""
    return float(np.sqrt(np.mean(np.square(found - expected, dtype=np.float64))) / expected.std(dtype=np.float64))


def distance(runtime: str, forms: Forms, logits: Array) -> tuple[float, float]:
    """How far a runtime's logits are from torch's, and how far they may be."""
    kind, precision = runtime.split(":")
    if precision == "bf16":
        return difference(logits, forms.expected("f32")), MAX_BF16
    if precision.startswith("int8") and kind != "pseg":
        exact = forms.expected("f32")
        return difference(logits, exact), MAX_INT8 * difference(forms.expected("int8"), exact)
    return difference(logits, forms.expected(precision)), EQUAL


@dataclass(frozen=True)
class Settings:
    """How long to measure."""

    rounds: int
    turn_s: float


def wanted(name: str, runtimes: Sequence[str]) -> list[str]:
    """The runtimes that can run a net; `openvino` stands for all of its precisions."""
    chosen = [each for each in RUNTIMES if not runtimes or each in runtimes or each.split(":")[0] in runtimes]
    limited = os.environ.get("ONEDNN_MAX_CPU_ISA") in WITHOUT_BF16
    cannot = [*([] if NETS[name].bits else [":bits"]), *([":bf16"] if limited else [])]
    return [each for each in chosen if not each.endswith(tuple(cannot))]


def measure(forms: Forms, runtimes: Sequence[str], threads: int, settings: Settings) -> Iterator[dict[str, Any]]:
    """A line for each runtime; those not installed are reported."""
    forwards: dict[str, Forward] = {}
    facts: dict[str, dict[str, Any]] = {}
    for runtime in runtimes:
        precision = runtime.split(":")[1]
        try:
            forward, isa = forward_of(runtime, forms, threads)
        except EnvironmentProblem as error:
            print(f"  {runtime} is left out: {error}", file=sys.stderr)
            continue
        found, allowed = distance(runtime, forms, forward(forms.image))
        wrong = not found <= allowed
        if wrong:
            what = f"{forms.name}, {runtime}: logits differ by {found:.2g} of their spread (allowed {allowed:.2g})"
            if runtime.startswith("pseg"):
                raise SystemExit(what)
            print(f"  {what}", file=sys.stderr)
        forwards[runtime] = forward
        facts[runtime] = {"precision": precision, "isa": isa, "difference": found, "wrong": wrong}
    times = in_turns(
        {name: partial(forward, forms.image) for name, forward in forwards.items()},
        turns=settings.rounds,
        turn_s=settings.turn_s,
    )
    peers = [name for name in times if not name.startswith("pseg")]
    best = min(peers, key=lambda name: times[name].median_ms, default=None)
    for name, timing in times.items():
        yield {
            "net": forms.name,
            "parameters": parameter_count(forms.core),
            "size": forms.side,
            "runtime": name.split(":")[0],
            **facts[name],
            "threads": threads,
            **figures(timing),
            **({} if best is None else {"best_peer": best, **ratio_of(timing, times[best])}),
        }


def figures(timing: Timing) -> dict[str, Any]:
    low, high = timing.quartiles_ms
    return {
        "ms": round(timing.median_ms, 3),
        "spread_ms": [round(low, 3), round(high, 3)],
        "calls": len(timing.calls_ms),
        "turns": len(timing.turns_ms),
    }


def ratio_of(timing: Timing, other: Timing) -> dict[str, Any]:
    middle, (low, high) = timing.ratio(other)
    return {"ratio": round(middle, 3), "ratio_spread": [round(low, 3), round(high, 3)]}


def scaling(settings: Settings, sides: Sequence[int], name: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Milliseconds a megapixel from small to large images, and what a second thread gives."""
    forms = Forms(name, None, folder)
    content = forms.packed("int8")
    for side in sides:
        image = np.tile(forms.image, (1, 1, -(-side // forms.side), -(-side // forms.side)))[:, :, :side, :side].copy()
        one, two = (Session(content, name, threads) for threads in (1, 2))
        if not np.array_equal(one(image), two(image)):
            raise SystemExit(f"{name} at {side}²: two threads compute something else than one")
        times = in_turns(
            {"1": partial(one, image), "2": partial(two, image)}, turns=settings.rounds, turn_s=settings.turn_s
        )
        faster, spread = times["1"].ratio(times["2"])
        for threads, timing in times.items():
            yield {
                "net": name,
                "runtime": "pseg",
                "precision": "int8",
                "isa": one.isa,
                "size": side,
                "threads": int(threads),
                **figures(timing),
                "ms_per_megapixel": round(timing.median_ms / (side * side / 1e6), 3),
                "two_threads_over_one": round(faster, 3),
                "two_threads_over_one_spread": [round(value, 3) for value in spread],
                "arena_bytes": two.arena_bytes(side, side),
            }


# A child's peak memory counts what it had before it became another program: the measuring process must be small itself.
LAUNCHER = r"""
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **words) {
    struct timespec began, ended;
    struct rusage used;
    int status;
    pid_t child;
    (void)count;
    clock_gettime(CLOCK_MONOTONIC, &began);
    child = fork();
    if (child == 0) {
        execv(words[1], words + 1);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &used) < 0 || status) return 1;
    clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("%.3f %ld\n", 1e3 * (ended.tv_sec - began.tv_sec) + 1e-6 * (ended.tv_nsec - began.tv_nsec), used.ru_maxrss);
    return 0;
}
"""


def example(settings: Settings, name: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Peak memory and cold start of the example in C: from the start of the process to the mask in a file."""
    forms = Forms(name, None, folder)
    library = library_file()
    (folder / "launcher.c").write_text(LAUNCHER, encoding="utf-8")
    compiler = os.environ.get("CC", "cc")
    source = [ROOT / "examples/c/segment_pgm.c", "-I", ROOT / "native/include"]
    linked = [*source, library, f"-Wl,-rpath,{library.parent}", "-lm"]
    for arguments in (["launcher.c", "-o", "launcher"], [*linked, "-o", "segment_pgm"]):
        subprocess.run([compiler, "-O2", *map(str, arguments)], cwd=folder, check=True)
    (folder / "model.pseg").write_bytes(forms.packed("int8"))
    gray = np.clip(forms.image[0, 0] * 64 + 128, 0, 255).astype(np.uint8)
    (folder / "image.pgm").write_bytes(b"P5\n%d %d\n255\n" % gray.shape[::-1] + gray.tobytes())
    command = ["./launcher", "./segment_pgm", "model.pseg", "image.pgm", "mask.pgm"]
    lines = []
    for _ in range(max(settings.rounds, 3)):
        found = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
        lines.append([float(word) for word in found.split()])
    session = Session(forms.packed("int8"), name)
    logits = session((gray / np.float32(255)).astype(np.float32)[None, None])
    if (folder / "mask.pgm").read_bytes()[-gray.size :] != ((logits >= 0) * np.uint8(255)).tobytes():
        raise SystemExit("the example in C gives another mask than the session")
    took, memory = zip(*lines, strict=True)
    timing = Timing(list(took[1:]), list(took[1:]), took[0])
    yield {
        "net": name,
        "runtime": "segment_pgm",
        "precision": "int8",
        "isa": session.isa,
        "size": forms.side,
        "threads": 1,
        **figures(timing),
        "peak_rss_kib": int(max(memory)),
        "arena_bytes": session.arena_bytes(forms.side, forms.side),
        "model_bytes": (folder / "model.pseg").stat().st_size,
    }


def circumstances() -> dict[str, Any]:
    versions = {}
    for package in ("numpy", "torch", "onnxruntime", "openvino", "nncf"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "pocketseg": pocketseg.__version__,
        "commit": described.stdout.strip() or "unknown",
        "versions": versions,
        "machine": f"{platform.machine()}, {processor()}, {torch.backends.cpu.get_cpu_capability()}",
        "cores": os.cpu_count(),
    }


def processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


def told(line: dict[str, Any]) -> str:
    low, high = line["spread_ms"]
    name = f"{line['runtime']} {line['precision']}"
    name += " (wrong)" * line.get("wrong", False)
    text = f"  {name:<28}{line['isa']:<10}{line['size']:>5}²{line['threads']:>3} threads"
    text += f"{line['ms']:>10.2f} ms  ({low:.2f} to {high:.2f})"
    if "ratio" in line:
        text += f"  {line['ratio']:>6.2f} × {line['best_peer']}"
    if "two_threads_over_one" in line:
        text += f"  {line['ms_per_megapixel']:>8.1f} ms/MP, 2 threads {line['two_threads_over_one']:.2f} times"
    if "peak_rss_kib" in line:
        text += f"  {line['peak_rss_kib'] / 1024:.2f} MiB at its peak"
    return text


def lines_of(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    settings = Settings(options.rounds, options.turn)
    if "nets" in options.parts:
        for name in options.nets:
            print(name, flush=True)
            forms = Forms(name, options.size, folder)
            for line in measure(forms, wanted(name, options.runtimes), options.threads, settings):
                yield {"part": "nets", **line}
    first = options.nets[0]
    if "scaling" in options.parts:
        print(f"scaling of {first}", flush=True)
        for line in scaling(settings, options.sides, first, folder):
            yield {"part": "scaling", **line}
    if "example" in options.parts:
        print(f"example in C with {first}: start of the process to the mask in a file", flush=True)
        for line in example(settings, first, folder):
            yield {"part": "example", **line}


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", choices=list(NETS), default=TABLE)
    parser.add_argument(
        "--runtimes", nargs="+", default=[], help=f"some of {', '.join(RUNTIMES)}; or a name without :…"
    )
    parser.add_argument("--parts", nargs="+", choices=["nets", "scaling", "example"], default=["nets"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--isa", nargs="+", default=["auto"], help="POCKETSEG_ISA; peers are limited likewise")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each")
    parser.add_argument("--turn", type=float, default=0.15, help="seconds of a turn")
    parser.add_argument("--size", type=int, help="side of the image; default by net")
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="of scaling")
    parser.add_argument("--quick", action="store_true", help="few short turns: whether it works, no figures")
    parser.add_argument("--json", type=Path, help="append a line each to this file")
    options = parser.parse_args()
    known = {*RUNTIMES, *(name.split(":")[0] for name in RUNTIMES)}
    if unknown := set(options.runtimes) - known:
        parser.error(f"{', '.join(sorted(unknown))}: no such runtime; known: {', '.join(sorted(known))}")
    if options.quick:
        options.rounds, options.turn = 3, 0.01
    return options


def main() -> None:
    options = read_options()
    if len(options.isa) > 1:
        start = sys.argv.index("--isa")
        rest = sys.argv[1:start] + sys.argv[start + 1 + len(options.isa) :]
        for isa in options.isa:  # read once by each library: every set has a process of its own
            subprocess.run([sys.executable, __file__, *rest, "--isa", isa], check=True)
        return
    (isa,) = options.isa
    if isa != "auto":
        os.environ["POCKETSEG_ISA"] = isa
        if isa in PEER_ISA:
            os.environ["ONEDNN_MAX_CPU_ISA"] = PEER_ISA[isa]
    torch.set_num_threads(options.threads)
    facts = circumstances()
    print(f"{facts['machine']}, {facts['cores']} cores, {facts['commit']}, {facts['versions']}")
    with tempfile.TemporaryDirectory() as folder:
        for line in lines_of(options, Path(folder)):
            print(told(line), flush=True)
            if options.json:
                with options.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"benchmark": "engine", **facts, **line, "asked_isa": isa}) + "\n")


if __name__ == "__main__":
    main()
