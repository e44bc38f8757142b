// The dialog: who asks, which address, what that address needs, and the assertion.
//
// Each function named for a state shows it and goes on from it. What a person sees goes by their address alone; who
// asks decides nothing but for whom the assertion is.
//
// What is shown first is a guess from what this browser keeps; what is done waits for the service's word on who is
// signed in. So there is something to read and to type into while that word is on its way.

import * as certificates from "./certificates.js";
import { NoFlow, begin, mayAsk } from "./flow.js";
import { assertion } from "./jose.js";
import { mail } from "./mailed.js";
import * as net from "./net.js";
import * as primary from "./primary.js";
import * as store from "./store.js";
import * as view from "./view.js";

const place = document.getElementById("dialog");
/** A list of addresses is believed for so long before it is asked for again beside what goes on. */
const LIST_MS = 5 * 60 * 1000;

let flow = null;
let context = null;
/** Addresses of the account that is signed in. */
let emails = [];
/** Kept as soon as `context` and `emails` are those of who is signed in. */
let recognised = null;
/** What was done first, and waits for that. */
let waiting = null;

async function main() {
  try {
    const back = await primary.back();
    recognised = recognise();
    // That it failed is told below, when it is waited for.
    recognised.catch(() => {});
    flow = await begin(back?.detour.kind).catch((error) => {
      // The window that asked was lost on the detour; signing in is still of use, for the next time.
      if (back && error instanceof NoFlow) return stranded(error);
      throw error;
    });
    // The words of what went before are not these.
    introduce();
    if (back) {
      await recognised;
      return await resume(back);
    }
    const guess = await guessed();
    await pick(guess);
    let typing = false;
    if (!guess) place.addEventListener("input", () => (typing = true), { once: true });
    await recognised;
    // What was done meanwhile goes on by itself. It began to wait later than this, so that it still waits. Nor is a field
    // taken away under somebody's hand: the Enter that was meant for it would grant what somebody before them may do.
    if (waiting || typing || same(guess, theirs())) return undefined;
    // Nobody is signed in, and an account was shown: that session has ended.
    return await pick(theirs(), { note: "note-signed-out" });
  } catch (error) {
    return stumble(error);
  }
}

/**
 * The account that was signed in when this browser was last told, if it keeps it.
 *
 * Whoever signs out here is forgotten, and never shown. A session that was ended elsewhere is learnt of only now: then
 * these addresses are in view for as long as that takes, and once. The first of them stands in the field that is shown
 * next anyway, and whoever sits at this browser can read all of them in its storage.
 */
async function guessed() {
  return (await store.all("accounts")).find((account) => account.signedIn && account.emails.length > 0) ?? null;
}

/** The account that is signed in, if it has an address to choose. */
const theirs = () => (context.authenticated && emails.length > 0 ? { userid: context.userid, emails } : null);
/** Whether two accounts look the same. */
const same = (one, other) => one?.userid === other?.userid && String(one?.emails) === String(other?.emails);
/** Asks which address: one of the account's, or any if there is no account. */
const pick = (account, otherwise = {}) => (account ? choose(account, otherwise.email) : typeEmail(otherwise));

/** Shows for whom this is. Its origin is larger than any name that it gives itself, and in ASCII. */
function introduce() {
  const header = document.getElementById("asks");
  document.documentElement.dataset.flow = flow.kind;
  if (!flow.origin) return;
  const { protocol, host } = new URL(flow.origin);
  header.querySelector(".origin").textContent = protocol === "https:" ? host : `${protocol}//${host}`;
  const { siteName, siteLogo, backgroundColor, privacyPolicy, termsOfService } = flow.params;
  const name = header.querySelector(".name");
  name.textContent = siteName ?? "";
  name.hidden = !siteName;
  const logo = header.querySelector("img");
  if (siteLogo) logo.src = siteLogo;
  logo.hidden = !siteLogo;
  if (backgroundColor) document.documentElement.style.setProperty("--site", backgroundColor);
  header.hidden = false;
  const links = document.getElementById("site-links");
  links.hidden = !privacyPolicy;
  if (privacyPolicy) {
    links.querySelector(".terms").href = termsOfService;
    links.querySelector(".privacy").href = privacyPolicy;
  }
}

