// How the dialog opens: with a guess, before it is known who is signed in.
//
// The service's word on that is held back here for as long as a story wants.

import assert from "node:assert/strict";
import { Person, logs, regular, state, story } from "../person.mjs";
import { PERSONA, address } from "../world.mjs";

const CONTEXT = `${PERSONA}/wsapi/session_context`;

/** Holds the word back in all of somebody's dialogs, until what this gives is called. */
async function holdsBack(person) {
  let release;
  const released = new Promise((resolve) => (release = resolve));
  await person.context.route(CONTEXT, async (route) => {
    await released;
    await route.fallback();
  });
  return release;
}

/** Lets the word through, and waits until the dialog has taken it in. */
async function hears(dialog, letThrough) {
  const heard = dialog.waitForResponse(CONTEXT);
  letThrough();
  await (await heard).finished();
  await dialog.waitForTimeout(300);
}

/** Puts a mark on what is shown, and says later whether it is still that. */
async function marks(dialog) {
  await dialog.evaluate(() => (document.querySelector("#dialog form").mark = true));
  return () => dialog.evaluate(() => document.querySelector("#dialog form")?.mark === true);
}

/** What is done waits: its form is busy, and stays. */
async function waits(dialog) {
  await dialog.waitForSelector('form[aria-busy="true"]');
  await dialog.waitForTimeout(300);
  assert.ok(await dialog.locator('form[aria-busy="true"]').count());
}

story("a newcomer types at once, and nothing moves when it is known that nobody is signed in", async () => {
  const ada = await Person.arrives();
  const email = address();
  const letThrough = await holdsBack(ada);
  const dialog = await ada.opensDialog(await ada.visits());
  await state(dialog, "email");
  const isTheSame = await marks(dialog);
  await dialog.keyboard.type(email.slice(0, 5));
  await hears(dialog, letThrough);
  await dialog.keyboard.type(email.slice(5));
  assert.equal(await dialog.inputValue("input[name=email]"), email);
  assert.ok(await isTheSame());
  await dialog.keyboard.press("Enter");
  await state(dialog, "create");
});

story("what a newcomer submits at once goes on when it is known that nobody is signed in", async () => {
  const ada = await Person.arrives();
  const letThrough = await holdsBack(ada);
  const dialog = await ada.opensDialog(await ada.visits());
  await ada.names(dialog, address());
  await waits(dialog);
  letThrough();
  await state(dialog, "create");
  const asked = ada.requests.map(({ url }) => new URL(url).pathname).filter((path) => path.startsWith("/wsapi/"));
  assert.deepEqual(asked, ["/wsapi/session_context", "/wsapi/address_info"]);
});

story("who is known chooses at once, and is known to the site when it is known that they are signed in", async () => {
  const { ada, email } = await regular();
  const shop = await ada.visits();
  const letThrough = await holdsBack(ada);
  const dialog = await ada.opensDialog(shop);
  await state(dialog, "choose");
  assert.equal(await dialog.inputValue("input[name=email]:checked"), email);
  await dialog.click("button[type=submit]");
  await waits(dialog);
  // Only the first thing that is done waits.
  await dialog.click("[data-act=other]");
  await logs(shop, "ready");
  letThrough();
  await ada.isKnown(shop, email);
});

story("who chose at once and then said that it is not them is not known to the site", async () => {
  const { ada } = await regular();
  const shop = await ada.visits();
  const letThrough = await holdsBack(ada);
  const dialog = await ada.opensDialog(shop);
  await state(dialog, "choose");
  await dialog.click("button[type=submit]");
  await waits(dialog);
  await dialog.click("[data-act=leave]");
  letThrough();
  await state(dialog, "email");
  await logs(shop, "ready");
});

story("nothing moves for who is known, and who leaves at once has left", async () => {
  const { ada } = await regular();
  const letThrough = await holdsBack(ada);
  const dialog = await ada.opensDialog(await ada.visits());
  await state(dialog, "choose");
  const isTheSame = await marks(dialog);
  await hears(dialog, letThrough);
  assert.ok(await isTheSame());
  const letAgain = await holdsBack(ada);
  await dialog.reload();
  await state(dialog, "choose");
  await dialog.click("[data-act=leave]");
  letAgain();
  await state(dialog, "email");
  assert.equal(await dialog.inputValue("input[name=email]"), "");
});

