// People with browsers, and what they do.
//
// Every page of every browser is watched: an error in its console, a violation of its policy, or a request to somebody
// else fails the story. Third-party cookies are blocked, as browsers have it now.
//
// | variable | what |
// | --- | --- |
// | CHROMIUM | the browser, `/usr/bin/chromium` |
// | SHOTS | a directory for screenshots, if they are wanted |

import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { chromium } from "playwright-core";
import { startSites } from "./relying_party.mjs";
import { EVIL, IDP, PATIENCE_MS, PERSONA, SHOP, address, ask, mailTo } from "./world.mjs";

const { SHOTS, CHROMIUM = "/usr/bin/chromium" } = process.env;

const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** The browser of this process: started by who needs it first. */
let starting = null;
const browser = () => (starting ??= chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS }));
const opened = new Set();

/** Web sites of the tests: a good one and a bad one. */
export const sites = await startSites({ persona: PERSONA, ask: (path, body) => ask(PERSONA + path, body) });

after(async () => {
  await (await starting)?.close();
  await sites.stop();
});

/** A test: who came into it goes home at its end, and nobody's browser may have complained. */
export function story(name, tell) {
  test(name, async () => {
    opened.clear();
    try {
      await tell();
    } catch (error) {
      error.stack += await scene(name).catch(() => "");
      throw error;
    } finally {
      await goHome();
    }
    const complaints = [...opened].flatMap((person) => person.complaints);
    assert.deepEqual(complaints, []);
  });
}

/** Everybody closes their browser. */
export async function goHome() {
  await Promise.all([...opened].map(({ context }) => context.close()));
}

const ANSWERS_SHOWN = 20;

/** What everybody looked at when it went wrong. */
async function scene(name) {
  const directory = SHOTS ?? path.join(os.tmpdir(), "persona-stories");
  fs.mkdirSync(directory, { recursive: true });
  let said = "";
  let count = 0;
  for (const { context, complaints, answers } of opened) {
    said += `\n  calls: ${answers.slice(-ANSWERS_SHOWN).map((line) => Object.values(line).join(" ")).join(", ")}`;
    for (const page of context.pages()) {
      const file = path.join(directory, `failed-${name.replace(/\W+/g, "-").slice(0, 60)}-${(count += 1)}.png`);
      const [words] = await Promise.all([page.innerText("body", { timeout: 1000 }).catch(() => ""), page.screenshot({ path: file, timeout: 2000 }).catch(() => {})]);
      said += `\n  ${page.url().split("?")[0]}: ${words.replace(/\s+/g, " ").slice(0, 300)}\n    ${file}`;
    }
    for (const complaint of complaints) said += `\n  complaint: ${complaint}`;
  }
  return said;
}

/** Somebody with a browser of their own: cookies and storage are theirs alone. */
export class Person {
  constructor(context) {
    this.context = context;
    this.complaints = [];
    /** Origins that may be asked by this person's pages. */
    this.allowed = [PERSONA, SHOP, IDP, EVIL, sites.good, sites.bad];
    this.requests = [];
    /** What Persona's calls came to, for who looks into a story that failed. */
    this.answers = [];
    context.setDefaultTimeout(PATIENCE_MS);
    context.on("console", (message) => {
      if (message.type() !== "error") return;
      const { url } = message.location();
      // A browser reports an answer that says no as an error of the page; stories expect some.
      if (/Failed to load resource/.test(message.text())) return;
      this.complaints.push(`${url}: ${message.text()}`);
    });
    context.on("weberror", (error) => this.complaints.push(`${error.page()?.url()}: ${error.error().stack || error.error()}`));
    context.on("response", async (answer) => {
      const { pathname } = new URL(answer.url());
      if (!pathname.startsWith("/wsapi/")) return;
      const { "x-persona-site": site } = answer.headers();
      const line = { call: pathname.slice("/wsapi/".length), status: answer.status(), site };
      this.answers.push(line);
      if (!answer.ok()) line.code = (await answer.json().catch(() => ({}))).code;
    });
    context.on("request", (request) => {
      this.requests.push({ url: request.url(), method: request.method() });
      const { origin, protocol } = new URL(request.url());
      if (protocol === "data:" || this.allowed.includes(origin)) return;
      this.complaints.push(`a request to ${request.url()}`);
    });
  }

  /** `at`: the data center that this browser is held to while that is well. */
  static async arrives({ at, ...options } = {}) {
    const context = await (await browser()).newContext({ locale: "en-GB", viewport: { width: 1000, height: 760 }, ...options });
    if (at) await context.addCookies([{ name: "persona_world_site", value: at, url: PERSONA }]);
    const person = new Person(context);
    opened.add(person);
    return person;
  }

  /** On a phone. */
  static onPhone(options = {}) {
    return Person.arrives({ viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, ...options });
  }

  /** Its complaints about this were to be expected: somebody was refused something. */
  forgives(pattern) {
    this.complaints = this.complaints.filter((complaint) => !pattern.test(complaint));
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

  /** Gives an address in the dialog. */
  async names(dialog, email) {
    await dialog.fill("input[name=email]", email);
    await dialog.click("button[type=submit]");
  }

  /** Gives a new address and its password in the dialog. */
  async asks(dialog, email, password, { mine = true } = {}) {
    await this.names(dialog, email);
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
    await this.names(dialog, email);
    await state(dialog, "password");
    await dialog.fill("input[name=pass]", password);
    if (!mine) await dialog.uncheck("input[name=mine]");
    await dialog.click("button[type=submit]");
  }

  /** Their account's page. */
  async atHome() {
    const page = await this.visits("/", PERSONA);
    await state(page, "account");
    return page;
  }
}

/** Someone whose browser knows them, and their address and password. */
export async function regular(options) {
  const ada = await Person.arrives(options);
  const email = address();
  const { password } = await ada.signsUp(email);
  return { ada, email, password };
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
