// Signing up and in, as one does it every day.

import assert from "node:assert/strict";
import { Person, logs, state, story } from "../person.mjs";
import { PERSONA, SITES, address, mailTo } from "../world.mjs";


story("a first sign-up: the link is opened in the same browser, and the dialog goes on by itself", async () => {
  const ada = await Person.arrives();
  const email = address();
  const { shop } = await ada.signsUp(email);
  await logs(shop, "ready", "login");
});

story("a sign-up whose link is opened in another browser, at another data center: the password counts there, and here it is known", async () => {
  const ada = await Person.arrives({ at: SITES[0] });
  const phone = await Person.onPhone({ at: SITES.at(-1) });
  const email = address();
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await ada.asks(dialog, email, "correct horse battery");
  const { link } = await mailTo(email);
  await phone.follows(link, { password: "correct horse battery" });
  await ada.isKnown(shop, email);
});

story("a sign-up by the mailed code, typed as people type", async () => {
  const ada = await Person.arrives();
  const email = address();
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await ada.asks(dialog, email, "correct horse battery");
  const { code } = await mailTo(email);
  await dialog.fill("input[name=code]", "00000000");
  await dialog.click("button[type=submit]");
  await dialog.waitForSelector(".error:not([hidden])");
  assert.match(await dialog.textContent(".error"), /4/);
  await dialog.fill("input[name=code]", ` ${code.slice(0, 4).toLowerCase()}-${code.slice(4)}`);
  await dialog.click("button[type=submit]");
  await ada.isKnown(shop, email);
});

story("signing in again takes two clicks and two requests", async () => {
  const ada = await Person.arrives();
  const email = address();
  await ada.signsUp(email);
  const shop = await ada.visits();
  const before = ada.requests.length;
  const dialog = await ada.opensDialog(shop);
  await state(dialog, "choose");
  await dialog.click("button[type=submit]");
  await ada.isKnown(shop, email);
  const asked = ada.requests.slice(before).filter(({ url }) => url.startsWith(PERSONA) && !url.startsWith(`${PERSONA}/s/`));
  assert.deepEqual(
    asked.map(({ method, url }) => `${method} ${new URL(url).pathname}`),
    ["GET /sign_in", "GET /wsapi/session_context"],
  );
});

story("a second device signs in with the password; a wrong one is said to be wrong", async () => {
  const ada = await Person.arrives();
  const email = address();
  const { password } = await ada.signsUp(email);
  const phone = await Person.onPhone();
  const shop = await phone.visits();
  const dialog = await phone.opensDialog(shop);
  await phone.signsIn(dialog, email, "wrong password");
  await dialog.waitForSelector(".error:not([hidden])");
  await dialog.fill("input[name=pass]", password);
  await dialog.click("button[type=submit]");
  await phone.isKnown(shop, email);
});

story("on a shared computer nothing is kept in the browser", async () => {
  const ada = await Person.arrives();
  const email = address();
  const { password } = await ada.signsUp(email);
  const guest = await Person.arrives();
  const shop = await guest.visits();
  await guest.signsIn(await guest.opensDialog(shop), email, password, { mine: false });
  await guest.isKnown(shop, email);
  await guest.signsUp(address("guest"), { page: await guest.leaves(), mine: false });
  const page = await guest.visits("/about", PERSONA);
  const kept = await page.evaluate(async () => {
    const open = indexedDB.open("persona", 1);
    await new Promise((resolve) => (open.onsuccess = resolve));
    const found = [];
    for (const name of open.result.objectStoreNames) {
      const all = open.result.transaction(name).objectStore(name).getAll();
      await new Promise((resolve) => (all.onsuccess = resolve));
      found.push(...all.result);
    }
    return JSON.stringify([found, { ...localStorage }, { ...sessionStorage }]);
  });
  assert.equal(kept, "[[],{},{}]");
});

