// What is shown: states of a page are `<template>`s that the service wrote in the person's language. Scripts fill in
// what is personal, as text and never as markup.

/** A button that grants or destroys sleeps so long after it is shown: a click that was meant for something else, as
    the second one of a double click on the page that opened this window, does nothing. */
const ASLEEP_MS = 500;
/** The window gets its focus by the very press that follows at once: that press is meant. */
const SAME_PRESS_MS = 40;

let shown = performance.now();
let focused = -ASLEEP_MS;
let pressed = 0;
let waking = 0;

/** Puts all such buttons to sleep: they, or the window, have just come into view. */
export function sleep() {
  shown = performance.now();
  document.documentElement.classList.add("asleep");
  for (const button of document.querySelectorAll("[data-awake]")) button.setAttribute("aria-disabled", "true");
  clearTimeout(waking);
  waking = setTimeout(() => {
    document.documentElement.classList.remove("asleep");
    for (const button of document.querySelectorAll("[data-awake]")) button.removeAttribute("aria-disabled");
  }, ASLEEP_MS);
}

function isAwake() {
  const now = performance.now();
  // A screen reader clicks without a press.
  const at = now - pressed < 2 * ASLEEP_MS ? pressed : now;
  const unmeant = at - focused > SAME_PRESS_MS && at - focused < ASLEEP_MS;
  return at - shown >= ASLEEP_MS && !unmeant;
}

function guard(event) {
  const button = event.type === "submit" ? event.submitter ?? event.target.querySelector("[type=submit]") : event.target.closest?.("[data-awake]");
  if (!button?.matches("[data-awake]") || isAwake()) return;
  event.preventDefault();
  event.stopImmediatePropagation();
}

/** A key that is held down since another page was in front means nothing here. */
function ignoreHeld(event) {
  if (event.repeat && ["Enter", " "].includes(event.key)) event.preventDefault();
}

/** Puts buttons to sleep whenever the window comes into view. */
export function watchWindow() {
  const press = () => (pressed = performance.now());
  for (const type of ["pointerdown", "keydown"]) addEventListener(type, press, true);
  for (const type of ["click", "submit"]) addEventListener(type, guard, true);
  addEventListener("keydown", ignoreHeld, true);
  addEventListener("focus", () => (focused = performance.now()));
  addEventListener("pageshow", sleep);
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && sleep());
  sleep();
}

/** The words for a code; the general ones if there are none. */
export function words(code, fallback = "error-other") {
  const found = document.querySelector(`#words [data-word="${CSS.escape(code)}"]`);
  return (found ?? document.querySelector(`#words [data-word="${fallback}"]`))?.textContent ?? code;
}

/** The words for a code, with what is to be filled in. */
export function say(code, data = {}) {
  return words(code).replace(/\[\[(\w+)\]\]/g, (whole, name) => (name in data ? data[name] : whole));
}

/** Why the service refused, in words; without any of its own a refusal by number is one of too many tries. */
export function trouble({ code, status, retryAfter }) {
  const known = document.querySelector(`#words [data-word="${CSS.escape(`error-${code}`)}"]`);
  const name = known ? code : status === 429 ? "rate-limited" : "other";
  return say(`error-${name}`, { minutes: Math.max(1, Math.ceil(retryAfter / 60)) });
}

/** A state's elements, filled in. `[[name]]` in its text becomes the value, set apart from the text around it. */
export function build(name, data = {}) {
  const template = document.getElementById(`state-${name}`);
  const made = template.content.cloneNode(true);
  const walker = document.createTreeWalker(made, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) if (walker.currentNode.data.includes("[[")) texts.push(walker.currentNode);
  for (const text of texts) {
    const parts = text.data.split(/\[\[(\w+)\]\]/);
    text.replaceWith(
      ...parts.map((part, index) => {
        if (index % 2 === 0) return part;
        const value = data[part] ?? "";
        if (value instanceof Node) return value;
        // Set apart, so that an address in another direction of writing turns nothing around.
        const slot = document.createElement("bdi");
        slot.className = parts.join("").trim() === part ? "slot whole" : "slot";
        slot.textContent = value;
        return slot;
      }),
    );
  }
  for (const element of made.querySelectorAll("[data-if]")) {
    const wanted = element.dataset.if;
    const is = wanted.startsWith("!") ? !data[wanted.slice(1)] : data[wanted];
    if (!is) element.remove();
  }
  for (const element of made.querySelectorAll("[data-value]")) element.value = data[element.dataset.value] ?? "";
  return made;
}

/** Shows a state in a place, and lets a screen reader and the keyboard begin at it. */
export function show(place, name, data = {}) {
  const made = build(name, data);
  place.replaceChildren(made);
  place.dataset.state = name;
  place.removeAttribute("aria-busy");
  for (const eye of place.querySelectorAll("[data-eye]")) {
    eye.addEventListener("click", () => {
      const field = eye.parentElement.querySelector("input");
      const hidden = field.type === "password";
      field.type = hidden ? "text" : "password";
      eye.setAttribute("aria-pressed", String(hidden));
      field.focus();
    });
  }
  sleep();
  const first = place.querySelector("[autofocus]") ?? place.querySelector("h1, h2");
  if (first?.matches("h1, h2")) first.tabIndex = -1;
  first?.focus({ preventScroll: true });
  return place;
}

/** Says what went wrong, at its field if it has one. */
export function complain(form, text, field) {
  const place = form.querySelector(".error");
  place.textContent = text;
  place.hidden = false;
  const input = field && form.elements[field];
  if (input) {
    input.setAttribute("aria-invalid", "true");
    input.focus();
    input.select?.();
  }
}

export function calm(form) {
  const place = form.querySelector(".error");
  if (place) place.hidden = true;
  for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}

/** Runs what a form does once at a time, and shows that it runs. */
export async function busy(form, act) {
  if (form.getAttribute("aria-busy") === "true") return undefined;
  form.setAttribute("aria-busy", "true");
  try {
    return await act();
  } finally {
    form.removeAttribute("aria-busy");
  }
}

/** The line that says that something takes longer than it should. */
export function slowLine(is) {
  const line = document.getElementById("slow");
  if (line) line.hidden = !is;
}
