// An email domain that certifies its own users.

import assert from "node:assert/strict";
import { Person, goesTo, logs, regular, sites, state, story } from "../person.mjs";
import { IDP, address, user } from "../world.mjs";

/** Says an address of the domain in the dialog, and goes on to the domain's own page. */
async function goesThere(dialog, email) {
  await dialog.fill("input[name=email]", email);
  await dialog.click("button[type=submit]");
  await state(dialog, "primary");
  await dialog.click("button[type=submit]");
  await dialog.waitForURL(`${IDP}/**`);
  await dialog.waitForSelector("#cancel:not([hidden])");
  assert.equal(await dialog.inputValue("#user"), email);
}

/** At the domain's own page: signs in. */
async function signsInThere(page, as) {
  if (as) {
    await page.evaluate(() => (document.getElementById("user").readOnly = false));
    await page.fill("#user", as);
  }
  await page.fill("#password", "open sesame");
  await page.click("button.main");
}

story("an address whose domain vouches for it: there once, and back", async () => {
  const ada = await Person.arrives();
  const email = user();
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await goesThere(dialog, email);
  await signsInThere(dialog);
  const { issuer } = await ada.isKnown(shop, email);
  assert.equal(issuer, new URL(IDP).hostname);
  const again = await ada.visits();
  const chooser = await ada.opensDialog(again);
  await state(chooser, "choose");
  await chooser.click("button[type=submit]");
  await ada.isKnown(again, email);
});

story("who is signed in there already types nothing there", async () => {
  const ada = await Person.arrives();
  const email = user();
  await signsInThere(await ada.visits("/sign_in", IDP), email);
  await ada.context.pages()[0].waitForURL(`${IDP}/`);
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await ada.names(dialog, email);
  // In a frame that page has no cookies, so it takes a look at it.
  await state(dialog, "primary");
  await dialog.click("button[type=submit]");
  await ada.isKnown(shop, email);
});

story("the same by redirection", async () => {
  const ada = await Person.arrives();
  const email = user();
  const page = await ada.visits("/isolated/");
  await page.click("#in");
  await state(page, "email");
  await goesThere(page, email);
  await signsInThere(page);
  await ada.isKnown(page, email);
});

story("a domain that does not vouch after all: an error in words, and no loop", async () => {
  const ada = await Person.arrives();
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await goesThere(dialog, user());
  // Somebody signs in there, but somebody else.
  await signsInThere(dialog, user());
  await state(dialog, "refused");
  await dialog.click("[data-act=other]");
  await state(dialog, "email");
  await logs(shop, "ready");
});

story("who does not sign in there comes back to the choice of an address", async () => {
  const ada = await Person.arrives();
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await goesThere(dialog, user());
  await dialog.click("#cancel");
  await state(dialog, "email");
  await dialog.click("#cancel");
  await logs(shop, "ready", "cancel");
});

story("an opener that became another site meanwhile is told nothing without a new yes", async () => {
  const ada = await Person.arrives();
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await goesThere(dialog, user());
  await goesTo(shop, `${sites.bad}/plain/?manual`);
  await shop.evaluate(() => {
    window.heard = [];
    addEventListener("message", (event) => {
      window.heard.push(event.data.type);
      if (event.data.type === "ready") event.source.postMessage({ persona: 1, type: "request", params: {} }, "*");
    });
  });
  await signsInThere(dialog);
  await state(dialog, "choose");
  assert.equal(await dialog.textContent("#asks .origin"), sites.bad);
  assert.ok(!(await shop.evaluate(() => window.heard)).includes("result"));
});

story("an address of such a domain is one more of an account that has a password", async () => {
  const { ada, email } = await regular();
  const more = user();
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await dialog.click("[data-act=other]");
  await goesThere(dialog, more);
  await signsInThere(dialog);
  await ada.isKnown(shop, more);
  const chooser = await ada.opensDialog(await ada.visits());
  assert.equal(await chooser.locator("input[name=email]").count(), 2);
  assert.ok(await chooser.locator(`input[value="${email}"]`).count());
});

story("an account without a password gets one with its first address by mail", async () => {
  const ada = await Person.arrives();
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  const email = user();
  await goesThere(dialog, email);
  await signsInThere(dialog);
  await ada.isKnown(shop, email);
  const chooser = await ada.opensDialog(await ada.visits());
  await chooser.click("[data-act=other]");
  await state(chooser, "email-more");
  await chooser.fill("input[name=email]", address("lovelace"));
  await chooser.click("button[type=submit]");
  await state(chooser, "add");
  await chooser.fill("input[name=pass]", "short");
  await chooser.click("button[type=submit]");
  await chooser.waitForSelector(".error:not([hidden])");
  await chooser.fill("input[name=pass]", "correct horse battery");
  await chooser.click("button[type=submit]");
  await state(chooser, "mail");
});
