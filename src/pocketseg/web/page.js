// The page: pictures in, masks and numbers out; nothing leaves it.
// @ts-check
import { channelsOf, grouped, isImage, readMask, readStack, stem } from "./files.js";
import { dice, diameter, measured, unlike } from "./measure.js";
import { PocketsegError, open } from "./pocketseg.js";
import { View, colorOf, thumbnail } from "./view.js";
import { zipped } from "./zip.js";

/** @typedef {import("./pocketseg").Model} Model */
/** @typedef {import("./pocketseg").Mask} Mask */
/** @typedef {import("./pocketseg").Stack} Stack */
/** @typedef {import("./measure.js").Measures} Measures */
/**
 * A picture, or a volume; `at` is the slice that is shown. `masks` grow slice by slice until it is `done`; `facts` are
 * known once it was read.
 * @typedef {{name: string, files: File[], at: number, masks: (Mask | undefined)[], measures: Measures[][], done: boolean, button: HTMLButtonElement,
 *   facts?: Pick<Stack, "kind" | "count" | "plane" | "spacing" | "thickness">, references?: Uint8Array[], dice?: number[], problem?: string,
 *   milliseconds: number, running?: Promise<void>}} Entry
 */

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);

const view = new View($("canvas"));
/** @type {Model | null} */ let model = null;
/** @type {Entry[]} */ let entries = [];
/** @type {Entry | null} */ let current = null;
/** @type {MediaStream | null} */ let stream = null;
/** Of the picture that was asked for last: what comes later is of no use. */ let asked = 0;
/** What was read last of the picture that is shown. @type {{entry: Entry, by: Model | null, stack: Stack} | null} */ let held = null;
/** Files of folders that are no pictures. */ let leftOut = 0;
/** Whether the pictures that wait are being done. */ let working = false;
const THUMBNAIL = 64;
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
  await take(await inlined("model-bytes"), $("model-bytes").dataset.name, JSON.parse($("about-model").textContent));
}

/** The engine's, whose text is in the page. */
function worker() {
  const address = URL.createObjectURL(new Blob([$("worker-text").textContent], { type: "text/javascript" }));
  const started = new Worker(address);
  URL.revokeObjectURL(address);
  return started;
}

/** Opens a model and goes on with it; whether it could be opened. @param {Uint8Array} bytes @param {string} name @param {About} [about] */
async function take(bytes, name, about = { scores: [], facts: [] }) {
  try {
    const found = await open(bytes, { wasm, worker: worker() });
    model?.close();
    model = found;
  } catch (error) {
    tell(`${name}: ${words(error)}`);
    return false;
  }
  tell("");
  describe(name, bytes.length, about);
  for (const entry of entries) forget(entry);
  if (current) await show(current);
  await work();
  return true;
}

// ---- Pictures ----

/** Takes files as they are dropped or chosen: pictures, volumes, a packed model, or all of it. @param {Iterable<File>} files */
async function add(files) {
  stopCamera();
  const given = [...files];
  const packed = given.filter((file) => file.name.toLowerCase().endsWith(".pseg"));
  const last = packed.pop();
  if (last && !(await take(new Uint8Array(await last.arrayBuffer()), last.name))) return;
  const images = given.filter((file) => file !== last && !packed.includes(file));
  if (!images.length) return;
  if (images.length > 1) state("Looking at the files …");
  const fresh = (await grouped(images)).map(entryOf);
  entries = [...entries, ...fresh];
  list();
  if (!fresh.length) return tell("These DICOM files are segmentations, and no images.");
  await show(fresh[0]);
  await work();
}

/** The pictures of a folder; what else is in it is left out, and counted. @param {File[]} files */
async function addFolder(files) {
  const images = [];
  for (const file of files) if (file.name.endsWith(".pseg") || (await isImage(file))) images.push(file);
  leftOut += files.length - images.length;
  if (!images.length) return tell("The folder holds no PNG, JPEG, TIFF, DICOM or NIfTI.");
  images.sort((a, b) => pathOf(a).localeCompare(pathOf(b), "en", { numeric: true }));
  await add(images);
}

/** @param {File} file */
function pathOf(file) {
  return /** @type {any} */ (file).path ?? (file.webkitRelativePath || file.name);
}

