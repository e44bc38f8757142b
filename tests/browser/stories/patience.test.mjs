// What takes two mails to one address, and so a minute between them.
//
// Everybody signs up first, so that the minute is over for all of them at once.

import assert from "node:assert/strict";
import { before } from "node:test";
import { Person, goHome, regular, state, story } from "../person.mjs";
import { address, mailTo, mayBeWrittenTo } from "../world.mjs";

const known = {};
before(async () => {
  for (const name of ["link", "code", "locked"]) known[name] = (await regular()).email;
  const { ada, email } = await regular();
  const more = address("lovelace");
  const page = await ada.atHome();
  await page.click("[data-act=add]");
  await page.fill("#addresses input[name=email]", more);
  await page.click("#addresses button[type=submit]");
  await ada.follows((await mailTo(more)).link);
  await page.waitForSelector(`#addresses li:has-text("${more}")`);
  Object.assign(known, { two: email, more });
  await goHome();
});

/** At a site, in a browser that nobody knows: the password is forgotten, and a mail is on its way. */
async function forgets(email) {
  const stranger = await Person.arrives();
  const shop = await stranger.visits();
  const dialog = await stranger.opensDialog(shop);
  await stranger.names(dialog, email);
  await state(dialog, "password");
  await mayBeWrittenTo(email);
  await dialog.click("[data-act=forgot]");
  await state(dialog, "forgot");
  await dialog.click("button[type=submit]");
  await state(dialog, "mail");
  return { stranger, shop, dialog, mail: await mailTo(email) };
}

story("a mail that is asked for too soon is refused in words", async () => {
  const { email } = await regular();
  const stranger = await Person.arrives();
  const dialog = await stranger.opensDialog(await stranger.visits());
  await stranger.names(dialog, email);
  await state(dialog, "password");
  await dialog.click("[data-act=forgot]");
  await state(dialog, "forgot");
  await dialog.click("button[type=submit]");
  await dialog.waitForSelector(".error:not([hidden])");
  assert.match(await dialog.textContent(".error"), /just now/);
});

story("after ten wrong passwords the mail is offered", async () => {
  const email = known.locked;
  const stranger = await Person.arrives();
  const dialog = await stranger.opensDialog(await stranger.visits());
  await stranger.signsIn(dialog, email, "wrong password");
  for (let tries = 0; tries < 12; tries++) {
    await dialog.waitForSelector("form:not([aria-busy])");
    if ((await dialog.getAttribute("#dialog", "data-state")) === "locked") break;
    await dialog.fill("input[name=pass]", `wrong password ${tries}`);
    await dialog.click("button[type=submit]");
    await dialog.waitForSelector('.error:not([hidden]), [data-state="locked"]');
  }
  await state(dialog, "locked");
  await mayBeWrittenTo(email);
  await dialog.click("button[type=submit]");
  await state(dialog, "mail");
});

story("a forgotten password: a new one by the link", async () => {
  const { stranger, shop, mail } = await forgets(known.link);
  await stranger.follows(mail.link, { password: "a new password" });
  await stranger.isKnown(shop, known.link);
});

story("a forgotten password: a new one by the code", async () => {
  const { stranger, shop, dialog, mail } = await forgets(known.code);
  await dialog.fill("input[name=code]", mail.code);
  await dialog.fill("input[name=pass]", "another password");
  await dialog.click("button[type=submit]");
  await stranger.isKnown(shop, known.code);
});

story("after a reset the other addresses have to be confirmed again, or are somebody else's", async () => {
  const { two: email, more } = known;
  const { stranger, mail } = await forgets(email);
  await stranger.follows(mail.link, { password: "a new password" });
  const home = await stranger.atHome();
  const row = home.locator(`#addresses li:has-text("${more}")`);
  await row.locator("[data-act=again]").waitFor();
  assert.match(await row.locator("[data-act=remove]").textContent(), /Not mine/);
  await mayBeWrittenTo(more);
  await row.locator("[data-act=again]").click();
  await stranger.follows((await mailTo(more)).link);
  await home.waitForSelector(`#addresses li:has-text("${more}") [data-act=again]`, { state: "detached" });
});
