// The account's page: addresses, password, where one is signed in, and the end of it.

import assert from "node:assert/strict";
import { Person, log, logs, regular, sites, state, story } from "../person.mjs";
import { PERSONA, SITES, address, ask, mailTo, until } from "../world.mjs";


/** What is written in one data center is known in all others within this: three times the longest way and back. */
const LAG_MS = 2000;

/** A second browser of the same person. */
async function second(email, password, options) {
  const phone = await Person.onPhone(options);
  const shop = await phone.visits();
  await phone.signsIn(await phone.opensDialog(shop), email, password);
  await phone.isKnown(shop, email);
  return { phone, assertion: await shop.evaluate(() => window.assertion) };
}

story("an address is added with the code, and removed again", async () => {
  const { ada } = await regular();
  const page = await ada.atHome();
  const more = address("lovelace");
  await page.click("[data-act=add]");
  await page.fill("#addresses input[name=email]", more);
  await page.click("#addresses button[type=submit]");
  const { code } = await mailTo(more);
  await page.fill("#addresses input[name=code]", code);
  await page.waitForTimeout(500);
  await page.click("#addresses button[type=submit]");
  await page.waitForSelector(`#addresses li:has-text("${more}")`);
  await page.click(`#addresses li:has-text("${more}") [data-act=remove]`);
  await page.click("#addresses .sub button.danger");
  await page.waitForSelector(`#addresses li:has-text("${more}")`, { state: "detached" });
  assert.match(await page.textContent("#said"), new RegExp(more.slice(0, 8)));
});

story("a changed password signs the other devices out", async () => {
  const { ada, email, password } = await regular();
  const { phone } = await second(email, password);
  const page = await ada.atHome();
  await page.click("[data-act=password]");
  await page.fill("input[name=oldpass]", "not the old one");
  await page.fill("#password input[name=pass]", "a new password");
  await page.waitForTimeout(500);
  await page.click("#password button[type=submit]");
  await page.waitForSelector("#password .error:not([hidden])");
  await page.fill("input[name=oldpass]", password);
  await page.click("#password button[type=submit]");
  await page.waitForSelector('#said:has-text("password")');
  const shop = await phone.visits();
  const dialog = await phone.opensDialog(shop);
  await state(dialog, "email");
  await phone.signsIn(dialog, email, "a new password");
  await phone.isKnown(shop, email);
});

story("signed out everywhere: another device's certificate is refused at any data center, and its session is over", async () => {
  const [here, there, elsewhere] = SITES;
  const { ada, email, password } = await regular({ at: here });
  const { phone, assertion } = await second(email, password, { at: there });
  const verified = () => ask(`${PERSONA}/verify`, { assertion, audience: sites.good }, { Cookie: `persona_world_site=${elsewhere}` });
  assert.equal((await verified()).status, "okay");
  const page = await ada.atHome();
  await page.click("[data-act=everywhere]");
  await state(page, "welcome");
  assert.equal(await page.textContent("#said"), "You are signed out everywhere.");
  // It has to get there first; an assertion ends by itself, but only after two minutes.
  const began = Date.now();
  await until("a certificate from before counts no more", async () => (await verified()).status === "failure", LAG_MS);
  assert.ok(Date.now() - began < LAG_MS);
  const dialog = await phone.opensDialog(await phone.visits());
  await state(dialog, "email");
});

story("one session is ended, and the other goes on", async () => {
  const { ada, email, password } = await regular();
  const { phone } = await second(email, password);
  const page = await ada.atHome();
  await page.waitForSelector("#sessions li [data-act=end]");
  const count = await page.locator("#sessions li").count();
  await page.click("#sessions li [data-act=end]");
  await page.waitForFunction((count) => document.querySelectorAll("#sessions li").length < count, count);
  const there = await phone.visits("/", PERSONA);
  // It may be that the sign-up's session was the one that ended: end all that is not this one.
  for (;;) {
    const others = await page.locator("#sessions li [data-act=end]").count();
    if (others === 0) break;
    await page.locator("#sessions li [data-act=end]").first().click();
    await page.waitForFunction((others) => document.querySelectorAll("#sessions [data-act=end]").length < others, others);
  }
  await there.reload();
  await state(there, "welcome");
  await page.reload();
  await state(page, "account");
});

story("a cancelled account is gone, and the page says what is erased before", async () => {
  const { ada, email } = await regular();
  const page = await ada.atHome();
  await page.click("[data-act=cancel]");
  assert.ok((await page.locator("#cancel li").count()) >= 3);
  await page.waitForTimeout(500);
  await page.click("#cancel button[type=submit]");
  await page.waitForSelector("#cancel .error:not([hidden])");
  await page.check("#cancel input[name=sure]");
  await page.click("#cancel button[type=submit]");
  await state(page, "cancelled");
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await state(dialog, "email");
  await dialog.fill("input[name=email]", email);
  await dialog.click("button[type=submit]");
  await state(dialog, "create");
});

story("signing out here leaves nothing of the account in the browser", async () => {
  const { ada } = await regular();
  const page = await ada.atHome();
  await page.click("[data-act=sign-out]");
  await state(page, "welcome");
  const kept = await page.evaluate(async () => {
    const open = indexedDB.open("persona", 1);
    await new Promise((resolve) => (open.onsuccess = resolve));
    let count = 0;
    for (const name of open.result.objectStoreNames) {
      const all = open.result.transaction(name).objectStore(name).count();
      await new Promise((resolve) => (all.onsuccess = resolve));
      count += all.result;
    }
    return count;
  });
  assert.equal(kept, 0);
  const shop = await ada.visits();
  await logs(shop, "ready");
  assert.deepEqual(await log(shop), ["ready"]);
});

story("links of mails: once, whole, and nothing by looking at them", async () => {
  const ada = await Person.arrives();
  const email = address();
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await ada.asks(dialog, email, "correct horse battery");
  const { link } = await mailTo(email);
  const scanner = await Person.arrives();
  const looked = await scanner.context.newPage();
  await looked.goto(link);
  await state(looked, "prove");
  await looked.reload();
  await state(looked, "prove");
  await looked.close();
  await ada.follows(link);
  await ada.isKnown(shop, email);
  for (const wrong of [link, link.slice(0, -3), link.split("?")[0]]) {
    const page = await scanner.context.newPage();
    await page.goto(wrong);
    await state(page, "useless");
    assert.equal(new URL(page.url()).search, "");
  }
});