/** @param {File[]} files @returns {Entry} */
function entryOf(files) {
  const [folder] = pathOf(files[0]).split("/").slice(-2, -1);
  const name = files.length > 1 ? (folder ?? stem(files[0].name)) : files[0].name;
  const button = document.createElement("button");
  const canvas = Object.assign(document.createElement("canvas"), { width: THUMBNAIL, height: THUMBNAIL });
  canvas.setAttribute("aria-hidden", "true");
  button.append(canvas, Object.assign(document.createElement("span"), { textContent: name }));
  const entry = /** @type {Entry} */ ({ name, files, at: -1, masks: [], measures: [], done: false, milliseconds: 0, button });
  button.onclick = () => show(entry);
  return entry;
}

/** What a model or a pixel size made of a picture. @param {Entry} entry */
function forget(entry) {
  Object.assign(entry, { masks: [], measures: [], done: false, dice: undefined, problem: undefined, milliseconds: 0 });
}

/** The pictures of an entry, for the model that is there. @param {Entry} entry */
async function stackOf(entry) {
  if (held?.entry === entry && held.by === model) return held.stack;
  const by = model;
  const stack = await readStack(entry.files, /** @type {any} */ (by?.card)?.pipeline);
  const { kind, count, plane, spacing, thickness } = stack;
  entry.facts = { kind, count, plane, spacing, thickness };
  if (entry.at < 0 || entry.at >= count) entry.at = count >> 1;
  if (entry === current) held = { entry, by, stack };
  return stack;
}

/** Shows a picture, and segments it where that was not done. @param {Entry} entry */
async function show(entry) {
  const turn = ++asked;
  const before = current;
  current = entry;
  tell("");
  if (before) refresh(before);
  refresh(entry);
  entry.button.scrollIntoView({ block: "nearest", inline: "nearest" });
  state("Reading …");
  try {
    const stack = await stackOf(entry);
    if (turn !== asked) return;
    $("empty").hidden = true;
    showSlice(stack, false);
    slider();
    await segmented(entry);
  } catch (error) {
    entry.problem = words(error);
    if (turn !== asked) return;
    if (!entry.masks.length) view.show(null);
  }
  if (turn !== asked) return;
  if (!working) state("");
  if (entry.problem) tell(`${entry.name}: ${entry.problem}`);
  slider();
  refresh(entry);
  report();
}

/** The slice of the current picture, with its mask and reference. @param {Stack} stack @param {boolean} same whether another slice of it was shown before */
function showSlice(stack, same) {
  if (!current) return;
  const { at, name, masks, references } = current;
  const picture = stack.picture(at);
  view.units = stack.units;
  view.show(picture, same);
  const where = stack.count > 1 ? `, slice ${at + 1} of ${stack.count}` : "";
  view.canvas.setAttribute("aria-label", `${name}, ${picture.width} by ${picture.height} pixels${where}`);
  view.setMask(masks[at] ?? null);
  view.setReference(references ? { width: picture.width, height: picture.height, data: references[at] } : null);
}

function slider() {
  const count = current?.facts?.count ?? 1;
  $("slices").hidden = count < 2;
  if (!current || count < 2) return;
  $("plane").textContent = `${current.facts?.plane} slice`;
  Object.assign($("slice"), { max: count, value: current.at + 1 });
  $("place").textContent = `${current.at + 1} of ${count}`;
}

/** @param {number} at */
function toSlice(at) {
  if (!current || held?.entry !== current || held.by !== model || at < 0 || at >= held.stack.count) return;
  current.at = at;
  showSlice(held.stack, true);
  slider();
  report();
}

/** Segments what waits, one after the other. */
async function work() {
  if (working) return;
  working = true;
  for (let next; (next = entries.find((entry) => !entry.done && !entry.problem)); refresh(next)) {
    try {
      await segmented(next);
    } catch (error) {
      next.problem = words(error);
    }
  }
  working = false;
  state("");
  report();
}

/** @param {Entry} entry @returns {Promise<void>} */
function segmented(entry) {
  entry.running ??= segmentAll(entry).finally(() => (entry.running = undefined));
  return entry.running;
}

