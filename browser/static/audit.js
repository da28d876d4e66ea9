// An audit by keys: each button of the form has its keys; u, n, z and ? move. Measures the seconds until the answer.
"use strict";

const LEAST = 200; // milliseconds before keys count: a key that is hit twice must not answer what nobody has seen
const form = document.querySelector("form.answers");
const help = document.getElementById("keys");
let shown = null; // when the page was first seen
let sent = false;

function begin() {
  if (!document.hidden && shown === null) shown = performance.now();
}

// what a key is called: layouts of other scripts have other letters, and some have digits behind shift
function names(event) {
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code);
  const letter = /^[\x21-\x7e]+$/.test(event.key) && event.key !== "Process" ? null : /^Key(.)$/.exec(event.code);
  return [event.key.toLowerCase(), digit?.[1], letter?.[1].toLowerCase()];
}

document.addEventListener("visibilitychange", begin);
addEventListener("pageshow", (event) => {
  if (event.persisted) [shown, sent] = [null, false];
  begin();
});

form?.addEventListener("submit", (event) => {
  if (sent) return event.preventDefault();
  sent = true;
  form.elements.seconds.value = ((performance.now() - (shown ?? performance.now())) / 1000).toFixed(2);
});

document.addEventListener("keydown", (event) => {
  if (event.target.closest("input") || event.ctrlKey || event.metaKey || event.altKey || event.repeat || help.open) return;
  if (event.key === "?") return help.showModal();
  if (shown === null || performance.now() - shown < LEAST) return;
  const pressed = names(event);
  const move = { u: "a[rel=prev]", n: "a[rel=next]", z: "a.picture" }[pressed[2] ?? pressed[0]];
  const button = [...document.querySelectorAll("button[data-keys]")].find((candidate) =>
    candidate.dataset.keys.split(" ").some((name) => pressed.includes(name)),
  );
  const target = button ?? (move && document.querySelector(move));
  if (!target) return;
  event.preventDefault();
  target.click();
});

document.getElementById("keys-button").addEventListener("click", () => help.showModal());
for (const address of form?.dataset.prefetch.split(" ").filter(Boolean) ?? []) new Image().src = address; // the next one
begin();
