// Requests to the service, of which any one may meet a site that has just died.
//
// What a person did is sent with one `Idempotency-Key`, however often it takes: whoever answers in the end, it was done
// once. An answer that says no is a value or a `Trouble`; an answer that does not come is asked for again.

/** How long one try may take: a password is hashed meanwhile, and others' before it. */
const TRY_MS = 10_000;
/** How long all tries together may take before the person is told. */
const ALL_MS = 40_000;
const BACKOFF_MS = [250, 500, 1000, 2000, 4000];
/** After this the person is told that it takes longer than it should. */
const SLOW_MS = 2500;

/** The service refused, or could not be reached. `code` names the words. */
export class Trouble extends Error {
  constructor(code, { status = 0, reason = "", retryAfter = 0 } = {}) {
    super(reason || code);
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

let known = null;
let asking = null;
let slow = () => {};

/** Calls `listener(true)` while something takes long, and `listener(false)` when it no longer does. */
export function onSlow(listener) {
  slow = listener;
}

/** Who is signed in here, as the service sees it; asked once, and again after what changes it. */
export async function context({ fresh = false } = {}) {
  if (known && !fresh) return known;
  asking ??= load().finally(() => (asking = null));
  return asking;
}

async function load() {
  const answer = await send("session_context", { method: "GET" });
  known = { ...(await answer.json()), heard: performance.now() };
  return known;
}

/** What the context says of the session has changed. */
export function changed(what) {
  known = { ...known, ...what };
}

/** The service's clock, in milliseconds since 1970: this machine's may be wrong. It is behind by an answer's way at most. */
export function now() {
  return known.server_time + (performance.now() - known.heard);
}

export async function get(name, params = {}) {
  const query = new URLSearchParams(params).toString();
  const answer = await send(query ? `${name}?${query}` : name, { method: "GET" });
  return answer.json();
}

/** Does something once. */
export async function post(name, params = {}, { as = "json" } = {}) {
  const key = crypto.randomUUID();
  for (let again = false; ; again = true) {
    const { csrf_token: csrf } = await context({ fresh: again });
    try {
      const body = JSON.stringify({ ...params, csrf });
      const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
      const answer = await send(name, { method: "POST", headers, body });
      return as === "text" ? answer.text() : answer.json();
    } catch (trouble) {
      // The session was replaced since, in another window perhaps: the new value will do.
      if (again || !(trouble instanceof Trouble) || !/csrf|cookie/.test(trouble.code)) throw trouble;
    }
  }
}

async function send(path, init) {
  const began = performance.now();
  const told = setTimeout(() => slow(true), SLOW_MS);
  try {
    for (let tried = 0; ; tried++) {
      const { answer, trouble } = await once(path, init);
      if (answer) return answer;
      const backoff = BACKOFF_MS[Math.min(tried, BACKOFF_MS.length - 1)] * (0.75 + Math.random() / 2);
      const pause = Math.max(backoff, trouble.retryAfter * 1000);
      if (!trouble.passing || performance.now() - began + pause > ALL_MS) throw trouble;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  } finally {
    clearTimeout(told);
    slow(false);
  }
}

async function once(path, init) {
  let answer;
  try {
    const options = { credentials: "same-origin", cache: "no-store", redirect: "error", signal: AbortSignal.timeout(TRY_MS) };
    answer = await fetch(`/wsapi/${path}`, { ...options, ...init });
    if (answer.ok) return { answer: await whole(answer) };
  } catch {
    return { trouble: passing(new Trouble("unreachable")) };
  }
  const retryAfter = Number(answer.headers.get("Retry-After")) || 0;
  const { status } = answer;
  // An error in between is no JSON.
  const { code, reason } = await answer.json().catch(() => ({}));
  if (status >= 502 && status <= 504) {
    return { trouble: passing(new Trouble("unavailable", { status, reason, retryAfter })) };
  }
  return { trouble: new Trouble(code || `status-${status}`, { status, reason, retryAfter }) };
}

/** An answer that broke off in the middle is none. */
async function whole(answer) {
  const body = await answer.text();
  return { json: () => JSON.parse(body), text: () => body };
}

function passing(trouble) {
  trouble.passing = true;
  return trouble;
}
