// Addresses whose domain certifies its users itself (a primary).
//
// A key made here is shown to the domain's provisioning page, which answers with a certificate if its person is signed
// in there. That page is framed once: where browsers keep a frame from its own cookies it says no, and would say so
// for ever. Then the person signs in at the domain, in this window, and the provisioning page is asked in this window
// too, where it has its cookies. If it refuses once more, that is an error in words.
//
// On a detour this window remembers in its own storage where it was, and by a random `state` which key it showed. What
// comes back is taken only with that state, once, and only if it certifies that very key and address.

import { base64url } from "./jose.js";
import { endOf, newPair } from "./certificates.js";
import * as store from "./store.js";

/** How long a frame may take: a page, its script and a signature. */
const FRAME_MS = 6000;
/** What primaries are asked for; they may give less. */
const DURATION_S = 6 * 3600;
const SHARED_DURATION_S = 3600;
/** How long one may be away. */
const DETOUR_MS = 30 * 60 * 1000;
const DETOUR = "persona.detour";
const CERTIFICATE_MAX = 10_240;

const duration = () => (store.isShared() ? SHARED_DURATION_S : DURATION_S);

/** Tries in a frame. `null`: not without signing in there first. */
export async function framed(email, prov) {
  const pair = await newPair();
  const { origin } = new URL(prov);
  const frame = document.createElement("iframe");
  frame.hidden = true;
  frame.title = "";
  const certificate = await new Promise((resolve) => {
    const late = setTimeout(() => end(null), FRAME_MS);
    function heard(event) {
      if (event.source !== frame.contentWindow || event.origin !== origin || event.data?.persona !== 1) return;
      const { type, certificate } = event.data;
      if (type === "provision") {
        const begin = { persona: 1, type: "begin", email, duration: duration(), pubkey: JSON.stringify(pair.jwk) };
        frame.contentWindow.postMessage(begin, origin);
      } else if (type === "certificate") end(certificate);
      else if (type === "failure") end(null);
    }
    function end(value) {
      clearTimeout(late);
      removeEventListener("message", heard);
      resolve(value);
    }
    addEventListener("message", heard);
    frame.src = prov;
    document.body.append(frame);
  });
  frame.remove();
  return fits(certificate, pair, email) ? { pair, certificate } : null;
}

function fits(certificate, pair, email) {
  return typeof certificate === "string" && certificate.length <= CERTIFICATE_MAX && endOf(certificate, pair, email) !== null;
}

/** Leaves for the domain's sign-in page. It comes back to `/sign_in#AUTH_RETURN`. */
export function authenticate(detour, auth) {
  remember({ ...detour, stage: "auth" });
  const url = new URL(auth);
  url.searchParams.set("email", detour.email);
  location.assign(url.href);
}

/** Leaves for the domain's provisioning page. It comes back to `/sign_in#PROVISIONED=` or `#PROVISION_FAILED=`. */
export async function provision(detour, prov) {
  const pair = await newPair();
  const state = base64url(crypto.getRandomValues(new Uint8Array(16)));
  // A key that cannot be taken out of the browser can only wait in its storage, on a shared computer as well: until
  // this window is back, or for as long as a detour counts.
  await store.put("pending", { state, email: detour.email, pair, until: Date.now() + DETOUR_MS }, { always: true });
  remember({ ...detour, stage: "provision", state });
  const begin = { email: detour.email, duration: duration(), pubkey: JSON.stringify(pair.jwk), state };
  const url = new URL(prov);
  url.hash = `persona=${base64url(new TextEncoder().encode(JSON.stringify(begin)))}`;
  location.replace(url.href);
}

function remember(detour) {
  sessionStorage.setItem(DETOUR, JSON.stringify({ ...detour, until: Date.now() + DETOUR_MS }));
}

/** What this window comes back with, if it does: `{ detour, outcome, certificate?, pair? }`, outcome one of
    `authenticated`, `cancelled`, `provisioned`, `refused`. The address forgets it first. */
export async function back() {
  const { hash } = location;
  const kept = JSON.parse(sessionStorage.getItem(DETOUR));
  const [, mark, rest] = /^#(AUTH_RETURN_CANCEL|AUTH_RETURN|PROVISIONED|PROVISION_FAILED)(?:=(.*))?$/.exec(hash) ?? [];
  if (!mark) return null;
  if (kept?.kind === "redirect" && location.search === "") {
    // The flow that it was about is in its own address.
    location.replace(kept.address + hash);
    return new Promise(() => {});
  }
  history.replaceState(null, "", location.pathname + location.search);
  sessionStorage.removeItem(DETOUR);
  await sweep();
  if (!kept || kept.until < Date.now()) return null;
  const detour = kept;
  if (mark === "AUTH_RETURN_CANCEL" && kept.stage === "auth") return { detour, outcome: "cancelled" };
  if (mark === "AUTH_RETURN" && kept.stage === "auth") return { detour, outcome: "authenticated" };
  if (kept.stage !== "provision" || !rest) return null;
  const [state, ...certificate] = rest.split(".");
  if (state !== kept.state) return null;
  const pending = await store.get("pending", state);
  await store.remove("pending", state);
  if (mark === "PROVISIONED" && pending && fits(certificate.join("."), pending.pair, kept.email)) {
    return { detour, outcome: "provisioned", certificate: certificate.join("."), pair: pending.pair };
  }
  return { detour, outcome: "refused" };
}

/** Keys of detours that nobody came back from. */
async function sweep() {
  for (const { state, until } of await store.all("pending")) {
    if (until < Date.now()) await store.remove("pending", state);
  }
}
