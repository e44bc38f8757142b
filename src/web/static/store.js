// What this browser keeps: keys that cannot be taken out of it, their certificates, and the addresses of who uses it.
//
// On a shared computer nothing is kept: it lives in this page's memory and ends with it. A browser without storage
// (some private windows) is treated alike.

const NAME = "persona";
const STORES = {
  // userid -> { userid, emails, fetched, signedIn }: the addresses as they were when they were fetched, and whether this
  // account was signed in here when the service last said who is
  accounts: { keyPath: "userid" },
  // [userid, email] -> { userid, email, pair, certificate, ends }
  keys: { keyPath: ["userid", "email"] },
  // [userid, origin] -> { userid, origin, email }: which address one has at which site
  sites: { keyPath: ["userid", "origin"] },
  // state -> { state, email, pair, ... }: a key whose certificate is fetched on a detour
  pending: { keyPath: "state" },
};

const memory = Object.fromEntries(Object.keys(STORES).map((name) => [name, new Map()]));
let shared = false;
let opening = null;

/** From now on nothing is kept beyond this page. */
export function forgetWhenClosed() {
  shared = true;
}

/** From now on things are kept. */
export function keepInBrowser() {
  shared = false;
}

export function isShared() {
  return shared;
}

function open() {
  opening ??= new Promise((resolve) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      for (const [name, options] of Object.entries(STORES)) request.result.createObjectStore(name, options);
    };
    request.onsuccess = () => {
      request.result.onversionchange = () => request.result.close();
      resolve(request.result);
    };
    request.onerror = () => resolve(null);
    request.onblocked = () => resolve(null);
  }).catch(() => null);
  return opening;
}

const name = (key) => JSON.stringify(key);

async function request(store, mode, act) {
  const database = await open();
  if (!database) return undefined;
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(store, mode);
    const asked = act(transaction.objectStore(store));
    transaction.oncomplete = () => resolve(asked?.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  }).catch(() => undefined);
}

export async function get(store, key) {
  return memory[store].get(name(key)) ?? (await request(store, "readonly", (objects) => objects.get(key)));
}

export async function all(store) {
  const kept = (await request(store, "readonly", (objects) => objects.getAll())) ?? [];
  return [...kept, ...memory[store].values()];
}

/** Keeps a value; `always`: also on a shared computer, because this page is about to be left and comes back. */
export async function put(store, value, { always = false } = {}) {
  const path = STORES[store].keyPath;
  const key = Array.isArray(path) ? path.map((part) => value[part]) : value[path];
  if (shared && !always) return void memory[store].set(name(key), value);
  // What storage refuses, this page's memory still has.
  const done = await request(store, "readwrite", (objects) => objects.put(value));
  if (done === undefined) memory[store].set(name(key), value);
}

/** Changes a value where it is kept, if it still is. */
export async function change(store, key, changed) {
  const here = memory[store].get(name(key));
  if (here) return void memory[store].set(name(key), changed(here));
  await request(store, "readwrite", (objects) => {
    const asked = objects.get(key);
    asked.onsuccess = () => asked.result && objects.put(changed(asked.result));
    return asked;
  });
}

export async function remove(store, key) {
  memory[store].delete(name(key));
  await request(store, "readwrite", (objects) => objects.delete(key));
}

/** Remembers which account is signed in, as the service has just said; `undefined`: none. */
export async function markSignedIn(userid) {
  for (const account of await all("accounts")) {
    const signedIn = account.userid === userid;
    if (signedIn !== account.signedIn) await change("accounts", account.userid, (kept) => ({ ...kept, signedIn }));
  }
}

/** Forgets an account: who signs out leaves no key behind. */
export async function forgetAccount(userid) {
  for (const store of ["keys", "sites"]) {
    for (const value of await all(store)) {
      if (value.userid !== userid) continue;
      await remove(store, STORES[store].keyPath.map((part) => value[part]));
    }
  }
  await remove("accounts", userid);
}

/** Forgets certificates, and not the keys: what they rest on has changed, and those from before are refused. */
export async function dropCertificates() {
  for (const entry of await all("keys")) {
    if (entry.certificate) await put("keys", { ...entry, certificate: null }, { always: !memory.keys.has(name([entry.userid, entry.email])) });
  }
}
