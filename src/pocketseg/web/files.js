// Files to pictures, with the numbers that the files store; and masks as files.
// @ts-check
import { dicomVolume, isDicom, isMask, readDicom, seriesOf } from "./dicom.js";
import { PocketsegError } from "./engine.js";
import { gunzipped, isGzip, isNifti, niftiMask, readNifti } from "./nifti.js";
import { decodePng, encodePng, isPng } from "./png.js";
import { decodeTiff, isTiff } from "./tiff.js";
import { Slices } from "./volume.js";

/** @typedef {import("./pocketseg").Picture & {channels: number, indices?: Uint8Array | null, black?: boolean}} Read `black`: of one bit, black and white */
/** @typedef {import("./pocketseg").Stack} Stack */

const MAX_BYTES = 2 ** 30;
const ENDINGS = /\.(png|jpe?g|tiff?|dcm|dicom|ima|nii|nii\.gz)$/i;
const NOT_READ = /** @type {[string, number[], string][]} */ ([
  ["an archive", [0x50, 0x4b, 3, 4], "unpack it"],
  ["a large TIFF file", [0x49, 0x49, 0x2b, 0], "save it as PNG, or use `pocketseg predict`"],
  ["a large TIFF file", [0x4d, 0x4d, 0, 0x2b], "save it as PNG, or use `pocketseg predict`"],
  ["a GIF file", [0x47, 0x49, 0x46, 0x38], "save it as PNG"],
  ["a WebP file", [0x52, 0x49, 0x46, 0x46], "save it as PNG"],
  ["a BMP file", [0x42, 0x4d], "save it as PNG"],
  ["a PDF file", [0x25, 0x50, 0x44, 0x46], "save the image as PNG"],
  ["a NRRD file", [0x4e, 0x52, 0x52, 0x44], "save it as NIfTI, or use `pocketseg predict`"],
  ["a packed model", [0x89, 0x70, 0x73, 0x65, 0x67], "give it the ending .pseg"],
]);

/** @param {Blob} file */
function nameOf(file) {
  return /** @type {File} */ (file).name ?? "";
}

/** Whether a file of a folder is looked at: its name ends as that of an image, or it is DICOM without an ending. @param {File} file */
export async function isImage(file) {
  if (file.name.startsWith(".") || file.name.toUpperCase() === "DICOMDIR") return false;
  if (ENDINGS.test(file.name)) return true;
  if (/\.\D[^.]*$/.test(file.name)) return false;
  return isDicom(await start(file), "");
}

/** @param {Blob} file */
async function start(file) {
  return new Uint8Array(await file.slice(0, 132).arrayBuffer());
}

/**
 * Files as images: the DICOM files of a series are one.
 * @template {File} Given
 * @param {Given[]} files
 * @returns {Promise<Given[][]>}
 */
export async function grouped(files) {
  const groups = /** @type {Map<any, Given[]>} */ (new Map());
  for (const file of files) {
    const own = files.length > 1 ? await seriesIn(file) : "";
    if (own === null) continue;
    const place = own || file;
    groups.set(place, [...(groups.get(place) ?? []), file]);
  }
  return [...groups.values()];
}

/** The series that a DICOM file is of; empty where it stands alone or cannot be read, null where it holds drawn regions. @param {File} file */
async function seriesIn(file) {
  if (!isDicom(await start(file), file.name)) return "";
  try {
    const read = await readDicom(await content(file));
    return isMask(read) ? null : seriesOf(read);
  } catch {
    return "";
  }
}

/** @param {Blob} file */
async function content(file) {
  if (file.size > MAX_BYTES) throw new PocketsegError(`the file has ${Math.round(file.size / 2 ** 20)} MiB, more than ${MAX_BYTES / 2 ** 20}`);
  if (!file.size) throw new PocketsegError("the file is empty (0 bytes): copy it again from its source");
  return new Uint8Array(await file.arrayBuffer());
}

/**
 * The pictures of a file: one, or the slices of a volume, as a model wants them.
 * @param {Blob[]} files several: of one DICOM series
 * @param {any} pipeline of a model's card
 * @returns {Promise<Stack>}
 */
export async function readStack(files, pipeline) {
  if (files.length > 1) return dicomStack(files, pipeline);
  const [file] = files;
  const bytes = await content(file);
  if (isDicom(bytes, nameOf(file))) return dicomStack(files, pipeline);
  if (isGzip(bytes) || isNifti(bytes)) return niftiStack(file, bytes, pipeline);
  const picture = await decoded(file, bytes);
  return { kind: "picture", count: 1, plane: "", spacing: null, thickness: null, units: null, picture: () => picture, file: (masks, classes) => onePng(picture, masks[0], classes) };
}

