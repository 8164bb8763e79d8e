// NIfTI files (.nii, .nii.gz; versions 1 and 2) of one volume, and masks in them.
// @ts-check
import { PocketsegError } from "./engine.js";
import { determinant, lengths } from "./volume.js";

const MAX_CONTRASTS = 16;
const MAX_BYTES = 2 ** 30;
const UNITS_MM = /** @type {Record<number, number>} */ ({ 0: 1, 1: 1000, 2: 1, 3: 0.001 });
const TYPES = /** @type {Record<number, any>} */ ({
  2: Uint8Array, 4: Int16Array, 8: Int32Array, 16: Float32Array, 64: Float64Array, 256: Int8Array, 512: Uint16Array, 768: Uint32Array,
});
// Of each version: where fields lie, and of what kind they are. Text is what people may have written names into.
const FIELDS = /** @type {const} */ ({
  1: {
    bytes: 348, magic: 344, whole: 2, float: 4, code: 2, dim: 40, datatype: 70, bitpix: 72, pixdim: 76, offset: 108, slope: 112, inter: 116,
    units: 123, unitsAre: 1, calibration: 124, qform: 252, sform: 254, quaternion: 256, shift: 268, matrix: 280, text: [[14, 18], [148, 80], [228, 24], [328, 16]],
  },
  2: {
    bytes: 540, magic: 4, whole: 8, float: 8, code: 4, dim: 16, datatype: 12, bitpix: 14, pixdim: 104, offset: 168, slope: 176, inter: 184,
    units: 500, unitsAre: 4, calibration: 192, qform: 344, sform: 348, quaternion: 352, shift: 376, matrix: 400, text: [[240, 80], [320, 24], [508, 16]],
  },
});

/** @typedef {import("./volume.js").Volume} Volume */

/** Numbers of a header by their place. */
class Header {
  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.little = bytes[0] !== 0;
    this.version = /** @type {1 | 2} */ (this.view.getInt32(0, this.little) === 540 ? 2 : 1);
    this.fields = FIELDS[this.version];
  }

  /** @param {number} at @param {number} bytes */
  whole(at, bytes = this.fields.whole) {
    if (bytes === 8) return Number(this.view.getBigInt64(at, this.little));
    return bytes === 4 ? this.view.getInt32(at, this.little) : bytes === 2 ? this.view.getInt16(at, this.little) : this.view.getUint8(at);
  }

  /** @param {number} at */
  float(at) {
    return this.fields.float === 4 ? this.view.getFloat32(at, this.little) : this.view.getFloat64(at, this.little);
  }

  /** @param {number} at @param {number} count */
  floats(at, count) {
    return Array.from({ length: count }, (_, index) => this.float(at + index * this.fields.float));
  }

  /** @param {number} at @param {number} value @param {number} [bytes] */
  setWhole(at, value, bytes = this.fields.whole) {
    if (bytes === 8) this.view.setBigInt64(at, BigInt(value), this.little);
    else this.view.setInt16(at, value, this.little);
  }

  /** @param {number} at @param {number} value */
  setFloat(at, value) {
    if (this.fields.float === 4) this.view.setFloat32(at, value, this.little);
    else this.view.setFloat64(at, value, this.little);
  }
}

/** Whether a file, unpacked, is one. @param {Uint8Array} bytes */
export function isNifti(bytes) {
  return Object.values(FIELDS).some((fields) => {
    const magic = String.fromCharCode(...bytes.subarray(fields.magic, fields.magic + 3));
    return bytes.length >= fields.bytes && (magic === "n+1" || magic === "ni1" || magic === "n+2" || magic === "ni2");
  });
}

/** @param {Uint8Array} bytes */
export function isGzip(bytes) {
  return bytes[0] === 0x1f && bytes[1] === 0x8b;
}

