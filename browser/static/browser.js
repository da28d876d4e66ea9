// Keys (j, k, Enter, n, p, /, ?, 1 to 5), highlights between a claim and its place, and a first page that stays fresh.
"use strict";

const rows = () => [...document.querySelectorAll("[data-row]")];
let current = -1;

function move(step) {
  const all = rows();
  if (!all.length) return;
  current = Math.max(0, Math.min(all.length - 1, current + step));
  all.forEach((row, index) => row.classList.toggle("current", index === current));
  all[current].focus({ preventScroll: true });
  all[current].scrollIntoView({ block: "start" });
}

function follow(link) {
  if (link) link.click();
}

document.addEventListener("keydown", (event) => {
  const field = event.target.closest("input, select, textarea");
  if (event.key === "Escape" && field) return field.blur();
  if (field || event.ctrlKey || event.metaKey || event.altKey || document.getElementById("keys").open) return;
  const filter = document.getElementById("q");
  const act = {
    j: () => move(1),
    k: () => move(-1),
    n: () => follow(document.querySelector("a[rel=next]")),
    p: () => follow(document.querySelector("a[rel=prev]")),
    "?": () => document.getElementById("keys").showModal(),
    "/": () => filter && (filter.focus(), filter.select()),
  }[event.key];
  if (act) {
    event.preventDefault();
    act();
  } else if (event.key === "Enter" && event.target.matches("[data-row]")) {
    follow(event.target.querySelector("a.open"));
  } else if (/^[1-5]$/.test(event.key)) {
    follow(document.querySelectorAll("nav[aria-label=Views] a")[event.key - 1]);
  }
});

document.addEventListener("focusin", (event) => {
  const row = event.target.closest("[data-row]");
  if (row) current = rows().indexOf(row);
});

document.getElementById("keys-button").addEventListener("click", () => document.getElementById("keys").showModal());
document.getElementById("sort")?.addEventListener("change", (event) => event.target.form.requestSubmit());
document.querySelector(".filter")?.addEventListener("submit", (event) => {
  for (const field of event.target.elements) if (field.name && !field.value) field.disabled = true; // a short address
});
addEventListener("pageshow", () => {
  document.querySelectorAll(".filter :disabled").forEach((field) => (field.disabled = false));
  document.querySelector(".filter")?.reset(); // a page that is gone back to shows its own filter
});

for (const name of ["mouseover", "mouseout"]) {
  document.addEventListener(name, (event) => {
    const item = event.target.closest("[data-claim], mark[data-claims]");
    const answer = item?.closest(".answer");
    if (!answer) return;
    const numbers = new Set((item.dataset.claim ?? item.dataset.claims).split(" "));
    for (const other of answer.querySelectorAll("[data-claim], mark[data-claims]")) {
      const belongs = (other.dataset.claim ?? other.dataset.claims).split(" ").some((number) => numbers.has(number));
      other.classList.toggle("lit", name === "mouseover" && belongs);
    }
  });
}

async function refresh() {
  const main = document.getElementById("main");
  if (!main.dataset.live) return;
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
      if (page && page.innerHTML !== main.innerHTML) main.replaceChildren(...page.childNodes);
      if (page && !page.dataset.live) delete main.dataset.live;
    }
    document.body.classList.toggle("gone", !answer.ok);
  } catch {
    document.body.classList.add("gone"); // the server has ended
  }
  setTimeout(refresh, 1000 * (main.dataset.live ?? 0) || 3000);
}

if (document.getElementById("main").dataset.live) setTimeout(refresh, 1000 * document.getElementById("main").dataset.live);
