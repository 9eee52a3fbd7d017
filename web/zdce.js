// zdce in JavaScript: enhances dark pictures in browsers and in Node, without a server.
//
//   import { load } from "./zdce.js";
//   const zdce = await load();
//   const bright = zdce.enhance(context.getImageData(0, 0, width, height), { strength: 0.8 });
//
// All files that it needs are in the folder of this file. `enhance` blocks, for a second or more with a large photograph. In pages,
// use PictureWorker, which reads, enhances and writes picture files in a worker; the worker runs this file too.

const TOO_LARGE = "The picture needs more memory than there is.";

// Name of the worker, by which this file recognises that it runs in one.
const WORKER = "zdce";

// zdce.h's structures, as Emscripten lays them out.
const PICTURE_BYTES = 32, SETTINGS_BYTES = 56;
const SETTINGS = { strength: 0, brightness: 8, noise: 16, scale: 24, shadows: 32, highlights: 40, grain: 48 };

// Approximate number of pixels of the rows that are copied at once: 4 MB.
const STRIP = 1 << 20;

// Threads can share memory only in pages that are isolated from other origins. More threads than this would hardly help.
const MOST_THREADS = 16;
const usualThreads = () => (globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS) : 1);

const bytesOf = async (name) => {
  const url = new URL(name, import.meta.url);
  if (url.protocol === "file:") return (await import("node:fs/promises")).readFile(url);
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} can't be read: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
};

/** A network with its engine, made by `load`. */
class Network {
  #memory;
  #core;
  #network;

  constructor(core, memory, weights) {
    this.#core = core;
    this.#memory = memory;
    this.#network = this.#with([weights.length], ([at]) => {
      this.#bytes(at, weights.length).set(weights);
      return core._zdce_network_from_safetensors(at, weights.length, 0);
    });
    if (!this.#network) throw new Error(this.#lastError());
  }

  /** The network's own settings, as zdce.h and docs/python.md describe them. */
  get settings() {
    return this.#with([SETTINGS_BYTES], ([at]) => {
      this.#core._zdce_network_settings(at, this.#network);
      const view = this.#view(at, SETTINGS_BYTES);
      const read = (name, offset) => (name === "scale" ? Number(view.getBigInt64(offset, true)) : view.getFloat64(offset, true));
      return Object.fromEntries(Object.entries(SETTINGS).map(([name, offset]) => [name, read(name, offset)]));
    });
  }

  get threads() {
    return this.#core._zdce_threads();
  }

  /** The enhanced picture, {data, width, height}. picture: the same with 4 bytes for each pixel, such as ImageData; opacity, the
   * last byte, is kept. settings: settings that differ from the network's own; `noise` and `grain` are measured in the picture
   * unless `noise` is given. Throws if an argument is wrong or memory runs out. */
  enhance({ data, width, height }, settings = {}) {
    if (data.length !== 4 * width * height) throw new RangeError(`data must have ${4 * width * height} bytes, got ${data.length}`);
    const result = new Uint8ClampedArray(data);
    const rows = (array, top, count) => array.subarray(4 * width * top, 4 * width * (top + count));
    this.enhanceRows(width, height, (top, count) => rows(data, top, count), (top, count, write) => write(rows(result, top, count)), settings);
    return { data: result, width, height };
  }

  /** As `enhance`, for pictures that need not be in memory as a whole. read(top, count) returns rows with 4 bytes for each pixel.
   * take(top, count, write) must call write(rows), which sets the colours of these rows. */
  enhanceRows(width, height, read, take, settings = {}) {
    const more = [3 * width * height, PICTURE_BYTES, SETTINGS_BYTES];
    this.#withPicture(width, height, read, more, (picture, to, result, how) => {
      this.#writePicture(result, to, width, height);
      const found = (settings.noise ?? null) === null ? this.#noiseOf(picture) : {};
      this.#writeSettings(how, { ...this.settings, ...settings, ...found });
      this.#check(this.#core._zdce_enhance(this.#network, picture, how, result));
      for (const { top, count } of strips(width, height)) {
        take(top, count, (rows) => setColors(this.#bytes(to + 3 * width * top, 3 * width * count), rows));
      }
    });
  }

  /** The {noise, grain} that `enhance` smooths by default: measured ones, `noise` being at least the network's own; 0 for
   * networks without smoothing. */
  noise(width, height, read) {
    return this.#withPicture(width, height, read, [], (picture) => this.#noiseOf(picture));
  }

  #noiseOf(picture) {
    const own = this.settings.noise;
    if (!own) return { noise: 0, grain: 0 };
    return this.#with([8, 8], ([noise, grain]) => {
      this.#check(this.#core._zdce_measure_noise(picture, noise, grain));
      const read = (at) => this.#view(at, 8).getFloat64(0, true);
      return { noise: Math.max(own, read(noise)), grain: read(grain) };
    });
  }

  // Calls use(address, ...others) with a zdce_picture, and memory of the sizes `more`.
  #withPicture(width, height, read, more, use) {
    return this.#with([3 * width * height, PICTURE_BYTES, ...more], ([from, picture, ...others]) => {
      for (const { top, count } of strips(width, height)) {
        withoutOpacity(read(top, count), this.#bytes(from + 3 * width * top, 3 * width * count));
      }
      this.#writePicture(picture, from, width, height);
      return use(picture, ...others);
    });
  }

  #check(status) {
    if (status) throw new Error(this.#lastError());
  }

  // Calls use(addresses) with memory of the module.
  #with(sizes, use) {
    const addresses = sizes.map((size) => (size < 2 ** 32 ? this.#core._malloc(size) >>> 0 : 0)); // addresses have 32 bits
    try {
      if (addresses.includes(0)) throw new RangeError(TOO_LARGE);
      return use(addresses);
    } finally {
      addresses.forEach((address) => this.#core._free(address));
    }
  }

  // Memory that grows gets another buffer.
  #bytes(at, count) {
    return new Uint8Array(this.#memory.buffer, at, count);
  }

  #view(at, count) {
    return new DataView(this.#memory.buffer, at, count);
  }

  #writePicture(at, data, width, height) {
    const view = this.#view(at, PICTURE_BYTES);
    view.setUint32(0, data, true);
    view.setUint32(4, 0, true); // ZDCE_UINT8
    [height, width, 3 * width].forEach((value, i) => view.setBigInt64(8 + 8 * i, BigInt(value), true));
  }

  #writeSettings(at, settings) {
    const view = this.#view(at, SETTINGS_BYTES);
    for (const [name, value] of Object.entries(settings)) {
      if (!(name in SETTINGS)) throw new RangeError(`settings are ${Object.keys(SETTINGS).join(", ")}, got ${name}`);
      if (name === "scale") {
        if (!Number.isInteger(value)) throw new RangeError(`scale must be a whole number, got ${value}`);
        view.setBigInt64(SETTINGS[name], BigInt(value), true);
      } else view.setFloat64(SETTINGS[name], value, true);
    }
  }

  #lastError() {
    const text = this.#bytes(this.#core._zdce_last_error(), 512);
    const words = new TextDecoder().decode(text.slice(0, text.indexOf(0)));
    return words === "not enough memory" ? TOO_LARGE : words;
  }
}

