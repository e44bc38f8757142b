// The start page: for who is signed in, their account; for others, what this is.

import { mail } from "./mailed.js";
import * as net from "./net.js";
import * as store from "./store.js";
import * as view from "./view.js";

const place = document.getElementById("page");
const ask = document.getElementById("ask");
let context = null;
let details = null;

async function main() {
  try {
    await learn();
    if (!context.authenticated) return view.show(place, "welcome");
    details = await net.get("account_details");
    if (!(await store.get("accounts", context.userid))) store.forgetWhenClosed();
    return account();
  } catch (error) {
    return stumble(error);
  }
}

function account() {
  view.show(place, "account", { has_password: details.has_password });
  drawAddresses();
  for (const email of details.lost ?? []) place.querySelector("#lost ul").append(view.build("row-lost", { email }));
  place.querySelector("#lost").hidden = !details.lost?.length;
  drawSessions();
  on("add", addAddress);
  on("password", changePassword);
  on("sign-out", signOut);
  on("everywhere", () => withPassword(async () => over(await net.post("sign_out_everywhere"), "said-everywhere")));
  on("cancel", cancelAccount);
}

function on(act, handler) {
  for (const button of place.querySelectorAll(`[data-act=${act}]`)) button.addEventListener("click", () => attempt(null, handler));
}

/* ---- addresses ---- */

function drawAddresses() {
  const rows = place.querySelector("#addresses ul");
  rows.replaceChildren();
  for (const { email, verified, type } of details.emails) {
    const row = view.build("row-address", { email, primary: type === "primary", unverified: !verified });
    row.querySelector("[data-act=remove]").addEventListener("click", () => attempt(null, () => removeAddress(email)));
    row.querySelector("[data-act=again]")?.addEventListener("click", () => attempt(null, () => confirmAgain(email)));
    for (const button of row.querySelectorAll("button")) button.setAttribute("aria-label", `${button.textContent.trim()}: ${email}`);
    rows.append(row);
  }
  view.sleep();
}

function addAddress() {
  const sub = open("#addresses", "form-add", { password: !details.has_password });
  const form = sub.querySelector("form");
  onSubmit(form, async () => {
    const field = form.elements.email;
    field.value = field.value.trim();
    if (!field.value || !field.validity.valid) return view.complain(form, view.words("error-email"), "email");
    const email = field.value;
    const info = await net.get("address_info", { email });
    // Its domain vouches for it: that takes the dialog, which can go there.
    if (info.type === "primary") return location.assign(`/sign_in#email=${encodeURIComponent(email)}`);
    const more = { email, site: location.origin };
    if (!details.has_password) {
      more.pass = form.elements.pass.value;
      if (!fits(more.pass)) return view.complain(form, view.words("error-password-rules"), "pass");
    }
    const stage = () => net.post("stage_email", more);
    await withPassword(stage);
    await proven(sub, { email, purpose: "add-email", stage, pass: more.pass, mine: !store.isShared() });
  });
}

async function confirmAgain(email) {
  const stage = () => net.post("stage_reverify", { email, site: location.origin });
  await withPassword(stage);
  await proven(open("#addresses"), { email, purpose: "reverify", stage, mine: !store.isShared() });
}

/** Waits for the mail in the page, and shows what came of it. */
async function proven(sub, what) {
  const outcome = await mail(sub, what, { onSubmit, onClick: (selector, act) => onClick(sub, selector, act) });
  sub.replaceChildren();
  if (outcome === "back") return;
  if (outcome === "ended") return said("said-mail-ended");
  await store.dropCertificates();
  await reload();
  said(details.emails.some(({ email }) => same(email, what.email)) ? "said-added" : "said-elsewhere", { email: what.email });
}

function removeAddress(email) {
  const sub = open("#addresses", "form-remove", { email });
  const form = sub.querySelector("form");
  onSubmit(form, () =>
    withPassword(async () => {
      const result = await net.post("remove_email", { email });
      await store.remove("keys", [context.userid, email.toLowerCase()]);
      await reload();
      said("said-removed", { email }, result);
    }),
  );
}

/* ---- password, sessions ---- */

function changePassword() {
  const sub = open("#password", "form-password", { email: details.emails[0]?.email });
  const form = sub.querySelector("form");
  onSubmit(form, async () => {
    const { oldpass, pass } = form.elements;
    if (!oldpass.value) return view.complain(form, view.words("error-password-empty"), "oldpass");
    if (!fits(pass.value)) return view.complain(form, view.words("error-password-rules"), "pass");
    const result = await net.post("update_password", { oldpass: oldpass.value, newpass: pass.value });
    if (!result.success) return view.complain(form, view.words(`error-${result.code}`), "oldpass");
    await store.dropCertificates();
    await reload();
    said("said-password", {}, result);
  });
}

