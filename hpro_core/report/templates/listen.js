// The browser of sentences: every system at one position, with waveform, spectrogram, contours and
// affect. The files of sentences are scripts that call `hproSentence`, since a page opened from a
// disk may not read files.
(() => {
  "use strict";
  const RATE = 16000, WINDOW = 512, HOP = 96, FADE_S = 0.012, STEP_S = 0.5;
  const DIMENSIONS = ["valence", "arousal", "dominance"];
  const by = (id) => document.getElementById(id);
  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };
  const index = JSON.parse(by("sentence-index").textContent);
  const systems = index.systems.map((system) => system.name);
  const scored = [...systems, ...index.gaps]; // differences of two systems have scores, but no audio
  const entries = new Map(index.sentences.map((entry) => [entry.id, entry]));
  const metrics = new Map(index.metrics.map((metric, place) => [metric.key, { ...metric, place }]));
  const score = (entry, key, system) =>
    entry.scores[metrics.get(key).place][scored.indexOf(system)];
  const format = (key, value) => {
    if (value === null || value === undefined) return "–";
    return metrics.get(key).percent ? `${(100 * value).toFixed(0)} %` : value.toFixed(2);
  };

  // --- sentences: in the page, or in a file beside it ---------------------------------------------
  const waiting = new Map();
  globalThis.hproSentence = (content) => waiting.get(content.id)?.(content);
  const load = (id) => {
    const inside = document.querySelector(`script[data-content="${CSS.escape(id)}"]`);
    if (inside) {
      const content = JSON.parse(inside.textContent);
      for (const take of content.takes) {
        const player = [...document.querySelectorAll(`audio[data-sentence="${CSS.escape(id)}"]`)]
          .find((audio) => audio.dataset.system === take.system);
        take.audio = player.src.slice(player.src.indexOf(",") + 1);
      }
      return Promise.resolve(content);
    }
    return new Promise((resolve, reject) => {
      waiting.set(id, resolve);
      const script = make("script");
      script.src = `${index.folder}/${id}.js`;
      script.onload = () => script.remove();
      script.onerror = () => {
        script.remove();
        reject(new Error(`${script.getAttribute("src")} is missing: copy the folder with the page`));
      };
      document.head.append(script);
    });
  };
  const decoder = new OfflineAudioContext(1, 1, RATE);
  const decode = async (text) => {
    const raw = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return decoder.decodeAudioData(raw.buffer);
  };

  // --- sound --------------------------------------------------------------------------------------
  let sentence = null, system = "", buffers = new Map(), position = 0, turn = 0;
  let context = null, playing = null, frame = 0;
  const buffer = () => buffers.get(system);
  const duration = () => buffer()?.duration ?? 0;
  const now = () => (playing ? playing.from + context.currentTime - playing.at : position);
  const silence = () => {
    if (!playing) return;
    const { source, gain } = playing;
    source.onended = null;
    gain.gain.setTargetAtTime(0, context.currentTime, FADE_S / 3);
    source.stop(context.currentTime + FADE_S);
    playing = null;
  };
  const start = () => {
    context ??= new AudioContext({ sampleRate: RATE });
    context.resume();
    const source = context.createBufferSource(), gain = context.createGain();
    source.buffer = buffer();
    source.connect(gain).connect(context.destination);
    gain.gain.setValueAtTime(0, context.currentTime);
    gain.gain.linearRampToValueAtTime(1, context.currentTime + FADE_S);
    source.onended = () => {
      playing = null;
      position = 0;
      show();
    };
    source.start(0, position);
    playing = { source, gain, from: position, at: context.currentTime };
    frame ||= requestAnimationFrame(follow);
    show();
  };
  const stop = () => {
    position = Math.min(now(), duration());
    silence();
    show();
  };
  const seek = (seconds) => {
    if (!buffer()) return;
    const again = playing !== null;
    silence();
    position = Math.max(0, Math.min(seconds, Math.max(0, duration() - 0.02)));
    if (again) start(); else show();
  };
  const toggle = () => {
    if (!buffer()) return;
    if (playing) stop(); else start();
  };
  const choose = (name) => {
    if (!buffers.has(name)) return;
    const again = playing !== null;
    position = now();
    silence();
    system = name;
    position = position < duration() ? position : 0;
    if (again) start();
    draw();
  };

  // --- drawing ------------------------------------------------------------------------------------
  const resolved = (name) => {
    const probe = make("span", { style: `color: var(--${name})` });
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };
  const surface = (id) => {
    const canvas = by(id), scale = devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale));
    return [canvas.getContext("2d"), canvas.width, canvas.height];
  };
  const longest = () => Math.max(...[...buffers.values()].map((each) => each.duration), 0.1);

  const fft = (real, imaginary) => {
    const n = real.length;
    for (let i = 1, j = 0; i < n; i++) {
      let bit = n >> 1;
      for (; j & bit; bit >>= 1) j ^= bit;
      j ^= bit;
      if (i < j) {
        [real[i], real[j]] = [real[j], real[i]];
        [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
      }
    }
    for (let size = 2; size <= n; size <<= 1) {
      for (let k = 0; k < size / 2; k++) {
        const c = Math.cos((-2 * Math.PI * k) / size), s = Math.sin((-2 * Math.PI * k) / size);
        for (let i = k; i < n; i += size) {
          const j = i + size / 2;
          const re = real[j] * c - imaginary[j] * s, im = real[j] * s + imaginary[j] * c;
          real[j] = real[i] - re; imaginary[j] = imaginary[i] - im;
          real[i] += re; imaginary[i] += im;
        }
      }
    }
  };
  const decibels = (samples) => {
    const bins = WINDOW / 2, frames = Math.max(1, Math.floor(samples.length / HOP));
    const found = new Float32Array(frames * bins);
    for (let frame = 0; frame < frames; frame++) {
      const real = new Float32Array(WINDOW), imaginary = new Float32Array(WINDOW);
      for (let i = 0; i < WINDOW; i++) {
        const value = samples[frame * HOP + i - WINDOW / 2] ?? 0;
        real[i] = value * (0.5 - 0.5 * Math.cos((2 * Math.PI * i) / WINDOW));
      }
      fft(real, imaginary);
      for (let k = 0; k < bins; k++) {
        found[frame * bins + k] = 10 * Math.log10(real[k] ** 2 + imaginary[k] ** 2 + 1e-9);
      }
    }
    return { found, frames, bins };
  };
  const drawWave = () => {
    const [pen, width, height] = surface("wave"), samples = buffer().getChannelData(0);
    const span = longest() * RATE, loudest = samples.reduce((most, x) => Math.max(most, Math.abs(x)), 0.05);
    pen.fillStyle = resolved("sft");
    for (let x = 0; x < width; x++) {
      let low = 0, high = 0;
      const last = Math.min(samples.length, ((x + 1) * span) / width);
      for (let i = Math.floor((x * span) / width); i < last; i++) {
        low = Math.min(low, samples[i]);
        high = Math.max(high, samples[i]);
      }
      const top = height / 2 - (high / loudest) * height * 0.48;
      pen.fillRect(x, top, 1, Math.max(1, ((high - low) / loudest) * height * 0.48));
    }
    drawWords(pen, width, height);
    cursor(pen, width, height);
  };
  const drawWords = (pen, width, height) => {
    const { times } = takeOf();
    if (!times) return;
    pen.strokeStyle = pen.fillStyle = resolved("ink");
    pen.globalAlpha = 0.55;
    pen.font = `${Math.round(11 * (devicePixelRatio || 1))}px system-ui, sans-serif`;
    times.forEach(([from, to], place) => {
      const left = (from / longest()) * width, right = (to / longest()) * width;
      pen.fillRect(left, 0, 1, height);
      pen.fillRect(right, 0, 1, height);
      pen.fillText(sentence.words[place], left + 3, height - 4, Math.max(1, right - left - 4));
    });
    pen.globalAlpha = 1;
  };
  const drawSpectrum = () => {
    const [pen, width, height] = surface("spectrum");
    const { found, frames, bins } = decibels(buffer().getChannelData(0));
    const top = found.reduce((most, value) => Math.max(most, value), 0);
    const [ink, page] = ["ink", "page"].map((name) => resolved(name).match(/[\d.]+/g).map(Number));
    const image = new ImageData(frames, bins);
    for (let frame = 0; frame < frames; frame++) {
      for (let k = 0; k < bins; k++) {
        const share = Math.max(0, Math.min(1, (found[frame * bins + k] - top + 70) / 70)) ** 1.3;
        const at = 4 * ((bins - 1 - k) * frames + frame);
        for (let c = 0; c < 3; c++) image.data[at + c] = page[c] + share * (ink[c] - page[c]);
        image.data[at + 3] = 255;
      }
    }
    const small = make("canvas");
    small.width = frames;
    small.height = bins;
    small.getContext("2d").putImageData(image, 0, 0);
    pen.imageSmoothingEnabled = true;
    pen.drawImage(small, 0, 0, (width * duration()) / longest(), height);
    drawWords(pen, width, height);
    cursor(pen, width, height);
  };
  const drawContour = (take) => {
    const [pen, width, height] = surface("contour"), scale = devicePixelRatio || 1;
    const x = (frame) => (frame / index.contourHz / longest()) * width;
    const curve = (values, y, style) => {
      pen.strokeStyle = style;
      pen.lineWidth = 1.6 * scale;
      pen.beginPath();
      let open = false;
      values.forEach((value, frame) => {
        if (value === null) { open = false; return; }
        if (open) pen.lineTo(x(frame), y(value)); else pen.moveTo(x(frame), y(value));
        open = true;
      });
      pen.stroke();
    };
    curve(take.level, (db) => height * (1 - (db + 70) / 70), resolved("word"));
    const octaves = (hz) => height * (1 - Math.log2(hz / 60) / Math.log2(500 / 60));
    curve(take.f0, octaves, resolved("sft"));
    pen.fillStyle = resolved("soft");
    pen.font = `${Math.round(10 * scale)}px system-ui, sans-serif`;
    for (const hz of [100, 200, 400]) pen.fillText(`${hz} Hz`, 3, octaves(hz) + 3);
    cursor(pen, width, height);
  };
  const cursor = (pen, width, height) => {
    pen.fillStyle = resolved("hpro");
    pen.fillRect((now() / longest()) * width, 0, 2 * (devicePixelRatio || 1), height);
  };
  const saved = new Map();
  const keep = () => {
    for (const id of ["wave", "spectrum", "contour"]) {
      const canvas = by(id), copy = make("canvas");
      copy.width = canvas.width;
      copy.height = canvas.height;
      copy.getContext("2d").drawImage(canvas, 0, 0);
      saved.set(id, copy);
    }
  };
  const moveCursor = () => {
    for (const [id, copy] of saved) {
      const canvas = by(id), pen = canvas.getContext("2d");
      pen.clearRect(0, 0, canvas.width, canvas.height);
      pen.drawImage(copy, 0, 0);
      cursor(pen, canvas.width, canvas.height);
    }
  };
  const svg = (tag, attributes, ...children) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };
  const drawAffect = (take) => {
    const n = sentence.words.length, left = 40, width = 260, height = 132, bottom = 92;
    const x = (word) => left + ((word + 0.5) / n) * (width - left - 4), y = (v) => bottom - v * (bottom - 6);
    const isRecording = system === "recordings";
    const recorded = sentence.takes.find((each) => each.system === "recordings" && !isRecording);
    const lines = [["label", sentence.label], ["reward", take.reward],
      ["judged", recorded?.vad], ["shown", take.vad]];
    const panels = DIMENSIONS.map((name, d) => {
      const plot = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "plot", role: "img",
        "aria-label": `${name} of each word; the values are in the table below` });
      for (const value of [0, 0.5, 1]) {
        plot.append(svg("path", { class: "grid", d: `M${left} ${y(value)}H${width}` }),
          svg("text", { x: left - 4, y: y(value) + 3, "text-anchor": "end" }, String(value)));
      }
      for (const [style, rows] of lines) {
        if (!rows) continue;
        const points = rows.map((row, word) => `${x(word).toFixed(1)} ${y(row[d]).toFixed(1)}`);
        plot.append(svg("path", { class: `line a-${style}`, d: `M${points.join("L")}` }));
        rows.forEach((row, word) => plot.append(svg("circle", { class: `dot a-${style}`, r: 2.4,
          cx: x(word), cy: y(row[d]) }, svg("title", {}, `${sentence.words[word]}: ${row[d].toFixed(2)}`))));
      }
      sentence.words.forEach((word, place) => plot.append(svg("text", { x: x(place), y: bottom + 10,
        "text-anchor": "end", transform: `rotate(-40 ${x(place)} ${bottom + 10})` }, word.slice(0, 9))));
      return make("div", { class: "panel" }, make("p", { class: "panel-title" }, name), plot);
    });
    by("affect").replaceChildren(...panels);
    by("label-kind").textContent = sentence.label ? `${sentence.labelKind} of the recording` : "no label";
    by("judged-key").hidden = !recorded?.vad;
    by("reward-key").hidden = !take.reward;
    by("reward-system").textContent = system;
    by("shown-system").textContent = take.vad ? system : `${system}: not judged, or its words were not found`;
    const head = ["word", ...DIMENSIONS.flatMap((name) =>
      [sentence.labelKind, `reward model, ${system}`, "judge, recording", `judge, ${system}`].map((who) => `${name}: ${who}`))];
    const body = sentence.words.map((word, place) => make("tr", {}, make("th", { scope: "row" }, word),
      ...DIMENSIONS.flatMap((_, d) => lines.map(([, rows], which) => make("td",
        { "data-label": head[1 + lines.length * d + which] }, rows ? rows[place][d].toFixed(2) : "–")))));
    by("affect-table").replaceChildren(make("table", { class: "stack m" },
      make("caption", {}, `Affect of each word, ${system}`),
      make("thead", {}, make("tr", {}, ...head.map((name) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, ...body)));
  };
  const takeOf = () => sentence.takes.find((each) => each.system === system);
  const draw = () => {
    const take = takeOf();
    for (const input of by("takes").querySelectorAll("input")) input.checked = input.value === system;
    const at = now();
    position = -1; // the cursor outside of what is kept
    const was = playing;
    playing = null;
    drawWave();
    drawSpectrum();
    drawContour(take);
    keep();
    position = at;
    playing = was;
    drawAffect(take);
    const marks = { equal: "", substitute: "wrong: ", insert: "inserted: ", delete: "deleted: " };
    by("heard").replaceChildren("ASR: ", ...take.diff.flatMap(([kind, words]) => [make("span",
      { class: kind, title: marks[kind] + words, dir: "auto" }, words), " "]));
    by("player").dataset.system = system;
    by("timed").hidden = !take.times;
    show();
  };
  const show = () => {
    by("play").textContent = playing ? "Stop" : "Play";
    by("play").disabled = !buffer();
    const at = Math.min(now(), duration());
    by("position").value = String(Math.round((1000 * at) / Math.max(longest(), 0.01)));
    by("position").setAttribute("aria-valuetext", `${at.toFixed(1)} of ${duration().toFixed(1)} seconds`);
    by("clock").textContent = `${at.toFixed(2)} of ${duration().toFixed(2)} s`;
    moveCursor();
  };
  const follow = () => {
    frame = 0;
    if (!playing) return;
    show();
    frame = requestAnimationFrame(follow);
  };

  // --- choice of a sentence -----------------------------------------------------------------------
  const options = (node, values, all) => {
    if (all) node.append(make("option", { value: "" }, all));
    for (const [value, text] of values) node.append(make("option", { value }, text));
  };
  const distinct = (key) => [...new Set(index.sentences.map((entry) => entry[key]))].filter(Boolean);
  const plain = (values) => values.map((value) => [value, value]);
  options(by("by-set"), plain(distinct("set")), "all");
  options(by("by-emotion"), plain(distinct("emotion").sort()), "all");
  options(by("by-metric"), index.metrics.map((metric) => [metric.key, metric.name]));
  options(by("by-system"), plain([...index.gaps, ...systems]));
  by("by-system").value = index.gaps[0] ?? (systems.includes(index.start) ? index.start : systems.at(-1));
  by("by-metric").value = metrics.has("wvad_ccc") ? "wvad_ccc" : index.metrics[0].key;
  const ordered = () => {
    const set = by("by-set").value, emotion = by("by-emotion").value;
    const kept = index.sentences.filter((entry) =>
      (!set || entry.set === set) && (!emotion || entry.emotion === emotion));
    const order = by("by-order").value, key = by("by-metric").value, of = by("by-system").value;
    if (order === "listed") return kept;
    const value = new Map(kept.map((entry) => [entry, score(entry, key, of)]));
    const judged = kept.filter((entry) => value.get(entry) !== null);
    const sign = metrics.get(key).lower ? 1 : -1;
    judged.sort((a, b) => sign * (value.get(a) - value.get(b)));
    if (order === "worst") judged.reverse();
    if (order === "median" && judged.length) {
      const middle = value.get(judged[judged.length >> 1]);
      judged.sort((a, b) => Math.abs(value.get(a) - middle) - Math.abs(value.get(b) - middle));
    }
    return judged;
  };
  const list = () => {
    const found = ordered(), key = by("by-metric").value, of = by("by-system").value;
    const made = found.map((entry) => {
      const said = `${metrics.get(key).name} ${format(key, score(entry, key, of))}`;
      const weak = entry.emotionKind === "intended" ? "" : ` (${entry.emotionKind})`;
      const emotion = entry.emotion ? ` · ${entry.emotion}${weak}` : "";
      return new Option(`${said} · ${entry.set}${emotion} · ${entry.text}`, entry.id);
    });
    by("sentences").replaceChildren(...made);
    by("found").textContent = `${found.length} of ${index.sentences.length} sentences` +
      (by("by-order").value === "listed" ? "" : `; without a score they are left out`);
    if (made.length) {
      by("sentences").selectedIndex = 0;
      open(made[0].value);
    }
  };
  const open = async (id) => {
    const mine = ++turn, entry = entries.get(id);
    const again = playing !== null;
    silence();
    position = 0;
    by("said").textContent = `“${entry.text}”`;
    const kind = entry.emotion ? `, emotion: ${entry.emotion} (${entry.emotionKind})` : "";
    by("about").textContent = `${entry.set}, speaker ${entry.speaker}${kind}, ${entry.id}`;
    try {
      const content = await load(id);
      const decoded = await Promise.all(content.takes.map(async (take) => [take.system, await decode(take.audio)]));
      if (mine !== turn) return;
      sentence = content;
      buffers = new Map(decoded);
    } catch (error) {
      if (mine !== turn) return;
      by("problem").textContent = error.message;
      [sentence, buffers] = [null, new Map()];
    }
    by("problem").hidden = sentence !== null;
    if (!sentence && by("shown").contains(document.activeElement)) by("player").focus();
    by("shown").hidden = sentence === null;
    if (!sentence) return;
    const names = sentence.takes.map((take) => take.system);
    if (!names.includes(system)) system = names.includes(index.start) ? index.start : names[0];
    const metric = by("by-metric").value;
    const shown = ["wer", "wvad_ccc", "emo_sim"].filter((key) => metrics.has(key));
    const radios = names.map((name, place) => {
      const key = place < 9 ? `${place + 1} ` : place === 9 ? "0 " : "";
      const input = make("input", { type: "radio", name: "take", value: name });
      const said = shown.map((each) => `${metrics.get(each).name} ${format(each, score(entry, each, name))}`);
      const style = index.systems.find((each) => each.name === name).style;
      return make("label", { class: style, title: said.join(", ") }, input, `${key}${name}`,
        make("small", {}, ` ${format(metric, score(entry, metric, name))}`));
    });
    by("shown-metric").textContent = metrics.get(metric).name;
    by("takes").replaceChildren(by("takes").querySelector("legend"), ...radios);
    draw();
    if (again) start();
  };
  const move = (step) => {
    const node = by("sentences"), next = node.selectedIndex + step;
    if (next < 0 || next >= node.length) return;
    node.selectedIndex = next;
    open(node.value);
  };

  by("browser").hidden = false;
  for (const id of ["by-set", "by-emotion", "by-order", "by-metric", "by-system"]) by(id).addEventListener("change", list);
  by("sentences").addEventListener("change", () => open(by("sentences").value));
  by("takes").addEventListener("change", (event) => choose(event.target.value));
  by("play").addEventListener("click", toggle);
  by("position").addEventListener("input", () => seek((by("position").value / 1000) * longest()));
  for (const id of ["wave", "spectrum", "contour"]) {
    by(id).addEventListener("click", (event) =>
      seek((event.offsetX / event.currentTarget.clientWidth) * longest()));
  }
  by("player").addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const place = "1234567890".indexOf(event.key);
    const names = sentence ? sentence.takes.map((take) => take.system) : [];
    if (place >= 0 && place < names.length) choose(names[place]);
    else if (event.key === "k") toggle();
    else if (event.key === "j") seek(now() - STEP_S);
    else if (event.key === "l") seek(now() + STEP_S);
    else if (event.key === "n") move(1);
    else if (event.key === "p") move(-1);
    else return;
    event.preventDefault();
  });
  let width = 0;
  new ResizeObserver(() => {
    if (!sentence || by("views").clientWidth === width) return;
    width = by("views").clientWidth;
    draw();
  }).observe(by("views"));
  document.addEventListener("themechange", () => sentence && draw());
  list();
})();