/** Slice by slice, that which is shown first. Another model or pixel size meanwhile: it begins anew. @param {Entry} entry */
async function segmentAll(entry) {
  while (!entry.done && entries.includes(entry)) {
    if (!model) throw new PocketsegError("there is no model to segment it: open a packed model (.pseg)");
    const [by, stack] = [model, await stackOf(entry)];
    const size = String(spacing(entry));
    const old = () => by !== model || size !== String(spacing(entry)) || !entries.includes(entry);
    while (!old() && entry.measures.filter(Boolean).length < stack.count) {
      const at = entry.masks[entry.at] ? Array.from({ length: stack.count }, (_, index) => index).findIndex((index) => !entry.masks[index]) : entry.at;
      state(stack.count > 1 ? `Segmenting ${entry.name}: ${entry.measures.filter(Boolean).length} of ${stack.count} slices` : "Segmenting …");
      const began = performance.now();
      const picture = stack.picture(at);
      let mask;
      try {
        mask = await by.segment({ ...given(picture), spacing: spacing(entry) });
      } catch (error) {
        if (!old()) throw error;
      }
      if (old() || !mask) break;
      entry.milliseconds += performance.now() - began;
      entry.masks[at] = mask;
      entry.measures[at] = measured(mask, by.classes, spacing(entry));
      if (at === stack.count >> 1) thumbnail(picture, mask.data, /** @type {HTMLCanvasElement} */ (entry.button.firstChild));
      if (entry === current && at === entry.at) {
        view.setMask(mask);
        report();
      }
    }
    if (old()) continue;
    entry.done = true;
    entry.problem = undefined;
    compare(entry);
  }
}

/** As it goes to the engine. @param {import("./files.js").Read} picture */
function given({ width, height, channels, data, black }) {
  // Of one bit, 1 is white, unless the model says what becomes white.
  const declared = /** @type {any} */ (model?.card).pipeline?.intensity_range;
  return { width, height, channels, data: black && declared ? data.map((value) => Number(value > 0)) : data };
}

/** Of rows and columns in mm: what the file says, or what was entered. @param {Entry | null} entry @returns {[number, number] | null} */
function spacing(entry) {
  if (entry?.facts?.spacing) return entry.facts.spacing;
  const both = [$("row-mm"), $("column-mm")].map((input) => Number(input.value));
  return both.every((mm) => mm > 0) ? /** @type {[number, number]} */ (both) : null;
}

/** The pixel size was changed: areas, and the masks of models that work at a size in mm. */
async function resized() {
  const own = entries.filter((entry) => !entry.facts?.spacing);
  if (model?.spacing) {
    own.forEach(forget);
    if (current) await show(current);
    await work();
  } else for (const entry of own) entry.measures = entry.masks.map((mask) => measured(/** @type {Mask} */ (mask), model?.classes ?? [], spacing(entry)));
  report();
}

// ---- What was found ----

function report() {
  const entry = current;
  const mm = spacing(entry);
  const { count: slices = 1, thickness = null, spacing: known = null } = entry?.facts ?? {};
  const here = entry?.measures[entry.at];
  const rows = here ?? (model?.classes ?? []).map((name) => ({ name, area: NaN, objects: NaN, largest: NaN, longest: NaN, longestMm: null }));
  $("dice-title").hidden = !entry?.dice;
  $("volume-title").hidden = slices < 2;
  $("objects-title").hidden = slices > 1;
  $("found").replaceChildren(
    ...rows.map((own, index) => {
      const known = Number.isFinite(own.area);
      const whole = known && entry ? ofAll(entry, index) : null;
      const cells = [
        known ? cell(`${count(own.area)} px`, mm && `${mm2(own.area * mm[0] * mm[1])} mm²`) : cell("–"),
        ...(slices > 1 ? [] : [cell(known ? count(own.objects) : "–")]),
        whole?.longest ? cell(whole.longestMm === null ? `${whole.longest.toFixed(1)} px` : `${whole.longestMm.toFixed(1)} mm`, slices > 1 ? `slice ${whole.at + 1}` : mm && `${whole.longest.toFixed(1)} px`) : cell("–"),
      ];
      if (slices > 1) cells.push(entry?.done && whole ? cell(thickness && mm ? volume(whole.area * mm[0] * mm[1] * thickness) : `${count(whole.area)} voxels`, thickness && mm && `${count(whole.area)} voxels`) : cell("…"));
      if (entry?.dice) cells.push(cell(entry.dice[index].toFixed(4)));
      const head = Object.assign(document.createElement("th"), { scope: "row", textContent: own.name, title: own.name });
      head.style.setProperty("--class", colorOf(index + 1));
      const row = document.createElement("tr");
      row.append(head, ...cells);
      return row;
    }),
  );
  const mask = entry?.masks[entry.at];
  const size = mask ? `${mask.width} × ${mask.height}${slices > 1 ? ` × ${slices} voxels; area of this slice` : " pixels"}` : "";
  $("timing").textContent = entry?.done ? `${size}, segmented in ${duration(entry.milliseconds)} on this device` : size;
  $("known-spacing").hidden = !known;
  $("known-spacing").textContent = known ? `Pixels of ${short(known[0])} × ${short(known[1])} mm${slices > 1 && thickness ? `, slices ${short(thickness)} mm apart` : ""}, as the file says` : "";
  $("spacing").hidden = Boolean(known);
  const odd = mask && model ? unlike(/** @type {any} */ (model.card).pipeline, mask.seen) : "";
  $("notice").hidden = !odd;
  $("notice").textContent = odd ? `This picture is unlike those of training: ${odd}. Do not trust its mask.` : "";
  $("save-mask").textContent = entry?.facts?.kind === "nifti" ? "Mask as NIfTI" : slices > 1 ? "Mask as PNGs (ZIP)" : "Mask as PNG";
  for (const id of ["save-mask", "reference"]) $(id).disabled = !entry?.done;
  $("reference-hint").hidden = !entry?.done;
  $("save-picture").disabled = !entry?.masks.length && !stream;
  for (const id of ["save-table", "save-all"]) $(id).disabled = !entries.some(({ done }) => done);
  tally();
  outside();
}

