// TIFF files of one page with the numbers they store; browsers read none.
// @ts-check
import { PocketsegError } from "./engine.js";
import { inflated } from "./png.js";

const DAMAGED = "the image is damaged or cut off: copy it again from its source";
const OTHERWISE = "save it as PNG, or use `pocketseg predict`";
// Bytes of each type of field; those with fractions are not looked at.
const SIZES = /** @type {Record<number, number>} */ ({ 1: 1, 2: 1, 3: 2, 4: 4 });
const MAX_PIXELS = 144_000_000;
const [NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS] = [1, 5, 8, 32946, 32773];
const [UNSIGNED, FLOAT] = [1, 3];
const [BLACK_IS_ZERO, RGB] = [1, 2];
// Codes of LZW: of one byte each, then these two, then strings.
const [CLEAR, END] = [256, 257];

/** @typedef {{width: number, height: number, channels: number, data: Uint8Array | Uint16Array | Float32Array, turn: number}} Decoded */

/** @param {Uint8Array} bytes */
export function isTiff(bytes) {
  return ["II*\0", "MM\0*"].includes(String.fromCharCode(...bytes.subarray(0, 4)));
}

/**
 * Gray of 8 or 16 bits or of floats, or color of 8 bits; alpha is left out.
 * @param {Uint8Array} bytes
 * @returns {Promise<Decoded>}
 */
export async function decodeTiff(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const little = bytes[0] === 0x49;
  let page;
  try {
    page = described(directory(view, little));
    const { width, height, bits, samples, wanted, layout, compression, predictor } = page;
    const Kind = bits === 8 ? Uint8Array : bits === 16 ? Uint16Array : Float32Array;
    const data = new Kind(width * height * wanted);
    for (const { at, length, top, left, wide, high } of layout) {
      if (at + length > bytes.length) throw new RangeError();
      const line = (wide * samples * bits) / 8;
      const part = await unpacked(bytes.subarray(at, at + length), compression, line * high);
      if (part.length < line * Math.min(high, height - top)) throw new RangeError();
      place(part, data, page, { top, left, wide, high }, little, predictor);
    }
    return { width, height, channels: wanted, data, turn: page.turn };
  } catch (error) {
    if (error instanceof RangeError) throw new PocketsegError(DAMAGED);
    throw error;
  }
}

/** The fields of the only page, each as numbers. @param {DataView} view @param {boolean} little */
function directory(view, little) {
  const start = view.getUint32(4, little);
  const count = view.getUint16(start, little);
  /** @type {Map<number, number[]>} */
  const fields = new Map();
  for (let at = start + 2; at < start + 2 + 12 * count; at += 12) {
    const [tag, type, length] = [view.getUint16(at, little), view.getUint16(at + 2, little), view.getUint32(at + 4, little)];
    const size = SIZES[type];
    if (!size) continue;
    if (size * length > view.byteLength) throw new RangeError();
    const from = size * length <= 4 ? at + 8 : view.getUint32(at + 8, little);
    const read = (/** @type {number} */ place) => (size === 1 ? view.getUint8(place) : size === 2 ? view.getUint16(place, little) : view.getUint32(place, little));
    fields.set(tag, Array.from({ length }, (_, i) => read(from + size * i)));
  }
  if (view.getUint32(start + 2 + 12 * count, little)) throw new PocketsegError("the file holds several pages: save each as a file of its own");
  return fields;
}

/** What a page holds and where, or what of it is not read. @param {Map<number, number[]>} fields */
function described(fields) {
  const all = (/** @type {number} */ tag) => fields.get(tag) ?? [];
  const one = (/** @type {number} */ tag, /** @type {number} */ usual) => all(tag)[0] ?? usual;
  const [width, height, samples] = [one(256, 0), one(257, 0), one(277, 1)];
  const [compression, photometric, format] = [one(259, NONE), one(262, BLACK_IS_ZERO), one(339, UNSIGNED)];
  const bits = one(258, 1);
  if (!width || !height) throw new PocketsegError(DAMAGED);
  if (width * height > MAX_PIXELS)
    throw new PocketsegError(`${width}×${height} is above the limit of ${MAX_PIXELS.toLocaleString("en")} pixels: cut it into parts`);
  const gray = photometric === BLACK_IS_ZERO && samples === 1;
  const color = photometric === RGB && samples >= 3 && bits === 8;
  const number = (format === UNSIGNED && (bits === 8 || bits === 16)) || (format === FLOAT && bits === 32 && gray);
  const images = /ImageJ=[^]*?^images=(\d+)/m.exec(String.fromCharCode(...all(270).slice(0, 4096)));
  if (images && Number(images[1]) > 1) throw new PocketsegError(`ImageJ stored ${images[1]} images in it: save each as a file of its own`);
  if (!(gray || color) || !number || all(258).some((each) => each !== bits))
    throw new PocketsegError(`a TIFF of ${samples} × ${bits} bits (photometric ${photometric}, sample format ${format}) is not read: ${OTHERWISE}`);
  if (one(284, 1) !== 1) throw new PocketsegError(`a TIFF of separate planes is not read: ${OTHERWISE}`);
  const predictor = one(317, 1);
  if (![NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS].includes(compression) || predictor > 2 || (predictor === 2 && format === FLOAT) || one(266, 1) !== 1)
    throw new PocketsegError(`a TIFF of this compression (${compression}, predictor ${predictor}) is not read: ${OTHERWISE}`);
  return { width, height, samples, bits, wanted: gray ? 1 : 3, compression, predictor, turn: one(274, 1), layout: layout(width, height, all, one) };
}

