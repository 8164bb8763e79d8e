// Files to pictures, with the numbers that the files store.
// @ts-check
import { PocketsegError } from "./engine.js";
import { decodePng, isPng } from "./png.js";
import { decodeTiff, isTiff } from "./tiff.js";

/** @typedef {import("./pocketseg").Picture & {channels: number, indices?: Uint8Array | null, black?: boolean}} Read `black`: of one bit, black and white */

const MAX_BYTES = 512 * 2 ** 20;
const NOT_READ = /** @type {[string, number[], string][]} */ ([
  ["a DICOM file", [], "save the image as PNG, or use `pocketseg predict`"],
  ["a NIfTI file", [0x1f, 0x8b], "save the slice as PNG, or use `pocketseg predict`"],
  ["a large TIFF file", [0x49, 0x49, 0x2b, 0], "save it as PNG, or use `pocketseg predict`"],
  ["a large TIFF file", [0x4d, 0x4d, 0, 0x2b], "save it as PNG, or use `pocketseg predict`"],
  ["a GIF file", [0x47, 0x49, 0x46, 0x38], "save it as PNG"],
  ["a WebP file", [0x52, 0x49, 0x46, 0x46], "save it as PNG"],
  ["a BMP file", [0x42, 0x4d], "save it as PNG"],
  ["a PDF file", [0x25, 0x50, 0x44, 0x46], "save the image as PNG"],
]);

/**
 * A PNG, JPEG or TIFF, upright.
 * @param {Blob} file
 * @returns {Promise<Read>}
 */
export async function readPicture(file) {
  if (file.size > MAX_BYTES) throw new PocketsegError(`the file has ${Math.round(file.size / 2 ** 20)} MiB, more than ${MAX_BYTES / 2 ** 20}`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (!bytes.length) throw new PocketsegError("the file is empty (0 bytes): copy it again from its source");
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
  const dicom = String.fromCharCode(...bytes.subarray(128, 132)) === "DICM";
  const known = dicom ? NOT_READ[0] : NOT_READ.find(([, start]) => start.length && start.every((byte, index) => bytes[index] === byte));
  return known ? `this is ${known[0]}, which the page does not read: ${known[2]}` : "this is no PNG, JPEG or TIFF";
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
 * A reference mask as class indices: one value besides 0 is class 1, several are indices.
 * @param {Blob} file
 * @param {number} classes
 */
export async function readMask(file, classes) {
  if (file.size && !isPng(new Uint8Array(await file.slice(0, 8).arrayBuffer())))
    throw new PocketsegError("a reference mask is read from PNG alone, and of JPEG the gray levels are not classes: use the original as PNG");
  const { width, height, channels, data, indices } = await readPicture(file);
  const values = indices ?? (channels === 1 ? data : grayOf(data));
  const found = new Set(values);
  found.delete(0);
  if (found.size > 1 && Math.max(...found) > classes)
    throw new PocketsegError(`the mask holds ${found.size} values besides 0, and the model has ${classes === 1 ? "1 class" : `${classes} classes`}`);
  const single = found.size === 1 && (classes === 1 || Math.max(...found) > classes);
  return { width, height, data: Uint8Array.from(values, (value) => (single ? Number(value !== 0) : value)) };
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