/** Of all slices: the area, and the longest diameter and where it is. @param {Entry} entry @param {number} index of the class */
function ofAll(entry, index) {
  const all = { area: 0, objects: 0, largest: 0, longest: 0, longestMm: /** @type {number | null} */ (null), at: 0 };
  entry.measures.forEach((slice, at) => {
    const { area, objects, largest, longest, longestMm } = slice[index];
    all.area += area;
    all.objects += objects;
    all.largest = Math.max(all.largest, largest);
    if (longest > 0 && (longestMm ?? longest) > (all.longestMm ?? all.longest)) Object.assign(all, { longest, longestMm, at });
  });
  return all;
}

/** @param {string} text @param {string | 0 | null | undefined} [below] */
function cell(text, below) {
  const made = Object.assign(document.createElement("td"), { textContent: text });
  if (below) made.append(Object.assign(document.createElement("small"), { textContent: below }));
  return made;
}

/** @param {Entry} entry */
function compare(entry) {
  if (!entry.done || !entry.references || !model) return;
  entry.dice = dice(entry.masks.map((mask) => /** @type {Mask} */ (mask).data), entry.references, model.classes.length);
}

/** One mask is that of the picture that is shown; several are of those that are called as they are. @param {File[]} files */
async function takeReferences(files) {
  const plain = (/** @type {string} */ name) => stem(name).replace(/[-_ ](mask|masks|seg|segmentation|label|labels|gt)$/i, "");
  const pairs = files.length === 1 ? [{ file: files[0], entry: current }] : files.map((file) => ({ file, entry: entries.find(({ name }) => plain(name) === plain(file.name)) }));
  const problems = [];
  for (const { file, entry } of pairs) {
    try {
      if (!entry) throw new PocketsegError("no picture is called so");
      await entry.running;
      await takeReference(file, entry);
    } catch (error) {
      problems.push(`${file.name}: ${words(error)}`);
    }
  }
  tell(problems.length > 3 ? `${problems.slice(0, 3).join("; ")}; and ${problems.length - 3} more` : problems.join("; "));
}

/** @param {File} file @param {Entry} entry */
async function takeReference(file, entry) {
  if (!entry.done || !model) return;
  const stack = await stackOf(entry);
  entry.references = await readMask(file, model.classes.length, stack);
  compare(entry);
  if (entry !== current) return;
  const { width, height } = stack.picture(entry.at);
  view.setReference({ width, height, data: entry.references[entry.at] });
  report();
}

/** As `pocketseg predict` writes them, one file or several. @param {Entry} entry @param {string} name */
async function maskFiles(entry, name) {
  const stack = await stackOf(entry);
  const made = await stack.file(entry.masks.map((mask) => /** @type {Mask} */ (mask).data), model?.classes.length ?? 1);
  return [made].flat().map((file) => ({ name: `${name}${file.name}`, bytes: file.bytes }));
}

async function saveMask() {
  if (!current?.done) return;
  const name = stem(current.name); // another may be shown meanwhile
  const files = await maskFiles(current, name);
  if (files.length > 1) return save(zipped(files), `${name}.zip`);
  save(new Blob([/** @type {BlobPart} */ (files[0].bytes)], { type: files[0].name.endsWith(".png") ? "image/png" : "application/octet-stream" }), files[0].name);
}

