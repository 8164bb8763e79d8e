// A packed model for browsers, Deno and Node: `const model = await open(bytes); const mask = await model.segment(image)`.
// @ts-check
import { Engine, PocketsegError } from "./engine.js";
import { readStack } from "./files.js";

export { PocketsegError };

/**
 * The pictures of a file, as a model wants them.
 * @param {Blob | Blob[]} file several: the DICOM files of one series
 * @param {import("./pocketseg").Model} model
 * @returns {Promise<import("./pocketseg").Stack>}
 */
export async function read(file, model) {
  return readStack([file].flat(), model.card.pipeline);
}

/**
 * @param {ArrayBuffer | Uint8Array} bytes
 * @param {import("./pocketseg").Options} [options]
 * @returns {Promise<import("./pocketseg").Model>}
 */
export async function open(bytes, options = {}) {
  const file = new Uint8Array(bytes).slice();
  const wasm = options.wasm ?? (await module());
  if (typeof Worker === "undefined" || options.worker === false) return openHere(wasm, file);
  return openInWorker(wasm, file, options.worker ?? new Worker(new URL("./worker.js", import.meta.url), { type: "module" }));
}

/** @param {BufferSource} wasm @param {Uint8Array} file */
async function openHere(wasm, file) {
  const engine = await Engine.open(wasm, file);
  let waiting = Promise.resolve();
  return {
    ...(await engine.facts()),
    segment(/** @type {any} */ picture) {
      const done = waiting.then(() => engine.segment(picture));
      waiting = done.then(() => {}, () => {});
      return done;
    },
    close: () => engine.close(),
  };
}

/** @param {BufferSource} wasm @param {Uint8Array} file @param {Worker} worker */
async function openInWorker(wasm, file, worker) {
  /** @type {Map<number, {resolve: (result: any) => void, reject: (error: Error) => void}>} */
  const calls = new Map();
  let count = 0;
  let ended = "";
  const end = (/** @type {string} */ why) => {
    ended ||= why;
    worker.terminate();
    for (const { reject } of calls.values()) reject(new PocketsegError(why));
    calls.clear();
  };
  worker.onmessage = ({ data: { number, result, error, own } }) => {
    const call = calls.get(number);
    calls.delete(number);
    if (error === undefined) call?.resolve(result);
    else call?.reject(own ? new PocketsegError(error) : new Error(error));
  };
  worker.onerror = (event) => end(`the worker stopped: ${event.message ?? "it could not be started"}`);
  const ask = (/** @type {string} */ call, /** @type {any[]} */ ...given) =>
    new Promise((resolve, reject) => {
      if (ended) throw new PocketsegError(ended);
      calls.set(++count, { resolve, reject });
      worker.postMessage({ number: count, call, given });
    });
  try {
    const facts = await ask("open", wasm, file);
    return { ...facts, segment: (/** @type {any} */ picture) => ask("segment", plain(picture)), close: () => end("the model was closed") };
  } catch (error) {
    worker.terminate();
    throw error;
  }
}

/** A picture as messages can hold it. @param {any} picture */
function plain({ width, height, data, channels, spacing }) {
  return { width, height, data, channels, spacing };
}

/** The engine beside this file. */
async function module() {
  const place = new URL("./pocketseg.wasm", import.meta.url);
  if (place.protocol !== "file:") {
    const answer = await fetch(place);
    if (!answer.ok) throw new PocketsegError(`${place}: cannot be read (${answer.status})`);
    return new Uint8Array(await answer.arrayBuffer());
  }
  const { readFile } = await import(/* @vite-ignore */ "node:fs/promises");
  return readFile(place);
}
