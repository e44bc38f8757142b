// Data centers die (`kill -9`) between any two steps and in the middle of each, and another one takes over: what was begun
// goes on, and is done once.
//
// Whatever a browser asks for the first time kills whom it asks: *before*, so that the next one hears it first; or *after*,
// when it is done and written, and the answer lost.

import assert from "node:assert/strict";
import { Person, state, story } from "../../person.mjs";
import { PERSONA, address, ambush, heal, keepReviving, mailTo, mailsTo, mayBeWrittenTo, theWorld, until, user } from "../../world.mjs";

/** A page gives a try up after this. */
const TRY_MS = 10_000;

/** From now on this person's browser brings death. Gives the calls that did. */
async function bringsDeath(person, when) {
  const deadly = [];
  let turn = Promise.resolve();
  await person.context.route(`${PERSONA}/wsapi/**`, async (route) => {
    const request = route.request();
    const call = new URL(request.url()).pathname.slice("/wsapi/".length);
    // One at a time: an ambush is for the next who comes.
    const before = turn;
    let over;
    turn = new Promise((resolve) => (over = resolve));
    await before;
    if (deadly.includes(call)) {
      over();
      return route.continue();
    }
    try {
      await othersAreLeft();
      await ambush(`/wsapi/${call}`, when);
      await route.continue();
      // A page that is closed meanwhile gets none.
      await Promise.race([request.response(), new Promise((resolve) => setTimeout(resolve, TRY_MS))]);
      if ((await theWorld()).web.ambushed !== null) deadly.push(call);
    } catch {
      // The page has given it up, and asks again.
    } finally {
      over();
    }
  });
  return deadly;
}

/** A story in which whoever has died comes back, while the others go on. */
function deadlyStory(name, tell) {
  story(name, async () => {
    await heal();
    const over = keepReviving();
    try {
      await tell();
    } finally {
      await over();
    }
  });
}

/** One dies, and one has to be left that has what that one wrote. */
const othersAreLeft = () => until("others are left", async () => (await theWorld()).web.well.length >= 2);

/** Every one of these calls has cost a data center its life. */
function assertDeadly(deadly, ...calls) {
  for (const call of calls) assert.ok(deadly.includes(call), `${call} is not among ${deadly}`);
}

for (const when of ["before", "after"]) {
  deadlyStory(`death ${when} each call: sign-up, a second address, and both used`, async () => {
    const ada = await Person.arrives();
    const deadly = await bringsDeath(ada, when);
    const [first, second] = [address(), address("lovelace")];
    await ada.signsUp(first);
    const shop = await ada.visits();
    const dialog = await ada.opensDialog(shop);
    await dialog.click("[data-act=other]");
    await state(dialog, "email-more");
    await ada.names(dialog, second);
    await state(dialog, "add");
    await dialog.click("button[type=submit]");
    await state(dialog, "mail");
    const { code } = await mailTo(second);
    await dialog.fill("input[name=code]", code);
    await dialog.click("button[type=submit]");
    await ada.isKnown(shop, second);
    assertDeadly(deadly, "session_context", "address_info", "stage_user", "user_creation_status", "complete_user_creation");
    assertDeadly(deadly, "cert_key", "stage_email", "complete_by_code");
    // Whatever was asked for twice was done once.
    for (const email of [first, second]) assert.equal((await mailsTo(email)).filter(({ token }) => token).length, 1);
  });

  deadlyStory(`death ${when} each call: another device, a forgotten password, an address that needs no mail`, async () => {
    const ada = await Person.arrives();
    const email = address();
    const { password } = await ada.signsUp(email);
    const phone = await Person.onPhone();
    const deadly = await bringsDeath(phone, when);
    const shop = await phone.visits();
    await phone.signsIn(await phone.opensDialog(shop), email, password);
    await phone.isKnown(shop, email);
    assertDeadly(deadly, "session_context", "address_info", "authenticate_user", "list_emails", "cert_key");

    const stranger = await Person.arrives();
    const alsoDeadly = await bringsDeath(stranger, when);
    const elsewhere = await stranger.visits();
    const dialog = await stranger.opensDialog(elsewhere);
    await stranger.names(dialog, email);
    await state(dialog, "password");
    await mayBeWrittenTo(email);
    await dialog.click("[data-act=forgot]");
    await state(dialog, "forgot");
    await dialog.click("button[type=submit]");
    await state(dialog, "mail");
    await stranger.follows((await mailTo(email)).link, { password: "a new password" });
    await stranger.isKnown(elsewhere, email);
    assertDeadly(alsoDeadly, "stage_reset", "password_reset_status", "complete_reset");

    const guest = await Person.arrives();
    const deadlyToo = await bringsDeath(guest, when);
    const there = await guest.visits();
    const asking = await guest.opensDialog(there);
    await guest.names(asking, user());
    await state(asking, "primary");
    await asking.click("button[type=submit]");
    await asking.waitForSelector("#cancel:not([hidden])");
    await asking.fill("#password", "open sesame");
    await asking.click("button.main");
    await there.waitForSelector('#verified[data-status="okay"]', { state: "attached" });
    assertDeadly(deadlyToo, "auth_with_assertion");
  });

  deadlyStory(`death ${when} each call: what one does to one's account`, async () => {
    const ada = await Person.arrives();
    const email = address();
    const { password } = await ada.signsUp(email);
    const phone = await Person.onPhone();
    const shop = await phone.visits();
    await phone.signsIn(await phone.opensDialog(shop), email, password);
    await phone.isKnown(shop, email);
    const deadly = await bringsDeath(ada, when);
    const page = await ada.atHome();
    await page.waitForSelector("#sessions li [data-act=end]");
    const count = await page.locator("#sessions li").count();
    await page.click("#sessions li [data-act=end]");
    await page.waitForFunction((count) => document.querySelectorAll("#sessions li").length < count, count);
    await page.click("[data-act=password]");
    await page.fill("input[name=oldpass]", password);
    await page.fill("#password input[name=pass]", "a new password");
    await page.waitForTimeout(500);
    await page.click("#password button[type=submit]");
    await page.waitForSelector('#said:has-text("password")');
    await page.click("[data-act=everywhere]");
    await state(page, "welcome");
    // Signed in again, with the new password, to leave for good.
    const again = await ada.visits("/sign_in", PERSONA);
    await ada.signsIn(again, email, "a new password");
    await state(again, "account");
    await again.click("[data-act=cancel]");
    await again.check("#cancel input[name=sure]");
    await again.waitForTimeout(500);
    await again.click("#cancel button[type=submit]");
    await state(again, "cancelled");
    assertDeadly(deadly, "account_details", "list_sessions", "end_session", "update_password", "sign_out_everywhere", "authenticate_user", "account_cancel");
    const stranger = await Person.arrives();
    const dialog = await stranger.opensDialog(await stranger.visits());
    await stranger.names(dialog, email);
    await state(dialog, "create");
  });
}
