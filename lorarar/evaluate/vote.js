"use strict";

const page = JSON.parse(document.getElementById("ballots").textContent);
const { ballots, pictures, columns } = page;
const find = (id) => document.getElementById(id);
const store = `lorarar-votes-${page.id}`;
let votes = {};
let at = 0;

try {
  const kept = JSON.parse(localStorage.getItem(store));
  votes = kept?.votes ?? {};
  find("voter").value = kept?.voter ?? "";
} catch {
  find("kept").textContent = "This browser keeps no votes when the page is closed: export in time.";
}

function keep() {
  try {
    localStorage.setItem(store, JSON.stringify({ votes, voter: find("voter").value }));
  } catch {
    find("kept").textContent = "Votes cannot be kept when the page is closed: export in time.";
  }
}

function fill(id, shown, label) {
  find(id).replaceChildren(
    ...shown.map((name, index) => {
      const image = new Image();
      image.src = pictures[name];
      image.alt = `${label} ${index + 1}`;
      return image;
    }),
  );
}

function show() {
  const ballot = ballots[at];
  find("question").textContent = ballot.text;
  fill("subject", ballot.subject, "subject reference");
  fill("style", ballot.style, "style reference");
  fill("judged", ballot.shown, ballot.shown.length > 1 ? "choice" : "picture");
  find("subject-part").hidden = ballot.subject.length === 0;
  find("style-part").hidden = ballot.style.length === 0;
  find("choices").replaceChildren(
    ...ballot.choices.map((choice, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.innerHTML = "<span></span> <kbd></kbd>";
      button.firstChild.textContent = choice;
      button.lastChild.textContent = index + 1;
      button.setAttribute("aria-pressed", votes[at] === choice);
      button.onclick = () => vote(choice);
      return button;
    }),
  );
  const done = Object.keys(votes).length;
  find("progress").textContent =
    `${at + 1} of ${ballots.length}; ${done} answered` + (done === ballots.length ? ": done, export them" : "");
}

function vote(choice) {
  votes[at] = choice;
  keep();
  move(1);
}

function move(by) {
  at = Math.min(Math.max(at + by, 0), ballots.length - 1);
  show();
}

// Spreadsheets would run a cell that begins like a formula.
function cell(text) {
  const plain = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return `"${plain.replaceAll('"', '""')}"`;
}

function toCsv() {
  const voter = find("voter").value.trim() || "anonymous";
  const rows = Object.entries(votes).map(([index, answer]) => {
    const { question, picture, other } = ballots[index];
    return [voter, question, picture, other, answer].map(cell).join(",");
  });
  return [columns.join(","), ...rows, ""].join("\r\n");
}

find("voter").onchange = keep;
find("back").onclick = () => move(-1);
find("forward").onclick = () => move(1);
find("export").onclick = () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([toCsv()], { type: "text/csv" }));
  link.download = "votes.csv";
  link.click();
  URL.revokeObjectURL(link.href);
};
document.onkeydown = (event) => {
  if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
  const choice = ballots[at].choices[Number(event.key) - 1];
  if (choice) vote(choice);
  else if (event.key === "ArrowLeft") move(-1);
  else if (event.key === "ArrowRight") move(1);
};

const next = ballots.findIndex((_, index) => !(index in votes));
at = Math.max(next, 0);
show();
