// What a mask says in numbers.
// @ts-check

/** @typedef {{name: string, area: number, objects: number, largest: number}} Measures pixels, and how many objects */

/**
 * Of each class: its pixels, its objects (pixels that touch at a side or a corner) and the largest of them.
 * @param {{width: number, height: number, data: Uint8Array}} mask
 * @param {string[]} classes
 * @returns {Measures[]}
 */
export function measured({ width, height, data }, classes) {
  const found = classes.map((name) => ({ name, area: 0, objects: 0, largest: 0 }));
  const seen = new Uint8Array(data.length);
  const open = [];
  for (let start = 0; start < data.length; ++start) {
    const index = data[start];
    if (!index || seen[start]) continue;
    let pixels = 0;
    seen[start] = 1;
    open.push(start);
    while (open.length) {
      const at = /** @type {number} */ (open.pop());
      const row = Math.floor(at / width);
      const column = at % width;
      ++pixels;
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
  }
  return found;
}

/** Of the circle of an area. @param {number} area */
export function diameter(area) {
  return 2 * Math.sqrt(area / Math.PI);
}

/**
 * Dice of each class, 1 where both are empty.
 * @param {Uint8Array} mask
 * @param {Uint8Array} reference
 * @param {number} classes
 */
export function dice(mask, reference, classes) {
  const both = new Float64Array(classes + 1);
  const sum = new Float64Array(classes + 1);
  for (let i = 0; i < mask.length; ++i) {
    if (mask[i] === reference[i]) ++both[mask[i]];
    ++sum[mask[i]];
    ++sum[reference[i]];
  }
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
