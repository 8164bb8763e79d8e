// PNG files with the numbers they store: a browser's own decoder cuts 16 bits to 8 and may change colors.
// @ts-check
import { PocketsegError } from "./engine.js";

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const GRAY = 0;
const COLOR = 2;
const PALETTE = 3;
const SAMPLES = /** @type {Record<number, number>} */ ({ [GRAY]: 1, [COLOR]: 3, [PALETTE]: 1, 4: 2, 6: 4 });
// Adam7: first column and row of each pass, and their steps.
const PASSES = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
];
const MAX_PIXELS = 144_000_000;
const MOST_INFLATED = 1032;
const ORIENTATION = 0x112;

const DAMAGED = "the image is damaged or cut off: copy it again from its source";

/** @typedef {{width: number, height: number, channels: number, data: Uint8Array | Uint16Array, indices: Uint8Array | null, bits: number, turn: number}} Decoded */

/** @param {Uint8Array} bytes */
export function isPng(bytes) {
  return SIGNATURE.every((byte, index) => bytes[index] === byte);
}

/**
 * Gray of 8 or 16 bits, or color of 8; transparency is left out. `indices` are what a file of a palette stores; `turn`
 * is the orientation (EXIF) that it asks for.
 * @param {Uint8Array} bytes
 * @returns {Promise<Decoded>}
 */
export async function decodePng(bytes) {
  const { head, palette, packed, turn } = parts(bytes);
  const { width, height, bits, kind, interlaced } = head;
  if (width * height > MAX_PIXELS)
    throw new PocketsegError(`${width}×${height} is above the limit of ${MAX_PIXELS.toLocaleString("en")} pixels: cut it into parts`);
  if (bits === 16 && kind !== GRAY)
    throw new PocketsegError("16-bit color (or gray with alpha) is not read: save it as 16-bit gray without alpha, or as 8-bit color");
  const samples = SAMPLES[kind];
  const passes = (interlaced ? PASSES : [[0, 0, 1, 1]]).map(([left, top, across, down]) => ({
    left, top, across, down,
    width: Math.ceil((width - left) / across),
    height: Math.ceil((height - top) / down),
  }));
  const lineBytes = (/** @type {number} */ wide) => Math.ceil((wide * samples * bits) / 8);
  const needed = passes.reduce((sum, each) => sum + (each.width > 0 && each.height > 0 ? each.height * (1 + lineBytes(each.width)) : 0), 0);
  if (needed > MOST_INFLATED * (packed.length + 64)) throw new PocketsegError(DAMAGED);
  const stream = await inflated(packed, needed);
  const stored = bits === 16 ? new Uint16Array(width * height) : new Uint8Array(width * height * samples);
  let at = 0;
  for (const pass of passes) {
    if (pass.width <= 0 || pass.height <= 0) continue;
    const line = lineBytes(pass.width);
    unfilter(stream, at, pass.height, line, Math.max(1, (samples * bits) >> 3));
    for (let row = 0; row < pass.height; ++row) {
      const from = at + row * (line + 1) + 1;
      const to = ((pass.top + row * pass.down) * width + pass.left) * samples;
      spread(stream, from, stored, to, pass.width, samples, pass.across, bits);
    }
    at += pass.height * (line + 1);
  }
  return { width, height, bits, turn, ...meaning(stored, kind, bits, palette) };
}

/** @param {Uint8Array} bytes */
function parts(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const packed = [];
  let head = null;
  /** @type {Uint8Array} */
  let palette = new Uint8Array();
  let turn = 1;
  let ended = false;
  for (let at = SIGNATURE.length; at + 12 <= bytes.length && !ended; ) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const content = bytes.subarray(at + 8, at + 8 + length);
    if (at + 12 + length > bytes.length || crc(bytes.subarray(at + 4, at + 8 + length)) !== view.getUint32(at + 8 + length))
      throw new PocketsegError(DAMAGED);
    if (kind === "IHDR") head = header(content);
    if (kind === "PLTE") palette = content;
    if (kind === "eXIf") turn = orientation(content);
    if (kind === "acTL") throw new PocketsegError("the file holds several frames: save each as a file of its own");
    if (kind === "IDAT") packed.push(content);
    ended = kind === "IEND";
    at += 12 + length;
  }
  if (!head || !packed.length) throw new PocketsegError(DAMAGED);
  return { head, palette, turn, packed: joined(packed) };
}

