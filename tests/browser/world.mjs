// A world for stories: the service that runs at PERSONA_URL, web sites, and people with browsers.
//
// | variable | what |
// | --- | --- |
// | PERSONA_URL | the service as browsers reach it, `http://persona.localhost:PORT` |
// | INBOX_URL | the laboratory's inbox: `GET INBOX_URL?to=ADDRESS` gives the mails, the newest first, as JSON with `link` and `code` |
// | IDP_URL | an email domain that certifies its users, `http://idp.localhost:PORT`; without it, stories about one are skipped |
// | CHROMIUM | the browser, `/usr/bin/chromium` |
// | SHOTS | a directory for screenshots, if they are wanted |
//
// Every page of every browser is watched: an error in its console, a violation of its policy, or a request to somebody
// else fails the story.

import assert from "node:assert/strict";
import fs from "node:fs";
import http from "node:http";
import { chromium } from "playwright-core";
import { startSites } from "./relying_party.mjs";

export const PERSONA = (process.env.PERSONA_URL ?? "http://persona.localhost:7700").replace(/\/$/, "");
export const IDP = process.env.IDP_URL?.replace(/\/$/, "");
const INBOX = process.env.INBOX_URL ?? `${PERSONA}/inbox`;
const SHOTS = process.env.SHOTS;

/** How long anything may take that a story waits for. */
const PATIENCE_MS = 15_000;

const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

let browser = null;
let sites = null;
const opened = new Set();

/** Starts what stories share. */
export async function begin() {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGUMENTS });
  sites = await startSites({ persona: PERSONA, ask: (path, body) => ask(PERSONA + path, body), port: 0 });
  return sites;
}

export async function end() {
  await browser?.close();
  await sites?.stop();
}

/** Everybody goes home, and nobody's browser may have complained. */
export async function close() {
  const complaints = [];
  for (const person of opened) {
    complaints.push(...person.complaints);
    await person.context.close();
  }
  opened.clear();
  assert.deepEqual(complaints, []);
}

/** A request from this process: to names below `localhost`, which resolvers need not know. */
export function ask(address, body) {
  const url = new URL(address);
  const sent = body === undefined ? undefined : JSON.stringify(body);
  const options = {
    host: url.hostname.endsWith(".localhost") ? "127.0.0.1" : url.hostname,
    port: url.port || 80,
    path: url.pathname + url.search,
    method: sent === undefined ? "GET" : "POST",
    headers: { Host: url.host, "Content-Type": "application/json" },
  };
  return new Promise((resolve, reject) => {
    const request = http.request(options, (answer) => {
      let all = "";
      answer.on("data", (part) => (all += part));
      answer.on("end", () => {
        try {
          resolve(JSON.parse(all));
        } catch {
          reject(new Error(`${address} answered ${answer.statusCode}: ${all.slice(0, 200)}`));
        }
      });
    });
    request.on("error", reject);
    request.end(sent);
  });
}

let number = 0;
/** An address that no other story has. */
export function address(name = "ada") {
  return `${name}.${process.pid}.${Date.now().toString(36)}${number++}@mail.localhost`.toLowerCase();
}

