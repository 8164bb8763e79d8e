/** Pixels row by row, the channels of a pixel side by side. */
export interface Picture {
  width: number;
  height: number;
  /** Numbers as a file stores them: the model's card says what becomes black and white. */
  data: Uint8Array | Uint8ClampedArray | Uint16Array | Int16Array | Float32Array;
  /** 1 where it is not given. */
  channels?: number;
  /** Size of a pixel in mm, of rows and of columns. */
  spacing?: [number, number] | null;
}

export interface Mask {
  width: number;
  height: number;
  /** Class indices row by row: 0 is background, 1 the first of `Model.classes`. */
  data: Uint8Array;
  /** What the image held: 0.5th and 99.5th percentile, 0 and 1 being the full scale; and whether it was colored. */
  seen: { bounds: [number, number]; colored: boolean };
}

export interface Facts {
  /** Of what the net sees; images may have any size that the model's pipeline takes. */
  height: number;
  width: number;
  channels: number;
  /** Names, besides the background. */
  classes: string[];
  /** Pixel size (rows, columns) in mm that the model works at; then images need theirs. */
  spacing: [number, number] | null;
  /** The model card of the file, as JSON. */
  card: Record<string, unknown>;
  /** Whose kernels run: "wasm", or "scalar". */
  kernels: string;
}

export interface Model extends Facts {
  /**
   * The mask of an image on its own grid. ImageData (RGBA) counts as color; alpha is left out.
   * Calls are done one after the other. Rejects with PocketsegError where the image does not fit the model.
   */
  segment(image: Picture | ImageData): Promise<Mask>;
  /** Ends the worker; what is not done is rejected. */
  close(): void;
}

export interface Options {
  /** The content of pocketseg.wasm; by default it is read from beside this module. */
  wasm?: BufferSource;
  /** A worker of worker.js that was started elsewhere; false runs the engine in this thread, as in Node. */
  worker?: Worker | false;
}

/** The pictures of a file: one, or the slices of a volume. */
export interface Stack {
  kind: "picture" | "dicom" | "nifti";
  count: number;
  /** Of the slices: "axial", "coronal" or "sagittal"; empty for a picture. */
  plane: string;
  /** Size of a pixel in mm, of rows and of columns, where the file says it. */
  spacing: [number, number] | null;
  /** From one slice to the next, in mm. */
  thickness: number | null;
  /** What of the file's own units is 0 and 65535 in its pictures; null where pictures hold the file's numbers. */
  units: { low: number; high: number } | null;
  /** An image for `Model.segment`. */
  picture(index: number): Picture & { channels: number; black?: boolean };
  /**
   * The masks of all pictures as `pocketseg predict` writes them: PNG of a picture and of a single DICOM image, a page for
   * each slice of a DICOM volume (as with `--to png`), NIfTI on its own grid. Names are what a file's stem is added.
   */
  file(masks: Uint8Array[], classes: number): Promise<MaskFile | MaskFile[]>;
  /** Of a volume, how it is cut. */
  slices?: any;
}

export interface MaskFile {
  name: string;
  bytes: Uint8Array;
}

/**
 * Reads PNG, TIFF, DICOM (uncompressed, deflated, RLE) and NIfTI; JPEG, also in DICOM, by a browser's decoder.
 * Rejects with PocketsegError where a file is damaged or of another kind.
 */
export function read(file: Blob | Blob[], model: Model): Promise<Stack>;

/** What is wrong with a model or an image, in words for people. */
export class PocketsegError extends Error {}

/** Opens a packed model (model.pseg). Rejects with PocketsegError where it is none, damaged or too new. */
export function open(bytes: ArrayBuffer | Uint8Array, options?: Options): Promise<Model>;