/** Learns who is signed in, and remembers it for the next guess. */
async function learn(options) {
  const before = context?.userid;
  context = await net.context(options);
  if (context.emails) ({ emails } = context);
  else if (context.userid !== before) emails = [];
  await store.markSignedIn(context.userid);
}

/** Learns who is signed in, and their addresses. */
async function recognise() {
  await learn();
  if (!context.authenticated) return;
  const account = await store.get("accounts", context.userid);
  // What this browser keeps nothing of is signed in on a shared computer.
  if (!account) store.forgetWhenClosed();
  if (context.emails) {
    // Only where it still is: who signs out in another window meanwhile is not to be remembered again.
    await store.change("accounts", context.userid, (kept) => ({ ...kept, ...listed() }));
  } else if (account && Date.now() - account.fetched < LIST_MS) emails = account.emails;
  else if (account) {
    emails = account.emails;
    // Beside what the person does: an address that was removed elsewhere is refused anyway.
    list().catch(() => {});
  } else await list();
}

async function list() {
  const { userid } = context;
  const { emails: own } = await net.get("list_emails");
  // It is of who asked, and not of who has signed in since.
  if (context.userid !== userid) return;
  emails = own;
  await keepList();
}

const listed = () => ({ userid: context.userid, emails, fetched: Date.now(), signedIn: true });

async function keepList() {
  if (!store.isShared()) await store.put("accounts", listed());
}

/** Keeps the addresses of who has just been learnt of, and asks for them if that did not tell them. */
const keepTheirs = () => (context.emails ? keepList() : list());

/** Somebody has signed in. */
async function signedIn(userid, mine) {
  net.changed({ authenticated: true, userid, emails: undefined, auth_level: "password", has_password: true });
  await learn();
  if (mine) store.keepInBrowser();
  else store.forgetWhenClosed();
  // The session before it may have ended because the password changed.
  await store.dropCertificates();
  emails = [];
  if (mine) await list().catch(() => {});
}

const site = () => flow.origin ?? location.origin;
const has = (email, owned = emails) => owned.some((own) => own.toLowerCase() === email.toLowerCase());

/* ---- which address ---- */

async function choose({ userid, emails: offered }, preferred) {
  const remembered = flow.origin && (await store.get("sites", [userid, flow.origin]));
  const wanted = [preferred, flow.params.email, remembered?.email].find((email) => email && has(email, offered)) ?? offered[0];
  const account = flow.kind === "account";
  const one = offered.length === 1;
  view.show(place, "choose", { email: wanted, one: !account && one, many: !account && !one, account });
  const form = place.querySelector("form");
  const rows = form.querySelector(".addresses");
  for (const email of offered) {
    const row = view.build("address", { email });
    const radio = row.querySelector("input");
    radio.value = email;
    radio.checked = email === wanted;
    rows.append(row);
  }
  (form.querySelector("input:checked") ?? form.querySelector("button")).focus();
  // It may be that this was a guess, and wrong: nothing is done for somebody who was not shown.
  const isSignedIn = () => context.userid === userid;
  onSubmit(form, (said) => {
    const email = said.get("email");
    if (!context.authenticated) return typed(email);
    return isSignedIn() && has(email) ? use(email) : pick(theirs());
  });
  onClick("[data-act=other]", () => (isSignedIn() ? typeEmail({ adding: true }) : pick(theirs())));
  onClick("[data-act=leave]", () => leave(userid), { refuses: true });
}

/** Somebody else sits here now: nothing of who was here remains. */
async function leave(userid) {
  if (context.userid === userid) await net.post("logout");
  await store.forgetAccount(userid);
  await learn({ fresh: true });
  flow.params.email = null;
  await pick(theirs());
}

async function typeEmail({ adding = false, note, email } = {}) {
  const last = adding ? null : (await store.all("accounts")).sort((one, other) => other.fetched - one.fetched)[0];
  const hint = email ?? (adding ? "" : (flow.params.email ?? last?.emails[0] ?? ""));
  view.show(place, adding ? "email-more" : "email", { email: hint, note: note && view.say(note), account: flow.kind === "account" });
  const form = place.querySelector("form");
  onSubmit(form, async (said) => {
    const address = said.get("email").trim();
    const field = form.elements.email;
    field.value = address;
    if (!address || !field.validity.valid) return view.complain(form, view.words("error-email"), "email");
    await typed(address, adding);
  });
  onClick("[data-act=back]", () => pick(theirs()));
}

