"""Where a model runs, and what is said of a device that is not there."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from pocketseg.errors import EnvironmentProblem, ModelFileError
from pocketseg.predictors import device as devices
from pocketseg.predictors.onnx import OnnxSession

GPU_BUILD = ["CUDAExecutionProvider", "CPUExecutionProvider"]


class FakeSession:
    """One of onnxruntime that starts what `starts` allows, as the real one falls back to the CPU."""

    starts = GPU_BUILD

    def __init__(self, content, options, providers):
        self.asked = providers

    def get_providers(self):
        return [name for name, _ in self.asked if name in self.starts]

    def get_inputs(self):
        return [SimpleNamespace(name="image", shape=(1, 1, 8, 8))]


@pytest.fixture
def gpu_build(monkeypatch):
    fake = SimpleNamespace(
        get_available_providers=lambda: GPU_BUILD,
        SessionOptions=lambda: SimpleNamespace(add_session_config_entry=lambda *_: None),
        InferenceSession=FakeSession,
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)


def test_onnx_runtime_gets_the_provider_of_the_device(gpu_build):
    assert devices.provider("cuda:1") == devices.provider("auto") == "CUDAExecutionProvider"
    assert devices.provider("cpu") == "CPUExecutionProvider"
    session = OnnxSession(b"", 0, False, "CUDAExecutionProvider", 1)
    assert session._session.asked == [("CUDAExecutionProvider", {"device_id": 1}), ("CPUExecutionProvider", {})]


def test_a_provider_that_does_not_start_is_no_silent_cpu(gpu_build, monkeypatch):
    monkeypatch.setattr(FakeSession, "starts", ["CPUExecutionProvider"])
    with pytest.raises(EnvironmentProblem, match="cannot start it here"):
        OnnxSession(b"", 0, False, "CUDAExecutionProvider", 0)


def test_a_device_that_the_build_lacks_is_named_with_what_is_there(gpu_build):
    with pytest.raises(EnvironmentProblem, match="CoreMLExecutionProvider, and ONNX Runtime has CUDAExec"):
        devices.provider("mps")


@pytest.mark.whole
@pytest.mark.parametrize("name", ["tpu", "cuda:", "CUDA", "cuda:x", ""])
def test_names_of_devices(name):
    with pytest.raises(EnvironmentProblem, match="is not a device"):
        devices.parts_of(name)


def test_what_runs_on_the_cpu_alone():
    devices.on_cpu_alone("auto", "m.pseg", "the engine")
    with pytest.raises(ModelFileError, match=r"m\.pseg: is run by the engine, on the CPU alone, and --device mps"):
        devices.on_cpu_alone("mps", "m.pseg", "the engine")
