// The engine in a worker: a message is a call, its answer a result or the text of an error.
// @ts-check
import { Engine, PocketsegError } from "./engine.js";

/** @type {Engine | null} */
let engine = null;
let waiting = Promise.resolve();

/** @type {Record<string, (...given: any[]) => Promise<any>>} */
const CALLS = {
  async open(wasm, file) {
    engine = await Engine.open(wasm, file);
    return engine.facts();
  },
  async segment(picture) {
    return engine?.segment(picture);
  },
};

self.onmessage = ({ data: { number, call, given } }) => {
  // One after the other: an instance does one thing at a time.
  waiting = waiting.then(async () => {
    try {
      const result = await CALLS[call](...given);
      self.postMessage({ number, result }, { transfer: result.data ? [result.data.buffer] : [] });
    } catch (error) {
      const own = error instanceof PocketsegError;
      self.postMessage({ number, error: own ? error.message : String(error), own });
    }
  });
};
