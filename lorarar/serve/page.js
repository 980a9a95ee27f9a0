// What happens when something on the page is clicked, typed or dropped.

import {
  element, field, fill, form, readRequest, ROLES, showChoices, showLoras, showPair, showStrengths,
} from "./form.js";
import { keep, show, shownRequest } from "./pictures.js";
import { ask, draw, lineOf, post } from "./server.js";
import { markChosen, showStrips } from "./thumbnails.js";

let about = null;
let drawing = null; // what aborts the picture being drawn

const say = (line) => { element("status").textContent = line; };
const complain = (line) => { element("error").textContent = line; };

// Do something that may fail; says so in one line.
async function attempt(action) {
  complain("");
  try {
    await action();
  } catch (error) {
    say("");
    complain(lineOf(error));
  }
}

async function list() {
  const first = about === null;
  about = await (await ask("about")).json();
  if (first) showChoices(about);
  element("compare").disabled = about.method !== "lorarar";
  showLoras(about.loras);
  showStrips(choose);
  showSkipped(Object.entries(about.skipped));
}

function showSkipped(skipped) {
  const box = element("skipped");
  box.hidden = skipped.length === 0;
  box.querySelector("summary").textContent = `${skipped.length} files cannot be used here`;
  box.querySelector("ul").replaceChildren(...skipped.map(([name, reason]) => {
    const item = document.createElement("li");
    item.textContent = `${name}: ${reason}`;
    return item;
  }));
}

function choose(role, name) {
  field[role].value = name;
  showPair();
  markChosen();
}

async function addLoras(files, role) {
  for (const file of files) {
    if (file.size > about.largest)
      throw new Error(`${file.name}: is over ${about.largest / 1e9} GB; use --loras instead`);
    say(`Checking ${file.name}`);
    const path = `loras/${encodeURIComponent(file.name)}`;
    const { name } = await (await ask(path, { method: "PUT", body: file })).json();
    await list();
    choose(role, name);
    say(`Added ${name}`);
  }
}

async function readPicture(file) {
  const fields = await (await ask("picture", { method: "POST", body: file })).json();
  fill(fields);
  markChosen();
  say(`Filled in what drew ${file.name}`);
  complain(fields.notes.join("; "));
}

// Files dropped on the page, or on a card.
function take(files, role) {
  const pictures = files.filter((file) => !file.name.endsWith(".safetensors"));
  if (pictures.length) return readPicture(pictures[0]);
  if (role) return addLoras(files, role);
  throw new Error("Drop LoRAs on Content or on Style, and pictures anywhere");
}

// Draw one request after another, with the first one's seed, and show them beside each other.
async function drawAll(requests) {
  const started = performance.now();
  const drawn = [];
  drawing = new AbortController();
  say("");
  complain("");
  element("merged").textContent = "";
  element("progress").value = 0;
  showBusy(true);
  try {
    for (const request of requests) {
      const seed = drawn[0]?.request.seed ?? request.seed;
      drawn.push(await draw({ ...request, seed }, drawing.signal, showEvent));
    }
    const seconds = ((performance.now() - started) / 1e3).toFixed(1);
    say(`Drawn in ${seconds} s, seed ${drawn[0].request.seed}`);
    show(drawn);
    keep(drawn, goBack);
    element("stage").scrollIntoView({ block: "nearest" });
  } catch (error) {
    element("progress").value = 0;
    say(error.name === "AbortError" ? "Cancelled" : "");
    if (error.name !== "AbortError") complain(lineOf(error));
  } finally {
    element("step").textContent = "";
    showBusy(false);
  }
}

function showEvent({ ahead, notes, merged, step, of }) {
  if (notes?.length) complain(notes.join("; "));
  if (ahead !== undefined) say(ahead ? "Waiting for the picture before this one" : "Merging");
  if (merged !== undefined) {
    const time = merged < 0.1 ? "under 0.1" : merged.toFixed(1);
    const method = about.method === "lorarar" ? "" : `, ${about.method}: no hypernetwork`;
    element("merged").textContent = `Merged in ${time} ms${method}`;
    say("Drawing");
  }
  if (step) {
    Object.assign(element("progress"), { value: step, max: of });
    element("step").textContent = `Step ${step} of ${of}`;
  }
}

function showBusy(busy) {
  for (const id of ["draw", "compare"]) element(id).hidden = busy;
  element("cancel").hidden = !busy;
}

function goBack(drawn) {
  fill(drawn[0].request);
  markChosen();
  show(drawn);
}

async function saveLora() {
  say("Merging for a file");
  const asked = { ...shownRequest(), layout: element("layout").value };
  const { url, name } = await (await post("merged", asked)).json();
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  say(`Saved ${name}`);
}

form.addEventListener("submit", (event) => { event.preventDefault(); drawAll([readRequest()]); });
form.addEventListener("input", showStrengths);
form.addEventListener("invalid", ({ target }) => { // else nobody would see which
  const folded = target.closest("details");
  if (folded) folded.open = true;
}, true);
field.prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!element("draw").hidden) form.requestSubmit();
});
element("compare").addEventListener("click", () => {
  if (form.reportValidity())
    drawAll(["lorarar", "direct"].map((method) => ({ ...readRequest(), method })));
});
element("cancel").addEventListener("click", () => drawing.abort());
element("save-lora").addEventListener("click", () => attempt(saveLora));
element("read").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  target.value = ""; // so that the same file can be chosen again
  if (file) attempt(() => readPicture(file));
});
for (const role of ROLES) {
  const card = form.querySelector(`[data-role=${role}]`);
  const input = card.querySelector("[type=file]");
  field[role].addEventListener("change", () => { showPair(); markChosen(); });
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = "";
    attempt(() => addLoras(files, role));
  });
  for (const kind of ["dragover", "dragleave", "drop"])
    card.addEventListener(kind, () => card.classList.toggle("over", kind === "dragover"));
}
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  const role = event.target.closest?.("[data-role]")?.dataset.role;
  attempt(() => take([...event.dataTransfer.files], role));
});

showStrengths();
attempt(list);
