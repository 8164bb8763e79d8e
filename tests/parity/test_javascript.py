"""The JavaScript module under Node: the masks of the NumPy pipeline, byte for byte, and errors in words."""

from __future__ import annotations

import json

import numpy as np
import pytest

from helpers.javascript import engine_file, in_node
from helpers.packed_models import changed, packed
from helpers.random_pipelines import small_net, some_image, some_pipeline
from pocketseg.engine.container import read_container
from pocketseg.engine.session import Session
from pocketseg.errors import DataError
from pocketseg.pipeline import Pipeline

DTYPES = ("uint8", "uint16", "int16", "float32")
CASES = 60
SEGMENT_ALL = """
const cases = JSON.parse(await readFile(`${given[0]}/cases.json`, "utf8"));
const kinds = { uint8: Uint8Array, uint16: Uint16Array, int16: Int16Array, float32: Float32Array };
for (const [index, { file, dtype, height, width, channels, spacing }] of cases.entries()) {
  const bytes = new Uint8Array(await readFile(`${given[0]}/${index}.raw`)).slice();
  const model = await open(await readFile(`${given[0]}/${file}`));
  try {
    const mask = await model.segment({ width, height, channels, spacing, data: new kinds[dtype](bytes.buffer) });
    await writeFile(`${given[0]}/${index}.mask`, mask.data);
  } catch (error) {
    if (!(error instanceof PocketsegError)) throw error;
    console.log(index, error.message);
  }
}
"""


def with_pipeline(content: bytes, pipeline: Pipeline) -> bytes:
    card = json.dumps({"pipeline": pipeline.to_dict()}).encode()
    return changed(content, card=json.loads(card))


@pytest.mark.row("N02", "N21")
def test_masks_are_those_of_numpy(tmp_path):
    engine_file()
    random = np.random.default_rng(5)
    cases, wanted = [], {}
    for index in range(CASES):
        pipeline, dtype = some_pipeline(random), DTYPES[index % len(DTYPES)]
        image = some_image(random, pipeline, dtype)
        spacing = None if pipeline.spacing_mm is None else (0.5 + random.random(), 0.5 + random.random())
        content = with_pipeline(small_net(pipeline.channels, len(pipeline.classes)), pipeline)
        (tmp_path / f"{index}.pseg").write_bytes(content)
        (tmp_path / f"{index}.raw").write_bytes(np.ascontiguousarray(image).tobytes())
        height, width, channels = (*image.shape, 1)[:3]
        cases.append(
            {"file": f"{index}.pseg", "dtype": dtype, "height": height, "width": width, "channels": channels,
             "spacing": spacing}
        )  # fmt: skip
        try:
            wanted[index] = pipeline.mask(pipeline.predict(image, Session(content, "here"), spacing))
        except DataError:
            continue
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    refused = in_node(SEGMENT_ALL, tmp_path).splitlines()
    assert {int(line.split()[0]) for line in refused} == set(range(CASES)) - set(wanted), refused
    assert len(wanted) > CASES / 2
    masks = {index: np.frombuffer((tmp_path / f"{index}.mask").read_bytes(), np.uint8) for index in wanted}
    different = {index: int((masks[index] != wanted[index].ravel()).sum()) for index in wanted}
    assert not any(different.values()), different
    assert sum(0 < mask.mean() < 1 for mask in masks.values()) > CASES / 4


def told(script: str, *arguments) -> str:
    return in_node(f"try {{ {script} }} catch (error) {{ console.log(error.name, error.message); }}", *arguments)


@pytest.fixture
def model(tmp_path):
    pipeline = Pipeline(size=(32, 32), multiple=8)
    file = tmp_path / "model.pseg"
    file.write_bytes(with_pipeline(packed(), pipeline))
    return file


def test_what_a_model_says_of_itself(model):
    said = json.loads(in_node("const m = await open(await readFile(given[0])); console.log(JSON.stringify(m));", model))
    assert (said["height"], said["width"], said["channels"], said["classes"]) == (32, 32, 1, ["foreground"])
    assert said["kernels"] == "wasm" and said["card"]["pipeline"]["size"] == [32, 32] and said["spacing"] is None


