// Archives of files as they are, without compression: masks are compressed already.
// @ts-check
import { PocketsegError } from "./engine.js";
import { crc } from "./png.js";

const [LOCAL, CENTRAL, END] = [0x04034b50, 0x02014b50, 0x06054b50];
// Names in UTF-8; a version that every program reads; 1 January 1980, so that equal masks are equal bytes.
const [UTF8, VERSION, DAY] = [0x800, 20, 0x21];
const [MOST, MOST_BYTES] = [65_535, 2 ** 32 - 1];

/**
 * @param {{name: string, bytes: Uint8Array}[]} files
 * @returns {Blob}
 */
export function zipped(files) {
  if (files.length > MOST || files.reduce((sum, { bytes }) => sum + bytes.length + 512, 0) > MOST_BYTES)
    throw new PocketsegError("these are more masks than one archive holds: save those of fewer pictures");
  const parts = [];
  const directory = [];
  let at = 0;
  for (const { name, bytes } of files) {
    const named = new TextEncoder().encode(name);
    const about = [VERSION, UTF8, 0, 0, DAY];
    const sizes = [crc(bytes), bytes.length, bytes.length];
    const head = record(LOCAL, about, sizes, [named.length, 0]);
    directory.push(record(CENTRAL, [VERSION, ...about], sizes, [named.length, 0, 0, 0, 0], [0, at]), named);
    parts.push(head, named, bytes);
    at += head.length + named.length + bytes.length;
  }
  const length = directory.reduce((sum, each) => sum + each.length, 0);
  const end = record(END, [0, 0, files.length, files.length], [length, at], [0]);
  return new Blob(/** @type {BlobPart[]} */ ([...parts, ...directory, end]), { type: "application/zip" });
}

/** A number of 4 bytes, then some of 2, some of 4, some of 2, some of 4. @param {number} first @param {number[][]} rest */
function record(first, ...rest) {
  const bytes = [[4, first], ...rest.flatMap((values, index) => values.map((value) => [index % 2 ? 4 : 2, value]))];
  const out = new DataView(new ArrayBuffer(bytes.reduce((sum, [size]) => sum + size, 0)));
  let at = 0;
  for (const [size, value] of bytes) {
    if (size === 4) out.setUint32(at, value, true);
    else out.setUint16(at, value, true);
    at += size;
  }
  return new Uint8Array(out.buffer);
}
