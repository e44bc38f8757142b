// The account's page: addresses, password, where one is signed in, and the end of it.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { PERSONA, Person, address, ask, begin, close, end, log, logs, mailTo, state } from "../world.mjs";

let sites;
before(async () => (sites = await begin()));
afterEach(close);
after(end);

async function atHome(person) {
  const page = await person.visits("/", PERSONA);
  await state(page, "account");
  return page;
}

async function regular() {
  const ada = await Person.arrives();
  const email = address();
  const { password } = await ada.signsUp(email);
  return { ada, email, password };
}

/** A second browser of the same person. */
async function second(email, password) {
  const phone = await Person.arrives({ viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true });
  const shop = await phone.visits();
  await phone.signsIn(await phone.opensDialog(shop), email, password);
  await phone.isKnown(shop, email);
  return { phone, assertion: await shop.evaluate(() => window.assertion) };
}

test("an address is added with the code, and removed again", async () => {
  const { ada } = await regular();
  const page = await atHome(ada);
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

test("a changed password signs the other devices out", async () => {
  const { ada, email, password } = await regular();
  const { phone } = await second(email, password);
  const page = await atHome(ada);
  await page.click("[data-act=password]");
  await page.fill("input[name=oldpass]", "not the old one");
  await page.fill("#password input[name=pass]", "a new password");
  await page.waitForTimeout(500);
  await page.click("#password button[type=submit]");
  await page.waitForSelector("#password .error:not([hidden])");
  await page.fill("input[name=oldpass]", password);
  await page.click("#password button[type=submit]");
  await page.waitForSelector("#said:not([hidden])");
  const shop = await phone.visits();
  const dialog = await phone.opensDialog(shop);
  await state(dialog, "email");
  await phone.signsIn(dialog, email, "a new password");
  await phone.isKnown(shop, email);
});

test("signed out everywhere: another device's certificate is refused, and its session is over", async () => {
  const { ada, email, password } = await regular();
  const { phone, assertion } = await second(email, password);
  assert.equal((await ask(`${PERSONA}/verify`, { assertion, audience: sites.good })).status, "okay");
  const page = await atHome(ada);
  await page.click("[data-act=everywhere]");
  await state(page, "welcome");
  const verified = await ask(`${PERSONA}/verify`, { assertion, audience: sites.good });
  assert.equal(verified.status, "failure", "a certificate from before counts no more");
  const dialog = await phone.opensDialog(await phone.visits());
  await state(dialog, "email");
});

test("one session is ended, and the other goes on", async () => {
  const { ada, email, password } = await regular();
  const { phone } = await second(email, password);
  const page = await atHome(ada);
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

test("a cancelled account is gone, and the page says what is erased before", async () => {
  const { ada, email } = await regular();
  const page = await atHome(ada);
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

test("after a reset the other addresses have to be confirmed again, or are somebody else's", async () => {
  const { ada, email } = await regular();
  const page = await atHome(ada);
  const more = address("lovelace");
  await page.click("[data-act=add]");
  await page.fill("#addresses input[name=email]", more);
  await page.click("#addresses button[type=submit]");
  await ada.follows((await mailTo(more)).link);
  await page.waitForSelector(`#addresses li:has-text("${more}")`);
  const other = await Person.arrives();
  const dialog = await other.opensDialog(await other.visits());
  await dialog.fill("input[name=email]", email);
  await dialog.click("button[type=submit]");
  await state(dialog, "password");
  await dialog.click("[data-act=forgot]");
  await dialog.click("button[type=submit]");
  await state(dialog, "mail");
  await other.follows((await mailTo(email)).link, { password: "a new password" });
  const home = await atHome(other);
  const row = home.locator(`#addresses li:has-text("${more}")`);
  await row.locator("[data-act=again]").waitFor();
  assert.ok((await row.locator("[data-act=remove]").textContent()).length > 0);
  await row.locator("[data-act=again]").click();
  await other.follows((await mailTo(more)).link);
  await home.waitForSelector(`#addresses li:has-text("${more}") [data-act=again]`, { state: "detached" });
});

test("signing out here leaves nothing of the account in the browser", async () => {
  const { ada } = await regular();
  const page = await atHome(ada);
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

test("links of mails: once, whole, and nothing by looking at them", async () => {
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
