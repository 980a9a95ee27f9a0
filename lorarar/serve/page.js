const KEPT_PICTURES = 24;
const ROLES = ["content", "style"];

const element = (id) => document.getElementById(id);
const form = element("request");
const field = form.elements;
let about = { loras: [], ranges: {} };
let suggestion = "";
let drawing = null; // what aborts the picture being drawn

const say = (line) => { element("status").textContent = line; };
const complain = (line) => { element("error").textContent = line; };
const complainOf = (error) => complain( // what fetch throws when the connection fails
  error instanceof TypeError ? "No answer: is lorarar serve running?" : error.message);

async function ask(path, options) {
  const response = await fetch(path, options);
  if (response.ok) return response;
  throw new Error((await response.json()).error);
}

async function showLoras() {
  about = await (await ask("about")).json();
  element("pipeline").textContent = about.pipeline;
  for (const [name, [least, most]] of Object.entries(about.ranges))
    Object.assign(field[name], { min: least, max: most });
  for (const role of ROLES) {
    const before = field[role].value;
    const names = about.loras.filter((lora) => lora.kinds.includes(role)).map((lora) => lora.name);
    field[role].replaceChildren(...names.map((name) => new Option(name)));
    if (names.includes(before)) field[role].value = before;
  }
  suggestPrompt();
}

function suggestPrompt() {
  const [content, style] = ROLES.map((role) =>
    about.loras.find((lora) => lora.name === field[role].value));
  const untouched = field.prompt.value === suggestion;
  suggestion = [content?.prompt, style?.phrase].filter(Boolean).join(" ");
  if (untouched) field.prompt.value = suggestion;
}

function showStrengths() {
  for (const role of ROLES) {
    const slider = field[`${role}_scale`];
    slider.parentElement.querySelector(".value").textContent = Number(slider.value).toFixed(2);
  }
}

async function addLoras(files, role) {
  complain("");
  try {
    for (const file of files) {
      if (file.size > about.largest)
        throw new Error(`${file.name}: is over ${about.largest / 1e9} GB; use --loras instead`);
      say(`Checking ${file.name}`);
      const path = `loras/${encodeURIComponent(file.name)}`;
      const { name } = await (await ask(path, { method: "PUT", body: file })).json();
      await showLoras();
      field[role].value = name;
      suggestPrompt();
      say(`Added ${name}`);
    }
  } catch (error) {
    say("");
    complainOf(error);
  }
}

function readRequest() {
  const request = Object.fromEntries(new FormData(form));
  for (const name of Object.keys(about.ranges)) request[name] = Number(request[name]);
  return request;
}

async function* eventsOf(response) {
  let rest = "";
  for (const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    yield* lines.map((line) => JSON.parse(line));
  }
}

async function draw() {
  const request = readRequest();
  const started = performance.now();
  drawing = new AbortController();
  say("");
  complain("");
  element("merged").textContent = "";
  element("progress").value = 0;
  showBusy(true);
  try {
    const response = await ask("draw", {
      method: "POST", body: JSON.stringify(request), signal: drawing.signal,
    });
    for await (const event of eventsOf(response)) {
      if (event.error) throw new Error(event.error);
      if ("ahead" in event)
        say(event.ahead ? "Waiting for the picture before this one" : "Merging");
      if ("merged" in event) showMerge(event.merged);
      if (event.step) showStep(event);
      if (event.picture) {
        say(`Drawn in ${((performance.now() - started) / 1e3).toFixed(1)} s`);
        show(event.picture, request);
        keep(event.picture, request);
        return;
      }
    }
    throw new TypeError("ended early");
  } catch (error) {
    element("progress").value = 0;
    say(error.name === "AbortError" ? "Cancelled" : "");
    if (error.name !== "AbortError") complainOf(error);
  } finally {
    showBusy(false);
  }
}

function showBusy(busy) {
  element("draw").disabled = busy;
  element("cancel").hidden = !busy;
}

function showMerge(milliseconds) {
  const time = milliseconds < 0.1 ? "under 0.1" : milliseconds.toFixed(1);
  const method = about.method === "lorarar" ? "" : `, ${about.method}: no hypernetwork`;
  element("merged").textContent = `Merged in ${time} ms${method}`;
}

function showStep({ step, of }) {
  Object.assign(element("progress"), { value: step, max: of });
  say(`Step ${step} of ${of}`);
}

function show(picture, request) {
  Object.assign(element("picture"), { src: picture, alt: request.prompt, hidden: false });
  element("empty").hidden = true;
}

function keep(picture, request) {
  const button = document.createElement("button");
  const thumbnail = Object.assign(new Image(), { src: picture, alt: request.prompt });
  Object.assign(button, { title: `${request.content} + ${request.style}: ${request.prompt}` });
  button.append(thumbnail);
  button.addEventListener("click", () => {
    for (const [name, value] of Object.entries(request)) field[name].value = value;
    showStrengths();
    show(picture, request);
  });
  const item = document.createElement("li");
  item.append(button);
  element("history").prepend(item);
  element("history").children[KEPT_PICTURES]?.remove();
}

form.addEventListener("submit", (event) => { event.preventDefault(); draw(); });
form.addEventListener("input", showStrengths);
field.prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  element("draw").click();
});
element("cancel").addEventListener("click", () => drawing.abort());
for (const role of ROLES) {
  const card = form.querySelector(`[data-role=${role}]`);
  const input = card.querySelector("[type=file]");
  field[role].addEventListener("change", suggestPrompt);
  input.addEventListener("change", () => {
    addLoras([...input.files], role);
    input.value = ""; // so that the same file can be chosen again
  });
  for (const kind of ["dragover", "dragleave", "drop"])
    card.addEventListener(kind, () => card.classList.toggle("over", kind === "dragover"));
  card.addEventListener("drop", (event) => addLoras([...event.dataTransfer.files], role));
}
for (const kind of ["dragover", "drop"]) // a file dropped beside the cards must not be opened
  addEventListener(kind, (event) => event.preventDefault());

showStrengths();
showLoras().catch(complainOf);
