// Keys and certificates: one key for each account and address in this browser, certified for a day and used until then.

import { claims } from "./jose.js";
import * as net from "./net.js";
import * as store from "./store.js";

const CURVE = { name: "ECDSA", namedCurve: "P-256" };
/** A certificate that ends before an assertion would is of no use. */
const SPARE_MS = 3 * 60 * 1000;
/** A key is certified anew for so long; then it makes room for another one. */
const KEY_MS = 30 * 24 * 3600 * 1000;

/** A key that signs here and nowhere else. */
export async function newPair() {
  const pair = await crypto.subtle.generateKey(CURVE, false, ["sign", "verify"]);
  const { kty, crv, x, y } = await crypto.subtle.exportKey("jwk", pair.publicKey);
  return { privateKey: pair.privateKey, jwk: { kty, crv, x, y } };
}

const same = (one, other) => String(one).toLowerCase() === String(other).toLowerCase();

/** Whether a certificate is for this key and address, and when it ends. `null`: it is not. */
export function endOf(certificate, pair, email) {
  try {
    const { exp, principal, "public-key": key } = claims(certificate);
    const ours = key.kty === "EC" && key.crv === "P-256" && key.x === pair.jwk.x && key.y === pair.jwk.y;
    return ours && same(principal.email, email) && Number.isFinite(exp) ? exp : null;
  } catch {
    return null;
  }
}

/** A certificate of this browser that is good for another while. */
export async function kept(context, email) {
  const entry = await store.get("keys", [context.userid, email.toLowerCase()]);
  if (!entry?.certificate || entry.ends < net.now() + SPARE_MS) return null;
  // The service's key was changed or revoked since: what older ones certified is verified no more. A primary's
  // certificate is of another issuer, and stays.
  const { iat, iss } = claims(entry.certificate);
  const older = !(iat >= (context.domain_key_creation_time ?? 0));
  if (older && iss === location.hostname) return null;
  return entry;
}

/** Keeps a certificate for later. `null`: it is not for this key, or not for this address, or over. */
export async function keep(context, email, pair, certificate) {
  const ends = endOf(certificate, pair, email);
  if (ends === null || ends < net.now()) return null;
  const entry = { userid: context.userid, email: email.toLowerCase(), pair, certificate, ends, made: pair.made ?? Date.now() };
  await store.put("keys", entry);
  return entry;
}

/** The kept certificate, or a new one from the service: for an address that it certifies itself. */
export async function obtain(context, email) {
  const found = await kept(context, email);
  if (found) return found;
  const old = await store.get("keys", [context.userid, email.toLowerCase()]);
  const pair = old && Date.now() - old.made < KEY_MS ? old.pair : { ...(await newPair()), made: Date.now() };
  const pubkey = JSON.stringify(pair.jwk);
  const certificate = await net.post("cert_key", { email, pubkey, ephemeral: store.isShared() }, { as: "text" });
  const entry = await keep(context, email, pair, certificate.trim());
  if (!entry) throw new net.Trouble("bad-certificate");
  return entry;
}
