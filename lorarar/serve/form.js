// The form: what can be chosen, what is asked for, and what a picture says of itself.

export const ROLES = ["content", "style"];
export const METHODS = {
  lorarar: "LoRA.rar", direct: "Direct sum", linear: "Mean", svd: "SVD",
  np: "NP-LoRA", klora: "K-LoRA", est: "EST-LoRA",
};

export const element = (id) => document.getElementById(id);
export const form = element("request");
export const field = form.elements;
let numbers = [];
let loras = [];
let suggestion = "";

// about: what the server says of the pipeline, once.
export function showChoices(about) {
  element("pipeline").textContent = about.pipeline;
  numbers = Object.keys(about.ranges);
  for (const [name, [least, most]] of Object.entries(about.ranges))
    Object.assign(field[name], { min: least, max: most });
  for (const side of [field.width, field.height]) {
    Object.assign(side, { value: about.side, disabled: !about.size_unit });
    if (about.size_unit) Object.assign(side, { min: about.size_unit, step: about.size_unit });
  }
  field.sampler.replaceChildren(...about.samplers.map((name) => new Option(name)));
  field.sampler.value = about.sampler;
  field.method.replaceChildren(
    ...about.methods.map((name) => new Option(METHODS[name] ?? name, name)));
  field.method.value = about.method;
  element("layout").replaceChildren(...about.layouts.map((name) => new Option(name)));
}

// offered: the LoRAs, perhaps more or fewer than before.
export function showLoras(offered) {
  loras = offered;
  for (const role of ROLES) {
    const before = field[role].value;
    const names = lorasOf(role).map((lora) => lora.name);
    field[role].replaceChildren(...names.map((name) => new Option(name)));
    if (names.includes(before)) field[role].value = before;
  }
  showPair();
}

export const lorasOf = (role) => loras.filter((lora) => lora.kinds.includes(role));

// The prompt that the chosen pair suggests, unless one was typed, and what of it takes no part.
export function showPair() {
  const pair = ROLES.map((role) => loras.find((lora) => lora.name === field[role].value));
  const untouched = field.prompt.value === suggestion;
  suggestion = [pair[0]?.prompt, pair[1]?.phrase].filter(Boolean).join(" ");
  if (untouched) field.prompt.value = suggestion;
  ROLES.forEach((role, side) => {
    element(`${role}-notes`).textContent = pair[side]?.notes.join("; ") ?? "";
  });
}

export function showStrengths() {
  for (const role of ROLES) {
    const slider = field[`${role}_scale`];
    slider.parentElement.querySelector(".value").textContent = Number(slider.value).toFixed(2);
  }
}

export function readRequest() {
  const request = Object.fromEntries(new FormData(form));
  for (const name of numbers) if (name in request) request[name] = Number(request[name]);
  request.negative_prompt ||= null;
  return request;
}

// Fill in a request, or what a picture says; what cannot be chosen here stays as it is.
export function fill(fields) {
  for (const [name, value] of Object.entries(fields)) {
    const input = field[name];
    if (!input || input.disabled) continue;
    const known = !input.options || [...input.options].some((option) => option.value === value);
    if (known) input.value = value ?? "";
  }
  showStrengths();
  const typed = field.prompt.value;
  showPair();
  field.prompt.value = typed;
}
