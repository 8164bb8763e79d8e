// DICOM images with the numbers they store: single files, several frames in one file, series of files. Nothing that a
// file says about a person is read.
// @ts-check
import { PocketsegError } from "./engine.js";
import { determinant, lengths } from "./volume.js";

/** @typedef {import("./volume.js").Numbers} Numbers */
/** @typedef {import("./volume.js").Triple} Triple */
/** @typedef {{vr: string, at: number, length: number, items: Dataset[]}} Element */
/** @typedef {Map<number, Element>} Dataset */
/** @typedef {{bytes: Uint8Array, view: DataView, set: Dataset, little: boolean, syntax: string}} File read, but for its pixels */

const DAMAGED = "the file is damaged or cut off: export it again from its source";
const OTHERWISE = "save it uncompressed (gdcmconv --raw, dcmdjpeg), or use `pocketseg predict`";
const [MAX_SIDE, MAX_BYTES, MAX_DEPTH] = [32_768, 2 ** 30, 24];
const UNKNOWN_LENGTH = 0xffffffff;
const [ITEM, ITEM_END, SEQUENCE_END] = [0xfffee000, 0xfffee00d, 0xfffee0dd];
const [IMPLICIT, LITTLE, BIG, DEFLATED, RLE, JPEG] = [
  "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50",
];
const NOT_READ = /** @type {[RegExp, string][]} */ ([
  [/\.4\.51$/, "JPEG of 12 bits"],
  [/\.4\.(57|70)$/, "lossless JPEG"],
  [/\.4\.8[01]$/, "JPEG-LS"],
  [/\.4\.9[0-3]$/, "JPEG 2000"],
  [/\.4\.20[1-3]$/, "High-Throughput JPEG 2000"],
  [/\.4\.1\d\d$/, "a video (MPEG, HEVC)"],
]);
const MASKS = ["1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.481.3"];
const COLOR = ["RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT", "PALETTE COLOR"];
// Of ultrasound regions: those that show a plane, what is drawn beside, and centimeters.
const [PLANE_REGION, DRAWN_REGION, CENTIMETERS] = [1, 5, 3];
const [SAME_PIXEL, EVEN] = [0.01, 0.1];

// Which elements are read, and what kind they are where a file does not say (implicit VR).
const TAGS = {
  syntax: 0x00020010, kind: 0x00080016, series: 0x0020000e, number: 0x00200013, samples: 0x00280002, photometric: 0x00280004, planar: 0x00280006,
  frames: 0x00280008, rows: 0x00280010, columns: 0x00280011, pixelSpacing: 0x00280030, allocated: 0x00280100, stored: 0x00280101, signed: 0x00280103,
  center: 0x00281050, width: 0x00281051, intercept: 0x00281052, slope: 0x00281053, shape: 0x00281056, table: 0x00283000, thickness: 0x00180050,
  between: 0x00180088, imagerSpacing: 0x00181164, regions: 0x00186011, regionFormat: 0x00186012, unitsX: 0x00186024, unitsY: 0x00186026, deltaX: 0x0018602c,
  deltaY: 0x0018602e, position: 0x00200032, orientation: 0x00200037, perFrame: 0x52009230, shared: 0x52009229, planePosition: 0x00209113,
  planeOrientation: 0x00209116, measures: 0x00289110, transformation: 0x00289145, voi: 0x00289132, realWorld: 0x00409096, realSlope: 0x00409225,
  realIntercept: 0x00409224, pixels: 0x7fe00010,
};
const KINDS = new Map([
  ...["kind", "series", "syntax"].map((name) => [name, "UI"]), ...["photometric", "shape"].map((name) => [name, "CS"]),
  ...["number", "frames"].map((name) => [name, "IS"]), ...["deltaX", "deltaY", "realSlope", "realIntercept"].map((name) => [name, "FD"]),
  ...["samples", "planar", "rows", "columns", "allocated", "stored", "signed", "regionFormat", "unitsX", "unitsY"].map((name) => [name, "US"]),
  ...["pixelSpacing", "center", "width", "intercept", "slope", "thickness", "between", "imagerSpacing", "position", "orientation"].map((name) => [name, "DS"]),
  ...["table", "regions", "perFrame", "shared", "planePosition", "planeOrientation", "measures", "transformation", "voi", "realWorld"].map((name) => [name, "SQ"]),
  ["pixels", "OW"],
].map(([name, kind]) => [TAGS[/** @type {keyof typeof TAGS} */ (name)], kind]));
const LONG = ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UC", "UN", "UR", "UT", "SV", "UV"];