/** Strips, or tiles. @param {number} width @param {number} height @param {(tag: number) => number[]} all @param {(tag: number, usual: number) => number} one */
function layout(width, height, all, one) {
  const tiled = all(322).length > 0;
  const [wide, high] = tiled ? [one(322, 0), one(323, 0)] : [width, Math.min(height, one(278, height))];
  const [starts, lengths] = tiled ? [all(324), all(325)] : [all(273), all(279)];
  if (!wide || !high || wide * high > MAX_PIXELS) throw new RangeError();
  const across = Math.ceil(width / wide);
  const count = across * Math.ceil(height / high);
  if (starts.length !== count || lengths.length !== count) throw new RangeError();
  return starts.map((at, i) => {
    const top = Math.floor(i / across) * high;
    return { at, length: lengths[i], top, left: (i % across) * wide, wide, high: tiled ? high : Math.min(high, height - top) };
  });
}

/** @param {Uint8Array} packed @param {number} compression @param {number} needed */
async function unpacked(packed, compression, needed) {
  if (compression === NONE) return packed;
  if (compression === LZW) return fromLzw(packed, needed);
  return compression === PACKBITS ? fromPackbits(packed, needed) : inflated(packed, needed);
}

/** @param {Uint8Array} packed @param {number} needed */
function fromPackbits(packed, needed) {
  const out = new Uint8Array(needed);
  for (let at = 0, to = 0; at < packed.length && to < needed; ) {
    const head = (packed[at++] << 24) >> 24;
    if (head === -128) continue;
    const count = Math.min(head < 0 ? 1 - head : head + 1, needed - to);
    if (head < 0) out.fill(packed[at++], to, to + count);
    else {
      out.set(packed.subarray(at, at + count), to);
      at += head + 1;
    }
    to += count;
    if (at > packed.length) throw new RangeError();
    if (at === packed.length && to < needed) throw new RangeError();
  }
  return out;
}

/** Each string is one before it and a byte more; it is where it was written last. @param {Uint8Array} packed @param {number} needed */
function fromLzw(packed, needed) {
  const out = new Uint8Array(needed);
  const start = new Uint32Array(4097);
  const length = new Uint32Array(4097);
  let [to, next, width, bit, before] = [0, END + 1, 9, 0, -1];
  while (to < needed) {
    if (bit + width > 8 * packed.length) throw new RangeError();
    const at = bit >> 3;
    const code = ((((packed[at] << 16) | ((packed[at + 1] ?? 0) << 8) | (packed[at + 2] ?? 0)) >> (24 - width - (bit & 7))) & ((1 << width) - 1));
    bit += width;
    if (code === END) break;
    if (code === CLEAR) {
      [next, width, before] = [END + 1, 9, -1];
      continue;
    }
    if (code > next || (code === next && before < 0) || (code > 255 && before < 0)) throw new RangeError();
    const from = to;
    if (code < 256) out[to++] = code;
    else {
      // The string that is being made is the one before it and its own first byte.
      const [first, count] = code < next ? [start[code], length[code]] : [before, from - before + 1];
      for (let i = 0; i < count && to < needed; ++i) out[to++] = out[first + i];
    }
    if (before >= 0 && next < 4096) [start[next], length[next]] = [before, from - before + 1];
    if (before >= 0) ++next;
    before = from;
    width = next < 511 ? 9 : next < 1023 ? 10 : next < 2047 ? 11 : 12;
  }
  if (to < needed) throw new RangeError();
  return out;
}

/**
 * The numbers of a strip or tile to their pixels.
 * @param {Uint8Array} part @param {Decoded["data"]} data @param {ReturnType<typeof described>} page
 * @param {{top: number, left: number, wide: number, high: number}} where @param {boolean} little @param {number} predictor
 */
function place(part, data, { width, height, samples, bits, wanted }, { top, left, wide, high }, little, predictor) {
  const view = new DataView(part.buffer, part.byteOffset, part.byteLength);
  const read = (/** @type {number} */ i) => (bits === 8 ? part[i] : bits === 16 ? view.getUint16(2 * i, little) : view.getFloat32(4 * i, little));
  const most = bits === 8 ? 255 : 65535;
  for (let row = 0; row < Math.min(high, height - top); ++row) {
    const before = new Array(samples).fill(0);
    for (let column = 0; column < Math.min(wide, width - left); ++column)
      for (let sample = 0; sample < samples; ++sample) {
        const stored = read((row * wide + column) * samples + sample);
        const value = predictor === 2 ? (before[sample] = (before[sample] + stored) & most) : stored;
        if (sample < wanted) data[((top + row) * width + left + column) * wanted + sample] = value;
      }
  }
}
