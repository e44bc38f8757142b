// Where the links of mails lead. The page does nothing by itself: scanners of mail follow links, and even run scripts.

import * as net from "./net.js";
import { dropCertificates } from "./store.js";
import * as view from "./view.js";

const place = document.getElementById("page");
const { complete } = place.dataset;
const token = take();

/** The token leaves the address bar, where it could be read along or shared, before anything else is done. The
    entry in this tab's history keeps it, so that loading the page anew does no harm. */
function take() {
  const found = new URLSearchParams(location.search).get("token") ?? history.state?.token ?? null;
  history.replaceState({ token: found }, "", location.pathname);
  return found;
}

async function main() {
  if (!/^[0-9A-Za-z]{48}$/.test(token ?? "")) return useless("useless-form");
  try {
    const about = await net.get("email_for_token", { token });
    if (!about.success) return useless("useless-text");
    prove(about);
  } catch (error) {
    if (error instanceof net.Trouble && error.status >= 400 && error.status < 500 && error.status !== 429) return useless("useless-text");
    stumble(error);
  }
}

const KINDS = { "new-account": "new_account", "add-email": "add_email", reverify: "reverify", reset: "reset", transition: "transition" };

function prove({ email, purpose, must_auth: mustAuth, needs_password: needsPassword }) {
  const isReset = purpose === "reset" || complete === "complete_reset";
  const asked = Boolean(mustAuth) && !isReset;
  view.show(place, "prove", {
    email,
    [KINDS[purpose] ?? "new_account"]: true,
    must_auth: asked,
    new_password: isReset || (Boolean(needsPassword) && !asked),
  });
  const form = place.querySelector("form");
  form.noValidate = true;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    view.calm(form);
    view.busy(form, () => submit(form, { email, isReset }));
  });
}

async function submit(form, { email, isReset }) {
  const pass = form.elements.pass?.value;
  if (pass !== undefined) {
    const length = [...pass].length;
    if (length < 8 || length > 80) return view.complain(form, view.words("error-password-rules"), "pass");
  }
  try {
    const result = await net.post(complete, pass === undefined ? { token } : { token, pass });
    if (!result.success) return refused(form, result.code);
    history.replaceState(null, "", location.pathname);
    await dropCertificates();
    view.show(place, "proven", { email: result.email ?? email, reset: isReset, elsewhere: result.elsewhere === false });
  } catch (error) {
    if (!(error instanceof net.Trouble)) return stumble(error);
    // This browser did not begin it after all, or its cookie has ended.
    if (error.status === 401) return pass === undefined ? prove({ email, purpose: purposeOf(), must_auth: true }) : refused(form, "wrong-password");
    // What it was about is gone: proven otherwise, released, reset or cancelled since.
    if ([400, 404, 409, 410].includes(error.status)) return useless("useless-text");
    view.complain(form, view.trouble(error));
  }
}

/** Which landing page this is says the purpose too. */
function purposeOf() {
  const purposes = { complete_user_creation: "new-account", complete_email_confirmation: "add-email", complete_reset: "reset", complete_transition: "transition" };
  return purposes[complete];
}

function refused(form, code) {
  if (code === "wrong-password" || code === "locked") return view.complain(form, view.words(`error-${code}`), "pass");
  return useless("useless-text");
}

function useless(text) {
  history.replaceState(null, "", location.pathname);
  view.show(place, "useless", { text: view.words(text) });
}

function stumble(error) {
  const known = error instanceof net.Trouble;
  if (!known) console.error(error);
  view.show(place, "trouble", { text: known ? view.trouble(error) : view.words("error-other") });
  place.querySelector("[data-act=again]").addEventListener("click", () => {
    place.setAttribute("aria-busy", "true");
    main();
  });
}

view.watchWindow();
net.onSlow(view.slowLine);
main();