/** @param {Blob[]} files @param {any} pipeline @returns {Promise<Stack>} */
async function dicomStack(files, pipeline) {
  const read = [];
  for (const file of naturally(files)) {
    try {
      read.push(await readDicom(await content(file)));
    } catch (error) {
      throw files.length > 1 && error instanceof PocketsegError ? new PocketsegError(`${nameOf(file)}: ${error.message}`) : error;
    }
  }
  const slices = new Slices(await dicomVolume(read), pipeline?.reading);
  return {
    ...stackOf(slices, pipeline),
    kind: "dicom",
    async file(masks, classes) {
      const pages = await Promise.all(masks.map((mask) => onePng(slices, mask, classes)));
      return masks.length === 1 ? pages[0] : pages.map(({ bytes }, index) => ({ name: `/${String(index).padStart(3, "0")}.png`, bytes }));
    },
  };
}

/** By name, numbers as such. @param {Blob[]} files */
function naturally(files) {
  return [...files].sort((a, b) => nameOf(a).localeCompare(nameOf(b), "en", { numeric: true }));
}

/** @param {Blob} file @param {Uint8Array} bytes @param {any} pipeline @returns {Promise<Stack>} */
async function niftiStack(file, bytes, pipeline) {
  const [slices, head] = await niftiSlices(file, bytes, pipeline?.reading, pipeline?.channels);
  const packed = isGzip(bytes);
  return {
    ...stackOf(slices, pipeline),
    kind: "nifti",
    async file(masks) {
      const whole = niftiMask(head, slices.rebuilt(masks));
      return { name: packed ? ".nii.gz" : ".nii", bytes: packed ? await gzipped(whole) : whole };
    },
  };
}

/** And the beginning of the file. @param {Blob} file @param {Uint8Array} bytes @param {any} reading @param {number} [channels] of the net @returns {Promise<[Slices, Uint8Array]>} */
async function niftiSlices(file, bytes, reading, channels) {
  const unpacked = isGzip(bytes) ? await gunzipped(file) : bytes;
  if (!isNifti(unpacked)) throw new PocketsegError("this is a packed file, and no NIfTI: unpack it");
  const volume = readNifti(unpacked);
  if (volume.contrasts && volume.channels > 1 && channels && volume.channels !== channels)
    throw new PocketsegError(`the file holds ${volume.channels} contrasts as its channels, and the net takes ${channels}`);
  return [new Slices(volume, reading), unpacked.slice(0, 1024)];
}

/** @param {Slices} slices @param {any} pipeline */
function stackOf(slices, pipeline) {
  const { count, plane, spacing, thickness, scale } = slices;
  const units = scale && scale.lows.length === 1 ? { low: scale.lows[0], high: scale.highs[0] } : null;
  return { count, plane, spacing, thickness, units, slices, picture: (/** @type {number} */ index) => slices.picture(index, pipeline) };
}