/** Goes on with what an address needs. */
async function typed(address, adding) {
  const info = await net.get("address_info", { email: address });
  const email = info.normalizedEmail ?? address;
  const more = adding && context.authenticated;
  if (more && has(email)) return use(email);
  // Typed before it was known that they are signed in: what grants is the chooser's button, which sleeps at first.
  if (context.authenticated && has(email)) return pick(theirs(), { email });
  if (info.type === "primary") return withPrimary(email, info, { adding: more });
  if (info.state === "offline") return tell("offline", { email, domain: domainOf(email) });
  if (more) return add(email);
  switch (info.state) {
    case "unknown":
      return create(email);
    case "transition_no_password":
      return create(email, { transition: true });
    case "transition_to_secondary":
      return password(email, { note: "note-transition-to-secondary" });
    default:
      return password(email);
  }
}

const domainOf = (email) => email.slice(email.lastIndexOf("@") + 1);

/** Goes on with an address of the account that is signed in. */
async function use(email) {
  if (flow.kind === "account") return flow.deliver();
  const kept = await certificates.kept(context, email);
  if (kept) return answer(email, kept);
  const info = await net.get("address_info", { email });
  if (info.type === "primary") return withPrimary(email, info);
  if (info.state === "offline") return tell("offline", { email, domain: domainOf(email) });
  if (info.state === "unverified") return confirmAgain(email);
  if (info.state === "transition_no_password") return create(email, { transition: true });
  if (context.auth_level !== "password") return password(email, { note: "note-password-needed" });
  return answer(email, await certificates.obtain(context, email));
}

/** Signs for who asked, and gives it to them. */
async function answer(email, { certificate, pair }) {
  if (flow.kind === "account" || flow.kind === "stranded") return flow.deliver();
  view.show(place, "leaving", { site: new URL(flow.origin).host });
  const said = { certificate, key: pair.privateKey, audience: flow.origin, nonce: flow.params.nonce, now: net.now() };
  const signed = await assertion(said);
  if (!store.isShared()) await store.put("sites", { userid: context.userid, origin: flow.origin, email });
  try {
    await flow.deliver({ assertion: signed, email });
  } catch (error) {
    return stumble(error);
  }
}

/* ---- passwords ---- */

function password(email, { note, then = () => use(email) } = {}) {
  const mine = place.querySelector("form")?.elements.mine?.checked ?? true;
  view.show(place, "password", { email, note: note && view.say(note) });
  const form = place.querySelector("form");
  form.elements.mine.checked = mine;
  onSubmit(form, async () => {
    const pass = form.elements.pass.value;
    if (!pass) return view.complain(form, view.words("error-password-empty"), "pass");
    const { checked } = form.elements.mine;
    const result = await net.post("authenticate_user", { email, pass, ephemeral: !checked });
    if (!result.success) {
      if (result.code === "locked") return locked(email);
      return view.complain(form, view.words(`error-${result.code}`), "pass");
    }
    await signedIn(result.userid, checked);
    await then();
  });
  onClick("[data-act=forgot]", () => reset(email));
  onClick("[data-act=other]", () => typeEmail({ email: "" }));
}

function locked(email) {
  view.show(place, "locked", { email });
  const form = place.querySelector("form");
  onSubmit(form, () => stageReset(email));
  onClick("[data-act=other]", () => typeEmail({ email: "" }));
}

function reset(email) {
  view.show(place, "forgot", { email });
  const form = place.querySelector("form");
  onSubmit(form, () => stageReset(email));
  onClick("[data-act=back]", () => password(email));
}

async function stageReset(email) {
  const stage = () => net.post("stage_reset", { email, site: site() });
  await stage();
  await mailed({ email, purpose: "reset", stage, mine: true });
}

/** A password for an address that is new, or whose domain no longer vouches for it. */
function create(email, { transition = false } = {}) {
  view.show(place, "create", { email, transition, fresh: !transition });
  const form = place.querySelector("form");
  onSubmit(form, async () => {
    const pass = newPassword(form);
    if (!pass) return;
    const mine = form.elements.mine.checked;
    const stage = () => net.post(transition ? "stage_transition" : "stage_user", { email, pass, site: site() });
    await stage();
    await mailed({ email, purpose: transition ? "transition" : "new-account", stage, pass, mine });
  });
  onClick("[data-act=other]", () => typeEmail({ email }));
}

