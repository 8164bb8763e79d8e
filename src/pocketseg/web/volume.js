// Slices of volumes as the Python package takes them: planes, directions and intensities.
// @ts-check
import { PocketsegError } from "./engine.js";

/** @typedef {Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array | Float32Array | Float64Array} Numbers */
/** @typedef {[number, number, number]} Triple */
/**
 * Where voxels lie, by stored axis: how many, their size in mm (infinite: not known), and rows of the matrix (3, 4) from
 * voxel index to mm in RAS.
 * @typedef {{shape: Triple, mm: Triple | null, affine: number[][] | null}} Grid
 */
/**
 * `strides` of the stored axes and of the channels of a voxel; `contrasts`: channels that are images of their own;
 * `measured`: numbers with a scale of their own, and not brightnesses; `window`: center and width that the file proposes.
 * @typedef {{data: Numbers, channels: number, strides: [number, number, number, number], grid: Grid, contrasts: boolean, measured: boolean, window: [number, number] | null}} Volume
 */
/** @typedef {{lows: number[], highs: number[]}} Scale of each channel, what becomes 0 and 65535 */

const PLANES = ["sagittal", "coronal", "axial"];
const ORDERS = /** @type {Triple[]} */ ([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]);
const SAME_SIZE = 1.01;
// Percentiles of about this many voxels.
const SAMPLED = 1_000_000;
const [DARKEST, BRIGHTEST] = [0.5, 99.5];
const LARGEST = /** @type {Record<string, number>} */ ({ uint8: 255, uint16: 65535 });

/** Lengths of the columns of a matrix. @param {number[][]} affine @returns {Triple} */
export function lengths(affine) {
  return /** @type {Triple} */ ([0, 1, 2].map((axis) => Math.sqrt(affine[0][axis] ** 2 + affine[1][axis] ** 2 + affine[2][axis] ** 2)));
}

/** @param {number[][]} m of which (3, 3) count */
export function determinant(m) {
  return m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0]) + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
}

/** A volume cut into pictures, across one of its canonical axes (right, front, head). */
export class Slices {
  /** @param {Volume} volume @param {any} reading of a model's pipeline */
  constructor(volume, reading) {
    const { grid } = volume;
    const { order, flips } = orientation(grid);
    this.volume = volume;
    this.order = order;
    this.flips = flips;
    this.axis = axisOf(grid, order, reading?.axis ?? "auto");
    const [columns, rows] = [0, 1, 2].filter((axis) => axis !== this.axis).map((axis) => order[axis]);
    this.columns = columns;
    this.rows = rows;
    this.across = this.order[this.axis];
    this.count = grid.shape[this.across];
    this.width = grid.shape[this.columns];
    this.height = grid.shape[this.rows];
    this.plane = PLANES[this.axis];
    refuseNotFinite(volume.data);
    this.scale = scaleOf(volume, reading);
    const mm = grid.mm && [grid.mm[this.rows], grid.mm[this.columns]];
    /** Of rows and columns, in mm. */
    this.spacing = mm?.every(Number.isFinite) ? /** @type {[number, number]} */ (mm) : null;
    const thickness = grid.mm?.[this.across] ?? Infinity;
    /** From one slice to the next, in mm. */
    this.thickness = this.spacing && Number.isFinite(thickness) ? thickness : null;
  }

  /** Where the pixels of a slice lie: the first one, from one row to the next, from one column to the next. @param {number} index @param {ArrayLike<number>} strides */
  place(index, strides) {
    const canonical = (/** @type {number} */ stored) => this.order.indexOf(stored);
    let start = (this.flips[this.axis] ? this.count - 1 - index : index) * strides[this.across];
    const steps = [this.rows, this.columns].map((stored) => {
      // Pictures run down and to the left of what is canonical.
      if (this.flips[canonical(stored)]) return strides[stored];
      start += (this.volume.grid.shape[stored] - 1) * strides[stored];
      return -strides[stored];
    });
    return { start, row: steps[0], column: steps[1] };
  }