function* strips(width, height) {
  const most = Math.max(1, Math.floor(STRIP / width));
  for (let top = 0; top < height; top += most) yield { top, count: Math.min(most, height - top) };
}

const withoutOpacity = (from, to) => {
  for (let i = 0, j = 0; j < to.length; i += 4, j += 3) {
    to[j] = from[i];
    to[j + 1] = from[i + 1];
    to[j + 2] = from[i + 2];
  }
};

const setColors = (from, to) => {
  for (let i = 0, j = 0; j < from.length; i += 4, j += 3) {
    to[i] = from[j];
    to[i + 1] = from[j + 1];
    to[i + 2] = from[j + 2];
  }
};

/** Loads a network. weights: the bytes of a .safetensors file of zdce; by default those in the folder of this file. threads: number
 * of threads; by default one for each processor in pages that are isolated from other origins, else 1. */
export const load = async ({ weights, threads = usualThreads() } = {}) => {
  if (!globalThis.crossOriginIsolated) threads = 1; // elsewhere memory can't be shared with other workers
  let memory;
  try {
    // The sizes are those of web/build.
    memory = new WebAssembly.Memory({ initial: 256, maximum: 32768, shared: threads > 1 });
  } catch (error) {
    // Shared memory reserves 2 GB of addresses at once, which not every device allows.
    if (threads === 1 || !(error instanceof RangeError)) throw error;
    return load({ weights, threads: 1 });
  }
  const build = threads > 1 ? "zdce-threads" : "zdce-single";
  const [glue, wasm, network] = await Promise.all([import(`./${build}.js`), bytesOf(`${build}.wasm`), weights ?? bytesOf("zdce.safetensors")]);
  const core = await new Promise((resolve, reject) => {
    const instantiateWasm = (imports, receive) => {
      WebAssembly.instantiate(wasm, imports).then(({ instance, module }) => receive(instance, module), reject);
      return {};
    };
    glue.default({ wasmMemory: memory, instantiateWasm, threads }).then(resolve, reject);
  });
  core._zdce_set_threads(threads);
  return new Network(core, memory, network);
};

/** Enhances picture files in a worker. Requests are done in order; promises are rejected with an Error whose message is for users. */
export class PictureWorker {
  #worker = new Worker(new URL("./zdce.js", import.meta.url), { type: "module", name: WORKER });
  #waiting = [];
  #failed;