story("a key that is kept cannot be taken out of the browser", async () => {
  const ada = await Person.arrives();
  await ada.signsUp(address());
  const page = await ada.visits("/about", PERSONA);
  const keys = await page.evaluate(async () => {
    const open = indexedDB.open("persona", 1);
    await new Promise((resolve) => (open.onsuccess = resolve));
    const all = open.result.transaction("keys").objectStore("keys").getAll();
    await new Promise((resolve) => (all.onsuccess = resolve));
    return Promise.all(all.result.map(({ pair }) => crypto.subtle.exportKey("jwk", pair.privateKey).then(() => "exported", () => "refused")));
  });
  assert.deepEqual(keys, ["refused"]);
});

story("a second address is added at a site, and remembered there", async () => {
  const ada = await Person.arrives();
  const [first, second] = [address(), address("lovelace")];
  await ada.signsUp(first);
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await dialog.click("[data-act=other]");
  await state(dialog, "email-more");
  await dialog.fill("input[name=email]", second);
  await dialog.click("button[type=submit]");
  await state(dialog, "add");
  await dialog.click("button[type=submit]");
  await state(dialog, "mail");
  const { link } = await mailTo(second);
  await ada.follows(link);
  await ada.isKnown(shop, second);
  const again = await ada.visits();
  const chooser = await ada.opensDialog(again);
  assert.equal(await chooser.inputValue("input[name=email]:checked"), second);
  assert.equal(await chooser.locator("input[name=email]").count(), 2);
  await chooser.check(`input[value="${first}"]`);
  await chooser.click("button[type=submit]");
  await ada.isKnown(again, first);
});

story("a second person on the same profile: nothing of the first one remains", async () => {
  const family = await Person.arrives();
  const [ada, bob] = [address("ada"), address("bob")];
  await family.signsUp(ada);
  const shop = await family.visits();
  const dialog = await family.opensDialog(shop);
  await state(dialog, "choose");
  await dialog.click("[data-act=leave]");
  await state(dialog, "email");
  assert.equal(await dialog.inputValue("input[name=email]"), "");
  await family.asks(dialog, bob, "bob has a password");
  const { link } = await mailTo(bob);
  await family.follows(link);
  await family.isKnown(shop, bob);
  const chooser = await family.opensDialog(await family.visits());
  assert.equal(await chooser.locator("input[name=email]").count(), 1);
});

story("the keyboard alone is enough", async () => {
  const ada = await Person.arrives();
  const email = address();
  const shop = await ada.visits();
  await shop.focus("#in");
  const [dialog] = await Promise.all([ada.context.waitForEvent("page"), shop.keyboard.press("Enter")]);
  await state(dialog, "email");
  await dialog.keyboard.type(email);
  await dialog.keyboard.press("Enter");
  await state(dialog, "create");
  await dialog.keyboard.type("correct horse battery");
  await dialog.keyboard.press("Enter");
  await state(dialog, "mail");
  const { code } = await mailTo(email);
  await dialog.keyboard.press("Tab");
  await dialog.focus("input[name=code]");
  await dialog.keyboard.type(code);
  await dialog.waitForTimeout(500);
  await dialog.keyboard.press("Enter");
  await ada.isKnown(shop, email);
});

story("cancelled: by the button, and by closing the window", async () => {
  const ada = await Person.arrives();
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await dialog.click("#cancel");
  await logs(shop, "ready", "cancel");
  const second = await ada.opensDialog(shop);
  await second.close();
  await logs(shop, "ready", "cancel", "cancel");
});

story("a double click on the site's button grants nothing by its second click", async () => {
  const ada = await Person.arrives();
  const email = address();
  await ada.signsUp(email);
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await dialog.close();
  await logs(shop, "ready", "cancel");
  // As fast as a machine can: in the moment in which the button is there.
  await ada.context.addInitScript(() => {
    addEventListener("DOMContentLoaded", () => {
      new MutationObserver((_, observer) => {
        if (document.getElementById("dialog")?.dataset.state !== "choose") return;
        observer.disconnect();
        document.querySelector("button[type=submit]").click();
        window.clicked = true;
      }).observe(document, { subtree: true, attributes: true });
    });
  });
  const again = await ada.opensDialog(shop);
  await state(again, "choose");
  await again.waitForFunction(() => window.clicked && !document.documentElement.classList.contains("asleep"));
  assert.equal(await again.getAttribute("#dialog", "data-state"), "choose");
  await logs(shop, "ready", "cancel");
});
