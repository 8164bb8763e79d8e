"""Models in processes of every kind: forked, spawned, of a DataLoader, of a server; used, copied, and left alone."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from pocketseg import load
from pocketseg.engine.codec import file_of
from pocketseg.exporters import export_onnx
from pocketseg.packing.compile import program_of
from pocketseg.pipeline import Pipeline
from pocketseg.training.model import Model

IMAGE = np.random.default_rng(1).integers(0, 256, (40, 48), dtype=np.uint8)
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    model = Model.fresh({"arch": "thin_unet", "width": 16, "blocks": 3}, Pipeline(size=(64, 64)), seed=3)
    model.net.eval()
    model.save(folder / "best.safetensors", {})
    export_onnx(model.net.core, model.pipeline, {}, folder / "model.onnx")
    card = {"pipeline": dataclasses.asdict(model.pipeline)}
    (folder / "model.pseg").write_bytes(file_of(program_of(model.net.core, 1), card))
    return {
        "torch": folder / "best.safetensors",
        "pseg": folder / "model.pseg",
        "onnx": folder / "model.onnx",
        "openvino": folder / "model.onnx",
    }


# With onnxruntime a forked child never ends as a program does: the runtime waits for its threads, whoever left them.
FORKS = ["fork", "unused", "pool:fork"]
MORE = pytest.mark.slow("each backend in new processes, which import it again")
WAYS = [
    ("pseg", [*FORKS, "busy", "end"]),
    ("pseg", ["pool:spawn", "pool:forkserver"]),
    pytest.param("pseg", ["loader:fork", "loader:spawn"], marks=MORE),
    pytest.param("torch", [*FORKS, "end", "pool:spawn"], marks=MORE),
    pytest.param("onnx", [*FORKS, "busy", "pool:spawn"], marks=MORE),
    pytest.param("openvino", [*FORKS, "busy", "end", "pool:spawn"], marks=MORE),
]


@pytest.mark.row("F24")
@pytest.mark.parametrize(("backend", "ways"), WAYS, ids=str)
def test_in_another_process(models, backend, ways):
    program = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("processes.py"))]
    done = subprocess.run([*program, str(models[backend]), backend, *ways], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ways


SERVER = """
    import hashlib, os, sys, numpy, pocketseg

    model = pocketseg.load({model!r}, threads=2)
    image = numpy.random.default_rng(1).integers(0, 256, (40, 48), dtype=numpy.uint8)
    model.predict(image)

    def app(environ, start_response):
        digest = hashlib.sha256(model.predict(image).tobytes()).hexdigest()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{{os.getpid()}} {{digest}}".encode()]
"""


@pytest.mark.row("F24")
def test_a_server_that_loads_before_it_forks(models, tmp_path):
    """Gunicorn with --preload: its workers share the weights of their parent, and each has threads of its own."""
    import hashlib

    (tmp_path / "served.py").write_text(textwrap.dedent(SERVER.format(model=str(models["pseg"]))))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = ["--preload", "--workers", "2", "--bind", address, "--timeout", "20", "--no-control-socket"]
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *options, "served:app"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    try:
        wanted = hashlib.sha256(load(models["pseg"]).predict(IMAGE).tobytes()).hexdigest()
        workers, until = set(), time.monotonic() + 30
        while len(workers) < 2 and time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"http://{address}/", timeout=10) as answer:
                    worker, digest = answer.read().decode().split()
            except ConnectionError:
                time.sleep(0.1)
            except urllib.error.URLError as error:
                assert isinstance(error.reason, ConnectionError), error
                time.sleep(0.1)
            else:
                assert digest == wanted
                workers.add(worker)
        assert len(workers) == 2 and str(server.pid) not in workers
    finally:
        server.terminate()
        errors = server.communicate(timeout=20)[1]
    assert server.returncode == 0, errors


@pytest.mark.row("S15")
@pytest.mark.parametrize("backend", ["pseg", "onnx", "openvino", "torch"])
def test_copies_outlive_what_they_were_made_of(models, backend):
    first = load(models[backend], backend=backend)
    wanted = first.predict(IMAGE)
    copies = [copy.copy(first), copy.deepcopy(first), copy.copy(first.forward), copy.deepcopy(first.forward)]
    pickled = pickle.dumps(first)
    runs = [each if callable(each) else each.forward for each in copies]
    batch = first.pipeline.prepare(IMAGE)[None]
    logits = first.forward(batch)
    del first
    for run in runs:
        assert np.array_equal(run(batch), logits)
    assert np.array_equal(pickle.loads(pickled).predict(IMAGE), wanted)  # noqa: S301 - our own


@pytest.mark.row("S15")
def test_a_program_ends_while_a_thread_of_the_background_predicts(models):
    """Freed at the end of the program, the net would be gone under the thread."""
    program = f"""
        import threading, time
        import numpy, pocketseg
        forward = pocketseg.load({str(models["pseg"])!r}, threads=2).forward
        images = numpy.zeros((64, 1, 256, 256), numpy.float32)
        for _ in range(2):
            threading.Thread(target=lambda: [forward(images) for _ in range(99)], daemon=True).start()
        time.sleep(0.3)
    """
    for _ in range(3):
        subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60)
