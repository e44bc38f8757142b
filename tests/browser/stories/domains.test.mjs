// An email domain that certifies its own users.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { IDP, Person, begin, close, end, goesTo, logs, state } from "../world.mjs";

const skip = IDP ? false : "no IDP_URL";
let sites;
if (!skip) {
  before(async () => (sites = await begin()));
  afterEach(close);
  after(end);
}

let number = 0;
const user = () => `user${process.pid}${Date.now().toString(36)}${number++}@${new URL(IDP).hostname}`;

/** At the domain's own page: signs in there, or does something else. */
async function atDomain(page, button) {
  await page.waitForURL(`${IDP}/**`);
  await page.click(button);
}

test("an address whose domain vouches for it: there once, and back", { skip }, async () => {
  const ada = await Person.arrives();
  const email = user();
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await dialog.fill("input[name=email]", email);
  await dialog.click("button[type=submit]");
  await state(dialog, "primary");
  await dialog.click("button[type=submit]");
  await atDomain(dialog, "#ok");
  const { issuer } = await ada.isKnown(shop, email);
  assert.equal(issuer, new URL(IDP).hostname);
  const again = await ada.visits();
  const chooser = await ada.opensDialog(again);
  await state(chooser, "choose");
  await chooser.click("button[type=submit]");
  await ada.isKnown(again, email);
});

test("the same by redirection", { skip }, async () => {
  const ada = await Person.arrives();
  const email = user();
  const page = await ada.visits("/isolated/");
  await page.click("#in");
  await state(page, "email");
  await page.fill("input[name=email]", email);
  await page.click("button[type=submit]");
  await state(page, "primary");
  await page.click("button[type=submit]");
  await atDomain(page, "#ok");
  await ada.isKnown(page, email);
});

test("a domain that does not vouch after all: an error in words, and no loop", { skip }, async () => {
  const ada = await Person.arrives();
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await dialog.fill("input[name=email]", user());
  await dialog.click("button[type=submit]");
  await state(dialog, "primary");
  await dialog.click("button[type=submit]");
  await atDomain(dialog, "#wrong");
  await state(dialog, "refused");
  await dialog.click("[data-act=other]");
  await state(dialog, "email");
  await logs(shop, "ready");
});

test("who does not sign in there comes back to the choice of an address", { skip }, async () => {
  const ada = await Person.arrives();
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await dialog.fill("input[name=email]", user());
  await dialog.click("button[type=submit]");
  await state(dialog, "primary");
  await dialog.click("button[type=submit]");
  await atDomain(dialog, "#no");
  await state(dialog, "email");
  await dialog.click("#cancel");
  await logs(shop, "ready", "cancel");
});

test("an opener that became another site meanwhile is told nothing without a new yes", { skip }, async () => {
  const ada = await Person.arrives();
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await dialog.fill("input[name=email]", user());
  await dialog.click("button[type=submit]");
  await state(dialog, "primary");
  await dialog.click("button[type=submit]");
  await dialog.waitForURL(`${IDP}/**`);
  await goesTo(shop, `${sites.bad}/plain/?manual`);
  await shop.evaluate(() => {
    window.heard = [];
    addEventListener("message", (event) => {
      window.heard.push(event.data.type);
      if (event.data.type === "ready") event.source.postMessage({ persona: 1, type: "request", params: {} }, "*");
    });
  });
  await dialog.click("#ok");
  await state(dialog, "choose");
  assert.equal(await dialog.textContent("#asks .origin"), sites.bad);
  assert.ok(!(await shop.evaluate(() => window.heard)).includes("result"));
});
