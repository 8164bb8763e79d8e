import json
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from pocketseg.errors import EnvironmentProblem
from pocketseg.training import device as module
from pocketseg.training.device import autocast, choose_precision, hardware, open_accelerator

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))


def cpu_with(monkeypatch, *, amx: bool, avx: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)


@pytest.mark.parametrize(
    ("amx", "avx", "precision", "reason"),
    [
        (True, True, "bf16", "the CPU has bf16 matrix units (AMX)"),
        (True, False, "bf16", "the CPU has bf16 matrix units (AMX)"),
        (False, True, "bf16", "the CPU has AVX-512 BF16 instructions"),
        (False, False, "f32", "the CPU has no bf16 instructions"),
    ],
)
def test_auto_on_cpus(monkeypatch, amx, avx, precision, reason):
    cpu_with(monkeypatch, amx=amx, avx=avx)
    assert choose_precision("auto", CPU) == (precision, reason)


@pytest.mark.parametrize(("has", "precision"), [(True, "bf16"), (False, "f32")])
def test_auto_on_gpus(monkeypatch, has, precision):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has)
    cpu_with(monkeypatch, amx=not has, avx=not has)
    found, reason = choose_precision("auto", CUDA)
    assert found == precision and "GPU" in reason


def test_auto_elsewhere_is_f32(monkeypatch):
    cpu_with(monkeypatch, amx=True, avx=True)
    assert choose_precision("auto", MPS)[0] == "f32"


@pytest.mark.parametrize("wanted", ["f32", "bf16"])
@pytest.mark.parametrize("device", [CPU, CUDA, MPS], ids=str)
def test_what_the_recipe_says_wins(monkeypatch, wanted, device):
    cpu_with(monkeypatch, amx=wanted == "f32", avx=wanted == "f32")
    assert choose_precision(wanted, device) == (wanted, "as the recipe says")


def test_autocast():
    a = torch.ones(2, 2)
    with autocast(CPU, "bf16"):
        assert (a @ a).dtype == torch.bfloat16
    with autocast(CPU, "f32"):
        assert (a @ a).dtype == torch.float32


def complaint(name: str) -> str:
    with pytest.raises(EnvironmentProblem) as error:
        open_accelerator(name)
    assert error.value.problems[0].where == f"--device {name}"
    return str(error.value)


@pytest.fixture
def gpus(monkeypatch):
    """A machine with so many CUDA devices."""

    def have(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return have


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:99"])
def test_no_gpu(gpus, name):
    gpus(0)
    assert "this machine has no CUDA → use --device auto" in complaint(name)


def test_too_few_gpus(gpus):
    gpus(2)
    assert "this machine has 2 CUDA devices" in complaint("cuda:2")
    assert "this machine has 2 CUDA devices" in complaint("cuda:99")


def test_no_mps(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert "this machine has no MPS" in complaint("mps")


@pytest.mark.parametrize(
    "name", ["", "gpu", "CPU", "cpu:1", "auto:0", "mps:0", "cuda:", "cuda:x", "cuda:-1", "cuda:0:1", " cpu", "cpu\n"]
)
def test_nonsense(gpus, name):
    gpus(2)
    assert "is not a device → use auto, cpu, cuda, cuda:N or mps" in complaint(name)


def test_cpu():
    accelerator = open_accelerator("cpu")
    assert isinstance(accelerator, Accelerator) and accelerator.device == CPU
    assert accelerator.num_processes == 1


@pytest.fixture
def opened(monkeypatch):
    """What accelerate would be asked for."""
    calls: list[tuple[bool, str | None]] = []
    environ: dict[str, str] = {}
    monkeypatch.setattr(module, "os", SimpleNamespace(environ=environ))
    monkeypatch.setattr(module, "Accelerator", lambda cpu: calls.append((cpu, environ.get("ACCELERATE_TORCH_DEVICE"))))
    return calls


@pytest.mark.parametrize(
    ("name", "call"),
    [("cpu", (True, None)), ("auto", (False, None)), ("cuda", (False, None)), ("cuda:1", (False, "cuda:1"))],
)
def test_what_accelerate_is_asked_for(gpus, opened, name, call):
    gpus(2)
    open_accelerator(name)
    assert opened == [call]


def test_hardware_fits_in_json():
    metadata = hardware(CPU)
    assert metadata["device"] == "cpu" and metadata["threads"] == torch.get_num_threads() and metadata["cores"] >= 1
    assert json.loads(json.dumps(metadata)) == metadata