@pytest.mark.row("S16")
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda content: b"", "not a packed model"),
        (lambda content: b"GIF89a" + content, "not a packed model"),
        (lambda content: content[:-9], "truncated"),
        (lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:], "digest"),
        (lambda content: content[:8] + b"\x09" + content[9:], "version 9"),
    ],
    ids=["empty", "other", "cut", "altered", "newer"],
)
def test_bad_models_are_refused_in_words(model, edit, message):
    model.write_bytes(edit(model.read_bytes()))
    said = told("await open(await readFile(given[0]));", model)
    assert said.startswith("PocketsegError") and message in said


@pytest.mark.row("S16")
def test_hostile_models_are_refused_in_words(model):
    """Bytes changed everywhere, with a right digest: each is refused by a rule of the reader, or runs."""
    content = read_container(model.read_bytes(), "here")
    random = np.random.default_rng(4)
    for number in range(120):
        program = bytearray(content.program)
        for at in random.integers(0, len(program), 1 + number % 3):
            program[at] = random.integers(256)
        (model.parent / f"{number}.bad").write_bytes(changed(model.read_bytes(), program=bytes(program)))
    said = in_node(
        """
        for (let i = 0; i < 120; ++i) {
          const bytes = await readFile(`${given[0]}/${i}.bad`);
          const told = (error) => console.log(error instanceof PocketsegError ? error.message : `odd ${error}`);
          await open(bytes).then((m) => m.segment({ width: 20, height: 20, data: new Uint8Array(400) })).then(
            () => console.log("ran"), told);
        }
        """,
        model.parent,
    ).splitlines()
    assert len(said) == 120 and not [line for line in said if line.startswith(("odd", "the engine"))], said
    assert 60 < sum(line != "ran" for line in said) < 120


def test_a_refused_image_leaves_the_model_usable(model):
    """A fault ends the instance that it happened in; the next image runs in another, and gives the same mask."""
    said = in_node(
        """
        const m = await open(await readFile(given[0]));
        const data = Float32Array.from({ length: 900 }, (_, i) => (i * 37) % 101);
        const before = await m.segment({ width: 30, height: 30, data });
        for (const bad of [
          { width: 30, height: 30, data: new Float32Array(900).fill(NaN) },
          { width: 15, height: 30, channels: 2, data },
          { width: 7, height: 30, data },
          { width: 0, height: 30, data },
          { width: 20000, height: 20000, data },
          { width: 30, height: 30, data: new Float64Array(900) },
        ]) await m.segment(bad).then(() => console.log("taken"), (error) => console.log(error.name, error.message));
        const after = await m.segment({ width: 30, height: 30, data });
        console.log(before.data.some((v) => v) && before.data.every((v, i) => v === after.data[i]));
        """,
        model,
    ).splitlines()
    assert len(said) == 7 and all(line.startswith("PocketsegError ") for line in said[:6]), said
    words = ("NaN", "channels", "not 7×30", "0×30", "limit", "Float32Array")
    assert all(word.lower() in line.lower() for word, line in zip(words, said, strict=False)), said
    assert said[6] == "true"


def test_memory_beyond_2_gib(model):
    """There addresses are negative as signed numbers; memory that was grown and not touched costs nothing."""
    said = in_node(
        """
        const start = WebAssembly.instantiate;
        let memory = null;
        WebAssembly.instantiate = async (...more) => {
          const found = await start(...more);
          memory = found.exports?.memory ?? memory;
          return found;
        };
        const data = Uint8Array.from({ length: 600_000 }, (_, i) => (i * 37) % 101);
        const picture = { width: 600, height: 1000, data };
        const before = await (await open(await readFile(given[0]))).segment(picture);
        const m = await open(await readFile(given[0]));
        memory.grow(33_000);
        const after = await m.segment(picture);
        console.log(before.data.some((v) => v) && before.data.every((v, i) => v === after.data[i]));
        """,
        model,
    )
    assert said.strip() == "true"