  /** The stored numbers of a slice, in a type of the volume's own. @param {number} index @returns {Numbers} */
  stored(index) {
    const { data, strides, channels } = this.volume;
    const { start, row, column } = this.place(index, strides);
    const out = new /** @type {any} */ (data.constructor)(this.width * this.height * channels);
    let to = 0;
    for (let y = 0; y < this.height; ++y)
      for (let x = 0; x < this.width; ++x)
        for (let channel = 0; channel < channels; ++channel) out[to++] = data[start + y * row + x * column + channel * strides[3]];
    return out;
  }

  /** A slice as an image. @param {number} index @param {any} pipeline of the model that it is for @returns {import("./pocketseg").Picture & {channels: number}} */
  picture(index, pipeline) {
    const { width, height, scale } = this;
    const { channels } = this.volume;
    const stored = this.stored(index);
    return { width, height, channels, data: scale ? scaled(stored, channels, scale) : asTrained(stored, pipeline), spacing: this.spacing };
  }

  /** Voxels in stored order, the first axis running fastest, of all masks. @param {Uint8Array[]} masks */
  rebuilt(masks) {
    const [i, j, k] = this.volume.grid.shape;
    const out = new Uint8Array(i * j * k);
    masks.forEach((mask, index) => {
      const { start, row, column } = this.place(index, [1, i, i * j]);
      let from = 0;
      for (let y = 0; y < this.height; ++y) for (let x = 0; x < this.width; ++x) out[start + y * row + x * column] = mask[from++];
    });
    return out;
  }

  /** How another volume lies elsewhere, in words; empty where it does not, or nobody knows. @param {Slices} other */
  difference(other) {
    const shape = (/** @type {Slices} */ each) => each.order.map((axis) => each.volume.grid.shape[axis]).join("×");
    if (shape(this) !== shape(other)) return `is ${shape(other)} voxels, its image ${shape(this)}`;
    const [a, b] = [canonicalAffine(this), canonicalAffine(other)];
    if (!a || !b) return "";
    const [sizes, others] = [lengths(a), lengths(b)];
    const far = (/** @type {(row: number, axis: number) => boolean} */ test) => [0, 1, 2].some((row) => [0, 1, 2].some((axis) => test(row, axis)));
    if (far((_, axis) => Math.abs(sizes[axis] - others[axis]) > 1e-3 * sizes[axis])) return "has voxels of another size than its image";
    if (far((row, axis) => Math.abs(a[row][axis] / sizes[axis] - b[row][axis] / others[axis]) > 1e-3)) return "is turned against its image";
    if (far((row) => Math.abs(a[row][3] - b[row][3]) > 0.1 * Math.min(...sizes))) return "begins at another place than its image";
    return "";
  }
}

/** The stored axis of each canonical one, and whether it runs against it. @param {Grid} grid @returns {{order: Triple, flips: boolean[]}} */
function orientation({ affine }) {
  if (!affine) return { order: [0, 1, 2], flips: [true, true, false] };
  const sizes = lengths(affine);
  const along = (/** @type {number} */ canonical, /** @type {number} */ stored) => affine[canonical][stored] / sizes[stored];
  const agreement = (/** @type {Triple} */ order) => Math.abs(along(0, order[0])) + Math.abs(along(1, order[1])) + Math.abs(along(2, order[2]));
  const order = ORDERS.reduce((best, each) => (agreement(each) > agreement(best) ? each : best));
  return { order, flips: order.map((stored, canonical) => along(canonical, stored) < 0) };
}

/** @param {Slices} slices */
function canonicalAffine({ volume: { grid }, order, flips }) {
  return grid.affine?.map((line) => [
    ...order.map((stored, axis) => (flips[axis] ? -line[stored] : line[stored])),
    order.reduce((sum, stored, axis) => sum + (flips[axis] ? line[stored] * (grid.shape[stored] - 1) : 0), line[3]),
  ]);
}

/** The canonical axis that slices are cut across. @param {Grid} grid @param {Triple} order @param {string} wanted */
function axisOf({ shape, mm }, order, wanted) {
  if (wanted !== "auto") return PLANES.indexOf(wanted);
  let stored = 2;
  if (shape.includes(1)) stored = shape.lastIndexOf(1);
  else if (mm && Math.max(...mm) > SAME_SIZE * mm[2]) stored = mm.indexOf(Math.max(...mm));
  return order.indexOf(stored);
}

