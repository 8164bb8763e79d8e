"""What only a program in C++ can do to the library: fork, fill threads, take memory away, and ask for sizes."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.packed_models import packed

SECONDS = 300


def printed(program: Path, *arguments: str | Path, given: str | None = None) -> str:
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=SECONDS, input=given)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tools") / "a.pseg"
    path.write_bytes(packed("thin_unet", "w2a8"))
    return path


@pytest.mark.row("F24")
@pytest.mark.skipif(sys.platform == "win32", reason="nothing forks here")
@pytest.mark.parametrize("build", ["shipped", "sanitized"])
def test_children_go_on_with_the_models_of_their_parent(request, file, build):
    assert printed(request.getfixturevalue(build) / "forks", file) == "21\n"


@pytest.mark.slow("builds the library once more, for data races")
@pytest.mark.row("S15")
def test_sixteen_threads_do_not_race(racing, shipped, file):
    assert printed(racing / "crowd", 16, 4, file) == printed(shipped / "crowd", 1, 1, file)


@pytest.mark.row("S17")
@pytest.mark.skipif(sys.platform != "linux", reason="malloc is replaced as glibc allows it")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "model", [("thin_unet", "w2a8"), ("mk_unet", "w4"), ("mk_unet", "residual w2a2", "f32", "scalar/convolution_codes")]
)
def test_every_allocation_fails(shipped, tmp_path, model, threads):
    """A code and no crash, and nothing is left: by each of some hundred allocations, alone and with all behind it."""
    (tmp_path / "a.pseg").write_bytes(packed(*model))
    alone, onward = map(int, printed(shipped / "no_memory", threads, tmp_path / "a.pseg").split())
    assert alone == onward > 100


BYTES = {"u8": 1, "s8": 1, "f32": 4, "s32": 4}
NEAR = [near + by for near in (2**31, 2**32, 2**53) for by in (-9, -8, -1, 0, 1, 7, 8)]


def buffer_of(kind: str, channels: int, planes: int, height: int, width: int) -> int:
    """docs/format.md, and a multiple of 64."""
    pixel = planes * 8 * -(-channels // 64) if kind == "bits" else channels * BYTES[kind]
    return -(-pixel * height * width // 64) * 64


def side_of(
    kind: int, inside: int, kernel: int, stride: int, dilation: int, before: int, after: int, output_padding: int
):
    """Rows of a result, as PyTorch's documentation has them; "none" where that is no side."""
    reach = dilation * (kernel - 1) + 1
    found = {
        3: (inside + before + after - reach) // stride + 1,
        4: (inside - 1) * stride - before - after + reach + output_padding,
        7: inside * stride,
        9: inside + before + after,
    }[kind]
    return found if 1 <= found <= 2**15 else "none"


@pytest.mark.row("S13")
@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow("more of the same"))])
def test_sizes_are_those_of_numbers_without_bounds(shipped, count):
    """Random ones and those around 2³¹, 2³² and 2⁵³; nothing that a file can say comes near 2⁶³."""
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    draw = random.Random(seed)

    def number(least: int, most: int) -> int:
        """Any, often one at an end, often near a power of two."""
        power = 2 ** draw.randrange(1, most.bit_length() + 1)
        return min(max(draw.choice([least, most, power - 1, power, power + 1, draw.randint(least, most)]), least), most)

    lines, wanted = [], []
    for bits in range(1, 25):
        for near in NEAR:
            lines.append(f"stream {near // bits} {bits}")
            wanted.append(-(-(near // bits) * bits // 8))
    for kind, channels in (("f32", 65535), ("bits", 65535), ("u8", 1), ("s32", 2)):
        for height, width in ((2**15, 2**15), (2**15, 2**15 - 1), (2**15 - 1, 2**14), (1, 1)):
            for planes in (1, 8):
                lines.append(f"buffer {kind} {channels} {planes} {height} {width}")
                wanted.append(buffer_of(kind, channels, planes, height, width))
    while len(lines) < count:
        what = draw.randrange(3)
        if what == 0:
            kind = draw.choice(["f32", "u8", "s8", "s32", "bits"])
            sizes = number(1, 65535), number(1, 8) if kind == "bits" else 1, number(1, 2**15), number(1, 2**15)
            lines.append(f"buffer {kind} {' '.join(map(str, sizes))}")
            wanted.append(buffer_of(kind, *sizes))
        elif what == 1:
            # channels · window · channels of a group, at most.
            total, bits = number(1, 65535) * number(1, 255) * number(1, 255) * number(1, 65535), number(1, 32)
            lines.append(f"stream {total} {bits}")
            wanted.append(-(-total * bits // 8))
        else:
            window = number(1, 2**15), *(number(1, 255) for _ in range(3)), *(number(0, 255) for _ in range(3))
            kind = draw.choice([3, 4, 7, 9])
            lines.append(f"side {kind} {' '.join(map(str, window))}")
            wanted.append(side_of(kind, *window))
    found = printed(shipped / "sizes", given="\n".join(lines) + "\n").splitlines()
    assert [line for line, a, b in zip(lines, found, wanted, strict=True) if a != str(b)][:5] == []


@pytest.mark.slow("valgrind takes a minute; sanitizers look too")
@pytest.mark.row("N06")
@pytest.mark.parametrize("isa", ["scalar", "avx2"])
def test_nothing_uninitialized_is_read(tool, shipped, monkeypatch, tmp_path, isa):
    """Under valgrind, which knows no AVX-512, of integer nets, on signs and in f32."""
    valgrind = tool("valgrind")
    monkeypatch.setenv("POCKETSEG_ISA", isa)
    files = []
    for index, model in enumerate([("thin_unet", "w2a8"), ("mk_unet", "w1a1"), ("mk_unet", "w4")]):
        files.append(tmp_path / f"{index}.pseg")
        files[-1].write_bytes(packed(*model))
    options = ["--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite", "-q"]
    done = subprocess.run(
        [valgrind, *options, shipped / "replay", "8", "2", *files], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    statuses = [line.split()[1] for line in done.stdout.splitlines()]
    if set(statuses) == {"5"}:
        pytest.skip(f"valgrind offers no {isa} here")
    assert statuses == ["0"] * len(files)
