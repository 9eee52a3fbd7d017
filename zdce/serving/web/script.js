"use strict";
(() => {
  const root = document.documentElement;
  const $ = (id) => document.getElementById(id);
  const [stage, split, strength, model, format, quality, film] =
    ["stage", "split", "strength", "model", "format", "quality", "film"].map($);
  const [before, after] = [stage.querySelector(".before"), stage.querySelector(".after")];
  const TYPES = { "image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "image/tiff": ".tif", "image/bmp": ".bmp",
    "image/avif": ".avif", "image/heif": ".heic" };
  const SPEEDS = ["Fast", "Fastest"];
  // Uploads, and pictures of a batch, that are under way at once; the server's queue is for others too.
  const TOGETHER = 2;
  // Where a ZIP file's 32-bit sizes end, with room for its directory.
  const ZIP_MOST = 0xf0000000;

  let info = null;
  let pictures = [];
  let current = null;
  let batch = null;

  // Light, dark, or as the system has it.
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  const paint = () => {
    root.dataset.theme = chosen || (scheme.matches ? "dark" : "light");
    $("theme").textContent = root.dataset.theme === "dark" ? "Light" : "Dark";
  };
  $("theme").addEventListener("click", () => { chosen = root.dataset.theme === "dark" ? "light" : "dark"; paint(); });
  scheme.addEventListener("change", paint);
  paint();

  const say = (words, bad = false) => { $("said").textContent = words; $("said").classList.toggle("bad", bad); };
  const megabytes = (bytes) => `${Math.round(bytes / 1048576)} MB`;
  const sleep = (seconds, signal) => new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
  });

  // A request; a busy server is asked again when it says so. Errors carry the server's words and status.
  const ask = async (path, options = {}) => {
    for (;;) {
      let response;
      try {
        response = await fetch(path, options);
      } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new Error("The server can’t be reached.");
      }
      if (response.ok) return response;
      if (response.status === 503) {
        await response.arrayBuffer();
        await sleep(Number(response.headers.get("Retry-After")) || 1, options.signal);
        continue;
      }
      const told = await response.json().catch(() => ({}));
      throw Object.assign(new Error(told.error || `the server answered ${response.status}`), { status: response.status });
    }
  };

  const milliseconds = (response, name) => {
    const found = new RegExp(`${name};dur=([\\d.]+)`).exec(response.headers.get("Server-Timing") || "");
    return found && Number(found[1]);
  };
  // Settings with a control of their own; all others of /api/info get one under "More settings".
  const OWN = ["scale", "strength", "quality"];
  const others = () => [...$("others").querySelectorAll("input, select")];
  const settings = () => {
    const all = new URLSearchParams({
      model: model.value, scale: $("scales").querySelector(":checked").value, strength: strength.value });
    for (const control of others()) if (control.value !== "" && control.checkValidity()) all.set(control.name, control.value);
    return all;
  };

  // Work in order, a few at a time.
  const limited = (most) => {
    const waiting = [];
    let running = 0;
    const next = () => {
      if (running >= most || !waiting.length) return;
      running++;
      waiting.shift()().finally(() => { running--; next(); });
    };
    return (work) => new Promise((resolve, reject) => { waiting.push(() => work().then(resolve, reject)); next(); });
  };
  const uploads = limited(TOGETHER);

  // The server's preview of a picture: made when first needed, and again when the server had to let go of it.
  const upload = async (picture) => {
    const held = await (await ask("/api/pictures", { method: "POST", body: picture.file, headers: { "Content-Type": "application/octet-stream" } })).json();
    Object.assign(picture, held);
    if (!pictures.includes(picture)) fetch(`/api/pictures/${held.id}`, { method: "DELETE" }).catch(() => {});
  };
  const held = async (picture, path) => {
    try {
      return await ask(`/api/pictures/${picture.id}/${path}`);
    } catch (error) {
      if (error.status !== 404) throw error;
      await upload(picture);
      return ask(`/api/pictures/${picture.id}/${path}`);
    }
  };

  const url = (picture, name, blob) => {
    if (picture[name]) URL.revokeObjectURL(picture[name]);
    picture[name] = blob && URL.createObjectURL(blob);
  };

  const load = async (picture) => {
    if (!pictures.includes(picture)) return;
    try {
      if (picture.file.size > info.limits.bytes)
        throw new Error(`It has ${megabytes(picture.file.size)}; at most ${megabytes(info.limits.bytes)} are taken.`);
      await upload(picture);
      url(picture, "before", await (await held(picture, "before")).blob());
      picture.state = "ready";
    } catch (error) {
      picture.state = "failed";
      picture.error = error.message;
    }
    drawFrame(picture);
    drawTitle();
    // One that can't be used gives way to the next in order, unless it was chosen.
    if (current?.state === "failed" && !current.picked) show(pictures.find((other) => other.state !== "failed") || current);
    else if (current === picture) show(picture);
  };

  const add = (files) => {
    const room = info.limits.pictures - pictures.length;
    const taken = [...files].slice(0, Math.max(0, room));
    say(taken.length < files.length ? `${files.length - taken.length} were left out: at most ${info.limits.pictures} at once.` : "", true);
    for (const file of taken) {
      const picture = { file, state: "busy", error: "", frame: document.createElement("li") };
      pictures.push(picture);
      film.append(picture.frame);
      drawFrame(picture);
      uploads(() => load(picture));
    }
    // The first of them, not the one that is done first.
    if (!current && taken.length) show(pictures[0]);
    document.body.classList.toggle("working", pictures.length > 0);
    $("intro").hidden = pictures.length > 0;
    $("work").hidden = !pictures.length;
    drawTitle();
    drawView();
  };

  const remove = (picture) => {
    const at = pictures.indexOf(picture);
    const focused = picture.frame.contains(document.activeElement);
    pictures = pictures.filter((other) => other !== picture);
    picture.frame.remove();
    if (picture.id) fetch(`/api/pictures/${picture.id}`, { method: "DELETE" }).catch(() => {});
    url(picture, "before", null);
    url(picture, "after", null);
    if (current === picture) { current = null; show(pictures[Math.min(at, pictures.length - 1)] || null); }
    if (focused) (pictures[Math.min(at, pictures.length - 1)]?.frame.querySelector("button") || $("files")).focus();
    add([]);
  };

  const drawTitle = () => {
    const done = pictures.filter((picture) => picture.state !== "busy").length;
    const failed = pictures.filter((picture) => picture.state === "failed").length;
    const count = `${pictures.length} photograph${pictures.length === 1 ? "" : "s"}`;
    $("strip-title").textContent = done < pictures.length ? `${count}: ${done} ready so far` : failed ? `${count}, ${failed} can’t be used` : count;
    const ready = pictures.some((picture) => picture.state === "ready");
    $("download").disabled = !(current && current.state === "ready");
    $("download-all").disabled = !ready || batch !== null;
  };

  const drawFrame = (picture) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "frame";
    button.setAttribute("aria-pressed", picture === current);
    const area = document.createElement("span");
    area.className = "picture";
    if (picture.before) {
      const image = document.createElement("img");
      image.src = picture.before;
      image.alt = "";
      area.append(image);
    } else area.textContent = picture.state === "failed" ? "can’t be used" : "reading …";
    const name = document.createElement("span");
    name.className = "name";
    name.textContent = picture.file.name;
    button.title = picture.state === "failed" ? `${picture.file.name}: ${picture.error}` : picture.file.name;
    button.append(area, name);
    button.addEventListener("click", () => { picture.picked = true; show(picture); });
    const away = document.createElement("button");
    away.type = "button";
    away.className = "remove";
    away.textContent = "×";
    away.setAttribute("aria-label", `Remove ${picture.file.name}`);
    away.addEventListener("click", () => remove(picture));
    picture.frame.className = picture.state;
    const focused = picture.frame.contains(document.activeElement);
    picture.frame.replaceChildren(button, away);
    if (focused) button.focus();
  };

  const show = (picture) => {
    // Only the picture on the stage keeps its enhanced preview.
    if (current && current !== picture) url(current, "after", null);
    current = picture;
    for (const other of pictures) other.frame.querySelector(".frame").setAttribute("aria-pressed", other === picture);
    drawView();
    drawTitle();
    if (picture && picture.state === "ready") refresh();
  };

  const drawView = () => {
    const picture = current;
    for (const [image, name] of [[before, "before"], [after, "after"]]) {
      if (picture?.[name]) image.src = picture[name];
      else image.removeAttribute("src");
      image.alt = picture ? `${picture.file.name}, ${name}` : "";
    }
    if (picture?.width) stage.style.setProperty("--aspect", picture.width / picture.height);
    const veil = !picture ? "Reading …" : picture.state === "failed" ? `${picture.file.name}: ${picture.error}` : picture.state === "busy" ? "Reading …" : picture.after ? "" : "Estimating the curve …";
    $("veil").textContent = veil;
    $("veil").hidden = !veil;
    drawFacts();
  };

  const drawFacts = () => {
    const picture = current;
    const unchanged = picture?.state === "ready" && picture.unchanged && Number(strength.value) !== 0;
    $("unchanged").hidden = !unchanged;
    if (unchanged) $("unchanged-words").textContent = `Nothing had to change: for ${model.value}, this photograph is bright enough as it is.`;
    $("brighten").hidden = !unchanged || !others().some((control) => control.name === "brightness" && control.value !== "0");
    if (!picture || picture.state !== "ready") { $("facts").textContent = ""; return; }
    const shown = Math.max(picture.width, picture.height) > 1280 ? ", shown smaller" : "";
    $("facts").textContent = `${picture.file.name} · ${picture.width} × ${picture.height}${shown}${picture.spent ? ` · ${picture.spent}` : ""}`;
  };

  // The newest settings win: while one answer is awaited, only the fact that another is wanted is kept.
  let running = false;
  let wanted = false;
  const refresh = async () => {
    wanted = true;
    if (running) return;
    running = true;
    while (wanted && current && current.state === "ready") {
      wanted = false;
      const picture = current;
      try {
        const response = await held(picture, `after?${settings()}`);
        const blob = await response.blob();
        const image = new Image();
        image.src = URL.createObjectURL(blob);
        await image.decode().catch(() => {});
        if (picture === current) {
          if (picture.after) URL.revokeObjectURL(picture.after);
          picture.after = image.src;
          const maps = milliseconds(response, "maps");
          picture.unchanged = response.headers.get("Picture-Changed") === "no";
          picture.spent = `${maps === null ? "" : `curve estimated in ${Math.round(maps)} ms, `}applied in ${milliseconds(response, "apply").toFixed(0)} ms`;
          drawView();
        } else URL.revokeObjectURL(image.src);
      } catch (error) {
        if (picture === current) say(error.message, true);
      }
    }
    running = false;
  };

  const drawSettings = () => {
    const network = info.models.find((one) => one.name === model.value);
    $("model-note").textContent = `${network.variant}: ${network.summary}, ${network.parameters.toLocaleString("en")} parameters`;
    const before = $("scales").querySelector(":checked")?.value;
    const kept = network.scales.includes(Number(before)) ? Number(before) : network.scales[0];
    $("scales").querySelector(".segments").replaceChildren(...network.scales.map((scale, i) => {
      const [label, input] = [document.createElement("label"), document.createElement("input")];
      label.className = "segment";
      Object.assign(input, { type: "radio", name: "scale", value: scale, checked: scale === kept });
      label.append(input, i ? SPEEDS[i - 1] : scale === 1 ? "Exact" : "As trained");
      return label;
    }));
    drawScale();
  };
  const drawScale = () => {
    const scale = Number($("scales").querySelector(":checked").value);
    $("scale-note").textContent = scale === 1 ? "The curve is estimated at full size." : `The curve is estimated on an image ${scale} times smaller.`;
  };

  const named = (file, type) => `${file.name.replace(/\.[^.]*$/, "")}-enhanced${TYPES[type] || ""}`;
  const save = (blob, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };
  const enhanced = async (picture, wish, signal) => {
    const response = await ask(`/api/enhance?${wish}`, { method: "POST", body: picture.file, headers: { "Content-Type": "application/octet-stream" }, signal });
    return response.blob();
  };
  const wish = () => {
    if (!quality.reportValidity()) return null;
    const all = settings();
    all.set("format", format.value);
    if (quality.value) all.set("quality", quality.value);
    return all;
  };

  $("download").addEventListener("click", async () => {
    const [picture, all] = [current, wish()];
    if (!all) return;
    $("download").disabled = true;
    say("Enhancing at full size …");
    try {
      const blob = await enhanced(picture, all);
      save(blob, named(picture.file, blob.type));
      say(`${named(picture.file, blob.type)}, ${(blob.size / 1048576).toFixed(1)} MB`);
    } catch (error) {
      say(`${picture.file.name}: ${error.message}`, true);
    }
    drawTitle();
  });

  // A ZIP file of files as they are: pictures are compressed already. (APPNOTE.TXT 6.3.10, 4.3.7, 4.3.12 and 4.3.16.)
  const table = Uint32Array.from({ length: 256 }, (_, n) => { for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1; return n; });
  const crc32 = (bytes) => { let c = -1; for (let i = 0; i < bytes.length; i++) c = table[(c ^ bytes[i]) & 255] ^ (c >>> 8); return ~c >>> 0; };
  const numbers = (...pairs) => {
    const view = new DataView(new ArrayBuffer(pairs.reduce((sum, [size]) => sum + size, 0)));
    let at = 0;
    for (const [size, value] of pairs) { if (size === 2) view.setUint16(at, value, true); else view.setUint32(at, value, true); at += size; }
    return view;
  };
  class Zip {
    constructor() { this.parts = []; this.directory = []; this.size = 0; this.count = 0; this.names = new Map(); }
    unique(name) {
      const times = this.names.get(name) || 0;
      this.names.set(name, times + 1);
      return times ? name.replace(/(\.[^.]*)$/, ` (${times + 1})$1`) : name;
    }
    add(name, bytes, date) {
      const encoded = new TextEncoder().encode(this.unique(name));
      // Version 2.0, names in UTF-8, stored, MS-DOS time and date, checksum, both sizes, length of the name, nothing extra.
      const common = [[2, 20], [2, 0x800], [2, 0], [2, (date.getHours() << 11) | (date.getMinutes() << 5) | (date.getSeconds() >> 1)],
        [2, ((date.getFullYear() - 1980) << 9) | ((date.getMonth() + 1) << 5) | date.getDate()], [4, crc32(bytes)], [4, bytes.length], [4, bytes.length], [2, encoded.length], [2, 0]];
      this.directory.push(numbers([4, 0x02014b50], [2, 20], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, this.size]), encoded);
      this.parts.push(new Blob([numbers([4, 0x04034b50], ...common), encoded, bytes]));
      this.size += 30 + encoded.length + bytes.length;
      this.count++;
    }
    blob() {
      const directory = new Blob(this.directory);
      const end = numbers([4, 0x06054b50], [2, 0], [2, 0], [2, this.count], [2, this.count], [4, directory.size], [4, this.size], [2, 0]);
      return new Blob([...this.parts, directory, end], { type: "application/zip" });
    }
  }

  $("download-all").addEventListener("click", async () => {
    const all = wish();
    const todo = pictures.filter((picture) => picture.state === "ready");
    if (!all || !todo.length) return;
    batch = new AbortController();
    const [signal, failed, results] = [batch.signal, [], []];
    let done = 0;
    const draw = () => {
      $("batch-words").textContent = `${done} of ${todo.length} enhanced`;
      $("batch-bar").max = todo.length;
      $("batch-bar").value = done;
    };
    say("");
    draw();
    $("batch").hidden = false;
    drawTitle();
    const one = limited(TOGETHER);
    try {
      await Promise.all(todo.map((picture, i) => one(async () => {
        signal.throwIfAborted();
        try {
          results[i] = await enhanced(picture, all, signal);
        } catch (error) {
          signal.throwIfAborted();
          failed.push(`${picture.file.name}: ${error.message}`);
        }
        done++;
        draw();
      })));
      $("batch-words").textContent = "Packing …";
      let [zip, files] = [new Zip(), 0];
      const flush = () => { if (zip.count) save(zip.blob(), `zdce-enhanced${files++ ? `-${files}` : ""}.zip`); zip = new Zip(); };
      for (const [i, blob] of results.entries()) {
        if (!blob) continue;
        if (zip.size + blob.size > ZIP_MOST) flush();
        zip.add(named(todo[i].file, blob.type), new Uint8Array(await blob.arrayBuffer()), new Date());
        delete results[i];
      }
      flush();
      say([`${todo.length - failed.length} saved.`, ...failed].join("\n"), failed.length > 0);
    } catch (error) {
      if (signal.aborted) say("Cancelled; nothing was saved.");
      else say(error.message, true);
    }
    batch = null;
    $("batch").hidden = true;
    drawTitle();
  });
  $("cancel").addEventListener("click", () => batch?.abort());

  const moved = () => {
    stage.style.setProperty("--x", `${split.value}%`);
    split.setAttribute("aria-valuetext", `${Math.round(split.value)}% before`);
  };
  split.addEventListener("input", moved);
  strength.addEventListener("input", () => { $("strength-value").textContent = Number(strength.value).toFixed(2); refresh(); });
  model.addEventListener("change", () => { drawSettings(); refresh(); });
  $("scales").addEventListener("change", () => { drawScale(); refresh(); });
  $("panel").addEventListener("submit", (event) => event.preventDefault());
  $("clear").addEventListener("click", () => { batch?.abort(); for (const picture of [...pictures]) remove(picture); });
  $("add").addEventListener("click", () => $("files").click());
  $("files").addEventListener("change", () => { add($("files").files); $("files").value = ""; });

  // Files may be dropped or pasted anywhere; the counter is for the elements that are passed on the way.
  let inside = 0;
  const hover = (by) => { inside = Math.max(0, inside + by); $("over").hidden = !inside; };
  const carries = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
  addEventListener("dragenter", (event) => { if (carries(event)) { event.preventDefault(); hover(1); } });
  addEventListener("dragleave", (event) => { if (carries(event)) hover(-1); });
  addEventListener("dragover", (event) => { if (carries(event)) event.preventDefault(); });
  addEventListener("drop", (event) => { if (carries(event)) { event.preventDefault(); inside = 1; hover(-1); if (info) add(event.dataTransfer.files); } });
  addEventListener("paste", (event) => { const files = event.clipboardData?.files; if (info && files?.length) add(files); });

  // Brightness 0 applies the curve as trained, which brightens every scene.
  $("brighten").addEventListener("click", () => {
    others().find((control) => control.name === "brightness").value = "0";
    $("more").open = true;
    refresh();
  });

  // A control for a setting: a list of its choices, or a number; empty is its default.
  const choices = (setting) => setting.kind === "bool" ? ["false", "true"] : setting.choices;
  const control = (setting) => {
    const label = Object.assign(document.createElement("label"), { textContent: (setting.name[0].toUpperCase() + setting.name.slice(1)).replaceAll("_", " "), title: setting.help });
    const listed = choices(setting).map((choice) => option(choice, choice === "false" ? "no" : choice === "true" ? "yes" : choice));
    const made = document.createElement(listed.length ? "select" : "input");
    if (listed.length) made.replaceChildren(...(setting.unset ? [option("", setting.unset)] : []), ...listed);
    else {
      Object.assign(made, { type: "number", step: setting.kind === "int" ? 1 : "any", placeholder: setting.unset || setting.default });
      if (setting.least !== null) made.min = setting.least;
      if ((setting.most ?? setting.below) !== null) made.max = setting.most ?? setting.below;
    }
    made.name = setting.name;
    if (setting.default !== null && listed.length) made.value = String(setting.default);
    made.addEventListener("change", () => refresh());
    label.append(made);
    const note = Object.assign(document.createElement("p"), { className: "note", textContent: setting.help });
    const all = document.createElement("div");
    all.append(label, note);
    return all;
  };

  const option = (value, text) => Object.assign(document.createElement("option"), { value, textContent: text });
  const begin = async () => {
    info = await (await ask("/api/info")).json();
    model.replaceChildren(...info.models.map((one) => option(one.name, one.name)));
    format.replaceChildren(...info.formats.map((one) => option(one, one === "same" ? "as it came" : one.toUpperCase())));
    $("others").replaceChildren(...info.settings.filter((setting) => !OWN.includes(setting.name)).map(control));
    $("limits").textContent = `Up to ${info.limits.pictures} at once, each up to ${megabytes(info.limits.bytes)} and ${Math.round(info.limits.pixels / 1e6)} megapixels; forgotten after ${Math.max(1, Math.round(info.limits.idle / 60))} minutes.`;
    $("version").textContent = `zdce ${info.version}.`;
    drawSettings();
    moved();
    drawTitle();
  };
  begin().catch((error) => { $("limits").textContent = error.message; });
})();