  constructor(options = {}) {
    this.#worker.onmessage = ({ data: { value, error } }) => {
      const { resolve, reject } = this.#waiting.shift();
      if (error === undefined) resolve(value);
      else reject(new Error(error));
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#failed = new Error(event.message || "The worker could not be started.");
      this.#waiting.splice(0).forEach(({ reject }) => reject(this.#failed));
    };
    this.ready = this.#ask("start", options);
    this.ready.catch(() => {}); // what is asked for next says it, too
  }

  /** Reads a File or Blob. Resolves to {width, height, before}, where `before` is an ImageBitmap of at most `most` pixels a side. */
  open(file, most = 1280) {
    return this.#ask("open", { file, most });
  }

  /** Enhances the small picture. Resolves to {after, changed, milliseconds}. */
  preview(settings = {}) {
    return this.#ask("preview", { settings });
  }

  /** Enhances the whole picture. Resolves to {blob, milliseconds}. type: image/jpeg, image/png or image/webp; quality: in [0, 1]. */
  save(settings = {}, type = "image/jpeg", quality = 0.95) {
    return this.#ask("save", { settings, type, quality });
  }

  terminate() {
    this.#worker.terminate();
  }

  #ask(what, given) {
    if (this.#failed) return Promise.reject(this.#failed);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#worker.postMessage({ what, given });
    });
  }
}

// The worker. It decodes a picture again to save it: between requests only the small picture is in memory.
class Requests {
  #starting;
  #network;
  #opened;

  async start({ weights, threads }) {
    this.#starting = load({ weights, threads });
    this.#network = await this.#starting;
    return { settings: this.#network.settings, threads: this.#network.threads };
  }

  async open({ file, most }) {
    await this.#starting; // throws what start threw
    const { width, height, context } = await drawn(file);
    const found = this.#network.noise(width, height, (top, count) => context.getImageData(0, top, width, count).data);
    const reduction = Math.max(1, Math.max(width, height) / most);
    const small = canvas(Math.max(1, Math.round(width / reduction)), Math.max(1, Math.round(height / reduction)));
    small.imageSmoothingQuality = "high";
    small.drawImage(context.canvas, 0, 0, small.canvas.width, small.canvas.height);
    this.#opened = { file, small: small.getImageData(0, 0, small.canvas.width, small.canvas.height), found, reduction };
    return { width, height, before: small.canvas.transferToImageBitmap() };
  }

  async preview({ settings }) {
    const { small, reduction } = this.#opened, { data, width, height } = small;
    // Means of n x n pixels have an n-th of the noise; what is measured is at least the network's own, as in the whole picture.
    const { noise, grain } = this.#opened.found;
    const reduced =
      (settings.noise ?? null) === null
        ? { noise: Math.max(noise / reduction, this.#network.settings.noise), grain: grain / reduction }
        : { noise: settings.noise / reduction };
    const began = performance.now();
    const enhanced = this.#network.enhance(small, { ...settings, ...reduced });
    const milliseconds = performance.now() - began;
    const changed = enhanced.data.some((value, i) => value !== data[i]);
    return { after: await createImageBitmap(new ImageData(enhanced.data, width, height)), changed, milliseconds };
  }

  async save({ settings, type, quality }) {
    const began = performance.now();
    const { width, height, context } = await drawn(this.#opened.file);
    const read = (top, count) => context.getImageData(0, top, width, count);
    const take = (top, count, write) => {
      const rows = read(top, count);
      write(rows.data);
      context.putImageData(rows, 0, top);
    };
    this.#network.enhanceRows(width, height, (top, count) => read(top, count).data, take, settings);
    const blob = await context.canvas.convertToBlob({ type, quality });
    return { blob, milliseconds: performance.now() - began };
  }
}

// Draws a picture file on a canvas of its size.
const drawn = async (file) => {
  let picture;
  try {
    picture = await createImageBitmap(file);
  } catch {
    throw new Error("This browser can’t read the file as a picture.");
  }
  const { width, height } = picture, context = canvas(width, height);
  context.drawImage(picture, 0, 0);
  picture.close();
  return { width, height, context };
};

// Browsers limit the size of a canvas; beyond it, some return a canvas that stays empty.
const canvas = (width, height) => {
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillRect(width - 1, height - 1, 1, 1);
  let works = false;
  try {
    works = context.getImageData(width - 1, height - 1, 1, 1).data[3] === 255;
  } catch {
    // said below
  }
  if (!works) throw new RangeError(TOO_LARGE);
  context.clearRect(width - 1, height - 1, 1, 1);
  return context;
};

if (globalThis.WorkerGlobalScope && self.name === WORKER) {
  const requests = new Requests();
  let before = Promise.resolve();
  self.onmessage = ({ data: { what, given } }) => {
    before = before.then(async () => {
      try {
        const value = await requests[what](given);
        self.postMessage({ value }, Object.values(value).filter((part) => part instanceof ImageBitmap));
      } catch (error) {
        self.postMessage({ error: error.message || String(error) });
      }
    });
  };
}
