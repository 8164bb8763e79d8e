// The page: pictures in, masks and numbers out; nothing leaves it.
// @ts-check
import { channelsOf, readMask, readPicture } from "./files.js";
import { dice, diameter, measured, unlike } from "./measure.js";
import { encodePng } from "./png.js";
import { PocketsegError, open } from "./pocketseg.js";
import { View, colorOf } from "./view.js";

/** @typedef {import("./pocketseg").Model} Model */
/** @typedef {import("./pocketseg").Mask} Mask */
/** @typedef {{file: File, mask?: Mask, measures?: import("./measure.js").Measures[], dice?: number[], reference?: {width: number, height: number, data: Uint8Array}, problem?: string, milliseconds?: number}} Entry */

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);

const view = new View($("canvas"));
/** @type {Model | null} */ let model = null;
/** @type {Entry[]} */ let entries = [];
/** @type {Entry | null} */ let current = null;
/** @type {MediaStream | null} */ let stream = null;
/** Of the picture that was asked for last: what comes later is of no use. */ let asked = 0;
let wasm = new Uint8Array();

/** @param {string} id */
async function inlined(id) {
  const packed = Uint8Array.from(atob($(id).textContent.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function begin() {
  if (typeof DecompressionStream === "undefined" || typeof WebAssembly === "undefined")
    return tell("This browser is too old for this page: update it (Chrome 91, Firefox 113, Safari 16.4 or newer).");
  wasm = await inlined("engine-bytes");
  await take(await inlined("model-bytes"), $("model-bytes").dataset.name);
}

/** The engine's, whose text is in the page. */
function worker() {
  const address = URL.createObjectURL(new Blob([$("worker-text").textContent], { type: "text/javascript" }));
  const started = new Worker(address);
  URL.revokeObjectURL(address);
  return started;
}

/** Opens a model and goes on with it; whether it could be opened. @param {Uint8Array} bytes @param {string} name */
async function take(bytes, name) {
  try {
    const found = await open(bytes, { wasm, worker: worker() });
    model?.close();
    model = found;
  } catch (error) {
    tell(`${name}: ${words(error)}`);
    return false;
  }
  tell("");
  describe(name, bytes.length);
  for (const entry of entries) Object.assign(entry, { mask: undefined, measures: undefined, dice: undefined, problem: undefined });
  if (current) await show(current);
  await work();
  return true;
}

// ---- Pictures ----

/** Takes files as they are dropped or chosen: pictures, a packed model, or both. @param {Iterable<File>} files */
async function add(files) {
  stopCamera();
  const given = [...files];
  const packed = given.filter((file) => file.name.toLowerCase().endsWith(".pseg"));
  const fresh = given.filter((file) => !packed.includes(file)).map((file) => ({ file }));
  const last = packed.pop();
  if (last && !(await take(new Uint8Array(await last.arrayBuffer()), last.name))) return;
  if (!fresh.length) return;
  entries = [...entries, ...fresh];
  await show(fresh[0]);
  await work();
}

/** Shows a picture, and segments it where that was not done. @param {Entry} entry */
async function show(entry) {
  const turn = ++asked;
  current = entry;
  tell("");
  list();
  state("Reading …");
  try {
    const picture = await readPicture(entry.file);
    if (turn !== asked) return;
    $("empty").hidden = true;
    view.show(picture);
    view.canvas.setAttribute("aria-label", `${entry.file.name}, ${picture.width} by ${picture.height} pixels`);
    await segmented(entry, picture);
    if (turn !== asked) return;
    view.setMask(entry.mask ?? null);
    view.setReference(entry.reference ?? null);
  } catch (error) {
    entry.problem = words(error);
    if (turn !== asked) return;
    if (!$("empty").hidden || !entry.mask) view.show(null);
  }
  state("");
  if (entry.problem) tell(`${entry.file.name}: ${entry.problem}`);
  list();
  report();
}

/** Segments what waits, one after the other. */
async function work() {
  for (let next; (next = entries.find((entry) => !entry.mask && !entry.problem)); list()) {
    try {
      await segmented(next, await readPicture(next.file));
    } catch (error) {
      next.problem = words(error);
    }
  }
  state("");
  report();
}

/** @param {Entry} entry @param {import("./files.js").Read} picture @returns {Promise<void>} */
async function segmented(entry, picture) {
  if (entry.mask) return;
  if (!model) throw new PocketsegError("there is no model to segment it: open a packed model (.pseg)");
  state("Segmenting …");
  const began = performance.now();
  const [by, size] = [model, String(spacing())];
  // Another model or pixel size meanwhile: what was found is of the one before.
  const old = () => by !== model || size !== String(spacing());
  let mask;
  try {
    mask = await by.segment({ ...given(picture), spacing: spacing() });
  } catch (error) {
    if (!old()) throw error;
  }
  if (old() || !mask) return segmented(entry, picture);
  const milliseconds = performance.now() - began;
  Object.assign(entry, { mask, milliseconds, measures: measured(mask, by.classes), problem: undefined });
}

/** As it goes to the engine. @param {import("./files.js").Read} picture */
function given({ width, height, channels, data, black }) {
  // Of one bit, 1 is white, unless the model says what becomes white.
  const declared = /** @type {any} */ (model?.card).pipeline?.intensity_range;
  return { width, height, channels, data: black && declared ? data.map((value) => Number(value > 0)) : data };
}

/** @returns {[number, number] | null} */
function spacing() {
  const both = [$("row-mm"), $("column-mm")].map((input) => Number(input.value));
  return both.every((mm) => mm > 0) ? /** @type {[number, number]} */ (both) : null;
}

/** The pixel size was changed: areas, and the masks of models that work at a size in mm. */
async function resized() {
  if (model?.spacing) {
    for (const entry of entries) Object.assign(entry, { mask: undefined, measures: undefined, dice: undefined, problem: undefined });
    if (current) await show(current);
    await work();
  }
  report();
}

// ---- What was found ----

function report() {
  const rows = current?.measures ?? (model?.classes ?? []).map((name) => ({ name, area: NaN, objects: NaN, largest: NaN }));
  const mm = spacing();
  const pixel = mm ? mm[0] * mm[1] : NaN;
  compare();
  $("dice-title").hidden = !current?.dice;
  $("found").replaceChildren(
    ...rows.map(({ name, area, objects, largest }, index) => {
      const known = Number.isFinite(area);
      const cells = known
        ? [cell(`${count(area)} px`, mm && `${mm2(area * pixel)} mm²`), cell(count(objects)), cell(largest ? `${diameter(largest).toFixed(1)} px` : "–", mm && largest && `${diameter(largest * pixel).toFixed(1)} mm`)]
        : [cell("–"), cell("–"), cell("–")];
      if (current?.dice) cells.push(cell(current.dice[index].toFixed(4)));
      const head = Object.assign(document.createElement("th"), { scope: "row", textContent: name });
      head.style.setProperty("--class", colorOf(index + 1));
      const row = document.createElement("tr");
      row.append(head, ...cells);
      return row;
    }),
  );
  const pixels = current?.mask ? `${current.mask.width} × ${current.mask.height} pixels` : "";
  $("timing").textContent = current?.milliseconds ? `${pixels}, segmented in ${current.milliseconds.toFixed(0)} ms on this device` : "";
  const odd = current?.mask && model ? unlike(/** @type {any} */ (model.card).pipeline, current.mask.seen) : "";
  $("notice").hidden = !odd;
  $("notice").textContent = odd ? `This picture is unlike those of training: ${odd}. Do not trust its mask.` : "";
  for (const id of ["save-mask", "reference"]) $(id).disabled = !current?.mask;
  $("save-picture").disabled = !current?.mask && !stream;
  $("save-table").disabled = !entries.some((entry) => entry.mask);
  outside();
}

/** @param {string} text @param {string | 0 | null | undefined} [below] */
function cell(text, below) {
  const made = Object.assign(document.createElement("td"), { textContent: text });
  if (below) made.append(Object.assign(document.createElement("small"), { textContent: below }));
  return made;
}

function compare() {
  if (!current?.mask || !current.reference || !model) return;
  current.dice = dice(current.mask.data, current.reference.data, model.classes.length);
}

/** @param {File} file */
async function takeReference(file) {
  if (!current?.mask || !model) return;
  const entry = current; // another may be shown meanwhile
  const { width, height } = current.mask;
  try {
    const mask = await readMask(file, model.classes.length);
    if (mask.width !== width || mask.height !== height)
      throw new PocketsegError(`the mask has ${mask.width}×${mask.height} pixels, its picture ${width}×${height}`);
    entry.reference = mask;
    if (entry !== current) return;
    tell("");
    view.setReference(mask);
    report();
  } catch (error) {
    tell(`${file.name}: ${words(error)}`);
  }
}

async function saveMask() {
  if (!current?.mask || !model) return;
  const { width, height, data } = current.mask;
  const name = `${stem(current.file.name)}.png`; // another may be shown meanwhile
  // As `pocketseg predict` writes them: one class as 0 and 255, several as class indices.
  const levels = model.classes.length === 1 ? data.map((index) => index * 255) : data;
  save(new Blob([/** @type {BlobPart} */ (await encodePng(levels, width, height))], { type: "image/png" }), name);
}

function saveTable() {
  const mm = spacing();
  const head = ["file", "class", "area_px", "area_mm2", "objects", "largest_px", "largest_diameter_px", "largest_diameter_mm", "dice"];
  const rows = entries.flatMap((entry) =>
    (entry.measures ?? []).map(({ name, area, objects, largest }, index) => [
      entry.file.name, name, area, mm ? area * mm[0] * mm[1] : "", objects, largest, diameter(largest), mm ? diameter(largest * mm[0] * mm[1]) : "", entry.dice?.[index] ?? "",
    ]),
  );
  save(new Blob([[head, ...rows].map((row) => row.map(field).join(",")).join("\r\n") + "\r\n"], { type: "text/csv" }), "pocketseg.csv");
}

/** A field of a table; a name that a spreadsheet would take for a formula is none. @param {string | number} value */
function field(value) {
  if (typeof value === "number") return String(value);
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** @param {Blob} content @param {string} name */
function save(content, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// ---- Camera ----

async function toggleCamera() {
  if (stream) return stopCamera();
  let found;
  try {
    found = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    return tell(`The camera cannot be used: ${words(error)}`);
  }
  // Asked for twice, it would stay on behind the first.
  if (stream) return found.getTracks().forEach((track) => track.stop());
  stream = found;
  ++asked;
  current = null;
  tell("");
  list();
  $("empty").hidden = true;
  $("camera").setAttribute("aria-pressed", "true");
  $("video").srcObject = stream;
  await $("video").play();
  await film();
}

function stopCamera() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  $("camera").setAttribute("aria-pressed", "false");
  $("video").srcObject = null;
  state("");
}

/** The newest frame is segmented when the one before is done; those between are left out. */
async function film() {
  const canvas = document.createElement("canvas");
  const times = [];
  const own = stream;
  for (let first = true; own && stream === own && model; first = false) {
    const { videoWidth: width, videoHeight: height } = $("video");
    await new Promise((done) => ($("video").requestVideoFrameCallback ?? requestAnimationFrame).call($("video").requestVideoFrameCallback ? $("video") : window, done));
    if (!width || stream !== own) continue;
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    if (!context) break;
    context.drawImage($("video"), 0, 0);
    const data = channelsOf(context.getImageData(0, 0, width, height).data, 3);
    const began = performance.now();
    try {
      const mask = await model.segment({ width, height, channels: 3, data, spacing: spacing() });
      if (stream !== own) break;
      view.show({ width, height, channels: 3, data }, !first);
      view.setMask(mask);
      times.push(performance.now());
      if (times.length > 20) times.shift();
      const rate = times.length > 1 ? (1000 * (times.length - 1)) / (times[times.length - 1] - times[0]) : 0;
      state(`${rate.toFixed(0)} frames a second, ${(performance.now() - began).toFixed(0)} ms each`);
    } catch (error) {
      stopCamera();
      tell(`Camera: ${words(error)}`);
    }
  }
}

// ---- The page ----

/** @param {string} name @param {number} bytes */
function describe(name, bytes) {
  if (!model) return;
  const card = /** @type {any} */ (model.card);
  const pipeline = card.pipeline ?? {};
  const facts = [
    ["File", `${name}, ${(bytes / 1024).toFixed(0)} KiB`],
    ["About", text(card.description)],
    ["Classes", model.classes.join(", ")],
    ["Sees", `${model.height} × ${model.width} pixels, ${model.channels === 1 ? "gray" : `${model.channels} channels`}${pipeline.fit ? `, ${pipeline.fit}` : ""}`],
    ["Pixel size", model.spacing ? `${model.spacing.join(" × ")} mm` : ""],
    ["Threshold", model.classes.length === 1 ? text(pipeline.postprocess?.threshold) : ""],
    ["Net", [text(card.net?.arch), card.parameters ? `${count(card.parameters)} parameters` : ""].filter(Boolean).join(", ")],
    ["Precision", text(card.precision)],
    ["Made by", card.pocketseg ? `pocketseg ${text(card.pocketseg)}` : ""],
    ["Kernels", model.kernels === "wasm" ? "WebAssembly with vectors" : model.kernels],
  ].filter(([, value]) => value);
  $("card").replaceChildren(
    ...facts.flatMap(([term, value]) => [
      Object.assign(document.createElement("dt"), { textContent: term }),
      Object.assign(document.createElement("dd"), { textContent: value }),
    ]),
  );
  $("name").textContent = model.classes.join(", ");
  $("about").textContent = `${name}, segments pictures on this device`;
  document.title = `${model.classes.join(", ")} – pocketseg`;
  report();
}

/** Text of a card, where it is one. @param {any} value */
function text(value) {
  return typeof value === "string" || typeof value === "number" ? String(value) : "";
}

function list() {
  $("strip").hidden = entries.length < 2;
  $("strip").replaceChildren(
    ...entries.map((entry) => {
      const button = Object.assign(document.createElement("button"), { textContent: entry.file.name, className: entry.problem ? "failed" : "" });
      button.title = entry.problem ?? entry.file.name;
      if (entry === current) button.setAttribute("aria-current", "true");
      button.onclick = () => show(entry);
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
}

/** What this page has asked a network for since it was opened; the policy allows nothing. */
function outside() {
  const asked = performance.getEntriesByType("resource").filter(({ name }) => /^(https?|wss?|ftp):/.test(name)).length;
  $("requests").textContent = asked ? `${asked} requests` : "Nothing leaves this page: 0 requests";
}

/** @param {string} problem */
function tell(problem) {
  $("problem").textContent = problem;
  $("problem").hidden = !problem;
}

/** @param {string} now */
function state(now) {
  $("state").textContent = now;
}

/** @param {unknown} error */
function words(error) {
  return error instanceof Error ? error.message : String(error);
}

/** @param {number} value */
function count(value) {
  return value.toLocaleString("en");
}

/** @param {number} value */
function mm2(value) {
  return value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 2 : 1 });
}

/** @param {string} name */
function stem(name) {
  return name.replace(/\.[^.]*$/, "");
}

/** @param {"pan" | "window"} tool */
function use(tool) {
  view.tool = tool;
  $("pan").setAttribute("aria-pressed", String(tool === "pan"));
  $("windowing").setAttribute("aria-pressed", String(tool === "window"));
  view.canvas.classList.toggle("windowing", tool === "window");
}

/** @param {number} step */
function another(step) {
  const next = entries[(current ? entries.indexOf(current) : -1) + step];
  if (next) show(next);
}

/** @param {number} percent */
function tint(percent) {
  $("opacity").value = String(Math.min(100, Math.max(0, percent)));
  view.opacity = $("opacity").value / 100;
  view.draw();
}

let hidden = { opacity: 0, contour: false };
function toggleMask() {
  [hidden, view.opacity, view.contour] = [{ opacity: view.opacity, contour: view.contour }, hidden.opacity, hidden.contour];
  $("contour").checked = view.contour;
  tint(100 * view.opacity);
}

/** @type {Record<string, () => void>} */
const KEYS = {
  o: () => $("files").click(),
  p: () => use("pan"),
  w: () => use("window"),
  m: toggleMask,
  s: saveMask,
  "[": () => tint(100 * view.opacity - 10),
  "]": () => tint(100 * view.opacity + 10),
  "+": () => view.zoom(1.25),
  "=": () => view.zoom(1.25),
  "-": () => view.zoom(0.8),
  0: () => view.fit(),
  ArrowLeft: () => another(-1),
  ArrowRight: () => another(1),
};

view.onwindow = (/** @type {number} */ low, /** @type {number} */ high) => {
  const digits = high - low < 20 ? 2 : 0;
  $("window").textContent = `${low.toFixed(digits)} to ${high.toFixed(digits)}`;
};
for (const id of ["choose", "choose-too"]) $(id).onclick = () => $("files").click();
$("files").onchange = () => {
  add($("files").files);
  $("files").value = "";
};
$("reference").onclick = () => $("reference-file").click();
$("reference-file").onchange = () => {
  for (const file of $("reference-file").files) takeReference(file);
  $("reference-file").value = "";
};
$("camera").onclick = toggleCamera;
$("pan").onclick = () => use("pan");
$("windowing").onclick = () => use("window");
$("in").onclick = () => view.zoom(1.25);
$("out").onclick = () => view.zoom(0.8);
$("fit").onclick = () => view.fit();
$("opacity").oninput = () => tint(Number($("opacity").value));
$("contour").onchange = () => {
  view.contour = $("contour").checked;
  view.draw();
};
$("reset").onclick = () => view.resetWindow();
$("save-mask").onclick = saveMask;
$("save-table").onclick = saveTable;
$("save-picture").onclick = () => view.canvas.toBlob((/** @type {Blob | null} */ blob) => blob && save(blob, `${stem(current?.file.name ?? "camera")}-overlay.png`));
for (const id of ["row-mm", "column-mm"]) $(id).onchange = resized;
document.onkeydown = (event) => {
  const typing = event.target instanceof HTMLInputElement && event.target.type !== "checkbox";
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
  event.preventDefault();
  KEYS[event.key]();
};
document.onpaste = (event) => add(event.clipboardData?.files ?? []);
document.ondragover = (event) => {
  event.preventDefault();
  $("drop").hidden = false;
};
document.ondragleave = (event) => {
  if (!event.relatedTarget) $("drop").hidden = true;
};
document.ondrop = (event) => {
  event.preventDefault();
  $("drop").hidden = true;
  add(event.dataTransfer?.files ?? []);
};
begin().catch((error) => tell(words(error)));
