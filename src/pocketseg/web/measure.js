// What a mask says in numbers.
// @ts-check

/** @typedef {[number, number] | null} Spacing of rows and columns, in mm */
/**
 * Pixels, and how many objects; `longest` is the largest distance of two corners of an object's pixels.
 * @typedef {{name: string, area: number, objects: number, largest: number, longest: number, longestMm: number | null}} Measures
 */

/**
 * Of each class: its pixels, its objects (pixels that touch at a side or a corner), the largest of them, and the longest
 * diameter of one.
 * @param {{width: number, height: number, data: Uint8Array}} mask
 * @param {string[]} classes
 * @param {Spacing} spacing
 * @returns {Measures[]}
 */
export function measured({ width, height, data }, classes, spacing) {
  const found = classes.map((name) => ({ name, area: 0, objects: 0, largest: 0, longest: 0, longestMm: spacing && 0 }));
  const seen = new Uint8Array(data.length);
  const open = [];
  for (let start = 0; start < data.length; ++start) {
    const index = data[start];
    if (!index || seen[start]) continue;
    let pixels = 0;
    /** @type {Map<number, [number, number]>} first and last column of each row */
    const rows = new Map();
    seen[start] = 1;
    open.push(start);
    while (open.length) {
      const at = /** @type {number} */ (open.pop());
      const row = Math.floor(at / width);
      const column = at % width;
      ++pixels;
      const ends = rows.get(row);
      if (!ends) rows.set(row, [column, column]);
      else if (column < ends[0]) ends[0] = column;
      else if (column > ends[1]) ends[1] = column;
      for (let y = Math.max(0, row - 1); y <= Math.min(height - 1, row + 1); ++y)
        for (let x = Math.max(0, column - 1); x <= Math.min(width - 1, column + 1); ++x) {
          const next = y * width + x;
          if (data[next] !== index || seen[next]) continue;
          seen[next] = 1;
          open.push(next);
        }
    }
    const own = found[index - 1];
    own.area += pixels;
    own.objects += 1;
    own.largest = Math.max(own.largest, pixels);
    const corners = hull(rows);
    own.longest = Math.max(own.longest, longest(corners, [1, 1]));
    if (spacing) own.longestMm = Math.max(own.longestMm ?? 0, longest(corners, spacing));
  }
  return found;
}

/** The corners [row, column] around all pixels, without those that lie between others. @param {Map<number, [number, number]>} rows */
function hull(rows) {
  const sides = /** @type {[number, number][][]} */ ([[], []]);
  for (const row of [...rows.keys()].sort((a, b) => a - b)) {
    const [first, last] = /** @type {[number, number]} */ (rows.get(row));
    for (const below of [row, row + 1]) {
      extend(sides[0], [below, first], -1);
      extend(sides[1], [below, last + 1], 1);
    }
  }
  return sides.flat();
}

/** Adds a corner to one side of a hull, which stays convex. @param {[number, number][]} side @param {[number, number]} corner @param {1 | -1} outward */
function extend(side, corner, outward) {
  const inside = () => {
    const [a, b] = side.slice(-2);
    return (outward * ((b[0] - a[0]) * (corner[1] - a[1]) - (b[1] - a[1]) * (corner[0] - a[0]))) >= 0;
  };
  while (side.length > 1 && inside()) side.pop();
  side.push(corner);
}

/** @param {[number, number][]} corners @param {[number, number]} spacing */
function longest(corners, [row, column]) {
  let most = 0;
  for (const a of corners) for (const b of corners) most = Math.max(most, ((a[0] - b[0]) * row) ** 2 + ((a[1] - b[1]) * column) ** 2);
  return Math.sqrt(most);
}

/** Of the circle of an area. @param {number} area */
export function diameter(area) {
  return 2 * Math.sqrt(area / Math.PI);
}

/**
 * Dice of each class over all slices, 1 where both are empty.
 * @param {Uint8Array[]} masks
 * @param {Uint8Array[]} references
 * @param {number} classes
 */
export function dice(masks, references, classes) {
  const both = new Float64Array(classes + 1);
  const sum = new Float64Array(classes + 1);
  masks.forEach((mask, slice) => {
    const reference = references[slice];
    for (let i = 0; i < mask.length; ++i) {
      if (mask[i] === reference[i]) ++both[mask[i]];
      ++sum[mask[i]];
      ++sum[reference[i]];
    }
  });
  return Array.from({ length: classes }, (_, i) => (sum[i + 1] ? (2 * both[i + 1]) / sum[i + 1] : 1));
}

/**
 * How intensities differ from those of training, as `pocketseg predict` warns of them; empty where they do not much.
 * @param {any} pipeline of the card
 * @param {{bounds: [number, number], colored: boolean}} seen
 */
export function unlike(pipeline, { bounds: [low, high], colored }) {
  const told = [];
  const trained = pipeline?.trained_on;
  const ownNumbers = ["min-max", "z-score"].includes(pipeline?.normalization?.kind);
  if (trained && !ownNumbers) {
    const slack = trained.widest / 4;
    const range = high - low;
    if (low > trained.high + slack || high < trained.low - slack || (range > 0 && range * 4 < trained.narrowest) || range > trained.widest * 4)
      told.push(`its intensities run from ${short(low)} to ${short(high)} of full scale, those of training from ${short(trained.low)} to ${short(trained.high)}`);
  }
  const usual = /** @type {Record<number, string>} */ ({ 1: "gray", 3: "colored" })[pipeline?.channels];
  const expected = usual && (trained?.colors ?? usual);
  const have = colored ? "colored" : "gray";
  if (expected && expected !== have && expected !== "mixed") told.push(`it is ${have}, those of training were ${expected}`);
  return told.join("; ");
}

/** @param {number} value */
function short(value) {
  return Number(value.toPrecision(3)).toString();
}
