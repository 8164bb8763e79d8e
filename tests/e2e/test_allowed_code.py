"""Nets of a user's Python file, which is executed only where the user names it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pocketseg
from helpers.commands import read_csv, read_json, run_cli
from pocketseg.errors import ModelFileError, RecipeError, RunError
from pocketseg.nets import allow_code, build, default_options
from pocketseg.nets.catalog import NETS

CODE = """
import torch
from torch import nn


def dilated(in_channels, out_channels, *, width: int = 4) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=2, dilation=2), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, out_channels, 1),
    )


class Skip(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, width: int = 4) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4))
        self.up = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=4))
        self.out = nn.Conv2d(width + in_channels, out_channels, 1)

    def forward(self, x):
        return self.out(torch.cat([self.up(self.down(x)), x], 1))


def _not_offered(in_channels, out_channels):
    raise AssertionError


def other(x):
    return x
"""
SMALL = ["data.size=[32, 32]", "stages.0.epochs=1", "stages.0.precision=f32"]


@pytest.fixture
def code(tmp_path: Path):
    path = tmp_path / "mynets.py"
    path.write_text(CODE)
    yield path
    for name in [name for name in NETS if ":" in name]:
        del NETS[name]


def sets(*values: str) -> list[str]:
    return [part for value in (*SMALL, *values) for part in ("--set", value)]


def test_a_file_defines_nets(code):
    assert allow_code(code) == ["mynets:dilated", "mynets:Skip"]
    assert default_options("mynets:Skip") == {"width": 4}
    net = build("mynets:Skip", 1, 1, width=6)
    assert net.stride == 4 and net.core.net.out.in_channels == 7
    with pytest.raises(RecipeError, match="width"):
        build("mynets:Skip", 1, 1, width="wide")
    with pytest.raises(RecipeError, match="is not an option of mynets:dilated"):
        build("mynets:dilated", 1, 1, depth=3)
    code.write_text(CODE.replace("def dilated", "def wider"))
    assert allow_code(code) == ["mynets:wider", "mynets:Skip"] and "mynets:dilated" not in NETS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "defines no net"),
        ("raise OSError('no')", "cannot be executed"),
        ("def net(in_channels, out_channels, *, width): pass", "without a type or a default"),
        ("def net(in_channels, out_channels, **options): pass", "name each option"),
    ],
)
def test_a_file_that_defines_none_is_refused(tmp_path, text, words):
    path = tmp_path / "wrong.py"
    path.write_text(text)
    with pytest.raises(RecipeError, match=words):
        allow_code(path)
    assert not any(name.startswith("wrong:") for name in NETS)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise ValueError('width must be even')", "width must be even"),
        ("import torch; return torch.nn.Conv2d(in_channels, 5, 1)", "gives"),
        ("return 3", "cannot be built"),
    ],
)
def test_a_net_that_cannot_be_built_is_reported_before_training(code, phantom_data, tmp_path, body, words):
    code.write_text(f"def net(in_channels, out_channels):\n    {body}\n")
    wanted = sets("stages.0.net={arch: mynets:net}")
    done = run_cli("train", "demo", "--data", phantom_data, "--out", tmp_path / "run", *wanted, "--allow-code", code)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_nothing_is_executed_that_the_user_does_not_name(code, phantom_data, tmp_path):
    code.write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n" + CODE)
    done = run_cli(
        "train", "demo", "--data", phantom_data, "--out", tmp_path / "run", *sets("stages.0.net={arch: mynets:Skip}")
    )
    assert done.returncode == 2 and "--allow-code mynets.py" in done.stderr
    assert not (tmp_path / "executed").exists()


def test_trained_quantized_packed_and_resumed(code, phantom_data, tmp_path):
    run, net = tmp_path / "run", "stages.0.net={arch: mynets:Skip, width: 6}"
    train = ["train", "demo", "--data", phantom_data, "--out", run, *sets(net, "stages.0.quant={scheme: w8a8}")]
    done = run_cli(*train, "--allow-code", code)
    assert done.returncode == 0, done.stderr
    assert list(read_json(run / "manifest.json")["code"]) == ["mynets.py"]
    # What is packed needs the file no more.
    done = run_cli("predict", run, phantom_data / "images", "--out", tmp_path / "masks")
    assert done.returncode == 0 and "engine" in done.stdout + done.stderr
    checkpoint = next(run.glob("fold-0/*/best.safetensors"))
    done = run_cli("evaluate", checkpoint, phantom_data)
    assert done.returncode == 2 and "--allow-code mynets.py" in done.stderr
    done = run_cli("evaluate", checkpoint, phantom_data, "--allow-code", code)
    assert done.returncode == 0, done.stderr
    code.write_text(CODE + "\n# changed\n")
    done = run_cli(*train, "--allow-code", code, "--resume")
    assert done.returncode == 2 and "other code in mynets.py" in done.stderr


@pytest.mark.slow("a sweep in processes")
def test_side_by_side(code, phantom_data, tmp_path):
    """The processes that train execute the file too."""
    wanted = sets("stages.0.net={arch: mynets:dilated}", "sweep.stages.0.net.width=[2, 3]")
    done = run_cli("train", "demo", "--data", phantom_data, "--out", tmp_path / "sweep", *wanted,
                   "--jobs", "2", "--allow-code", code)  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = read_csv(tmp_path / "sweep" / "results.csv")
    assert len(rows) == 2 and all(np.isfinite(float(row["test"])) for row in rows)


def test_from_python(code, phantom_data, tmp_path):
    (name, _) = allow_code(code)
    overrides = [*SMALL, f"stages.0.net={{arch: {name}}}"]
    done = pocketseg.train("demo", phantom_data, tmp_path / "run", overrides=overrides, device="cpu")
    model = pocketseg.load(done.run, backend="torch")
    assert model.mask(np.zeros((40, 40), np.uint8)).shape == (40, 40)
    for each in [each for each in NETS if ":" in each]:
        del NETS[each]
    with pytest.raises(ModelFileError, match="allow-code"):
        pocketseg.load(done.run, backend="torch")
    with pytest.raises((RunError, RecipeError)):
        pocketseg.train("demo", phantom_data, tmp_path / "run", overrides=overrides, device="cpu", resume=True)