story("whose session was ended elsewhere is told so, and their addresses are shown no more", async () => {
  const { ada, email } = await regular();
  await ada.context.clearCookies();
  const letThrough = await holdsBack(ada);
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await state(dialog, "choose");
  letThrough();
  await state(dialog, "email");
  assert.match(await dialog.textContent(".note"), /signed out/);
  assert.equal(await dialog.inputValue("input[name=email]"), email);
  await dialog.close();
  await logs(shop, "ready", "cancel");
  const letAgain = await holdsBack(ada);
  const again = await ada.opensDialog(shop);
  await state(again, "email");
  letAgain();
});

story("whose session was ended elsewhere gives the password for the address that they chose meanwhile", async () => {
  const { ada, email, password } = await regular();
  await ada.context.clearCookies();
  const letThrough = await holdsBack(ada);
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await state(dialog, "choose");
  await dialog.click("button[type=submit]");
  await waits(dialog);
  letThrough();
  await state(dialog, "password");
  assert.ok((await dialog.textContent(".who")).includes(email));
  await dialog.fill("input[name=pass]", password);
  await dialog.click("button[type=submit]");
  await ada.isKnown(shop, email);
});

story("what is done at once while somebody else is signed in is not done for them: they choose again", async () => {
  const { ada: bob, email } = await regular();
  for (const act of ["button[type=submit]", "[data-act=other]", "[data-act=leave]"]) {
    const { ada } = await regular();
    await ada.context.clearCookies();
    await ada.context.addCookies(await bob.context.cookies());
    const shop = await ada.visits();
    const letThrough = await holdsBack(ada);
    const dialog = await ada.opensDialog(shop);
    await state(dialog, "choose");
    await dialog.click(act);
    letThrough();
    await dialog.waitForSelector(`input[name=email][value="${email}"]`, { state: "attached" });
    await state(dialog, "choose");
    assert.equal(await dialog.locator("input[name=email]").count(), 1);
    await logs(shop, "ready");
  }
});

story("on a shared computer the chooser takes the place of a field that nobody has typed into", async () => {
  const { email, password } = await regular();
  const guest = await Person.arrives();
  const shop = await guest.visits();
  await guest.signsIn(await guest.opensDialog(shop), email, password, { mine: false });
  await guest.isKnown(shop, email);
  const again = await guest.visits();
  const letThrough = await holdsBack(guest);
  const dialog = await guest.opensDialog(again);
  await state(dialog, "email");
  letThrough();
  await state(dialog, "choose");
  assert.equal(await dialog.inputValue("input[name=email]:checked"), email);
  // Who types comes after whoever was here before.
  const letAgain = await holdsBack(guest);
  await dialog.reload();
  await state(dialog, "email");
  const isTheSame = await marks(dialog);
  const next = address("next");
  await dialog.keyboard.type(next.slice(0, 5));
  await hears(dialog, letAgain);
  assert.ok(await isTheSame());
  await dialog.keyboard.type(next.slice(5));
  await dialog.keyboard.press("Enter");
  await state(dialog, "create");
  assert.ok((await dialog.textContent(".who")).includes(next));
  // Or is the same person, who is asked once more: a second click on the site's button must not be what grants.
  const letOnce = await holdsBack(guest);
  await dialog.reload();
  await guest.names(dialog, email);
  await waits(dialog);
  letOnce();
  await state(dialog, "choose");
  await logs(again, "ready");
  await dialog.click("button[type=submit]:not([aria-disabled])");
  await guest.isKnown(again, email);
});

story("when it cannot be known who is signed in, that is said, whatever was done meanwhile", async () => {
  const ada = await Person.arrives();
  await ada.context.route(CONTEXT, (route) => route.fulfill({ status: 500, body: "" }));
  const letThrough = await holdsBack(ada);
  const dialog = await ada.opensDialog(await ada.visits());
  await ada.names(dialog, address());
  await waits(dialog);
  letThrough();
  await state(dialog, "trouble");
  await ada.context.unroute(CONTEXT);
  await dialog.click("[data-act=again]");
  await state(dialog, "email");
  await ada.names(dialog, address());
  await state(dialog, "create");
});