/** One more address for who is signed in. */
function add(email) {
  view.show(place, "add", { email, password: !context.has_password });
  const form = place.querySelector("form");
  onSubmit(form, async () => {
    const more = { email, site: site() };
    if (!context.has_password) {
      more.pass = newPassword(form);
      if (!more.pass) return;
    }
    const stage = () => net.post("stage_email", more);
    await stage();
    await mailed({ email, purpose: "add-email", stage, pass: more.pass, mine: !store.isShared() });
  });
  onClick("[data-act=back]", () => pick(theirs()));
}

/** After a reset an address has to be proven once more. */
function confirmAgain(email) {
  view.show(place, "again", { email });
  const form = place.querySelector("form");
  onSubmit(form, async () => {
    const stage = () => net.post("stage_reverify", { email, site: site() });
    await stage();
    await mailed({ email, purpose: "reverify", stage, mine: !store.isShared() });
  });
  onClick("[data-act=other]", () => pick(theirs()));
}

/** Waits for the mail to be answered, here or elsewhere. */
async function mailed(what) {
  const outcome = await mail(place, what, { onSubmit, onClick });
  if (outcome === "back") return pick(theirs(), { email: what.email });
  if (outcome === "ended") return typeEmail({ email: what.email, note: "note-mail-ended" });
  if (outcome === "sign-in") return password(what.email, { note: "note-confirmed-elsewhere" });
  await learn({ fresh: true });
  if (!context.authenticated) return password(what.email, { note: "note-confirmed-elsewhere" });
  if (what.mine) store.keepInBrowser();
  else store.forgetWhenClosed();
  // A proof signs in for weeks. On a shared computer it is to be an hour, which only the password can say; and whom only
  // their domain had vouched for until now has just chosen one.
  if (what.pass && !outcome.signedIn && (!what.mine || context.auth_level !== "password")) {
    const result = await net.post("authenticate_user", { email: what.email, pass: what.pass, ephemeral: !what.mine });
    if (result.success) await learn({ fresh: true });
  }
  await store.dropCertificates();
  await keepTheirs();
  return use(what.email);
}

/* ---- domains that certify their own users ---- */

async function withPrimary(email, info, { adding = false } = {}) {
  const known = context.authenticated && !adding && has(email);
  const detour = { email, kind: flow.kind, origin: flow.origin, address: flow.address, adding, known, state: info.state };
  if (![info.auth, info.prov].every((url) => mayAsk(new URL(url).origin))) return tell("offline", { email, domain: domainOf(email) });
  busyPlace();
  const certified = await primary.framed(email, info.prov);
  if (certified) return certifiedBy(detour, certified);
  view.show(place, "primary", { email, domain: new URL(info.auth).host, changed: info.state === "transition_to_primary" });
  const form = place.querySelector("form");
  onSubmit(form, () => {
    primary.authenticate({ ...detour, mine: form.elements.mine.checked }, info.auth);
    // This page is about to be left.
    return new Promise(() => {});
  });
  onClick("[data-act=other]", () => typeEmail({ adding, email: "" }));
}

/** This window is back from such a domain. */
async function resume({ detour, outcome, certificate, pair }) {
  const { email } = detour;
  if (detour.mine === false) store.forgetWhenClosed();
  switch (outcome) {
    case "cancelled":
      return pick(theirs(), { email, note: "note-primary-cancelled" });
    case "authenticated": {
      const info = await net.get("address_info", { email });
      if (info.type !== "primary") return tell("offline", { email, domain: domainOf(email) });
      busyPlace();
      await primary.provision(detour, info.prov);
      return new Promise(() => {});
    }
    case "provisioned":
      return certifiedBy(detour, { certificate, pair });
    default:
      return tell("refused", { email, domain: domainOf(email) });
  }
}

