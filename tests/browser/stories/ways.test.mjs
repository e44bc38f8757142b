// How a site's page and the dialog reach each other: in a window, by redirection, and when something is in the way.

import assert from "node:assert/strict";
import { Person, goesTo, log, logs, regular, sites, state, story } from "../person.mjs";
import { PERSONA, address, ask, mailTo } from "../world.mjs";


/** Signs in by redirection, from a page that is at the dialog already. */
async function goesOn(ada, page, email) {
  await state(page, "choose");
  assert.equal(await page.textContent("#asks .origin"), sites.good);
  await page.click("button[type=submit]");
  await page.waitForURL(`${sites.good}/**`);
  await ada.isKnown(page, email);
  assert.equal(new URL(page.url()).hash, "", "the answer left the address");
}

const WATCHED = {
  "": ["ready"],
  "?as=": ["match", "ready"],
  "?as=ada@example.org": ["match", "ready"],
};

for (const [query, expected] of Object.entries(WATCHED)) {
  story(`watch() with ${query || "nothing"} calls ${expected.join(", ")}`, async () => {
    const ada = await Person.arrives();
    const page = await ada.visits(`/plain/${query}`);
    await logs(page, ...expected);
    await page.waitForTimeout(200);
    await logs(page, ...expected);
  });
}

story("after request() the address that the site knows is a match, another one is a login", async () => {
  const { ada, email } = await regular();
  for (const [as, expected] of [
    [email.toUpperCase(), ["match", "ready", "match"]],
    ["somebody@else.example", ["match", "ready", "login"]],
  ]) {
    const page = await ada.visits(`/plain/?as=${encodeURIComponent(as)}`);
    const dialog = await ada.opensDialog(page);
    await dialog.click("button[type=submit]");
    await logs(page, ...expected);
  }
});

story("logout() is the site's own affair: once, and nothing ends at Persona", async () => {
  const { ada, email } = await regular();
  const page = await ada.visits(`/plain/?as=${encodeURIComponent(email)}`);
  await page.click("#out");
  await logs(page, "match", "ready", "logout");
  const dialog = await ada.opensDialog(page);
  await state(dialog, "choose");
  await dialog.click("button[type=submit]");
  await logs(page, "match", "ready", "logout", "login");
});

story("a hundred pages that watch: nobody is logged out or in", async () => {
  const { ada, email } = await regular();
  const page = await ada.visits(`/plain/?as=${encodeURIComponent(email)}`);
  for (let times = 0; times < 100; times++) {
    await page.reload();
    await logs(page, "match", "ready");
  }
});

story("get() gives an assertion; watch() and get() are not mixed; request() wants watch()", async () => {
  const { ada, email } = await regular();
  const page = await ada.visits("/plain/?manual");
  const dialog = await ada.opensDialog(page, "#get");
  await dialog.click("button[type=submit]");
  await ada.isKnown(page, email);
  for (const call of ["watch({ onlogin() {} })", "request()", "logout()"]) {
    assert.match(await page.evaluate(`try { navigator.id.${call}; "nothing" } catch (error) { error.message }`), /navigator\.id/);
  }
  for (const options of ['{ privacyPolicy: "/p" }', '{ returnTo: "//evil.example/" }', '{ returnTo: "https://evil.example/" }', "{ nonce: 7 }"]) {
    const said = await page.evaluate(`try { navigator.id.get(() => {}, ${options}); "nothing" } catch (error) { error.message }`);
    assert.match(said, /navigator\.id/, options);
  }
});

story("a popup that is blocked: by redirection, and back with the page's own fragment", async () => {
  const { ada, email } = await regular();
  const page = await ada.visits("/plain/?x=1#part");
  await page.evaluate(() => (window.open = () => null));
  await page.click("#in");
  await page.waitForURL(`${PERSONA}/sign_in?flow=*`);
  await state(page, "choose");
  await page.click("button[type=submit]");
  await page.waitForURL(`${sites.good}/plain/?x=1#part`);
  await ada.isKnown(page, email);
  await logs(page, "ready", "login").catch(() => logs(page, "login", "ready"));
});

story("a popup that closes at once is a blocked one, not a cancelled one", async () => {
  const { ada, email } = await regular();
  const page = await ada.visits();
  await page.evaluate(() => {
    const open = window.open;
    window.open = (...all) => {
      const popup = open(...all);
      popup.close();
      return popup;
    };
  });
  await page.click("#in");
  await page.waitForURL(`${PERSONA}/sign_in?flow=*`);
  await goesOn(ada, page, email);
});

story("a site whose headers cut it from its windows", async () => {
  const { ada, email } = await regular();
  const page = await ada.visits("/coop/");
  await page.click("#in");
  await page.waitForURL(`${PERSONA}/sign_in?flow=*`);
  await goesOn(ada, page, email);
  // The window that was cut off has closed itself.
  assert.equal(ada.context.pages().filter((one) => one.url().startsWith(PERSONA)).length, 0);
});