/** @param {Uint8Array} content */
function header(content) {
  if (content.length !== 13) throw new PocketsegError(DAMAGED);
  const view = new DataView(content.buffer, content.byteOffset);
  const [bits, kind, , , interlaced] = content.subarray(8);
  const allowed = { [GRAY]: [1, 2, 4, 8, 16], [PALETTE]: [1, 2, 4, 8] }[kind] ?? [8, 16];
  const width = view.getUint32(0);
  const height = view.getUint32(4);
  if (!(kind in SAMPLES) || !allowed.includes(bits) || interlaced > 1 || !width || !height) throw new PocketsegError(DAMAGED);
  return { width, height, bits, kind, interlaced };
}

/** The orientation of EXIF (TIFF) bytes, 1 where there is none. @param {Uint8Array} exif */
export function orientation(exif) {
  if (exif.length < 10) return 1;
  const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength);
  const little = exif[0] === 0x49;
  const first = view.getUint32(4, little);
  if (first + 2 > exif.length) return 1;
  for (let at = first + 2, left = view.getUint16(first, little); left > 0 && at + 12 <= exif.length; at += 12, --left)
    if (view.getUint16(at, little) === ORIENTATION) return view.getUint16(at + 8, little);
  return 1;
}

/** @param {Uint8Array} packed @param {number} needed bytes that must come out */
export async function inflated(packed, needed) {
  const out = new Uint8Array(needed);
  const reader = new Blob([/** @type {BlobPart} */ (packed)]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  let at = 0;
  try {
    while (at < needed) {
      const { value, done } = await reader.read();
      if (done) break;
      out.set(value.subarray(0, needed - at), at);
      at += value.length;
    }
  } catch {
    throw new PocketsegError(DAMAGED);
  }
  await reader.cancel().catch(() => {});
  if (at < needed) throw new PocketsegError(DAMAGED);
  return out;
}

/** Undoes the filter of each line, in place. @param {Uint8Array} x @param {number} start @param {number} lines @param {number} line @param {number} step */
function unfilter(x, start, lines, line, step) {
  for (let row = 0; row < lines; ++row) {
    const filter = x[start + row * (line + 1)];
    const from = start + row * (line + 1) + 1;
    const above = from - line - 1;
    if (filter > 4) throw new PocketsegError(DAMAGED);
    for (let i = 0; i < line && filter; ++i) {
      const a = i >= step ? x[from + i - step] : 0;
      const b = row ? x[above + i] : 0;
      const c = row && i >= step ? x[above + i - step] : 0;
      x[from + i] += filter === 1 ? a : filter === 2 ? b : filter === 3 ? (a + b) >> 1 : nearest(a, b, c);
    }
  }
}

/** @param {number} a @param {number} b @param {number} c */
function nearest(a, b, c) {
  const [da, db, dc] = [Math.abs(b - c), Math.abs(a - c), Math.abs(a + b - 2 * c)];
  if (da <= db && da <= dc) return a;
  return db <= dc ? b : c;
}

/** A line of samples to where they belong. @param {Uint8Array} line @param {number} from @param {Uint8Array | Uint16Array} to @param {number} at @param {number} count @param {number} samples @param {number} across @param {number} bits */
function spread(line, from, to, at, count, samples, across, bits) {
  if (bits === 16) {
    for (let i = 0; i < count; ++i) to[at + i * across] = (line[from + 2 * i] << 8) | line[from + 2 * i + 1];
  } else if (bits === 8) {
    for (let i = 0; i < count; ++i) for (let s = 0; s < samples; ++s) to[at + i * across * samples + s] = line[from + i * samples + s];
  } else {
    const most = (1 << bits) - 1;
    for (let i = 0; i < count; ++i) to[at + i * across] = (line[from + ((i * bits) >> 3)] >> (8 - bits - ((i * bits) & 7))) & most;
  }
}

/** From what is stored to gray or color. @param {Uint8Array | Uint16Array} stored @param {number} kind @param {number} bits @param {Uint8Array} palette */
function meaning(stored, kind, bits, palette) {
  if (kind === PALETTE) return { ...colored(/** @type {Uint8Array} */ (stored), palette), indices: /** @type {Uint8Array} */ (stored) };
  if (kind === GRAY) {
    const white = bits < 8 ? 255 / ((1 << bits) - 1) : 1;
    return { data: white === 1 ? stored : stored.map((value) => value * white), channels: 1, indices: null };
  }
  const channels = kind === COLOR || kind === 6 ? 3 : 1;
  return { data: firstOf(/** @type {Uint8Array} */ (stored), SAMPLES[kind], channels), channels, indices: null };
}

/** @param {Uint8Array} stored @param {number} have @param {number} wanted */
function firstOf(stored, have, wanted) {
  if (have === wanted) return stored;
  const out = new Uint8Array((stored.length / have) * wanted);
  for (let from = 0, to = 0; from < stored.length; from += have) for (let i = 0; i < wanted; ++i) out[to++] = stored[from + i];
  return out;
}

/** Colors of a palette; gray where all of them in use are. @param {Uint8Array} indices @param {Uint8Array} palette */
function colored(indices, palette) {
  const rgb = new Uint8Array(3 * indices.length);
  let gray = true;
  for (let i = 0; i < indices.length; ++i) {
    const [r, g, b] = [0, 1, 2].map((each) => palette[3 * indices[i] + each] ?? 0);
    rgb[3 * i] = r;
    rgb[3 * i + 1] = g;
    rgb[3 * i + 2] = b;
    gray &&= r === g && g === b;
  }
  return gray ? { data: rgb.filter((_, i) => i % 3 === 0), channels: 1 } : { data: rgb, channels: 3 };
}

/** A gray PNG of 8 bits. @param {Uint8Array} data @param {number} width @param {number} height */
export async function encodePng(data, width, height) {
  const lines = new Uint8Array(height * (width + 1));
  for (let row = 0; row < height; ++row) lines.set(data.subarray(row * width, (row + 1) * width), row * (width + 1) + 1);
  const packed = new Blob([lines]).stream().pipeThrough(new CompressionStream("deflate"));
  const head = new Uint8Array(13);
  new DataView(head.buffer).setUint32(0, width);
  new DataView(head.buffer).setUint32(4, height);
  head[8] = 8;
  const chunks = [chunk("IHDR", head), chunk("IDAT", new Uint8Array(await new Response(packed).arrayBuffer())), chunk("IEND", new Uint8Array())];
  return joined([new Uint8Array(SIGNATURE), ...chunks]);
}

/** @param {string} kind @param {Uint8Array} content */
function chunk(kind, content) {
  const whole = new Uint8Array(12 + content.length);
  const view = new DataView(whole.buffer);
  view.setUint32(0, content.length);
  whole.set([...kind].map((letter) => letter.charCodeAt(0)), 4);
  whole.set(content, 8);
  view.setUint32(8 + content.length, crc(whole.subarray(4, 8 + content.length)));
  return whole;
}

/** @param {Uint8Array[]} pieces */
function joined(pieces) {
  const whole = new Uint8Array(pieces.reduce((sum, each) => sum + each.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; ++bit) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** @param {Uint8Array} bytes */
export function crc(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = (value >>> 8) ^ CRC_TABLE[(value ^ byte) & 255];
  return (value ^ 0xffffffff) >>> 0;
}