/** The domain has certified a key of ours: that signs in to Persona itself, and then to who asked. */
async function certifiedBy({ email, origin, adding, known, state, mine = true }, { certificate, pair }) {
  busyPlace();
  const own = { certificate, key: pair.privateKey, audience: location.origin, now: net.now() };
  if (known && context.authenticated) {
    if (state === "transition_to_primary") await net.post("used_address_as_primary", { email });
  } else if (adding && context.authenticated) {
    const result = await net.post("add_email_with_assertion", { assertion: await assertion(own) });
    if (!result.success) throw new net.Trouble(result.code ?? "bad-certificate", result);
    await list();
  } else {
    const result = await net.post("auth_with_assertion", { assertion: await assertion(own), ephemeral: !mine });
    if (!result.success) throw new net.Trouble(result.code ?? "bad-certificate", result);
    if (mine) store.keepInBrowser();
    else store.forgetWhenClosed();
    await store.dropCertificates();
    await learn({ fresh: true });
    await keepTheirs();
  }
  const entry = await certificates.keep(context, email, pair, certificate);
  if (!entry) throw new net.Trouble("bad-certificate");
  // Somebody else sits behind this window now than when the person said yes: that takes another yes.
  if (flow.kind !== "stranded" && origin !== flow.origin) return pick(theirs());
  return answer(email, entry);
}

/** A flow whose window was lost on the way. */
function stranded(error) {
  return {
    kind: "stranded",
    origin: null,
    params: {},
    address: "/sign_in",
    deliver: () => stumble(new NoFlow("signed-in-go-back")),
    cancel: () => stumble(error),
  };
}

/* ---- what all states share ---- */

/** A password as rules want it, or a complaint. */
function newPassword(form) {
  const pass = form.elements.pass.value;
  const length = [...pass].length;
  if (length >= 8 && length <= 80) return pass;
  view.complain(form, view.words("error-password-rules"), "pass");
  return null;
}

function busyPlace() {
  place.setAttribute("aria-busy", "true");
}

/** A state that only says something. */
function tell(state, data) {
  view.show(place, state, data);
  onClick("[data-act=other]", () => typeEmail({ email: "" }));
}

function onSubmit(form, act) {
  form.noValidate = true;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    view.calm(form);
    // As it is in this moment: whoever goes on typing while it waits has said this.
    const said = new FormData(form);
    view.busy(form, () => attempt(form, () => act(said)));
  });
}

function onClick(selector, act, options) {
  for (const button of place.querySelectorAll(selector)) {
    const form = button.closest("form");
    button.addEventListener("click", () => attempt(form, act, options));
  }
}

/**
 * Does it once it is known who is signed in, and says in the form what went wrong. The first thing that is done is what
 * waits, unless something that `refuses` comes after it.
 */
async function attempt(form, act, { refuses = false } = {}) {
  if (waiting && !refuses) return undefined;
  const turn = (waiting = {});
  try {
    await recognised;
  } catch {
    // `main` tells it.
    if (waiting === turn) waiting = null;
    return undefined;
  }
  if (waiting !== turn) return undefined;
  waiting = null;
  try {
    await act();
  } catch (error) {
    if (await isOver(error)) return typeEmail({ note: "note-signed-out" });
    if (error.code === "password-too-old" && emails.length > 0) {
      return password(emails[0], { note: "note-password-needed", then: act });
    }
    place.removeAttribute("aria-busy");
    if (form?.isConnected && form.querySelector(".error") && error instanceof net.Trouble) {
      return view.complain(form, view.trouble(error));
    }
    return stumble(error);
  }
}

/** Whether the session ended meanwhile, elsewhere perhaps. */
async function isOver(error) {
  if (!(error instanceof net.Trouble) || ![400, 401, 403].includes(error.status) || !context?.authenticated) return false;
  await learn({ fresh: true }).catch(() => {});
  return !context.authenticated;
}

/** Nothing goes on from here but by trying again. */
function stumble(error) {
  if (error instanceof NoFlow) {
    view.show(place, "notice", { text: view.words(`flow-${error.code}`), account: error.code !== "no-opener" });
    return;
  }
  const known = error instanceof net.Trouble;
  view.show(place, "trouble", { text: known ? view.trouble(error) : view.words("error-other") });
  // A defect of this page: for who looks into it. It names no address.
  if (!known) console.error(error);
  place.querySelector("[data-act=again]").addEventListener("click", () => {
    busyPlace();
    main();
  });
}

document.getElementById("cancel").addEventListener("click", () => {
  waiting = null;
  if (flow) flow.cancel().catch(stumble);
  else if (window.opener) window.close();
  else location.replace("/");
});

view.watchWindow();
net.onSlow(view.slowLine);
main();