/** The newest mail to an address that was not seen before; waits for it. */
const seen = new Set();
export async function mailTo(to) {
  const late = Date.now() + PATIENCE_MS;
  for (;;) {
    const mails = await ask(`${INBOX}?to=${encodeURIComponent(to)}`);
    const fresh = mails.find((mail) => mail.link?.includes("token=") && !seen.has(mail.id));
    if (fresh) {
      for (const { id } of mails) seen.add(id);
      return fresh;
    }
    if (Date.now() > late) throw new Error("no mail came");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Somebody with a browser of their own: cookies and storage are theirs alone. */
export class Person {
  constructor(context) {
    this.context = context;
    this.complaints = [];
    /** Origins that may be asked by this person's pages. */
    this.allowed = [PERSONA, sites.good, sites.bad, ...(IDP ? [IDP] : [])];
    this.requests = [];
    context.setDefaultTimeout(PATIENCE_MS);
    context.on("console", (message) => {
      if (message.type() !== "error") return;
      const { url } = message.location();
      // A browser reports an answer that says no as an error of the page; stories expect some.
      if (/Failed to load resource/.test(message.text())) return;
      this.complaints.push(`${url}: ${message.text()}`);
    });
    context.on("weberror", (error) => this.complaints.push(`${error.page()?.url()}: ${error.error().stack || error.error()}`));
    context.on("request", (request) => {
      this.requests.push({ url: request.url(), method: request.method() });
      const { origin, protocol } = new URL(request.url());
      if (protocol === "data:" || this.allowed.includes(origin)) return;
      this.complaints.push(`a request to ${request.url()}`);
    });
  }

  static async arrives(options = {}) {
    const context = await browser.newContext({ locale: "en-GB", viewport: { width: 1000, height: 760 }, ...options });
    const person = new Person(context);
    opened.add(person);
    return person;
  }

  /** A page of the good site, or of another. */
  async visits(path = "/plain/", site = sites.good) {
    const page = await this.context.newPage();
    await page.goto(site + path);
    return page;
  }

  /** Presses a site's button and gives the dialog's window. */
  async opensDialog(page, button = "#in") {
    const [popup] = await Promise.all([this.context.waitForEvent("page"), page.click(button)]);
    await popup.waitForSelector("#dialog:not([aria-busy])");
    return popup;
  }

  /** Signs out of Persona by way of a dialog, and gives the site's page anew. */
  async leaves() {
    const shop = await this.visits();
    const dialog = await this.opensDialog(shop);
    await dialog.click("[data-act=leave]");
    await state(dialog, "email");
    await dialog.close();
    return this.visits();
  }

  /** From nothing to an address that the site knows, by the link, in this browser. */
  async signsUp(email, { password = "correct horse battery", page, mine = true } = {}) {
    const shop = page ?? (await this.visits());
    const dialog = await this.opensDialog(shop);
    await this.asks(dialog, email, password, { mine });
    const { link } = await mailTo(email);
    await this.follows(link);
    await this.isKnown(shop, email);
    return { shop, password };
  }

  /** Gives a new address and its password in the dialog. */
  async asks(dialog, email, password, { mine = true } = {}) {
    await dialog.fill("input[name=email]", email);
    await dialog.click("button[type=submit]");
    await state(dialog, "create");
    await dialog.fill("input[name=pass]", password);
    if (!mine) await dialog.uncheck("input[name=mine]");
    await dialog.click("button[type=submit]");
    await state(dialog, "mail");
  }

  /** Opens the link of a mail and confirms. */
  async follows(link, { password } = {}) {
    const page = await this.context.newPage();
    await page.goto(link);
    await page.waitForSelector("#page[data-state=prove]");
    assert.equal(new URL(page.url()).search, "", "the token left the address bar");
    if (password) await page.fill("input[name=pass]", password);
    await page.click("button[type=submit]");
    await page.waitForSelector("#page[data-state=proven]");
    await page.close();
  }

  /** The site's own server has verified who this is. */
  async isKnown(page, email) {
    await page.waitForSelector("#verified[data-status]", { state: "attached" });
    const verified = JSON.parse(await page.textContent("#verified"));
    assert.equal(verified.status, "okay", JSON.stringify(verified));
    assert.equal(verified.email.toLowerCase(), email.toLowerCase());
    assert.ok(verified.nonce_right, "the nonce came back");
    return verified;
  }

  /** Signs in with a password, in a dialog that asks for the address. */
  async signsIn(dialog, email, password, { mine = true } = {}) {
    await dialog.fill("input[name=email]", email);
    await dialog.click("button[type=submit]");
    await state(dialog, "password");
    await dialog.fill("input[name=pass]", password);
    if (!mine) await dialog.uncheck("input[name=mine]");
    await dialog.click("button[type=submit]");
  }
}

/** A page goes elsewhere by itself. (An address that is typed cuts it from the windows that it opened.) */
export async function goesTo(page, url) {
  await Promise.all([page.waitForURL(url), page.evaluate((url) => void (location.href = url), url)]);
  await page.waitForLoadState();
}

/** Waits until the dialog, or a page, shows a state. */
export async function state(page, name) {
  await page.waitForSelector(`[data-state="${name}"]:not([aria-busy])`);
  await shot(page, name);
}

/** What a site's handlers were called, in order. */
export async function log(page) {
  return page.$$eval("#log li", (lines) => lines.map((line) => line.textContent));
}

/** The log, once it ends as expected. */
export async function logs(page, ...expected) {
  await page
    .waitForFunction((count) => document.querySelectorAll("#log li").length >= count, expected.length, { timeout: PATIENCE_MS })
    .catch(() => {});
  assert.deepEqual(await log(page), expected);
}

export async function shot(page, name) {
  if (!SHOTS) return;
  fs.mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: `${SHOTS}/${name}.png`, fullPage: true });
}
