"""Nets that Keras built, saved and ran itself, against ours with the same weights.

Both compute in 32-bit floats with sums in another order, hence the tolerance.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pocketseg.nets import build
from pocketseg.weights import put_keras, read_keras

TOLERANCE = 2e-5
# Vaze 2020 and Ronneberger 2015 as their Keras sources have them, only smaller. It runs in a process of its own: Keras
# reads its backend from the environment when it is imported, and warns of the file format.
SCRIPT = """
import sys
import keras
import numpy as np
from keras import layers as L

def block(x, width, conv, norm):
    for _ in range(2):
        x = conv(width, 3, padding="same", activation="relu")(x)
    return L.BatchNormalization(epsilon=1e-3)(x) if norm else x

def net(kind, conv, norm, classes):
    thin = kind == "thin"
    widths = [4, 4, 4] if thin else [4, 8, 16]
    x = image = keras.Input((32, 32, 2))
    skips = []
    for width in widths[:-1]:
        x = block(x, width, conv, norm)
        skips.append(x)
        x = L.MaxPooling2D()(x)
    x = block(x, widths[-1], conv, norm)
    for width in reversed(widths[:-1]):
        x = L.UpSampling2D()(x)
        if not thin:
            x = L.Conv2D(width, 2, padding="same", activation="relu")(x)
        x = block(L.Concatenate()([skips.pop(), x]), width, conv, norm)
    return keras.Model(image, L.Conv2D(classes, 1)(x))

kind, conv, norm, folder = sys.argv[1:]
model = net(kind, getattr(L, conv), norm == "block", 3)
rng = np.random.default_rng(0)
model.set_weights([rng.uniform(0.3, 1.2, w.shape) if w.ndim == 1 else w for w in model.get_weights()])
model.save(folder + "/net.h5")
images = rng.normal(size=(2, 32, 32, 2)).astype("float32")
np.savez(folder + "/run.npz", images=images, logits=model.predict(images, verbose=0))
"""


@pytest.mark.parametrize(
    ("kind", "conv", "norm"),
    [("thin", "Conv2D", "block"), ("thin", "SeparableConv2D", "block"), ("wide", "Conv2D", "none")],
)
def test_same_weights_same_logits(tmp_path: Path, kind: str, conv: str, norm: str) -> None:
    if importlib.util.find_spec("keras") is None:
        pytest.skip("missing tool: keras (the extra `dev` installs it)")
    environment = {**os.environ, "KERAS_BACKEND": "torch", "KERAS_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, kind, conv, norm, str(tmp_path)],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    options = {"norm": norm, "norm_eps": 1e-3, "width": 4}
    if kind == "thin":
        options |= {"arch": "thin_unet", "blocks": 2, "conv": "plain" if conv == "Conv2D" else "separable"}
    else:
        options |= {"arch": "unet", "levels": 2}
    net = build(in_channels=2, out_channels=3, **options).eval()
    run = np.load(tmp_path / "run.npz")
    images = torch.from_numpy(run["images"].transpose(0, 3, 1, 2))
    with torch.no_grad():
        fresh = net(images).numpy()
        put_keras(net, read_keras(tmp_path / "net.h5"), channels=2, where="net.h5")
        ours = net(images).numpy()
    theirs = run["logits"].transpose(0, 3, 1, 2)
    assert theirs.std() > 0.05 and np.abs(fresh - theirs).max() > 0.05  # else a net of zeros would pass
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, rtol=TOLERANCE)