/** Every mask, and the table. */
async function saveAll() {
  const taken = new Set();
  /** @type {import("./pocketseg").MaskFile[]} */
  const files = [{ name: "pocketseg.csv", bytes: new TextEncoder().encode(table()) }];
  for (const entry of entries.filter(({ done }) => done)) {
    const own = stem(entry.name);
    let name = own;
    for (let number = 2; taken.has(name); ++number) name = `${own}-${number}`;
    taken.add(name);
    state(`Packing ${entry.name} …`);
    files.push(...(await maskFiles(entry, name)));
  }
  state("");
  save(zipped(files), "pocketseg-masks.zip");
}

function saveTable() {
  save(new Blob([table()], { type: "text/csv" }), "pocketseg.csv");
}

const COLUMNS = [
  "file", "slice", "class", "area_px", "area_mm2", "volume_mm3", "objects", "largest_px", "largest_diameter_px", "largest_diameter_mm",
  "longest_diameter_px", "longest_diameter_mm", "dice",
];

/** Of each picture, slice and class a row; of a volume one of all slices. */
function table() {
  const rows = entries.filter(({ done }) => done).flatMap((entry) => {
    const mm = spacing(entry);
    const pixel = mm ? mm[0] * mm[1] : NaN;
    const known = (/** @type {number | null} */ value) => (value === null || Number.isNaN(value) ? "" : value);
    const { count: slices = 1, thickness = null } = entry.facts ?? {};
    const each = entry.measures.flatMap((own, at) =>
      own.map(({ name, area, objects, largest, longest, longestMm }, index) => [
        entry.name, slices > 1 ? at : "", name, area, known(area * pixel), "", objects, largest, diameter(largest), known(diameter(largest * pixel)),
        longest, known(longestMm), slices > 1 ? "" : (entry.dice?.[index] ?? ""),
      ]),
    );
    const whole = (model?.classes ?? []).map((name, index) => {
      const { area, longest, longestMm } = ofAll(entry, index);
      return [entry.name, "all", name, area, "", known(area * pixel * (thickness ?? NaN)), "", "", "", "", longest, known(longestMm), entry.dice?.[index] ?? ""];
    });
    return slices > 1 ? [...each, ...whole] : each;
  });
  return [COLUMNS, ...rows].map((row) => row.map(field).join(",")).join("\r\n") + "\r\n";
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
  const before = current;
  current = null;
  if (before) refresh(before);
  tell("");
  slider();
  $("empty").hidden = true;
  view.units = null;
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
      const mask = await model.segment({ width, height, channels: 3, data, spacing: spacing(null) });
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

/** @typedef {{scores: string[], facts: [string, string][]}} About what a model file does not hold: how it did, and what its maker says */

/** @param {string} name @param {number} bytes @param {About} about */
function describe(name, bytes, about) {
  if (!model) return;
  const card = /** @type {any} */ (model.card);
  const pipeline = card.pipeline ?? {};
  const facts = [
    ["File", `${name}, ${(bytes / 1024).toFixed(0)} KiB`],
    ["About", text(card.description)],
    ...about.facts,
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
  $("score").textContent = about.scores.join("\n") || "No scores come with this file: evaluate it on images of your own before you rely on it.";
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
  $("list").hidden = entries.length < 2;
  $("strip").replaceChildren(
    ...entries.map((entry) => {
      const item = document.createElement("li");
      item.append(entry.button);
      return item;
    }),
  );
  tally();
}

/** @param {Entry} entry */
function refresh(entry) {
  const { button, problem, name, facts } = entry;
  button.className = problem ? "failed" : "";
  button.title = problem ? `${name}: ${problem}` : facts && facts.count > 1 ? `${name}, ${facts.count} slices` : name;
  if (entry === current) button.setAttribute("aria-current", "true");
  else button.removeAttribute("aria-current");
  tally();
}

function tally() {
  const [done, failed] = [entries.filter((entry) => entry.done).length, entries.filter((entry) => entry.problem).length];
  const place = current ? `${entries.indexOf(current) + 1} of ${entries.length}` : `${entries.length}`;
  const more = [done < entries.length && `${done} segmented`, failed && `${failed} cannot be read`, leftOut && `${leftOut} other files left out`].filter(Boolean);
  $("tally").textContent = [place, ...more].join(" · ");
}

function closeAll() {
  ++asked;
  [entries, current, held, leftOut] = [[], null, null, 0];
  view.show(null);
  $("empty").hidden = false;
  tell("");
  state("");
  view.canvas.setAttribute("aria-label", "No picture yet");
  slider();
  list();
  report();
}

/** What this page has asked a network for since it was opened; the policy allows nothing. */
function outside() {
  const asked = performance.getEntriesByType("resource").filter(({ name }) => /^(https?|wss?|ftp):/.test(name) && !name.startsWith(`${location.origin}/`)).length;
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
  return value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 2 : value < 1000 ? 1 : 0 });
}

