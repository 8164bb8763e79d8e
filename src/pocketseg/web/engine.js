// The engine: a packed model in WebAssembly, in this thread. Images in, masks out; `pocketseg.h` is what it calls.
// @ts-check

/** @typedef {import("./pocketseg").Picture} Picture */
/** @typedef {import("./pocketseg").Mask} Mask */
/** @typedef {import("./pocketseg").Facts} Facts */

export class PocketsegError extends Error {
  name = "PocketsegError";
}

const OK = 0;
const TYPES = /** @type {const} */ ([
  [Uint8Array, 0],
  [Uint8ClampedArray, 0],
  [Uint16Array, 1],
  [Int16Array, 2],
  [Float32Array, 3],
]);
// Of the file: magic, version, 0, four lengths of 8 bytes, digest; then the card.
const CARD_LENGTH_AT = 24;
const CARD_AT = 80;
const IMAGE_BYTES = 40;
const FACTS_BYTES = 40;
const MAX_PIXELS = 144_000_000;

// What the C library of the module asks a system for: it has no environment, no files, and one way to stop.
const ENOSYS = 52;
/** @param {() => DataView} view */
const system = (view) => ({
  wasi_snapshot_preview1: {
    environ_get: () => OK,
    environ_sizes_get: (/** @type {number} */ count, /** @type {number} */ bytes) => {
      view().setUint32(count, 0, true);
      view().setUint32(bytes, 0, true);
      return OK;
    },
    fd_close: () => ENOSYS,
    fd_seek: () => ENOSYS,
    fd_write: () => ENOSYS,
    proc_exit: () => {
      throw new PocketsegError("the engine stopped");
    },
  },
});

/** A model that is open. A call that fails ends the instance it ran in; the next call starts another. */
export class Engine {
  /** @type {WebAssembly.Module} */ #module;
  /** @type {Uint8Array} */ #file;
  /** @type {Record<string, any> | null} */ #c = null;
  #model = 0;
  #arena = { at: 0, bytes: 0 };

  /**
   * @param {WebAssembly.Module} module
   * @param {Uint8Array} file of a packed model
   */
  constructor(module, file) {
    this.#module = module;
    this.#file = file;
  }

  /**
   * Opens a packed model.
   * @param {BufferSource} wasm
   * @param {Uint8Array} file
   */
  static async open(wasm, file) {
    const engine = new Engine(await compiled(wasm), file);
    await engine.#started();
    return engine;
  }

