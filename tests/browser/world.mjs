// The world that stories happen in: `persona world`, with Persona behind one origin, an email domain, a mail reader, and
// hands that kill data centers.
//
// `cargo test --test browser` starts one and says in WORLD_URL where its page is; so can whoever runs `persona world`.

import http from "node:http";

/** Where the world's page is, which also tells it what to do. */
export const WORLD = (process.env.WORLD_URL ?? "http://127.0.0.1:8080").replace(/\/$/, "");

/** How long anything may take that a story waits for, on a machine that has much else to do. */
export const PATIENCE_MS = 30_000;
/** Between two looks at something that no event announces. */
const LOOK_MS = 100;

/** A request from this process, also to names below `localhost`, which resolvers need not know: its status and words. */
export function send(address, { body, headers = {}, method = body === undefined ? "GET" : "POST" } = {}) {
  const url = new URL(address);
  const options = {
    host: url.hostname.endsWith(".localhost") ? "127.0.0.1" : url.hostname,
    port: url.port || 80,
    path: url.pathname + url.search,
    method,
    headers: { Host: url.host, "Content-Type": "application/json", ...headers },
  };
  return new Promise((resolve, reject) => {
    const request = http.request(options, (answer) => {
      let text = "";
      answer.on("data", (part) => (text += part));
      answer.on("end", () => resolve({ status: answer.statusCode, headers: answer.headers, text }));
      answer.on("error", reject);
    });
    request.on("error", reject);
    request.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** What is answered, as JSON. */
export async function ask(address, body, headers) {
  const { status, text } = await send(address, { body, headers });
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${address} answered ${status}: ${text.slice(0, 200)}`);
  }
}

/** Waits until `look` gives something, and gives that. */
export async function until(what, look, patience = PATIENCE_MS, every = LOOK_MS) {
  const late = Date.now() + patience;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > late) throw new Error(`${what}: not within ${patience / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, every));
  }
}

/** The world as its page sees it. */
export const theWorld = () => ask(`${WORLD}/api/world`);

const { places } = (await theWorld()).web;
const origin = (place) => new URL(place).origin;

export const PERSONA = origin(places.persona);
export const SHOP = origin(places.shop);
export const EVIL = origin(places.evil);
export const IDP = origin(places.idp);
export const INBOX = places.inbox;
/** The data centers, by name. */
export const SITES = (await theWorld()).sites.map(({ name }) => name);

/* ---- hands ---- */

/** Tells the world what to do. */
export async function tell(path, body = null) {
  const { status, text } = await send(`${WORLD}/api/${path}`, { body, headers: { "X-Persona-World": "1" } });
  if (status !== 204) throw new Error(`${path}: ${status} ${text}`);
}

/** Which data center answers a browser that is sent to any. */
export async function serving() {
  const { web, sites } = await theWorld();
  return sites[web.serving]?.name;
}

/** Sends everybody to this one while it is well; `null`: to whichever is. */
export async function choose(name) {
  await tell("front", { site: name });
  if (name) await until(`${name} serves`, async () => (await serving()) === name);
}

/** Starts whoever is down. One that is killed again meanwhile is a matter for the next time. */
async function revive() {
  const down = (await theWorld()).sites.filter(({ life }) => life === "down");
  await Promise.all(down.map(({ name }) => tell(`sites/${name}/restart`).catch(() => {})));
}

/** Starts whoever dies, from now on until what this gives is called. */
export function keepReviving() {
  let over = false;
  const kept = (async () => {
    while (!over) {
      await revive();
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  })();
  return () => {
    over = true;
    return kept;
  };
}

/** All data centers are started, and in use. */
export async function heal() {
  await until("all data centers are well", async () => {
    await revive();
    return (await theWorld()).web.well.length === SITES.length;
  });
}

/** The next call of this path has the data center killed that it goes to: `before` it is heard, or `after` it was answered
    there, whose answer is thrown away. Which one was killed is in the state's `web.ambushed`. */
export async function ambush(path, when) {
  await tell("front/ambush", { path, when });
}

/* ---- mail ---- */

let number = 0;
/** An address that no other story has. */
export function address(name = "ada") {
  return `${name}.${process.pid}.${Date.now().toString(36)}${number++}@mail.localhost`.toLowerCase();
}

/** An address of the domain that certifies its own users. */
export function user() {
  return `user${process.pid}${Date.now().toString(36)}${number++}@${new URL(IDP).hostname}`;
}

/** Nobody is sent two mails within this, whatever for. */
const BETWEEN_MAILS_MS = 60_000;
const seen = new Set();
const last = new Map();

/** All mails to an address, the newest first. */
export const mailsTo = (to) => ask(`${INBOX}.json?to=${encodeURIComponent(to)}`);

/** The newest mail to an address that proves something and was not seen before; waits for it. */
export function mailTo(to) {
  return until("a mail", async () => {
    const mails = await mailsTo(to);
    const fresh = mails.find(({ id, token }) => token && !seen.has(id));
    for (const { id } of fresh ? mails : []) seen.add(id);
    if (fresh) last.set(to, fresh.at_ms);
    return fresh;
  });
}

/** Waits until this address may be sent another mail. */
export async function mayBeWrittenTo(to) {
  const pause = (last.get(to) ?? 0) + BETWEEN_MAILS_MS - Date.now();
  if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
}