/** @param {number} mm3 */
function volume(mm3) {
  return mm3 < 1000 ? `${mm2(mm3)} mm³` : `${mm2(mm3 / 1000)} ml`;
}

/** @param {number} value */
function short(value) {
  return Number(value.toPrecision(4)).toString();
}

/** @param {number} milliseconds */
function duration(milliseconds) {
  return milliseconds < 2000 ? `${milliseconds.toFixed(0)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
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
  ArrowUp: () => toSlice((current?.at ?? 0) - 1),
  ArrowDown: () => toSlice((current?.at ?? 0) + 1),
};

view.onwindow = (/** @type {number} */ from, /** @type {number} */ to) => {
  // In the units of the file.
  const [low, high] = [from, to].map((value) => (view.units ? view.units.low + (value / 65535) * (view.units.high - view.units.low) : value));
  const digits = high - low < 20 ? 2 : 0;
  $("window").textContent = `${low.toFixed(digits)} to ${high.toFixed(digits)}`;
};
for (const id of ["choose", "choose-too"]) $(id).onclick = () => $("files").click();
$("files").onchange = () => {
  add($("files").files);
  $("files").value = "";
};
$("choose-folder").onclick = () => $("folder").click();
$("folder").onchange = () => {
  addFolder([...$("folder").files]);
  $("folder").value = "";
};
$("slice").oninput = () => toSlice(Number($("slice").value) - 1);
$("previous").onclick = () => another(-1);
$("next").onclick = () => another(1);
$("clear").onclick = closeAll;
$("save-all").onclick = () => saveAll().catch((error) => tell(words(error)));
$("reference").onclick = () => $("reference-file").click();
$("reference-file").onchange = () => {
  takeReferences([...$("reference-file").files]);
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
$("save-mask").onclick = () => saveMask().catch((error) => tell(words(error)));
$("save-table").onclick = saveTable;
$("save-picture").onclick = () => view.canvas.toBlob((/** @type {Blob | null} */ blob) => blob && save(blob, `${stem(current?.name ?? "camera")}-overlay.png`));
for (const id of ["row-mm", "column-mm"]) $(id).onchange = resized;
document.onkeydown = (event) => {
  const typing = event.target instanceof HTMLInputElement && event.target.type !== "checkbox";
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
  event.preventDefault();
  KEYS[event.key]();
};
document.onpaste = (event) => add(event.clipboardData?.files ?? []);
/** Whether what is dropped there is a reference mask. @param {DragEvent} event */
const onPanel = (event) => Boolean(current?.done && /** @type {Element} */ (event.target).closest?.("#found-section"));

/** The files of what is dropped; folders with everything below. @param {any} entry of a file system @returns {Promise<File[]>} */
async function filesBelow(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [Object.assign(file, { path: entry.fullPath })];
  }
  const reader = entry.createReader();
  const found = [];
  for (let part; (part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject))).length; ) for (const each of part) found.push(...(await filesBelow(each)));
  return found;
}

/** @param {DataTransfer} transfer @param {boolean} references */
async function dropped(transfer, references) {
  const items = [...transfer.items].map((item) => item.webkitGetAsEntry?.());
  const plain = [...transfer.files];
  const folders = items.some((item) => item?.isDirectory);
  const files = folders ? (await Promise.all(items.filter(Boolean).map(filesBelow))).flat() : plain;
  if (references) return takeReferences(files);
  return folders ? addFolder(files) : add(files);
}

document.ondragover = (event) => {
  event.preventDefault();
  $("drop").hidden = false;
  $("drop-text").textContent = onPanel(event) ? "Drop it as the reference mask" : "Drop it to segment it";
};
document.ondragleave = (event) => {
  if (!event.relatedTarget) $("drop").hidden = true;
};
document.ondrop = (event) => {
  event.preventDefault();
  $("drop").hidden = true;
  if (event.dataTransfer) dropped(event.dataTransfer, onPanel(event)).catch((error) => tell(words(error)));
};
if (document.querySelector("link[rel=manifest]")) navigator.serviceWorker?.register("offline.js");
begin().catch((error) => tell(words(error)));