/** What is in a file that gzip packed, with its check sum held. @param {Blob} file */
export async function gunzipped(file) {
  const reader = file.stream().pipeThrough(new DecompressionStream("gzip")).getReader();
  const parts = [];
  let length = 0;
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      parts.push(value);
      length += value.length;
      if (length > MAX_BYTES) break;
    }
  } catch {
    throw new PocketsegError("the file is damaged or cut off, or packed in several pieces: copy it again from its source, or unpack it (gunzip)");
  }
  if (length > MAX_BYTES) throw new PocketsegError(`it unpacks to more than ${MAX_BYTES / 2 ** 20} MiB: use \`pocketseg predict\``);
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** @param {Uint8Array} bytes of an unpacked file @returns {Volume} */
export function readNifti(bytes) {
  const header = new Header(bytes);
  const { fields } = header;
  const dimensions = header.whole(fields.dim);
  if (dimensions < 1 || dimensions > 7) throw new PocketsegError(`the file declares ${dimensions} dimensions: copy it again from its source`);
  const sides = Array.from({ length: dimensions }, (_, index) => header.whole(fields.dim + (index + 1) * fields.whole));
  while (sides.length > 3 && sides[sides.length - 1] === 1) sides.pop();
  while (sides.length < 3) sides.push(1);
  if (sides.length > 4 || sides[3] > MAX_CONTRASTS)
    throw new PocketsegError(`the file holds a series of ${sides.slice(3).join("×")} volumes, and ${MAX_CONTRASTS} are read as channels: save each as a file of its own`);
  const code = header.whole(fields.datatype, 2);
  const Kind = TYPES[code];
  if (!Kind) throw new PocketsegError(`voxels of this type (NIfTI's ${code}) are not read: save it with one number of at most 32 bits a voxel`);
  const count = sides.reduce((product, side) => product * side, 1);
  const begin = offset(header);
  if (Math.min(...sides) < 1 || begin < 0 || begin + count * Kind.BYTES_PER_ELEMENT > bytes.length)
    throw new PocketsegError(`the file declares ${sides.join("×")} voxels, more than it holds: copy it again from its source`);
  const shape = /** @type {import("./volume.js").Triple} */ (sides.slice(0, 3));
  const channels = sides[3] ?? 1;
  const data = rescaled(stored(bytes, begin, count, Kind, header.little), header);
  const [i, j] = shape;
  return {
    data, channels, strides: [1, i, i * j, i * j * shape[2]], grid: { shape, ...placed(header, shape, dimensions) },
    contrasts: sides.length === 4, measured: true, window: null,
  };
}

/** @param {Header} header */
function offset({ bytes, fields, view, little, version }) {
  const at = version === 2 ? Number(view.getBigInt64(fields.offset, little)) : Math.trunc(view.getFloat32(fields.offset, little));
  const single = bytes[fields.magic + 1] === 0x2b;
  return at !== 0 && single ? Math.max(at, fields.bytes + 4) : at;
}

/** @param {Uint8Array} bytes @param {number} begin @param {number} count @param {any} Kind @param {boolean} little @returns {import("./volume.js").Numbers} */
function stored(bytes, begin, count, Kind, little) {
  const size = Kind.BYTES_PER_ELEMENT;
  const own = bytes.slice(begin, begin + count * size);
  if (!little)
    for (let at = 0; at < own.length && size > 1; at += size) own.subarray(at, at + size).reverse();
  return new Kind(own.buffer);
}

/** Numbers in the file's units, floats as f32. @param {import("./volume.js").Numbers} values @param {Header} header */
function rescaled(values, header) {
  const [slope, inter] = [header.float(header.fields.slope), header.float(header.fields.inter)];
  const given = slope !== 0 && Number.isFinite(slope);
  if (given && !Number.isFinite(inter)) throw new PocketsegError("the file scales its voxels by numbers that are not finite: repair the header's scl_slope and scl_inter");
  if (!given || (slope === 1 && inter === 0)) return values instanceof Float64Array ? Float32Array.from(values) : values;
  return Float32Array.from(values, (value) => value * slope + inter);
}

/** Voxel sizes and directions in mm, whatever unit the header states. @param {Header} header @param {import("./volume.js").Triple} shape @param {number} dimensions */
function placed(header, shape, dimensions) {
  const { fields } = header;
  const units = header.whole(fields.units, fields.unitsAre) & 7;
  const unit = UNITS_MM[units];
  if (!unit) throw new PocketsegError(`the file states the unit ${units}, which NIfTI does not have: repair the header's xyzt_units`);
  const declared = header.floats(fields.pixdim, 4);
  const sizes = declared.slice(1);
  if (!sizes.every(Number.isFinite) || sizes.slice(0, dimensions).some((size) => size <= 0))
    throw new PocketsegError(`the file declares voxels of ${sizes.join(", ")}: repair the header's pixdim`);
  const [qform, sform] = [header.whole(fields.qform, fields.code), header.whole(fields.sform, fields.code)];
  if (!sform && !qform) return { mm: /** @type {import("./volume.js").Triple} */ (sizes.map((size) => (size || 1) * unit)), affine: null };
  const turned = qform ? fromQuaternion(header, declared) : null;
  const line = (/** @type {number} */ row) => header.floats(fields.matrix + 4 * row * fields.float, 4);
  const affine = sform || !turned ? [line(0), line(1), line(2)] : turned;
  if (!affine.flat().every(Number.isFinite) || Math.abs(determinant(affine)) < 1e-9)
    throw new PocketsegError("the header's affine is singular or not finite: repair the header's sform");
  refuseDisagreement(affine, turned ?? affine, shape);
  const inMm = affine.map((row) => row.map((value) => value * unit));
  return { mm: /** @type {import("./volume.js").Triple} */ (lengths(affine).map((size) => size * unit)), affine: inMm };
}

