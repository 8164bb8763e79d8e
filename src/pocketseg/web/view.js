// The picture with what was found in it: zoom, pan, window and level, tinted regions and contours.
// @ts-check

export const COLORS = ["#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2"];
const SHARP = 2;
const MOST = 40;

/** @typedef {import("./files.js").Read} Read */
/** @typedef {{width: number, height: number, data: Uint8Array}} Indices */

export class View {
  opacity = 0.3;
  contour = true;
  /** What of a file's own units 0 and 65535 are. @type {{low: number, high: number} | null} */ units = null;
  /** @type {"pan" | "window"} */ tool = "pan";
  /** What becomes black and white. */ window = { low: 0, high: 255 };
  /** @type {(low: number, high: number) => void} */ onwindow = () => {};
  /** @type {Read | null} */ #picture = null;
  /** @type {{layer: HTMLCanvasElement, paths: Path2D[]} | null} */ #mask = null;
  /** @type {Path2D[]} */ #reference = [];
  #base = document.createElement("canvas");
  #place = { scale: 1, left: 0, top: 0 };
  #fitted = true;
  #pending = 0;
  /** @type {Map<number, PointerEvent>} */ #pointers = new Map();

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    new ResizeObserver(() => (this.#fitted ? this.fit() : this.draw())).observe(canvas);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 400), this.#at(event));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.#pointers.set(event.pointerId, event);
    });
    canvas.addEventListener("pointermove", (event) => this.#moved(event));
    for (const end of ["pointerup", "pointercancel"])
      canvas.addEventListener(end, (event) => this.#pointers.delete(/** @type {PointerEvent} */ (event).pointerId));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", () => this.fit());
  }

  /** @param {Read | null} picture @param {boolean} [same] the next frame of a video, or another slice: nothing else changes */
  show(picture, same = false) {
    this.#picture = picture;
    if (!same) {
      this.#mask = null;
      this.#reference = [];
      if (picture) this.window = fullRange(picture);
    }
    this.#paint();
    if (!same || this.#fitted) this.fit();
    this.onwindow(this.window.low, this.window.high);
  }

  /** @param {Indices | null} mask */
  setMask(mask) {
    this.#mask = mask && { layer: tinted(mask), paths: outlines(mask) };
    this.draw();
  }

  /** @param {Indices | null} mask */
  setReference(mask) {
    this.#reference = mask ? outlines(mask) : [];
    this.draw();
  }

  /** @param {number} low @param {number} high */
  setWindow(low, high) {
    this.window = { low, high: Math.max(high, low + 1e-6) };
    this.#paint();
    this.draw();
    this.onwindow(this.window.low, this.window.high);
  }

  resetWindow() {
    if (!this.#picture) return;
    const { low, high } = fullRange(this.#picture);
    this.setWindow(low, high);
  }

  fit() {
    const { clientWidth: wide, clientHeight: high } = this.canvas;
    if (!this.#picture || !wide || !high) return this.draw();
    const { width, height } = this.#picture;
    const scale = Math.min(wide / width, high / height, MOST);
    this.#place = { scale, left: (wide - width * scale) / 2, top: (high - height * scale) / 2 };
    this.#fitted = true;
    this.draw();
  }

  /** @param {number} factor @param {{x: number, y: number}} [at] in pixels of the screen */
  zoom(factor, at = { x: this.canvas.clientWidth / 2, y: this.canvas.clientHeight / 2 }) {
    const { scale, left, top } = this.#place;
    const next = Math.min(MOST, Math.max(0.02, scale * factor));
    const by = next / scale;
    this.#place = { scale: next, left: at.x - (at.x - left) * by, top: at.y - (at.y - top) * by };
    this.#fitted = false;
    this.draw();
  }

  /** @param {number} x @param {number} y */
  pan(x, y) {
    this.#place.left += x;
    this.#place.top += y;
    this.#fitted = false;
    this.draw();
  }

  draw() {
    this.#pending ||= requestAnimationFrame(() => {
      this.#pending = 0;
      this.#draw();
    });
  }

  #draw() {
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const [wide, high] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
    const context = canvas.getContext("2d");
    if (!context) return;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, wide, high);
    if (!this.#picture) return;
    const { scale, left, top } = this.#place;
    context.setTransform(scale * ratio, 0, 0, scale * ratio, left * ratio, top * ratio);
    context.imageSmoothingEnabled = scale < SHARP;
    context.drawImage(this.#base, 0, 0);
    if (this.#mask) {
      context.imageSmoothingEnabled = false;
      context.globalAlpha = this.opacity;
      context.drawImage(this.#mask.layer, 0, 0);
      context.globalAlpha = 1;
    }
    const line = (/** @type {Path2D} */ path, /** @type {string} */ color, /** @type {number} */ width) => {
      context.lineWidth = width / scale;
      context.strokeStyle = color;
      context.stroke(path);
    };
    context.lineCap = "square";
    if (this.#mask && this.contour)
      this.#mask.paths.forEach((path, index) => {
        line(path, "rgb(0 0 0 / 0.55)", 3.5);
        line(path, colorOf(index + 1), 2);
      });
    context.setLineDash([5 / scale, 4 / scale]);
    for (const path of this.#reference) line(path, "#ffffff", 1.5);
    context.setLineDash([]);
  }

  #paint() {
    const picture = this.#picture;
    if (!picture) return;
    const { width, height, channels, data } = picture;
    Object.assign(this.#base, { width, height });
    const shown = new ImageData(width, height);
    const out = shown.data;
    const { low, high } = this.window;
    const times = 255 / (high - low);
    const color = channels >= 3;
    for (let i = 0, to = 0; i < data.length; i += channels, to += 4) {
      out[to] = (data[i] - low) * times;
      out[to + 1] = color ? (data[i + 1] - low) * times : out[to];
      out[to + 2] = color ? (data[i + 2] - low) * times : out[to];
      out[to + 3] = 255;
    }
    this.#base.getContext("2d")?.putImageData(shown, 0, 0);
  }

  /** @param {PointerEvent} event */
  #moved(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    this.#pointers.set(event.pointerId, event);
    const [x, y] = [event.clientX - before.clientX, event.clientY - before.clientY];
    const other = [...this.#pointers.values()].find((each) => each.pointerId !== event.pointerId);
    if (other) {
      const away = (/** @type {PointerEvent} */ each) => Math.hypot(each.clientX - other.clientX, each.clientY - other.clientY);
      this.zoom(away(event) / Math.max(1, away(before)), this.#at(other));
    } else if (this.tool === "window" || event.buttons === 2) {
      const { low, high } = this.window;
      const step = (high - low) / 256;
      const [level, width] = [(low + high) / 2 - y * step, Math.max(step, high - low + x * step)];
      this.setWindow(level - width / 2, level + width / 2);
    } else {
      this.pan(x, y);
    }
  }

  /** @param {MouseEvent} event */
  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }
}

/** @param {number} index of a class, from 1 */
export function colorOf(index) {
  return COLORS[(index - 1) % COLORS.length];
}

/** @param {Read} picture */
function fullRange({ data }) {
  if (data instanceof Uint8Array) return { low: 0, high: 255 };
  let [low, high] = [Infinity, -Infinity];
  for (const value of data) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return { low, high: high > low ? high : low + 1 };
}

/** A small picture, with its mask. @param {Read} picture @param {Uint8Array} mask @param {HTMLCanvasElement} canvas */
export function thumbnail({ width, height, channels, data }, mask, canvas) {
  const side = Math.max(width, height) / canvas.width;
  const { low, high } = fullRange({ width, height, channels, data });
  const shown = new ImageData(canvas.width, canvas.height);
  const place = (/** @type {number} */ at, /** @type {number} */ size) => Math.floor((at + 0.5) * side - (side * canvas.width - size) / 2);
  for (let y = 0; y < canvas.height; ++y)
    for (let x = 0; x < canvas.width; ++x) {
      const [row, column] = [place(y, height), place(x, width)];
      if (row < 0 || row >= height || column < 0 || column >= width) continue;
      const from = row * width + column;
      const color = mask[from] ? colorOf(mask[from]) : "";
      for (let each = 0; each < 3; ++each) {
        const gray = ((data[from * channels + (channels >= 3 ? each : 0)] - low) / (high - low)) * 255;
        shown.data[4 * (y * canvas.width + x) + each] = color ? (gray + parseInt(color.slice(1 + 2 * each, 3 + 2 * each), 16)) / 2 : gray;
      }
      shown.data[4 * (y * canvas.width + x) + 3] = 255;
    }
  canvas.getContext("2d")?.putImageData(shown, 0, 0);
}

/** @param {Indices} mask */
function tinted({ width, height, data }) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const pixels = new ImageData(width, height);
  // Four bytes at once, red first.
  const whole = new Uint32Array(pixels.data.buffer);
  const colors = COLORS.map((color) => [1, 3, 5].reduce((sum, at, i) => sum + parseInt(color.slice(at, at + 2), 16) * 256 ** i, 255 * 256 ** 3));
  for (let i = 0; i < data.length; ++i) if (data[i]) whole[i] = colors[(data[i] - 1) % colors.length];
  canvas.getContext("2d")?.putImageData(pixels, 0, 0);
  return canvas;
}

/** The borders of each class, along the sides of pixels. @param {Indices} mask */
function outlines({ width, height, data }) {
  const classes = data.reduce((most, index) => Math.max(most, index), 0);
  const paths = Array.from({ length: classes }, () => new Path2D());
  /** @type {(lines: number, length: number, line: number, step: number, add: (path: Path2D, line: number, from: number, to: number) => void) => void} */
  const sides = (lines, length, line, step, add) => {
    const start = new Int32Array(classes + 1);
    const end = new Int32Array(classes + 1);
    for (let row = 0; row <= lines; ++row) {
      const flush = (/** @type {number} */ index) => {
        if (end[index] > start[index]) add(paths[index - 1], row, start[index], end[index]);
      };
      start.fill(-1);
      end.fill(-1);
      for (let i = 0; i < length; ++i) {
        const before = row ? data[(row - 1) * line + i * step] : 0;
        const after = row < lines ? data[row * line + i * step] : 0;
        if (before === after) continue;
        for (const index of [before, after]) {
          if (!index) continue;
          if (end[index] !== i) {
            flush(index);
            start[index] = i;
          }
          end[index] = i + 1;
        }
      }
      for (let index = 1; index <= classes; ++index) flush(index);
    }
  };
  sides(height, width, width, 1, (path, y, from, to) => (path.moveTo(from, y), path.lineTo(to, y)));
  sides(width, height, 1, width, (path, x, from, to) => (path.moveTo(x, from), path.lineTo(x, to)));
  return paths;
}