def test_a_pixel_size_is_two_numbers(tmp_path):
    """Of one the other would be what lay in memory, and a third would be written over what lies there."""
    pipeline = Pipeline(size=(24, 24), multiple=8, fit="crop", spacing_mm=(0.5, 0.5))
    (tmp_path / "model.pseg").write_bytes(with_pipeline(packed(), pipeline))
    said = in_node(
        """
        const m = await open(await readFile(given[0]));
        const picture = { width: 30, height: 20, data: new Uint8Array(600) };
        for (const spacing of [[0.5], [1, 1, 1], [0, 1], [1, NaN], [1, Infinity], [-1, 1], "1"])
          await m.segment({ ...picture, spacing }).then(
            () => console.log("taken"), (error) => console.log(error.message));
        console.log((await m.segment({ ...picture, spacing: [1, 1] })).data.length);
        """,
        tmp_path / "model.pseg",
    ).splitlines()
    assert len(said) == 8 and all("pixel size is" in line for line in said[:7]) and said[7] == "600", said


def test_a_worker_that_ended_answers_with_why(model):
    said = in_node(
        """
        globalThis.Worker = class {};
        for (const end of [(m, worker) => worker.onerror({ message: "boom" }), (m) => m.close()]) {
          const worker = {
            terminate() {},
            postMessage({ number, call }) {
              if (call === "open") queueMicrotask(() => worker.onmessage({ data: { number, result: {} } }));
            },
          };
          const m = await open(new Uint8Array(4), { wasm: new Uint8Array(4), worker });
          const picture = { width: 1, height: 1, data: new Uint8Array(1) };
          const during = m.segment(picture);
          end(m, worker);
          for (const call of [during, m.segment(picture)])
            await Promise.race([call, new Promise((done) => setTimeout(done, 200, "no answer"))]).then(
              console.log, (error) => console.log(error.name, error.message));
        }
        """
    ).splitlines()
    stopped, closed = "PocketsegError the worker stopped: boom", "PocketsegError the model was closed"
    assert said == [stopped, stopped, closed, closed]


def test_memory_stays_flat(model):
    said = in_node(
        """
        const start = WebAssembly.instantiate;
        const memories = new Set();
        WebAssembly.instantiate = async (...more) => {
          const found = await start(...more);
          if (found.exports) memories.add(found.exports.memory);
          return found;
        };
        const m = await open(await readFile(given[0]));
        const bytes = () => [...memories].reduce((sum, memory) => sum + memory.buffer.byteLength, 0);
        const sizes = [[200, 300], [300, 200], [17, 5]];
        const run = async (times) => {
          for (let i = 0; i < times; ++i) {
            const [width, height] = sizes[i % sizes.length];
            await m.segment({ width, height, data: new Uint8Array(width * height).fill(i) });
          }
          return bytes();
        };
        console.log(await run(30), await run(300), memories.size);
        """,
        model,
    ).split()
    assert said[0] == said[1] and said[2] == "1", said


def test_image_data_is_color_without_alpha(tmp_path):
    pipeline = Pipeline(size=(24, 24), channels=3, multiple=8)
    content = with_pipeline(small_net(3, 1), pipeline)
    (tmp_path / "model.pseg").write_bytes(content)
    rgba = np.random.default_rng(1).integers(0, 256, (20, 31, 4), np.uint8)
    (tmp_path / "rgba").write_bytes(rgba.tobytes())
    said = in_node(
        """
        const m = await open(await readFile(given[0]));
        const data = new Uint8ClampedArray(await readFile(given[1]));
        console.log([...(await m.segment({ width: 31, height: 20, data })).data].join(""));
        """,
        tmp_path / "model.pseg", tmp_path / "rgba",
    )  # fmt: skip
    mask = pipeline.mask(pipeline.predict(rgba[:, :, :3], Session(content, "here")))
    assert said.strip() == "".join(map(str, mask.ravel())) and 0 < mask.mean() < 1