/** Whether a file is one by its mark, or by its name. @param {Uint8Array} bytes @param {string} name */
export function isDicom(bytes, name) {
  return marked(bytes) || /\.(dcm|dicom|ima)$/i.test(name);
}

/** @param {Uint8Array} bytes */
function marked(bytes) {
  return String.fromCharCode(...bytes.subarray(128, 132)) === "DICM";
}

/**
 * What a file says of its image.
 * @param {Uint8Array} given
 * @returns {Promise<File>}
 */
export async function readDicom(given) {
  return understood(async () => {
    let bytes = given;
    const meta = /** @type {Dataset} */ (new Map());
    let at = marked(bytes) ? 132 : 0;
    let view = viewOf(bytes);
    while (at + 8 <= bytes.length && view.getUint16(at, true) === 2) at = element(view, at, true, true, meta, 0);
    const syntax = meta.has(TAGS.syntax) ? text({ bytes, set: meta }, "syntax") : "";
    if (syntax === DEFLATED) {
      bytes = await inflatedRaw(bytes.subarray(at));
      [view, at] = [viewOf(bytes), 0];
    }
    const little = syntax !== BIG;
    const said = String.fromCharCode(...bytes.subarray(at + 4, at + 6));
    const explicit = /^[A-Z]{2}$/.test(said); // whatever its transfer syntax says
    const set = /** @type {Dataset} */ (new Map());
    while (at + 8 <= bytes.length) at = element(view, at, little, explicit, set, 0);
    const file = { bytes, view, set, little, syntax: syntax || (explicit ? LITTLE : IMPLICIT) };
    if (!set.has(TAGS.kind)) throw new PocketsegError("this is not a DICOM file (it names no SOP class): export it again from its source");
    return file;
  });
}

/** Whether a file holds regions that were drawn, and no image. @param {File} file */
export function isMask(file) {
  return MASKS.includes(text(file, "kind"));
}

/** Equal for the slices of one series; empty where a file stands alone. @param {File} file */
export function seriesOf(file) {
  return understood(() => (frameCount(file) > 1 ? "" : text(file, "series")));
}

/**
 * The volume of a file, or of those of one series.
 * @param {File[]} given
 * @returns {Promise<import("./volume.js").Volume>}
 */
export async function dicomVolume(given) {
  return understood(async () => {
    const files = given.filter((file) => given.length === 1 || !isMask(file));
    files.forEach(check);
    const several = files.length === 1 ? frameCount(files[0]) : 0;
    if (!several) refuseMixture(files);
    const places = several
      ? Array.from({ length: several }, (_, frame) => ({ file: files[0], frame, plane: planeOf(files[0], frame) }))
      : files.map((file) => ({ file, frame: 0, plane: planeOf(file, 0) }));
    const [{ plane: first }] = places;
    const along = (/** @type {typeof places[0]} */ each) => (each.plane && first ? dot(each.plane.position, first.normal) : 0);
    const unplaced = !several && places.every(({ plane }) => !plane);
    places.sort((a, b) => (unplaced ? instance(a.file) - instance(b.file) : along(a) - along(b)));
    const [{ file: top }] = places;
    const [rows, columns] = [number(top, "rows"), number(top, "columns")];
    const shape = /** @type {Triple} */ ([columns, rows, places.length]);
    const frames = [];
    if (several) {
      const all = await framesOf(top);
      frames.push(...places.map(({ frame }) => all.subarray(frame * (all.length / several), (frame + 1) * (all.length / several))));
    } else for (const { file } of places) frames.push(await framesOf(file));
    const data = joined(frames);
    const channels = data.length / (shape[0] * shape[1] * shape[2]);
    const picture = COLOR.includes(text(top, "photometric")) || number(top, "allocated") <= 8;
    return {
      data, channels, strides: [channels, channels * columns, channels * columns * rows, 1], contrasts: false, measured: !picture,
      grid: { shape, ...gridOf(top, places.map(({ plane }) => plane)) }, window: windowOf(places),
    };
  });
}

