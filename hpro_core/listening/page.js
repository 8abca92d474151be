"use strict";
// A listening test without a server. Each screen replaces the content of <main>. The answers are
// kept in localStorage after each trial, and leave the browser only as files that the rater saves.

const test = JSON.parse(document.getElementById("test").textContent);
const place = document.getElementById("place");
const progress = document.getElementById("progress");
const area = document.getElementById("screen");
const notice = document.getElementById("status");
const tools = document.getElementById("tools");
const shortcuts = document.getElementById("shortcuts");

const RATINGS = [["1", "Bad"], ["2", "Poor"], ["3", "Fair"], ["4", "Good"], ["5", "Excellent"]];
const CHOICES = [["a", "A is better"], ["none", "No preference"], ["b", "B is better"]];
const COLUMNS = ["trial", "part", "clip", "clip_b", "answer", "plays", "seconds"];
const TONES = "If tones follow the speech, do not rate: choose the number of tones.";
const TONES_PAIR = "If tones follow one of the two, choose that one.";

const PARTS = {
  naturalness: {
    name: "Naturalness",
    question: () => "How natural does the speech sound?",
    about: ["Rate how natural each clip sounds: 5 is a person who speaks, 1 is clearly a machine.",
      "Do not rate what is said, or which emotion is expressed."],
  },
  emotion: {
    name: "Emotion",
    question: (emotion) => emotion
      ? `How well does the speech express this emotion: ${emotion}?`
      : "How well does the expression of the voice suit the words?",
    about: test.intended
      ? ["Each clip has an intended emotion. Rate how well the voice expresses it: 5 is exactly "
        + "this emotion, 1 is another emotion, or none.",
        "Rate the voice, not the words. Try to ignore the sound quality."]
      : ["Rate how well the way of speaking suits the words: 5 is an expression that suits them "
        + "very well, 1 is one that does not suit them, or none.",
        "Try to ignore the sound quality."],
  },
  preference: {
    name: "Preference",
    question: (emotion) => emotion
      ? `Which one says this better, if the emotion is to be: ${emotion}?`
      : "Which one says this better?",
    about: ["You hear the same sentence twice, as A and as B. Choose the one that you prefer as a "
      + "whole, or no preference.",
      "You can listen to each as often as you like."],
  },
};

let state = null; // of the rater: session, started, trained, answers
let trials = []; // of the rater: {part, clips}
let keys = {}; // key -> action of the current screen
let enter = null; // action of Enter on the current area
let sounds = []; // of the current screen
let stored = true; // whether localStorage works

