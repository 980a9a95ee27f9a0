// The pictures: the one or two on the stage, and those drawn before.

import { element, METHODS } from "./form.js";

const KEPT = 24;
let shown = null; // the request that drew the picture on the stage, or the first of two

export const shownRequest = () => shown;

// drawn: one picture with its request, or two, which are labelled by their methods.
export function show(drawn) {
  shown = drawn[0].request;
  element("empty").hidden = true;
  element("stage").classList.toggle("two", drawn.length > 1);
  ["picture", "beside"].forEach((id, side) => {
    const image = element(id), figure = image.parentElement;
    figure.hidden = side >= drawn.length;
    if (figure.hidden) return;
    const { picture, request } = drawn[side];
    Object.assign(image, { src: picture, alt: request.prompt });
    figure.querySelector("figcaption").textContent =
      drawn.length > 1 ? METHODS[request.method] : "";
  });
  const { content, style, seed } = shown;
  Object.assign(element("save-picture"), {
    href: drawn[0].picture, download: `${content}-${style}-${seed}.png`,
  });
  element("keep").hidden = false;
}

// Put what was drawn before the others; `choose` is called when it is clicked.
export function keep(drawn, choose) {
  const { picture, request } = drawn[0];
  const button = document.createElement("button");
  const what = `${request.content} + ${request.style}: ${request.prompt}`;
  button.title = drawn.length > 1 ? `${what} (two methods)` : what;
  button.append(Object.assign(new Image(), { src: picture, alt: request.prompt }));
  button.addEventListener("click", () => choose(drawn));
  const item = document.createElement("li");
  item.append(button);
  element("history").prepend(item);
  element("history").children[KEPT]?.remove();
}
