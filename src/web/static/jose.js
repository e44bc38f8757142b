// What the dialog signs and seals: assertions (a JWS, RFC 7515) and the way back of a redirection (a JWE, RFC 7516).

const encoder = new TextEncoder();
const CURVE = { name: "ECDH", namedCurve: "P-256" };
/** How long an assertion is good for. */
export const ASSERTION_MS = 2 * 60 * 1000;

export function base64url(bytes) {
  let text = "";
  for (const byte of new Uint8Array(bytes)) text += String.fromCharCode(byte);
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function json(value) {
  return base64url(encoder.encode(JSON.stringify(value)));
}

/** The claims of a token, unverified: what a certificate says is judged by whoever gets it. */
export function claims(token) {
  const part = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part), (char) => char.charCodeAt(0))));
}

/** A certificate and an assertion for one audience, signed here by a key that never leaves this browser. */
export async function assertion({ certificate, key, audience, nonce, now }) {
  const said = { aud: audience, exp: Math.round(now) + ASSERTION_MS };
  if (nonce) said.nonce = nonce;
  const signed = `${json({ alg: "ES256", typ: "browserid-assertion+jwt" })}.${json(said)}`;
  const signature = await crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, key, encoder.encode(signed));
  return `${certificate}~${signed}.${base64url(signature)}`;
}

/** Seals a value for the one that has the key: ECDH-ES with A256GCM, RFC 7518 §4.6. */
export async function encrypt(value, jwk) {
  const { kty, crv, x, y } = jwk;
  const theirs = await crypto.subtle.importKey("jwk", { kty, crv, x, y }, CURVE, false, []);
  const ours = await crypto.subtle.generateKey(CURVE, true, ["deriveBits"]);
  const epk = await crypto.subtle.exportKey("jwk", ours.publicKey);
  const head = json({ alg: "ECDH-ES", enc: "A256GCM", epk: { kty: epk.kty, crv: epk.crv, x: epk.x, y: epk.y } });
  const secret = await crypto.subtle.deriveBits({ name: "ECDH", public: theirs }, ours.privateKey, 256);
  const key = await crypto.subtle.importKey("raw", await concatKdf(secret, "A256GCM"), "AES-GCM", false, ["encrypt"]);
  const iv = crypto.getRandomValues(new Uint8Array(12));
  const sealed = await crypto.subtle.encrypt(
    { name: "AES-GCM", iv, additionalData: encoder.encode(head) },
    key,
    encoder.encode(JSON.stringify(value)),
  );
  const tag = sealed.byteLength - 16;
  return `${head}..${base64url(iv)}.${base64url(sealed.slice(0, tag))}.${base64url(sealed.slice(tag))}`;
}

/** One round, for a key of 256 bits: SHA-256 of the counter, the secret and what the key is for. */
async function concatKdf(secret, algorithm) {
  const uint32 = (number) => [0, 0, number >> 8, number & 255];
  const about = [...uint32(algorithm.length), ...encoder.encode(algorithm), ...uint32(0), ...uint32(0), ...uint32(256)];
  return crypto.subtle.digest("SHA-256", new Uint8Array([...uint32(1), ...new Uint8Array(secret), ...about]));
}