// --- elements ------------------------------------------------------------------------------------

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "onclick") made.addEventListener("click", value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function button(text, key, action, attributes) {
  const hint = key ? [" ", element("kbd", { "aria-hidden": "true" }, key)] : [];
  return element("button", { type: "button", onclick: action, ...attributes }, text, ...hint);
}

function paragraphs(texts) {
  return texts.map((text) => element("p", null, text));
}

function show(title, ...children) {
  for (const sound of sounds) sound.pause();
  sounds = [];
  keys = {};
  enter = null;
  say("");
  const heading = element("h2", { tabindex: "-1" }, title);
  area.replaceChildren(heading, ...children);
  window.scrollTo(0, 0);
  heading.focus(); // a screen reader reads the new screen
}

function say(text) {
  notice.textContent = text;
}

function showProgress() {
  const done = state.answers.length;
  progress.max = trials.length;
  progress.value = done;
  place.textContent = done < trials.length
    ? `Rater ${state.rater}: clip ${done + 1} of ${trials.length}` : `Rater ${state.rater}`;
}

// --- state ---------------------------------------------------------------------------------------

function storageKey(rater) {
  return `hpro listening ${test.test} ${rater}`;
}

function load(rater) {
  try {
    return JSON.parse(localStorage.getItem(storageKey(rater)));
  } catch (error) {
    stored = false;
    return null;
  }
}

function store() {
  try {
    localStorage.setItem(storageKey(state.rater), JSON.stringify(state));
    localStorage.setItem(storageKey("last"), JSON.stringify(state.rater));
  } catch (error) {
    stored = false;
  }
}

function newId() {
  const numbers = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(numbers, (number) => number.toString(16).padStart(2, "0")).join("");
}

function begin(rater) {
  const session = test.sessions[(rater - 1) % test.sessions.length];
  trials = session.flatMap(([part, of]) => of.map((clips) => ({ part, clips })));
  state = load(rater)
    || { rater, session: newId(), started: new Date().toISOString(), trained: false, answers: [] };
  store();
  tools.hidden = false;
  if (!state.trained) showTraining(0);
  else if (state.answers.length < trials.length) showPart();
  else showEnd();
}

// --- sound ---------------------------------------------------------------------------------------

function source(clip) {
  return test.audio ? test.audio[clip] : `audio/${test.clips[clip][0]}.flac`;
}

/** A button that plays a clip, from its start at each press; `onHeard` follows its first end. */
function player(name, key, clip, onHeard) {
  const sound = new Audio(source(clip));
  const made = { sound, plays: 0, heard: false };
  made.play = () => {
    for (const other of sounds) other.pause();
    sound.currentTime = 0;
    made.plays += 1;
    say("");
    sound.play().catch((error) => {
      if (error.name !== "AbortError") failed();
    });
  };
  made.button = button(`▶ Play${name}`, key, made.play);
  const failed = () => say(test.audio
    ? "This clip cannot be played. Try another browser."
    : "This clip cannot be played. The folder audio has to be beside this page; unpack the whole "
      + "archive first. Or try another browser.");
  const mark = () => made.button.classList.toggle("playing", !sound.paused);
  for (const event of ["play", "pause", "ended"]) sound.addEventListener(event, mark);
  sound.addEventListener("error", failed);
  sound.addEventListener("ended", () => {
    if (made.heard) return;
    made.heard = true;
    onHeard();
  });
  sounds.push(sound);
  return made;
}

function preload(trial) {
  if (!trial || test.audio) return;
  for (const clip of trial.clips) new Audio(source(clip)).preload = "auto";
}

// --- a trial -------------------------------------------------------------------------------------

/** One trial. `onAnswer` gets the answer, the number of plays and the seconds that it took. */
function showTrial(part, clips, note, onAnswer) {
  const [text, emotion] = test.sentences[test.clips[clips[0]][1]];
  const pair = clips.length === 2;
  const options = pair ? CHOICES : RATINGS;
  const shown = performance.now();
  let answer = null;

  const next = button("Next", "Enter", () => proceed(), { disabled: true });
  const proceed = () => {
    if (answer === null) {
      say(players.every((each) => each.heard) ? "Choose an answer first."
        : "Listen to the end first.");
      return;
    }
    const plays = players.reduce((sum, each) => sum + each.plays, 0);
    onAnswer(answer, plays, Math.round((performance.now() - shown) / 100) / 10);
  };
  const choose = (value) => {
    if (fieldset.disabled) {
      say(pair ? "Listen to both to the end first." : "Listen to the end first.");
      return;
    }
    answer = value;
    fieldset.querySelector(`input[value="${value}"]`).checked = true;
    next.disabled = false;
    say("");
  };
  const radios = options.map(([value, label], index) => {
    const input = element("input", { type: "radio", name: "answer", value });
    input.addEventListener("change", () => choose(value));
    const digit = String(index + 1);
    const key = pair ? element("kbd", { "aria-hidden": "true" }, digit) : element("b", null, digit);
    return element("label", null, input, key, element("span", null, label));
  });
  const legend = pair ? "Your choice" : "Your rating";
  const fieldset = element("fieldset", { disabled: true }, element("legend", null, legend),
    element("div", { class: "scale" }, ...radios));

  show(PARTS[part].question(part === "naturalness" ? "" : emotion));
  const heard = () => {
    if (!players.every((each) => each.heard)) return;
    fieldset.disabled = false;
    say(pair ? "Now choose." : "Now rate.");
  };
  const players = clips.map((clip, index) => pair
    ? player(` ${"AB"[index]}`, "AB"[index], clip, heard) : player("", "Space", clip, heard));
  area.append(
    element("p", { class: "sentence", dir: "auto" }, `“${text}”`),
    element("p", { class: "emotion" }, note || (pair ? TONES_PAIR : TONES)),
    element("div", { class: "row" }, ...players.map((each) => each.button)),
    fieldset,
    element("div", { class: "row" }, next),
  );
  options.forEach(([value], index) => { keys[String(index + 1)] = () => choose(value); });
  if (pair) players.forEach((each, index) => { keys["ab"[index]] = each.play; });
  keys[" "] = () => (players.find((each) => !each.heard) || players[0]).play();
  enter = proceed;
}

// --- screens -------------------------------------------------------------------------------------

function showStart() {
  const given = new URLSearchParams(location.search).get("rater");
  let last = null;
  try {
    last = JSON.parse(localStorage.getItem(storageKey("last")));
  } catch (error) {
    stored = false;
  }
  const number = element("input", { type: "number", id: "rater", min: "1", max: "9999", step: "1",
    required: true, value: given || last || "", "aria-describedby": "rater-note" });
  const start = () => {
    const rater = Number(number.value);
    if (Number.isInteger(rater) && rater >= 1 && rater <= 9999) begin(rater);
    else {
      say("Enter your rater number, a whole number from 1 to 9999.");
      number.focus();
    }
  };
  show("Welcome",
    ...paragraphs([
      `You will hear short clips of speech and rate them. The test takes about ${test.minutes} `
      + "minutes, with a short training first. You can stop at any time and continue later in the "
      + "same browser, on the same device.",
      "Use headphones, in a quiet room. All clips were made equally loud: set the volume during "
      + "the training, and do not change it later.",
      "Nothing is sent over a network: at the end you save a file with your answers, and send it "
      + "to the person who asked you.",
    ]),
    element("label", { class: "wide-label", for: "rater" }, "Your rater number"),
    number,
    element("p", { class: "soft", id: "rater-note" },
      "The number that you were given. Two people must not use the same one."),
    element("div", { class: "row" }, button("Start", "Enter", start)),
  );
  enter = start;
  if (!given) number.focus();
}

function showTraining(step) {
  place.textContent = `Rater ${state.rater}: training`;
  const finish = () => {
    state.trained = true;
    store();
    showPart();
  };
  if (step === 0) {
    const next = () => showTraining(1);
    show("Training",
      ...paragraphs([
        "Three clips show how the test works. Their answers do not count.",
        "Some clips of the test check that you are listening: after the speech they have one to "
        + "five tones. Then do not rate, but choose the number of tones.",
      ]),
      element("p", null, "The keyboard is enough: ", element("kbd", null, "Space"), " plays, ",
        element("kbd", null, "1"), " to ", element("kbd", null, "5"), " choose, ",
        element("kbd", null, "Enter"), " continues. ", element("kbd", null, "Tab"),
        " reaches all buttons. The box below switches these keys off."),
      ...(stored ? [] : paragraphs(["This browser does not store answers: do not close or reload "
        + "the page before the end."])),
      element("div", { class: "row" }, button("Continue", "Enter", next)));
    enter = next;
    return;
  }
  const example = test.training[step - 1];
  if (!example) {
    finish();
    return;
  }
  const notes = {
    good: "An example of the best speech in this test. Set a comfortable volume now.",
    bad: "An example of the worst speech in this test.",
    example: "An example of the speech in this test. Set a comfortable volume now.",
    tones: "An example of a check: count the tones after the speech.",
  };
  const note = `Training ${step} of ${test.training.length}. ${notes[example.kind]}`;
  showTrial("naturalness", [example.clip], note, (answer) => {
    if (example.kind === "tones" && answer !== String(example.tones)) {
      say(`There were ${example.tones} tones: choose ${example.tones}, then continue.`);
      return;
    }
    showTraining(step + 1);
  });
}

/** The instructions of a part, before its first trial and after a reload. */
function showPart() {
  showProgress();
  const { part } = trials[state.answers.length];
  const parts = [...new Set(trials.map((trial) => trial.part))];
  const again = state.answers.length > 0;
  const title = `Part ${parts.indexOf(part) + 1} of ${parts.length}: ${PARTS[part].name}`;
  show(title, ...paragraphs([...PARTS[part].about, part === "preference" ? TONES_PAIR : TONES]),
    element("div", { class: "row" }, button("Continue", "Enter", showNext)));
  if (again) say(`${state.answers.length} of ${trials.length} clips are done.`);
  enter = showNext;
}

function showNext() {
  const index = state.answers.length;
  const { part, clips } = trials[index];
  showProgress();
  showTrial(part, clips, null, (answer, plays, seconds) => {
    const [clip, second] = clips.map((each) => test.clips[each][0]);
    state.answers.push({ trial: index + 1, part, clip, clip_b: second || "", answer, plays, seconds });
    store();
    if (state.answers.length === trials.length) showEnd();
    else if (trials[index + 1].part !== part) showPart();
    else showNext();
  });
  preload(trials[index + 1]);
}

function showEnd() {
  showProgress();
  show("Thank you",
    ...paragraphs(["All clips are done. Save the file with your answers, and send it to the person "
      + "who asked you. One of the two files is enough."]),
    element("div", { class: "row" },
      button("Save as CSV", "C", () => save("csv")),
      button("Save as JSON", "J", () => save("json"), { class: "plain" })),
    element("p", { class: "soft" }, "The answers stay in this browser until you delete them."),
    element("div", { class: "row" },
      button("Delete the answers from this browser", "", forget, { class: "plain" })));
  keys = { c: () => save("csv"), j: () => save("json") };
}

function forget() {
  if (!confirm("Delete the answers from this browser? Save the file first.")) return;
  localStorage.removeItem(storageKey(state.rater));
  localStorage.removeItem(storageKey("last"));
  location.reload();
}

// --- files ---------------------------------------------------------------------------------------

function asJson() {
  const { rater, session, started, answers } = state;
  const about = { format: test.format, test: test.test, rater, session, started };
  return `${JSON.stringify({ ...about, saved: new Date().toISOString(), answers }, null, 1)}\n`;
}

function asCsv() {
  const { rater, session } = state;
  const rows = state.answers.map((answer) =>
    [test.test, rater, session, ...COLUMNS.map((name) => answer[name])]);
  return [["test", "rater", "session", ...COLUMNS], ...rows].map((row) => `${row.join(",")}\r\n`)
    .join("");
}

function save(kind) {
  const [content, type] = kind === "csv" ? [asCsv(), "text/csv"] : [asJson(), "application/json"];
  const url = URL.createObjectURL(new Blob([content], { type }));
  const rater = String(state.rater).padStart(3, "0");
  const name = `listening_${test.test}_rater${rater}.${kind}`;
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
  say(`Saved as ${name} in the folder of your downloads.`);
}

// --- keys ----------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  const focused = event.target;
  const control = focused.closest("button, a, input:not([type=radio])");
  if (event.key === "Enter") {
    if (enter && !focused.closest("button, a") && !event.repeat) {
      event.preventDefault();
      enter();
    }
    return;
  }
  if (!shortcuts.checked || event.repeat || (control && event.key === " ")) return;
  if (control && control.matches("[type=number]")) return;
  const action = keys[event.key.toLowerCase()];
  if (action) {
    event.preventDefault();
    action();
  }
});

document.getElementById("save").addEventListener("click", () => save("json"));
showStart();