async function drawSessions() {
  const rows = place.querySelector("#sessions ul");
  try {
    const { sessions } = await net.get("list_sessions");
    const format = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
    rows.replaceChildren();
    for (const { id, current, seen_ms: seen, device } of sessions) {
      const row = view.build("row-session", { device, current, when: format.format(seen) });
      const end = row.querySelector("[data-act=end]");
      end?.setAttribute("aria-label", `${end.textContent.trim()}: ${device}`);
      end?.addEventListener("click", () =>
        attempt(null, () =>
          withPassword(async () => {
            const result = await net.post("end_session", { id });
            await drawSessions();
            said("said-ended", {}, result);
          }),
        ),
      );
      rows.append(row);
    }
    view.sleep();
  } catch (error) {
    if (!(error instanceof net.Trouble)) throw error;
    rows.replaceChildren(Object.assign(document.createElement("li"), { textContent: view.trouble(error) }));
  }
}

async function signOut() {
  const { userid } = context;
  await net.post("logout");
  await store.forgetAccount(userid);
  await main();
}

/** All other sessions have ended; this one does, too. */
async function over(result, text) {
  await net.post("logout");
  await store.forgetAccount(context.userid);
  await main();
  if (!context.authenticated) view.show(place, "welcome");
  said(text, {}, result);
}

function cancelAccount() {
  const sub = open("#cancel", "form-cancel");
  const form = sub.querySelector("form");
  onSubmit(form, async () => {
    if (!form.elements.sure.checked) return view.complain(form, view.words("error-sure"), "sure");
    await withPassword(async () => {
      const result = await net.post("account_cancel");
      await store.forgetAccount(context.userid);
      context = await net.context({ fresh: true }).catch(() => context);
      view.show(place, "cancelled", { elsewhere: result.elsewhere === false });
    });
  });
}

/* ---- what all of it shares ---- */

const same = (one, other) => one.toLowerCase() === other.toLowerCase();

function fits(pass) {
  const length = [...pass].length;
  return length >= 8 && length <= 80;
}

/** Opens a form in its card; another one that was open closes. */
function open(card, state, data) {
  for (const sub of place.querySelectorAll(".sub")) sub.replaceChildren();
  const sub = place.querySelector(`${card} .sub`);
  if (!state) return sub;
  view.show(sub, state, data);
  onClick(sub, "[data-act=close]", () => sub.replaceChildren());
  return sub;
}

/** Learns who is signed in, for the dialog's first guess too. */
async function learn() {
  context = await net.context({ fresh: true });
  await store.markSignedIn(context.userid);
}

async function reload() {
  await learn();
  if (!context.authenticated) return main();
  details = await net.get("account_details");
  const emails = details.emails.filter(({ verified }) => verified).map(({ email }) => email);
  await store.change("accounts", context.userid, (kept) => ({ ...kept, emails, fetched: Date.now() }));
  account();
}

/** Says what was done; and that it is not yet done everywhere, if so. */
function said(text, data = {}, result = {}) {
  let line = document.getElementById("said");
  if (!line) {
    line = Object.assign(document.createElement("p"), { id: "said", className: "note" });
    line.setAttribute("role", "status");
    place.prepend(line);
  }
  line.textContent = view.say(text, data) + (result.elsewhere === false ? ` ${view.words("elsewhere")}` : "");
  line.hidden = false;
  line.scrollIntoView({ block: "nearest" });
}

/** Does what needs a password that was given lately; asks for it if it was not. */
async function withPassword(act) {
  try {
    return await act();
  } catch (error) {
    if (error.code !== "password-too-old" || !(await givePassword())) throw error;
    return act();
  }
}

function givePassword() {
  const email = details.emails.find(({ verified }) => verified)?.email ?? details.emails[0]?.email;
  if (!email) return false;
  ask.showModal();
  view.show(ask, "ask-password", { email });
  return new Promise((resolve) => {
    const shown = ask.querySelector("form");
    onSubmit(shown, async () => {
      const pass = shown.elements.pass.value;
      if (!pass) return view.complain(shown, view.words("error-password-empty"), "pass");
      const result = await net.post("authenticate_user", { email, pass, ephemeral: store.isShared() });
      if (!result.success) return view.complain(shown, view.words(`error-${result.code}`), "pass");
      resolve(true);
      ask.close();
    });
    onClick(ask, "[data-act=close]", () => ask.close());
    ask.addEventListener("close", () => resolve(false), { once: true });
  });
}

function onSubmit(form, act) {
  form.noValidate = true;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    view.calm(form);
    view.busy(form, () => attempt(form, act));
  });
}

function onClick(within, selector, act) {
  for (const button of within.querySelectorAll(selector)) button.addEventListener("click", () => attempt(button.closest("form"), act));
}

async function attempt(form, act) {
  try {
    await act();
  } catch (error) {
    if (error instanceof net.Trouble && [400, 401, 403].includes(error.status)) {
      await learn().catch(() => {});
      if (!context.authenticated) return view.show(place, "welcome");
    }
    if (!(error instanceof net.Trouble)) return stumble(error);
    if (form?.isConnected && form.querySelector(".error")) return view.complain(form, view.trouble(error));
    const line = view.trouble(error);
    said("error-other");
    document.getElementById("said").textContent = line;
  }
}

function stumble(error) {
  const known = error instanceof net.Trouble;
  if (!known) console.error(error);
  view.show(place, "trouble", { text: known ? view.trouble(error) : view.words("error-other") });
  onClick(place, "[data-act=again]", () => {
    place.setAttribute("aria-busy", "true");
    return main();
  });
}

view.watchWindow();
net.onSlow(view.slowLine);
main();