/** @param {Header} header @param {number[]} pixdim */
function fromQuaternion(header, pixdim) {
  const { fields } = header;
  const [x, y, z] = header.floats(fields.quaternion, 3);
  const rest = 1 - (x * x + y * y + z * z);
  const near = 3 * (header.version === 1 ? 2 ** -23 : 2 ** -52);
  if (!(rest > -near)) throw new PocketsegError("the header's quaternion is not a rotation: repair the header's qform");
  const w = rest < near ? 0 : Math.sqrt(rest);
  const s = 2 / (w * w + x * x + y * y + z * z);
  const turn = [
    [1 - (y * y + z * z) * s, (x * y - w * z) * s, (x * z + w * y) * s],
    [(x * y + w * z) * s, 1 - (x * x + z * z) * s, (y * z - w * x) * s],
    [(x * z - w * y) * s, (y * z + w * x) * s, 1 - (x * x + y * y) * s],
  ];
  const sizes = [pixdim[1], pixdim[2], (pixdim[3] || 1) * (pixdim[0] === -1 ? -1 : 1)];
  const begin = header.floats(fields.shift, 3);
  return turn.map((row, index) => [...row.map((value, axis) => value * sizes[axis]), begin[index]]);
}

/** @param {number[][]} affine @param {number[][]} other @param {number[]} shape */
function refuseDisagreement(affine, other, shape) {
  let apart = 0;
  for (let corner = 0; corner < 8; ++corner) {
    const at = [0, 1, 2].map((axis) => (corner & (1 << axis) ? shape[axis] : 0));
    affine.forEach((row, index) => {
      const gap = row.reduce((sum, value, axis) => sum + (value - other[index][axis]) * (at[axis] ?? 1), 0);
      apart = Math.max(apart, Math.abs(gap));
    });
  }
  const voxels = apart / Math.min(...lengths(affine));
  if (!(voxels < 0.1)) throw new PocketsegError(`sform and qform place the voxels differently, by up to ${voxels.toFixed(1)} voxels: decide which is right`);
}

/**
 * A mask on the grid of the file that it was made of, with its header but without the free text in it, as
 * `pocketseg predict` writes it.
 * @param {Uint8Array} bytes of the unpacked file
 * @param {Uint8Array} voxels in stored order
 */
export function niftiMask(bytes, voxels) {
  const given = new Header(bytes);
  const { fields } = given;
  const header = new Header(bytes.slice(0, fields.bytes));
  const dimensions = given.whole(fields.dim);
  const sides = Array.from({ length: 7 }, (_, index) => (index < dimensions ? given.whole(fields.dim + (index + 1) * fields.whole) : 1));
  const contrasts = sides[3] > 1;
  const kept = contrasts ? 3 : dimensions;
  header.setWhole(fields.dim, kept);
  sides.forEach((side, index) => header.setWhole(fields.dim + (index + 1) * fields.whole, index < kept ? side : 1));
  const pixdim = given.floats(fields.pixdim, 8).map((size, index) => {
    if (index === 0) return Math.abs(size) === 1 ? size : 1;
    return index > kept ? 1 : index <= 3 ? size || 1 : size;
  });
  pixdim.forEach((size, index) => header.setFloat(fields.pixdim + index * fields.float, size));
  header.setWhole(fields.datatype, 2, 2);
  header.setWhole(fields.bitpix, 8, 2);
  for (const [at, value] of [[fields.slope, 1], [fields.inter, 0], [fields.calibration, 0], [fields.calibration + fields.float, 0]]) header.setFloat(at, value);
  for (const [at, length] of fields.text) header.bytes.fill(0, at, at + length);
  header.bytes[fields.magic + 1] = 0x2b;
  const begin = fields.bytes + 4;
  if (header.version === 2) header.setWhole(fields.offset, begin);
  else header.setFloat(fields.offset, begin);
  const whole = new Uint8Array(begin + voxels.length);
  whole.set(header.bytes);
  whole.set(voxels, begin);
  return whole;
}