story("an isolated site goes by redirection at once", async () => {
  const { ada, email } = await regular();
  const page = await ada.visits("/isolated/");
  const before = ada.context.pages().length;
  await page.click("#in");
  await page.waitForURL(`${PERSONA}/sign_in?flow=*`);
  assert.equal(ada.context.pages().length, before, "no window was opened");
  await goesOn(ada, page, email);
});

story("a site without referrers: in a window, and by redirection", async () => {
  const { ada, email } = await regular();
  const page = await ada.visits("/no-referrer/");
  const dialog = await ada.opensDialog(page);
  await dialog.click("button[type=submit]");
  await ada.isKnown(page, email);
  const again = await ada.visits("/no-referrer/");
  await again.evaluate(() => (window.open = () => null));
  await again.click("#in");
  await again.waitForURL(`${PERSONA}/sign_in?flow=*`);
  await goesOn(ada, again, email);
});

story("get() by redirection: the next call has the answer", async () => {
  const { ada, email } = await regular();
  const page = await ada.visits("/isolated/?manual");
  await page.click("#get");
  await page.waitForURL(`${PERSONA}/sign_in?flow=*`);
  await state(page, "choose");
  await page.click("button[type=submit]");
  await page.waitForURL(`${sites.good}/**`);
  await page.click("#get");
  await ada.isKnown(page, email);
});

story("by redirection, from nothing to the site, with a mail in between", async () => {
  const ada = await Person.onPhone();
  const email = address();
  const page = await ada.visits("/isolated/");
  await page.click("#in");
  await page.waitForURL(`${PERSONA}/sign_in?flow=*`);
  await state(page, "email");
  await ada.asks(page, email, "correct horse battery");
  await ada.follows((await mailTo(email)).link);
  await page.waitForURL(`${sites.good}/**`);
  await ada.isKnown(page, email);
});

story("cancelled by redirection: back at the site, and nobody is logged in", async () => {
  const { ada } = await regular();
  const page = await ada.visits("/isolated/");
  await page.click("#in");
  await page.waitForURL(`${PERSONA}/sign_in?flow=*`);
  await state(page, "choose");
  await page.click("#cancel");
  await page.waitForURL(`${sites.good}/**`);
  await logs(page, "ready");
  assert.equal(new URL(page.url()).hash, "");
});

story("the dialog loaded anew asks its opener again", async () => {
  const { ada, email } = await regular();
  const page = await ada.visits();
  const dialog = await ada.opensDialog(page);
  await dialog.reload();
  await state(dialog, "choose");
  await dialog.click("button[type=submit]");
  await ada.isKnown(page, email);
});

story("an opener that has gone elsewhere gets nothing, and the dialog says so", async () => {
  const { ada } = await regular();
  const page = await ada.visits();
  const dialog = await ada.opensDialog(page);
  await state(dialog, "choose");
  await goesTo(page, `${sites.bad}/plain/`);
  await page.evaluate(() => {
    window.heard = [];
    addEventListener("message", (event) => window.heard.push(event.data));
  });
  await dialog.click("button[type=submit]");
  await state(dialog, "notice");
  assert.deepEqual(await page.evaluate(() => window.heard), []);
  assert.deepEqual(await log(page), ["ready"]);
});

story("the live example for developers is a site like others", async () => {
  const { ada, email } = await regular();
  const page = await ada.visits("/developers", PERSONA);
  await page.click("#live [data-act=in]");
  await page.waitForURL(`${PERSONA}/sign_in?flow=*`);
  await state(page, "choose");
  await page.click("button[type=submit]");
  await page.waitForURL(`${PERSONA}/developers`);
  await page.waitForSelector("#live [data-some]:not([hidden])");
  const verified = JSON.parse(await page.textContent("#live code"));
  assert.equal(verified.status, "okay");
  assert.equal(verified.email, email);
});

story("without an opener or a flow the dialog signs in to Persona itself", async () => {
  const { ada, email } = await regular();
  const page = await ada.visits("/sign_in", PERSONA);
  await state(page, "choose");
  await page.click("button[type=submit]");
  await page.waitForURL(`${PERSONA}/`);
  await state(page, "account");
  assert.ok((await page.textContent("#addresses")).includes(email));
});

story("an assertion is for one site, for two minutes, with the service's clock", async () => {
  const { ada } = await regular();
  const page = await ada.visits();
  const dialog = await ada.opensDialog(page);
  await dialog.click("button[type=submit]");
  await page.waitForFunction(() => window.assertion);
  const assertion = await page.evaluate(() => window.assertion);
  const read = (part) => JSON.parse(Buffer.from(part, "base64url").toString());
  const [certificate, said] = assertion.split("~").map((token) => token.split(".").slice(0, 2).map(read));
  assert.deepEqual(said[0], { alg: "ES256", typ: "browserid-assertion+jwt" });
  assert.equal(said[1].aud, sites.good);
  assert.ok(Math.abs(said[1].exp - Date.now() - 120_000) < 15_000);
  assert.equal(certificate[1]["public-key"].d, undefined);
  const elsewhere = await ask(`${PERSONA}/verify`, { assertion, audience: sites.bad });
  assert.equal(elsewhere.status, "failure");
});