  /** @returns {Promise<Facts>} */
  async facts() {
    const c = await this.#started();
    return this.#guarded(() => {
      const at = this.#given(FACTS_BYTES);
      this.#check(c.pseg_describe_pipeline(this.#model, at));
      const [height, width, channels, classes] = [0, 4, 8, 12].map((offset) => this.#view().getUint32(at + offset, true));
      const mm = [24, 32].map((offset) => this.#view().getFloat64(at + offset, true));
      c.free(at);
      const names = Array.from({ length: classes }, (_, index) => this.#text(c.pseg_class_name(this.#model, index + 1)));
      return {
        height, width, channels, classes: names, card: card(this.#file),
        spacing: mm[0] > 0 ? /** @type {[number, number]} */ (mm) : null,
        kernels: this.#text(c.pseg_isa(this.#model)),
      };
    });
  }

  /**
   * @param {Picture | ImageData} given
   * @returns {Promise<Mask>}
   */
  async segment(given) {
    const picture = checked(given);
    const c = await this.#started();
    return this.#guarded(() => {
      const { width, height, data, channels, spacing } = picture;
      const pixels = this.#given(data.byteLength);
      new Uint8Array(c.memory.buffer).set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), pixels);
      const image = this.#given(IMAGE_BYTES);
      const fields = [pixels, typeOf(data), height, width, channels, 0];
      fields.forEach((value, index) => this.#view().setUint32(image + 4 * index, value, true));
      (spacing ?? [0, 0]).forEach((mm, index) => this.#view().setFloat64(image + 24 + 8 * index, mm, true));
      const bytes = this.#given(4);
      this.#check(c.pseg_plan_segment(this.#model, image, 1, bytes));
      this.#holdArena(this.#view().getUint32(bytes, true));
      const mask = this.#given(width * height);
      const { at, bytes: size } = this.#arena;
      this.#check(c.pseg_segment(this.#model, image, mask, 0, 0, 0, at, size));
      const found = new Uint8Array(c.memory.buffer).slice(mask, mask + width * height);
      const seen = this.#given(12);
      this.#check(c.pseg_seen(this.#model, seen, seen + 8));
      const bounds = /** @type {[number, number]} */ ([0, 4].map((offset) => this.#view().getFloat32(seen + offset, true)));
      const colored = this.#view().getUint32(seen + 8, true) !== 0;
      for (const each of [pixels, image, bytes, mask, seen]) c.free(each);
      return { width, height, data: found, seen: { bounds, colored } };
    });
  }

  close() {
    this.#c = null;
  }

  async #started() {
    if (this.#c) return this.#c;
    const instance = await WebAssembly.instantiate(this.#module, system(() => this.#view()));
    this.#c = instance.exports;
    this.#arena = { at: 0, bytes: 0 };
    const c = this.#c;
    return this.#guarded(() => {
      c._initialize();
      const file = this.#given(this.#file.length);
      new Uint8Array(c.memory.buffer).set(this.#file, file);
      const place = this.#given(4);
      const status = c.pseg_open(file, this.#file.length, place);
      this.#model = this.#view().getUint32(place, true);
      this.#check(status);
      c.free(file);
      c.free(place);
      return c;
    });
  }

  /**
   * Runs a piece of work; what stops the instance becomes an error with the engine's own words.
   * @template Result
   * @param {() => Result} work
   */
  #guarded(work) {
    try {
      return work();
    } catch (error) {
      const c = this.#c;
      this.#c = null;
      if (!(error instanceof WebAssembly.RuntimeError) || !c) throw error;
      const told = c.pseg_fault_status() === OK ? `the engine stopped (${error.message})` : text(c.memory, c.pseg_fault_text());
      throw new PocketsegError(told);
    }
  }

  /** @param {number} status */
  #check(status) {
    if (status !== OK) throw new PocketsegError(this.#text(this.#c?.pseg_error(this.#model)) || `the engine failed (${status})`);
  }

  /** Addresses from 2 GiB on come as negative numbers. @param {number} bytes */
  #given(bytes) {
    const at = this.#c?.malloc(Math.max(bytes, 1)) >>> 0;
    if (!at) throw new PocketsegError("there is not enough memory");
    return at;
  }

  /** @param {number} bytes */
  #holdArena(bytes) {
    if (this.#arena.bytes >= bytes) return;
    this.#c?.free(this.#arena.at);
    this.#arena = { at: 0, bytes: 0 };
    this.#arena = { at: this.#given(bytes), bytes };
  }

  #view() {
    return new DataView(this.#c?.memory.buffer);
  }

  /** @param {number} at */
  #text(at) {
    return text(this.#c?.memory, at);
  }
}

/** @param {BufferSource} wasm */
async function compiled(wasm) {
  try {
    return await WebAssembly.compile(wasm);
  } catch (error) {
    if (!(error instanceof WebAssembly.CompileError)) throw error;
    const fix = "update it (Chrome 91, Firefox 89, Safari 16.4 and Node 16.4 have them)";
    throw new PocketsegError(`this browser lacks the vectors of WebAssembly: ${fix}`);
  }
}

/**
 * @param {WebAssembly.Memory} memory
 * @param {number} at
 */
function text(memory, at) {
  const bytes = new Uint8Array(memory.buffer, at >>> 0);
  return new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0)));
}

/** The card of a file whose digest the engine has looked at. @param {Uint8Array} file */
function card(file) {
  const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(CARD_LENGTH_AT, true));
  return JSON.parse(new TextDecoder().decode(file.subarray(CARD_AT, CARD_AT + length)));
}

/** @param {Picture["data"]} data */
function typeOf(data) {
  const found = TYPES.find(([kind]) => data instanceof kind);
  if (!found) throw new PocketsegError("image: its data are no Uint8Array, Uint16Array, Int16Array or Float32Array");
  return found[1];
}

/**
 * A picture whose numbers fit each other. ImageData is color: its alpha is left out, as that of files is.
 * @param {Picture | ImageData} given
 * @returns {Picture & {channels: number}}
 */
function checked(given) {
  const { width, height, data, channels = 1, spacing = null } = /** @type {Picture} */ (given);
  typeOf(data);
  if (!(Number.isInteger(width) && Number.isInteger(height) && width > 0 && height > 0))
    throw new PocketsegError(`image: its size is ${width}×${height}`);
  if (width * height > MAX_PIXELS)
    throw new PocketsegError(`image: ${width}×${height} is above the limit of ${MAX_PIXELS.toLocaleString("en")} pixels`);
  if (spacing && !(spacing.length === 2 && [...spacing].every((mm) => mm > 0 && mm < Infinity)))
    throw new PocketsegError(`image: its pixel size is [${spacing}]; give two numbers of mm above 0: rows, columns`);
  if (data instanceof Uint8ClampedArray && data.length === 4 * width * height)
    return { width, height, channels: 3, data: withoutAlpha(data), spacing };
  if (data.length !== width * height * channels)
    throw new PocketsegError(`image: ${data.length} numbers are not ${width}×${height} pixels of ${channels}`);
  return { width, height, channels, data, spacing };
}

/** @param {Uint8ClampedArray} rgba */
function withoutAlpha(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    rgb[to] = rgba[from];
    rgb[to + 1] = rgba[from + 1];
    rgb[to + 2] = rgba[from + 2];
  }
  return rgb;
}
