// An email domain changes its mind, or has a fault: what people had with its addresses goes on, or they are told why not.

import assert from "node:assert/strict";
import { after } from "node:test";
import { Person, logs, state, story } from "../../person.mjs";
import { PERSONA, SITES, address, ask, heal, mailTo, tell, until, user } from "../../world.mjs";

/** What a data center keeps of the domain: ten seconds, as that tells it to, or a minute if there was no answer. */
const KEPT_MS = 90_000;
/** Each look has the data center ask the domain, or could have: of that one client may want little. */
const LOOK_EVERY_MS = 1000;

/** The domain says this from now on, and every data center has heard it. */
async function domainSays(says) {
  const wanted = { certifies: "primary", delegates: "secondary", disabled: "secondary", nothing: "secondary" }[says];
  await tell("idp", { says });
  for (const site of SITES) {
    const look = () => ask(`${PERSONA}/wsapi/address_info?email=${encodeURIComponent(user())}`, undefined, { Cookie: `persona_world_site=${site}` });
    await until(`${site} hears of it`, async () => {
      const { type, disabled = false } = await look();
      return type === wanted && disabled === (says === "disabled");
    }, KEPT_MS, LOOK_EVERY_MS);
  }
}
after(() => tell("idp", { says: "certifies" }));

/** Somebody whom their domain has vouched for, at a site. */
async function vouchedFor() {
  const ada = await Person.arrives();
  const email = user();
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await ada.names(dialog, email);
  await viaDomain(dialog);
  await ada.isKnown(shop, email);
  return { ada, email };
}

/** At the domain's own page: signs in, and comes back. */
async function viaDomain(dialog) {
  await state(dialog, "primary");
  await dialog.click("button[type=submit]");
  await dialog.waitForSelector("#cancel:not([hidden])");
  await dialog.fill("#password", "open sesame");
  await dialog.click("button.main");
}

/** In a browser that knows nothing of them: they name their address. */
async function elsewhere(email) {
  const person = await Person.arrives();
  const shop = await person.visits();
  const dialog = await person.opensDialog(shop);
  await person.names(dialog, email);
  return { person, shop, dialog };
}

const PASSWORD = "correct horse battery";

story("a domain vouches no more: a password by mail, or the one that there is; and it vouches again", async () => {
  await heal();
  await domainSays("certifies");
  const [bare, armed] = [(await vouchedFor()).email, await vouchedFor()];
  // One of them has a password too, with an address that is mailed to.
  const more = address("lovelace");
  const page = await armed.ada.visits();
  const chooser = await armed.ada.opensDialog(page);
  await chooser.click("[data-act=other]");
  await state(chooser, "email-more");
  await armed.ada.names(chooser, more);
  await state(chooser, "add");
  await chooser.fill("input[name=pass]", PASSWORD);
  await chooser.click("button[type=submit]");
  await state(chooser, "mail");
  await armed.ada.follows((await mailTo(more)).link);
  await armed.ada.isKnown(page, more);

  await domainSays("delegates");
  const first = await elsewhere(bare);
  await state(first.dialog, "create");
  assert.match(await first.dialog.textContent("#dialog h1"), /password/i);
  await first.dialog.fill("input[name=pass]", PASSWORD);
  await first.dialog.click("button[type=submit]");
  await state(first.dialog, "mail");
  await first.person.follows((await mailTo(bare)).link);
  assert.equal((await first.person.isKnown(first.shop, bare)).issuer, new URL(PERSONA).hostname);

  const second = await elsewhere(armed.email);
  await state(second.dialog, "password");
  assert.ok(await second.dialog.locator(".note").count(), "it is said why a password is asked for");
  await second.dialog.fill("input[name=pass]", PASSWORD);
  await second.dialog.click("button[type=submit]");
  assert.equal((await second.person.isKnown(second.shop, armed.email)).issuer, new URL(PERSONA).hostname);

  await domainSays("certifies");
  const third = await elsewhere(bare);
  await state(third.dialog, "primary");
  assert.match(await third.dialog.textContent("#dialog"), /now vouches/);
  await viaDomain(third.dialog);
  assert.notEqual((await third.person.isKnown(third.shop, bare)).issuer, new URL(PERSONA).hostname);
});

story("an address that was proven by mail, whose domain begins to vouch: there once, and back", async () => {
  await domainSays("delegates");
  const ada = await Person.arrives();
  const email = user();
  await ada.signsUp(email);
  await domainSays("certifies");
  const { person, shop, dialog } = await elsewhere(email);
  await viaDomain(dialog);
  assert.notEqual((await person.isKnown(shop, email)).issuer, new URL(PERSONA).hostname);
});

story("a domain that does not answer: it is said, and nobody goes round in circles; one that vouches for nobody: its mail counts", async () => {
  await domainSays("certifies");
  const { email } = await vouchedFor();
  await domainSays("nothing");
  const { shop, dialog } = await elsewhere(email);
  await state(dialog, "offline");
  assert.ok((await dialog.textContent("#dialog")).includes(email.split("@")[1]));
  await dialog.click("[data-act=other]");
  await state(dialog, "email");
  await dialog.click("#cancel");
  await logs(shop, "ready", "cancel");

  await domainSays("disabled");
  const later = await elsewhere(email);
  await state(later.dialog, "create");
  await later.dialog.fill("input[name=pass]", PASSWORD);
  await later.dialog.click("button[type=submit]");
  await state(later.dialog, "mail");
  await later.person.follows((await mailTo(email)).link);
  assert.equal((await later.person.isKnown(later.shop, email)).issuer, new URL(PERSONA).hostname);
});