/** What is no number of the file, or lies behind its end, is damage. @template Result @param {() => Result} read @returns {Result} */
function understood(read) {
  const told = (/** @type {unknown} */ error) => (error instanceof RangeError ? new PocketsegError(DAMAGED) : error);
  try {
    const found = read();
    return found instanceof Promise ? /** @type {Result} */ (found.catch((error) => Promise.reject(told(error)))) : found;
  } catch (error) {
    throw told(error);
  }
}

// ---- Elements ----

/** @param {Uint8Array} bytes */
function viewOf(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** @param {DataView} view @param {number} at @param {boolean} little */
function tagAt(view, at, little) {
  return view.getUint16(at, little) * 65536 + view.getUint16(at + 2, little);
}

/** Reads one element into a data set; where the next begins. @param {DataView} view @param {number} at @param {boolean} little @param {boolean} explicit @param {Dataset} set @param {number} depth @returns {number} */
function element(view, at, little, explicit, set, depth) {
  const tag = tagAt(view, at, little);
  let [vr, length, begin] = [KINDS.get(tag) ?? "UN", 0, at + 8];
  if (explicit) {
    vr = String.fromCharCode(view.getUint8(at + 4), view.getUint8(at + 5));
    const long = LONG.includes(vr);
    length = long ? view.getUint32(at + 8, little) : view.getUint16(at + 6, little);
    if (long) begin = at + 12;
  } else length = view.getUint32(at + 4, little);
  if (length === UNKNOWN_LENGTH || (vr === "SQ" && KINDS.has(tag))) {
    const pixels = tag === TAGS.pixels;
    const found = items(view, begin, length, little, explicit && vr !== "UN", depth + 1, pixels);
    set.set(tag, { vr, at: begin, length: pixels ? UNKNOWN_LENGTH : 0, items: found.items });
    return found.end;
  }
  // Pixels that are cut off are told as such when they are read.
  if (begin + length > view.byteLength && tag !== TAGS.pixels) throw new RangeError();
  if (KINDS.has(tag)) set.set(tag, { vr, at: begin, length, items: [] });
  return begin + length;
}

/** Items of a sequence, or the fragments of encapsulated pixels. @param {DataView} view @param {number} start @param {number} length @param {boolean} little @param {boolean} explicit @param {number} depth @param {boolean} fragments @returns {{items: Dataset[], end: number}} */
function items(view, start, length, little, explicit, depth, fragments) {
  if (depth > MAX_DEPTH) throw new RangeError();
  const found = /** @type {Dataset[]} */ ([]);
  const end = length === UNKNOWN_LENGTH ? Infinity : start + length;
  let at = start;
  while (at < end) {
    const tag = tagAt(view, at, little);
    const size = view.getUint32(at + 4, little);
    at += 8;
    if (tag === SEQUENCE_END) break;
    if (tag !== ITEM) throw new RangeError();
    const item = /** @type {Dataset} */ (new Map());
    if (fragments) {
      if (at + size > view.byteLength) throw new RangeError();
      item.set(ITEM, { vr: "OB", at, length: size, items: [] });
      at += size;
    } else {
      const last = size === UNKNOWN_LENGTH ? Infinity : at + size;
      while (at < last) {
        if (tagAt(view, at, little) === ITEM_END) {
          at += 8;
          break;
        }
        at = element(view, at, little, explicit, item, depth);
      }
    }
    found.push(item);
  }
  return { items: found, end: at };
}

/** @param {{bytes: Uint8Array, set: Dataset}} file @param {keyof typeof TAGS} name */
function text({ bytes, set }, name) {
  const found = set.get(TAGS[name]);
  return found ? String.fromCharCode(...bytes.subarray(found.at, found.at + Math.min(found.length, 4096))).replace(/[\0 ]+$/, "").trim() : "";
}

/** The numbers of an element; none where it is not there or empty. @param {File} file @param {Dataset} set @param {keyof typeof TAGS} name @returns {number[]} */
function numbers(file, set, name) {
  const found = set.get(TAGS[name]);
  if (!found || !found.length) return [];
  const { view, little } = file;
  const { vr, at, length } = found;
  const read = /** @type {Record<string, [number, (at: number) => number]>} */ ({
    US: [2, (place) => view.getUint16(place, little)], SS: [2, (place) => view.getInt16(place, little)], UL: [4, (place) => view.getUint32(place, little)],
    SL: [4, (place) => view.getInt32(place, little)], FL: [4, (place) => view.getFloat32(place, little)], FD: [8, (place) => view.getFloat64(place, little)],
  })[vr];
  if (read) return Array.from({ length: Math.floor(length / read[0]) }, (_, index) => read[1](at + index * read[0]));
  const words = text({ bytes: file.bytes, set }, name);
  const values = words ? words.split("\\").map((word) => (word.trim() ? Number(word) : NaN)) : [];
  if (values.some(Number.isNaN)) throw new RangeError();
  return values;
}

/** @param {File} file @param {keyof typeof TAGS} name */
function number(file, name, usual = 0) {
  return numbers(file, file.set, name)[0] ?? usual;
}

/** @param {File} file */
function frameCount(file) {
  return Math.max(1, number(file, "frames", 1));
}

/** @param {File} file */
function instance(file) {
  return number(file, "number");
}

/** A sequence of the frame's own functional groups, of the shared ones, and of the file itself: which comes first, holds. @param {File} file @param {number} frame @param {keyof typeof TAGS} sequence */
function sequences({ set }, frame, sequence) {
  const groups = [set.get(TAGS.perFrame)?.items[frame], set.get(TAGS.shared)?.items[0], set];
  return groups.map((group) => group?.get(TAGS[sequence])?.items ?? []).filter((found) => found.length);
}

/** Numbers from the functional groups, or from the file itself. @param {File} file @param {number} frame @param {keyof typeof TAGS} sequence @param {keyof typeof TAGS} name */
function functional(file, frame, sequence, name) {
  const places = [...sequences(file, frame, sequence).flat(), file.set];
  return places.map((place) => numbers(file, place, name)).find((found) => found.length) ?? null;
}

// ---- What is refused ----

/** @param {File} file */
function check(file) {
  const { set } = file;
  if (isMask(file)) throw new PocketsegError("this DICOM file is a segmentation, not an image: drop its images; as a reference mask, give NIfTI or PNG");
  if (!set.has(TAGS.rows) || !set.has(TAGS.columns)) throw new PocketsegError("this DICOM file holds no image: give the images themselves");
  const [rows, columns, samples] = [number(file, "rows"), number(file, "columns"), number(file, "samples", 1)];
  const bits = number(file, "allocated");
  const sides = `${rows}×${columns}×${frameCount(file)}`;
  if (!(rows > 0 && rows <= MAX_SIDE && columns > 0 && columns <= MAX_SIDE) || rows * columns * frameCount(file) * samples * (bits / 8) > MAX_BYTES)
    throw new PocketsegError(`the file declares ${sides} pixels, more than the page holds: use \`pocketseg predict\``);
  const { syntax } = file;
  const known = NOT_READ.find(([pattern]) => pattern.test(syntax));
  if (![IMPLICIT, LITTLE, BIG, DEFLATED, RLE, JPEG].includes(syntax))
    throw new PocketsegError(`its pixels are stored as ${known ? `${known[1]} (transfer syntax ${syntax})` : `transfer syntax ${syntax}`}, which is not read: ${OTHERWISE}`);
  if (!set.has(TAGS.pixels)) throw new PocketsegError("this DICOM file holds no pixels: export it again with its image");
  const photometric = text(file, "photometric");
  const plain = samples === 1 ? ["MONOCHROME1", "MONOCHROME2"] : samples === 3 ? ["RGB"] : [];
  if (!plain.includes(photometric) && !(syntax === JPEG && samples === 3))
    throw new PocketsegError(`its pixels are ${photometric || "of an unknown kind"} (${samples} a pixel), which is not read: save it as gray or RGB, or use \`pocketseg predict\``);
  if (![8, 16, 32].includes(bits) || (syntax === JPEG && bits !== 8)) throw new PocketsegError(`its pixels have ${bits} bits, which is not read: use \`pocketseg predict\``);
  if (set.get(TAGS.table)?.items.length) throw new PocketsegError("a table says what its values mean (Modality LUT), which is not read: use `pocketseg predict`");
}

/** @param {File[]} files */
function refuseMixture(files) {
  if (!files.length) throw new PocketsegError("these DICOM files are segmentations, and no images");
  if (files.some((file) => frameCount(file) > 1)) throw new PocketsegError("several files of one series have several frames each: drop one of them");
  for (const name of /** @type {const} */ (["rows", "columns", "photometric", "allocated"]))
    if (new Set(files.map((file) => (name === "photometric" ? text(file, name) : number(file, name)))).size > 1)
      throw new PocketsegError("the slices of the series differ in their size or kind: drop each kind by itself");
}

// ---- Pixels ----

/** All frames one behind the other: rescaled, black at the low end, the colors of a pixel side by side. @param {File} file @returns {Promise<Numbers>} */
async function framesOf(file) {
  const [samples, bits, stored] = [number(file, "samples", 1), number(file, "allocated"), number(file, "stored")];
  const length = number(file, "rows") * number(file, "columns");
  const frames = frameCount(file);
  const signed = number(file, "signed") !== 0;
  const Kind = /** @type {any} */ ({ 8: [Uint8Array, Int8Array], 16: [Uint16Array, Int16Array], 32: [Uint32Array, Int32Array] })[bits][Number(signed)];
  const planar = file.syntax === RLE || (file.syntax !== JPEG && number(file, "planar") === 1);
  const bytes = await decoded(file, length * samples, frames, bits / 8);
  let values = /** @type {Numbers} */ (new Kind(bytes.buffer, 0, length * samples * frames));
  const unused = bits - stored;
  // Shifts of 32-bit numbers: those of fewer bits are moved to the top of theirs first.
  if (unused > 0) values = signed ? values.map((value) => (value << (32 - stored)) >> (32 - stored)) : values.map((value) => (value << (32 - stored)) >>> (32 - stored));
  if (samples > 1) return planar ? interleaved(values, samples, length, frames) : values;
  return measured(file, values, frames);
}

/** Bytes of all frames, in this machine's order. @param {File} file @param {number} count numbers of a frame @param {number} frames @param {number} size bytes of a number */
async function decoded(file, count, frames, size) {
  const { bytes, set, little, syntax } = file;
  const pixels = /** @type {Element} */ (set.get(TAGS.pixels));
  const whole = new Uint8Array(count * frames * size);
  if (syntax === RLE || syntax === JPEG) {
    if (pixels.length !== UNKNOWN_LENGTH) throw new RangeError();
    const parts = fragments(file, pixels, frames);
    for (let frame = 0; frame < frames; ++frame) {
      const out = whole.subarray(frame * count * size, (frame + 1) * count * size);
      if (syntax === RLE) unpackRle(parts[frame], out, count, number(file, "samples", 1), size);
      else out.set(await decodedJpeg(parts[frame], number(file, "columns"), number(file, "rows"), number(file, "samples", 1)));
    }
    return whole;
  }
  if (pixels.length === UNKNOWN_LENGTH || pixels.length < whole.length || pixels.at + whole.length > bytes.length) throw new RangeError();
  if (little) whole.set(bytes.subarray(pixels.at, pixels.at + whole.length));
  else if (size > 1) for (let i = 0; i < whole.length; ++i) whole[i] = bytes[pixels.at + (i ^ (size - 1))];
  // Bytes that lie in words of two are swapped with them.
  else for (let i = 0; i < whole.length; ++i) whole[i] = bytes[pixels.at + (pixels.vr === "OW" ? i ^ 1 : i)];
  return whole;
}

/** What each frame is packed as. @param {File} file @param {Element} pixels @param {number} frames */
function fragments({ bytes }, pixels, frames) {
  const [table, ...parts] = pixels.items.map((item) => /** @type {Element} */ (item.get(ITEM)));
  if (!table || parts.length < frames) throw new RangeError();
  const content = (/** @type {Element} */ { at, length }) => bytes.subarray(at, at + length);
  if (parts.length === frames) return parts.map(content);
  const starts = frames === 1 ? [0] : Array.from({ length: table.length / 4 }, (_, index) => viewOf(bytes).getUint32(table.at + 4 * index, true));
  if (starts.length !== frames) throw new RangeError();
  const begin = parts[0].at - 8;
  return starts.map((start, frame) => {
    const own = parts.filter(({ at }) => at - 8 - begin >= start && at - 8 - begin < (starts[frame + 1] ?? Infinity)).map(content);
    const whole = new Uint8Array(own.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of own) {
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  });
}

/** Each byte of the numbers of each color has a segment, the highest first. @param {Uint8Array} packed @param {Uint8Array} out @param {number} count @param {number} samples @param {number} size */
function unpackRle(packed, out, count, samples, size) {
  const view = viewOf(packed);
  const segments = view.getUint32(0, true);
  if (segments !== samples * size) throw new RangeError();
  const length = count / samples;
  for (let segment = 0; segment < segments; ++segment) {
    const begin = view.getUint32(4 + 4 * segment, true);
    const end = segment + 1 < segments ? view.getUint32(8 + 4 * segment, true) : packed.length;
    const byte = size - 1 - (segment % size);
    const first = Math.floor(segment / size) * length * size + byte;
    let [at, done] = [begin, 0];
    while (at < end && done < length) {
      const head = packed[at++];
      if (head === 128) continue;
      const run = head > 128;
      const many = run ? 257 - head : head + 1;
      for (let i = 0; i < many && done < length; ++i) {
        const from = run ? at : at + i;
        if (from >= end) throw new RangeError();
        out[first + size * done++] = packed[from];
      }
      at += run ? 1 : many;
    }
    if (done < length) throw new RangeError();
  }
}

/** By this browser's decoder. @param {Uint8Array} packed @param {number} width @param {number} height @param {number} samples */
async function decodedJpeg(packed, width, height, samples) {
  if (typeof createImageBitmap === "undefined") throw new PocketsegError(`its pixels are stored as JPEG, which browsers alone decode: ${OTHERWISE}`);
  const bitmap = await createImageBitmap(new Blob([/** @type {BlobPart} */ (packed)]), { colorSpaceConversion: "none", premultiplyAlpha: "none" }).catch(() => null);
  if (bitmap?.width !== width || bitmap.height !== height) throw new RangeError();
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new PocketsegError(`${width}×${height} pixels are more than this browser holds`);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data;
  return Uint8Array.from({ length: width * height * samples }, (_, i) => rgba[samples === 1 ? 4 * i : 4 * Math.floor(i / 3) + (i % 3)]);
}

/** @param {Uint8Array} packed */
async function inflatedRaw(packed) {
  const reader = new Blob([/** @type {BlobPart} */ (packed)]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const parts = [];
  let length = 0;
  for (;;) {
    const { value, done } = await reader.read().catch(() => {
      throw new RangeError();
    });
    if (done) break;
    parts.push(value);
    length += value.length;
    if (length > MAX_BYTES) throw new PocketsegError(`it unpacks to more than ${MAX_BYTES / 2 ** 20} MiB: save it without the deflated transfer syntax`);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** Colors of a pixel side by side. @param {Numbers} planes @param {number} samples @param {number} length @param {number} frames */
function interleaved(planes, samples, length, frames) {
  const out = new /** @type {any} */ (planes.constructor)(planes.length);
  let from = 0;
  for (let frame = 0; frame < frames; ++frame)
    for (let sample = 0; sample < samples; ++sample) for (let i = 0; i < length; ++i) out[(frame * length + i) * samples + sample] = planes[from++];
  return out;
}

/** Modality values of stored ones, black at the low end. @param {File} file @param {Numbers} given @param {number} frames @returns {Numbers} */
function measured(file, given, frames) {
  const lines = Array.from({ length: frames }, (_, frame) => lineOf(file, frame));
  const [low, high] = storedBounds(file);
  const stored = whiteIsLow(file) ? given.map((value) => low + high - value) : given;
  if (lines.every(([slope, intercept]) => slope === 1 && intercept === 0)) return stored;
  const scaled = new Float64Array(stored.length);
  const length = stored.length / frames;
  let whole = true;
  for (let i = 0; i < scaled.length; ++i) {
    const [slope, intercept] = lines[Math.floor(i / length)];
    scaled[i] = stored[i] * slope + intercept;
    whole &&= Number.isInteger(scaled[i]) && Math.abs(scaled[i]) < 2 ** 31;
  }
  return whole ? Int32Array.from(scaled) : Float32Array.from(scaled);
}

/** Slope and intercept from stored to modality values. @param {File} file @param {number} frame @returns {[number, number]} */
function lineOf(file, frame) {
  let [slope, intercept] = /** @type {const} */ (["slope", "intercept"]).map((name) => functional(file, frame, "transformation", name)?.[0]);
  if (slope === undefined && intercept === undefined) [slope, intercept] = realWorld(file, frame);
  const line = /** @type {[number, number]} */ ([slope ?? 1, intercept ?? 0]);
  if (line[0] === 0 || !line.every(Number.isFinite)) throw new PocketsegError(`the file rescales its values by ${line[0]} and ${line[1]}: export it again from its source`);
  return line;
}

/** The line of a mapping to real-world values; nothing where there is no such mapping. @param {File} file @param {number} frame */
function realWorld(file, frame) {
  const found = (sequences(file, frame, "realWorld")[0] ?? []).map((item) => [numbers(file, item, "realSlope")[0], numbers(file, item, "realIntercept")[0]]);
  if (!found.length) return [];
  if (new Set(found.map(String)).size > 1 || found[0].some((value) => value === undefined))
    throw new PocketsegError("the file maps its values to real-world values by a table, or in several ways: export it with rescale slope and intercept");
  return found[0];
}

/** @param {File} file */
function whiteIsLow(file) {
  return text(file, "photometric") === "MONOCHROME1";
}

/** @param {File} file */
function storedBounds(file) {
  const bits = number(file, "stored");
  return number(file, "signed") ? [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] : [0, 2 ** bits - 1];
}

/** Slices of one type, or of several as floats. @param {Numbers[]} frames */
function joined(frames) {
  const same = frames.every((frame) => frame.constructor === frames[0].constructor);
  const Kind = /** @type {any} */ (same ? frames[0].constructor : Float64Array);
  const whole = new Kind(frames.reduce((sum, frame) => sum + frame.length, 0));
  let at = 0;
  for (const frame of frames) {
    whole.set(frame, at);
    at += frame.length;
  }
  return whole;
}

// ---- Places ----

/** @param {number[]} a @param {number[]} b */
function dot(a, b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

/** Where a frame lies, in mm (LPS): its first pixel, the steps along columns and rows, and the normal. @param {File} file @param {number} frame */
function planeOf(file, frame) {
  const position = functional(file, frame, "planePosition", "position");
  const turn = functional(file, frame, "planeOrientation", "orientation");
  const pixel = functional(file, frame, "measures", "pixelSpacing");
  if ((frameCount(file) > 1 && !file.set.has(TAGS.perFrame)) || !position || !turn || !pixel) return null;
  if (position.length < 3 || turn.length < 6 || pixel.length < 2) throw new RangeError();
  const [along, down] = [turn.slice(0, 3), turn.slice(3)];
  const normal = [along[1] * down[2] - along[2] * down[1], along[2] * down[0] - along[0] * down[2], along[0] * down[1] - along[1] * down[0]];
  // The first spacing is that between rows.
  return { position, columnStep: along.map((value) => value * pixel[1]), rowStep: down.map((value) => value * pixel[0]), normal };
}

/** @typedef {NonNullable<ReturnType<typeof planeOf>>} Plane */

/** @param {File} file @param {(Plane | null)[]} planes @returns {{mm: Triple | null, affine: number[][] | null}} */
function gridOf(file, planes) {
  const placed = planes.filter((plane) => plane !== null);
  if (placed.length < planes.length) {
    if (placed.length) throw new PocketsegError("only some of its slices have a position: export the series again");
    const pixel = pixelSize(file);
    return { mm: pixel && [pixel[1], pixel[0], Infinity], affine: null };
  }
  const step = sliceStep(file, placed);
  const [{ columnStep, rowStep, position }] = placed;
  const affine = [0, 1, 2].map((row) => [columnStep, rowStep, step, position].map((column) => (row < 2 ? -column[row] : column[row])));
  const sizes = lengths(affine);
  const directions = affine.map((row) => row.slice(0, 3).map((value, axis) => value / Math.max(sizes[axis], 1e-12)));
  if (!affine.flat().every(Number.isFinite) || Math.abs(determinant(directions)) < 1e-3)
    throw new PocketsegError("its slices have no usable orientation: export the series again");
  return { mm: sizes, affine };
}

/** [row, column] in mm of an image without a place; null where nothing says it, or two attributes disagree. @param {File} file */
function pixelSize(file) {
  const stated = functional(file, 0, "measures", "pixelSpacing");
  const regions = regionSpacing(file);
  if (stated && regions && !close(stated, regions)) return null;
  return stated ?? regions ?? functional(file, 0, "measures", "imagerSpacing");
}

/** @param {number[]} a @param {number[]} b */
function close(a, b) {
  return a.every((value, index) => Math.abs(value - b[index]) <= SAME_PIXEL * Math.abs(b[index]));
}

/** As the regions of an ultrasound image are calibrated, where they are all of one size. @param {File} file */
function regionSpacing(file) {
  const one = (/** @type {Dataset} */ region, /** @type {keyof typeof TAGS} */ name) => numbers(file, region, name)[0] ?? 0;
  const regions = (file.set.get(TAGS.regions)?.items ?? []).filter((region) => one(region, "regionFormat") !== DRAWN_REGION);
  const sizes = regions.map((region) => {
    const units = [one(region, "unitsY"), one(region, "unitsX")];
    if (one(region, "regionFormat") !== PLANE_REGION || units.some((unit) => unit !== CENTIMETERS)) return null;
    const size = [10 * Math.abs(one(region, "deltaY")), 10 * Math.abs(one(region, "deltaX"))];
    return size.every((mm) => mm > 0 && mm < Infinity) ? size : null;
  });
  const [first] = sizes;
  return first && sizes.every((size) => size && close(size, first)) ? first : null;
}

/** From one slice to the next in mm. @param {File} file @param {Plane[]} planes */
function sliceStep(file, planes) {
  const [first] = planes;
  if (planes.length === 1) {
    const apart = /** @type {const} */ (["between", "thickness"]).map((name) => functional(file, 0, "measures", name)?.[0]).find((mm) => mm) ?? 1;
    return first.normal.map((value) => value * Math.abs(apart));
  }
  for (const plane of planes)
    for (const name of /** @type {const} */ (["columnStep", "rowStep"])) {
      const size = Math.hypot(...first[name]);
      if (plane[name].some((value, axis) => Math.abs(value - first[name][axis]) > 1e-3 * size))
        throw new PocketsegError("its slices are turned against one another, or differ in their pixel size: drop each stack by itself");
    }
  const heights = planes.map(({ position }) => dot(position, first.normal));
  const gaps = heights.slice(1).map((height, index) => height - heights[index]);
  const sorted = [...gaps].sort((a, b) => a - b);
  const usual = (sorted[Math.floor((gaps.length - 1) / 2)] + sorted[Math.ceil((gaps.length - 1) / 2)]) / 2;
  const same = gaps.findIndex((gap) => gap < 1e-3 * Math.max(usual, 1e-3));
  if (same >= 0) throw new PocketsegError(`slices ${same + 1} and ${same + 2} lie at the same place: drop each series, moment or contrast by itself`);
  const odd = gaps.findIndex((gap) => Math.abs(gap - usual) > EVEN * usual);
  if (odd >= 0) throw new PocketsegError(`slices ${odd + 1} and ${odd + 2} are ${gaps[odd].toPrecision(3)} mm apart, most others ${usual.toPrecision(3)} mm: complete the series`);
  const last = planes[planes.length - 1].position;
  return last.map((value, axis) => (value - first.position[axis]) / (planes.length - 1));
}

/** The first window of every slice, on the values as they are read; null where it is not one for all. @param {{file: File, frame: number}[]} places @returns {[number, number] | null} */
function windowOf(places) {
  const windows = places.map(({ file, frame }) => {
    const [center, width] = /** @type {const} */ (["center", "width"]).map((name) => functional(file, frame, "voi", name)?.[0]);
    const shape = [...sequences(file, frame, "voi").flat().map((item) => text({ bytes: file.bytes, set: item }, "shape")), text(file, "shape")].find(Boolean);
    if (center === undefined || width === undefined || width <= 0 || shape === "SIGMOID") return null;
    if (!whiteIsLow(file)) return [center, width];
    const [slope, intercept] = lineOf(file, 0);
    const [low, high] = storedBounds(file);
    return [low * slope + intercept + high * slope + intercept - center, width];
  });
  return new Set(windows.map(String)).size === 1 ? /** @type {[number, number] | null} */ (windows[0]) : null;
}
