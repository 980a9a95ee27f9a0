// The strips of thumbnails under the lists: a shortcut for hands, as the lists are for keyboards.

import { field, form, lorasOf, ROLES } from "./form.js";

const AGAIN = 3000; // milliseconds, when a thumbnail is yet to be drawn

const stripOf = (role) => form.querySelector(`[data-role=${role}] .strip`);

export function showStrips(choose) {
  for (const role of ROLES) {
    const items = lorasOf(role).map((lora) => itemOf(lora.name, () => choose(role, lora.name)));
    stripOf(role).replaceChildren(...items);
  }
  markChosen();
}

export function markChosen() {
  for (const role of ROLES) {
    const strip = stripOf(role);
    for (const item of strip.children)
      item.classList.toggle("chosen", item.dataset.name === field[role].value);
    const chosen = strip.querySelector(".chosen");
    if (chosen) strip.scrollLeft = chosen.offsetLeft - strip.offsetLeft - strip.clientWidth / 3;
  }
}

function itemOf(name, choose) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  const caption = document.createElement("span");
  Object.assign(button, { type: "button", tabIndex: -1, title: name });
  caption.textContent = name;
  button.append(Object.assign(new Image(), { alt: "" }), caption);
  button.addEventListener("click", choose);
  item.dataset.name = name;
  item.append(button);
  seen.observe(item);
  return item;
}

// One after another, and only those that were seen: each may have to be drawn.
let before = Promise.resolve();
const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    before = before.then(() => load(target));
  }
});

async function load(item) {
  if (!item.isConnected) return;
  const path = `thumbnails/${encodeURIComponent(item.dataset.name)}`;
  const response = await fetch(path).catch(() => null);
  if (response?.status === 200) item.querySelector("img").src = path;
  if (response?.status === 202)
    setTimeout(() => { before = before.then(() => load(item)); }, AGAIN);
}