/** @param {Uint8Array} bytes */
async function gzipped(bytes) {
  const stream = new Blob([/** @type {BlobPart} */ (bytes)]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** As `pocketseg predict` writes them: one class as 0 and 255, several as class indices. @param {{width: number, height: number}} of @param {Uint8Array} mask @param {number} classes */
async function onePng({ width, height }, mask, classes) {
  return { name: ".png", bytes: await encodePng(classes === 1 ? mask.map((index) => index * 255) : mask, width, height) };
}

/** A file's name without its ending. @param {string} name */
export function stem(name) {
  return name.replace(/(\.nii\.gz|\.[^.]*)$/i, "");
}

/**
 * A PNG, JPEG or TIFF, upright.
 * @param {Blob} file
 * @returns {Promise<Read>}
 */
export async function readPicture(file) {
  return decoded(file, await content(file));
}

/** @param {Blob} file @param {Uint8Array} bytes @returns {Promise<Read>} */
async function decoded(file, bytes) {
  if (isPng(bytes)) {
    const found = await decodePng(bytes);
    return turned({ ...found, black: found.bits === 1 && !found.indices }, found.turn);
  }
  if (isTiff(bytes)) {
    const found = await decodeTiff(bytes);
    return turned(found, found.turn);
  }
  if (bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff) return readJpeg(file, bytes);
  throw new PocketsegError(whatItIsInstead(bytes));
}

/** @param {Uint8Array} bytes */
function whatItIsInstead(bytes) {
  const known = NOT_READ.find(([, begin]) => begin.every((byte, index) => bytes[index] === byte));
  return known ? `this is ${known[0]}, which the page does not read: ${known[2]}` : "this is no PNG, JPEG, TIFF, DICOM or NIfTI";
}

/** The pixels that this browser's decoder gives; the file says whether they are gray. @param {Blob} file @param {Uint8Array} bytes @returns {Promise<Read>} */
async function readJpeg(file, bytes) {
  const components = jpegComponents(bytes);
  if (components !== 1 && components !== 3) throw new PocketsegError("a JPEG of neither gray nor color is not read: save it as PNG");
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new PocketsegError("the image is damaged or cut off: copy it again from its source");
  }
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new PocketsegError(`${width}×${height} pixels are more than this browser holds`);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data;
  return { width, height, channels: components, data: channelsOf(rgba, components) };
}

/** @param {Uint8ClampedArray} rgba @param {number} channels */
export function channelsOf(rgba, channels) {
  const out = new Uint8Array((rgba.length / 4) * channels);
  for (let from = 0, to = 0; from < rgba.length; from += 4) for (let each = 0; each < channels; ++each) out[to++] = rgba[from + each];
  return out;
}

/** Components of a JPEG frame; 0 where there is none of 8 bits. @param {Uint8Array} bytes */
function jpegComponents(bytes) {
  for (let at = 2; at + 9 < bytes.length && bytes[at] === 0xff; ) {
    const marker = bytes[at + 1];
    if (marker === 0xff) {
      at += 1;
      continue;
    }
    const frame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (frame) return bytes[at + 4] === 8 ? bytes[at + 9] : 0;
    at += 2 + ((bytes[at + 2] << 8) | bytes[at + 3]);
  }
  return 0;
}

/** A picture as its EXIF orientation shows it. @param {Read} picture @param {number} turn @returns {Read} */
function turned(picture, turn) {
  if (!(turn > 1 && turn <= 8)) return picture;
  const { width, height, channels, data, indices, black } = picture;
  const swapped = turn > 4;
  const [wide, high] = swapped ? [height, width] : [width, height];
  const from = new Uint32Array(wide * high);
  for (let y = 0; y < high; ++y)
    for (let x = 0; x < wide; ++x) {
      let [column, row] = swapped ? [y, x] : [x, y];
      if ([2, 3, 7, 8].includes(turn)) column = width - 1 - column;
      if ([3, 4, 6, 7].includes(turn)) row = height - 1 - row;
      from[y * wide + x] = row * width + column;
    }
  const moved = (/** @type {any} */ values, /** @type {number} */ each) => {
    const out = new values.constructor(values.length);
    from.forEach((pixel, index) => {
      for (let i = 0; i < each; ++i) out[index * each + i] = values[pixel * each + i];
    });
    return out;
  };
  return { width: wide, height: high, channels, data: moved(data, channels), indices: indices && moved(indices, 1), black };
}

/**
 * A reference mask as class indices, slice by slice: one value besides 0 is class 1, several are indices.
 * @param {Blob} file
 * @param {number} classes
 * @param {Stack} stack that it is of
 * @returns {Promise<Uint8Array[]>}
 */
export async function readMask(file, classes, stack) {
  const all = isPng(await start(file)) ? await maskOfPng(file, stack) : await maskOfNifti(file, stack);
  const found = new Set();
  for (const values of all) for (const value of values) if (value) found.add(value);
  const indices = [...found].every((value) => Number.isInteger(value) && value > 0);
  const most = [...found].reduce((largest, value) => Math.max(largest, value), 0);
  const single = found.size === 1 && (classes === 1 || most > classes);
  if (!single && (most > classes || !indices))
    throw new PocketsegError(`the mask holds ${found.size} values besides 0, and the model has ${classes === 1 ? "1 class" : `${classes} classes`}`);
  return all.map((values) => Uint8Array.from(values, (value) => (single ? Number(value !== 0) : value)));
}

/** @param {Blob} file @param {Stack} stack */
async function maskOfPng(file, stack) {
  const { width, height, channels, data, indices } = await readPicture(file);
  const picture = stack.picture(0);
  if (stack.count > 1) throw new PocketsegError(`the mask is one picture, and the volume has ${stack.count} slices: give NIfTI`);
  if (width !== picture.width || height !== picture.height)
    throw new PocketsegError(`the mask has ${width}×${height} pixels, its picture ${picture.width}×${picture.height}`);
  return [indices ?? (channels === 1 ? data : grayOf(data))];
}

/** @param {Blob} file @param {Stack} stack */
async function maskOfNifti(file, stack) {
  const bytes = await content(file);
  const { slices } = stack;
  if (!slices || !(isGzip(bytes) || isNifti(bytes)))
    throw new PocketsegError(`a reference mask is read from PNG${slices ? " or NIfTI" : ""} alone, and of JPEG the gray levels are not classes: use the original`);
  const [found] = await niftiSlices(file, bytes, { axis: slices.plane, raw: true });
  const apart = slices.difference(found);
  if (apart) throw new PocketsegError(`the mask ${apart}`);
  if (found.volume.channels > 1) throw new PocketsegError(`the mask has ${found.volume.channels} channels: store one class index a voxel`);
  return Array.from({ length: found.count }, (_, index) => whole(found.stored(index)));
}

/** Labels that a scale made inexact are whole again. @param {import("./volume.js").Numbers} values */
function whole(values) {
  if (!(values instanceof Float32Array)) return values;
  const near = values.every((value) => Math.abs(value - Math.round(value)) <= (Math.round(value) ? 0.1 : 1e-3));
  return near ? values.map(Math.round) : values;
}

/** @param {Read["data"]} rgb */
function grayOf(rgb) {
  const gray = new Uint8Array(rgb.length / 3);
  for (let i = 0; i < gray.length; ++i) {
    gray[i] = rgb[3 * i];
    if (rgb[3 * i + 1] !== gray[i] || rgb[3 * i + 2] !== gray[i]) throw new PocketsegError("the mask is colored: save it as gray PNG of class indices");
  }
  return gray;
}