/** @param {Numbers} data */
function refuseNotFinite(data) {
  if (!(data instanceof Float32Array || data instanceof Float64Array)) return;
  let count = 0;
  for (const value of data) if (!Number.isFinite(value)) ++count;
  if (count) throw new PocketsegError(`${count} voxels are NaN or infinite: replace them by numbers`);
}

/** What becomes black and white; null where numbers stay as they are. @param {Volume} volume @param {any} reading @returns {Scale | null} */
function scaleOf(volume, reading) {
  const { channels, contrasts, measured } = volume;
  const window = reading?.window === "stored" ? volume.window : (reading?.window ?? null);
  if (reading?.window === "stored" && !window)
    throw new PocketsegError("the model wants the window that the file proposes, and it proposes none, or not one for all of its slices");
  if ((channels > 1 && !contrasts) || (!window && (reading?.raw || !measured))) return null;
  const all = Array.from({ length: channels }, (_, channel) =>
    window ? [window[0] - window[1] / 2, window[0] + window[1] / 2] : ownRange(volume, channel),
  );
  return { lows: all.map(([low]) => low), highs: all.map(([, high]) => high) };
}

/** From the 0.5th to the 99.5th percentile, as NumPy has them. @param {Volume} volume @param {number} channel */
function ownRange({ data, strides, grid: { shape } }, channel) {
  const size = shape[0] * shape[1] * shape[2];
  const step = Math.max(1, Math.floor(size / SAMPLED));
  const some = new /** @type {any} */ (data.constructor)(Math.ceil(size / step));
  const at = (/** @type {number} */ n) => {
    const k = n % shape[2];
    const rest = (n - k) / shape[2];
    const j = rest % shape[1];
    return data[((rest - j) / shape[1]) * strides[0] + j * strides[1] + k * strides[2] + channel * strides[3]];
  };
  for (let i = 0; i < some.length; ++i) some[i] = at(i * step);
  some.sort();
  const [low, high] = [percentile(some, DARKEST), percentile(some, BRIGHTEST)];
  if (low !== high) return [low, high];
  let [least, most] = [Infinity, -Infinity];
  for (let n = 0; n < size; ++n) [least, most] = [Math.min(least, at(n)), Math.max(most, at(n))];
  return [least, most];
}

/** Differences are of the type of the numbers. @param {any} sorted @param {number} percent */
function percentile(sorted, percent) {
  const place = (sorted.length - 1) * (percent / 100);
  const before = Math.floor(place);
  if (place >= sorted.length - 1) return sorted[sorted.length - 1];
  const [a, b, t] = [sorted[before], sorted[before + 1], place - before];
  const apart = sorted.constructor.of(b - a)[0];
  return t >= 0.5 ? b - apart * (1 - t) : a + apart * t;
}

/** In f32, as the Python package does it. @param {Numbers} stored @param {number} channels @param {Scale} scale */
function scaled(stored, channels, { lows, highs }) {
  const f = Math.fround;
  const ranges = lows.map((low, channel) => [f(low), f(Math.max(highs[channel] - low, 1e-30))]);
  const out = new Uint16Array(stored.length);
  for (let i = 0; i < stored.length; ++i) {
    const [low, range] = ranges[channels === 1 ? 0 : i % channels];
    const value = f(Math.min(1, Math.max(0, f(f(f(stored[i]) - low) / range))) * 65535);
    const below = Math.floor(value);
    out[i] = value - below === 0.5 ? below + (below & 1) : Math.round(value);
  }
  return out;
}

/** Numbers in a type that the engine takes, with the meaning that they have in training. @param {Numbers} stored @param {any} pipeline @returns {any} */
function asTrained(stored, pipeline) {
  if ([Uint8Array, Uint16Array, Int16Array, Float32Array].some((kind) => stored instanceof kind)) return stored;
  const numbers = pipeline?.trained_on?.numbers;
  if (pipeline?.intensity_range || stored instanceof Float64Array || numbers === "float") return Float32Array.from(stored);
  let [low, high] = [Infinity, -Infinity];
  for (const value of stored) [low, high] = [Math.min(low, value), Math.max(high, value)];
  if (numbers in LARGEST && low >= 0 && high <= LARGEST[numbers]) return numbers === "uint8" ? Uint8Array.from(stored) : Uint16Array.from(stored);
  throw new PocketsegError(`its numbers run from ${low} to ${high}, and the model does not say what becomes black and white of them`);
}
