// What a bad site tries, to get an assertion for a good one.

import assert from "node:assert/strict";
import { Person, goesTo, logs, regular, sites, state, story } from "../person.mjs";
import { PERSONA, address } from "../world.mjs";


const KEY = { kty: "EC", crv: "P-256", x: "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", y: "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM" };

/** The audience of whatever came out, if anything did. */
async function audience(page) {
  await page.waitForFunction(() => window.assertion, null, { timeout: 5000 }).catch(() => {});
  const assertion = await page.evaluate(() => window.assertion);
  return assertion && JSON.parse(Buffer.from(assertion.split("~")[1].split(".")[1], "base64url").toString()).aud;
}

/** A page of the bad site that hears all that it is told, and opens the dialog itself. */
async function eavesdrops(ada, params, address = `${PERSONA}/sign_in#popup`) {
  const page = await ada.visits("/plain/?manual", sites.bad);
  const [popup] = await Promise.all([
    ada.context.waitForEvent("page"),
    page.evaluate(
      ([address, params]) => {
        window.heard = [];
        addEventListener("message", (event) => {
          window.heard.push(event.data);
          if (event.data.assertion) window.assertion = event.data.assertion;
          if (event.data.type === "ready") event.source.postMessage({ persona: 1, type: "request", ...params }, "*");
        });
        window.popup = open(address, "_blank", "popup");
      },
      [address, params],
    ),
  ]);
  await popup.waitForSelector("#dialog:not([aria-busy])");
  return { page, popup };
}

story("a bad site that says it is a good one is shown as itself, and answered as itself", async () => {
  const { ada } = await regular();
  const claims = {
    origin: sites.good,
    params: { origin: sites.good, audience: sites.good, aud: sites.good, siteName: sites.good, returnTo: `${sites.good}/`, key: KEY },
  };
  const { page, popup } = await eavesdrops(ada, claims);
  assert.equal(await popup.textContent("#asks .origin"), sites.bad);
  const size = (selector) => popup.$eval(selector, (element) => parseFloat(getComputedStyle(element).fontSize));
  assert.ok((await size("#asks .origin")) > (await size("#asks .name")), "the origin is larger than the name");
  await state(popup, "choose");
  await popup.click("button[type=submit]");
  assert.equal(await audience(page), sites.bad);
});

story("parameters in the dialog's address say nothing", async () => {
  const { ada } = await regular();
  for (const more of [`?origin=${sites.good}`, `?audience=${sites.good}&returnTo=/`, "?flow="]) {
    const { page, popup } = await eavesdrops(ada, { params: {} }, `${PERSONA}/sign_in${more}#popup`);
    if ((await popup.getAttribute("#dialog", "data-state")) === "notice") continue;
    await popup.click("button[type=submit]");
    assert.equal(await audience(page), sites.bad, more);
  }
});

story("a message from somebody who is not the opener is not heard", async () => {
  const { ada } = await regular();
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await state(dialog, "choose");
  // The good site has the bad one in a frame, which reaches the dialog's window by way of nobody: it has no handle.
  await shop.evaluate((bad) => {
    const frame = document.createElement("iframe");
    frame.src = `${bad}/plain/?manual`;
    document.body.append(frame);
    return new Promise((resolve) => (frame.onload = resolve));
  }, sites.bad);
  const frame = shop.frames().find((one) => one.url().startsWith(sites.bad));
  const heard = await frame.evaluate(() => {
    parent.postMessage({ persona: 1, type: "result", assertion: "forged", email: "eve@example.org" }, "*");
    return "sent";
  });
  assert.equal(heard, "sent");
  // A page of the same origin as the opener is not the opener either.
  await dialog.evaluate((origin) => {
    const forged = new MessageEvent("message", { data: { persona: 1, type: "request", params: {} }, origin, source: window });
    window.dispatchEvent(forged);
  }, sites.bad);
  await dialog.click("button[type=submit]");
  assert.equal(await audience(shop), sites.good);
  await logs(shop, "ready", "login");
});

story("a forged answer to a good site's page: wrong source or wrong origin", async () => {
  const { ada } = await regular();
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await shop.evaluate((bad) => {
    const frame = document.createElement("iframe");
    frame.src = `${bad}/plain/?manual`;
    document.body.append(frame);
    return new Promise((resolve) => (frame.onload = resolve));
  }, sites.bad);
  const frame = shop.frames().find((one) => one.url().startsWith(sites.bad));
  await frame.evaluate(() => parent.postMessage({ persona: 1, type: "result", assertion: "forged~forged", email: "eve@example.org" }, "*"));
  await shop.evaluate(() => postMessage({ persona: 1, type: "result", assertion: "forged~forged", email: "eve@example.org" }, "*"));
  await shop.waitForTimeout(300);
  await logs(shop, "ready");
  await dialog.click("#cancel");
  await logs(shop, "ready", "cancel");
});

story("an opener that becomes another page in between is answered by nobody", async () => {
  const { ada } = await regular();
  const { page, popup } = await eavesdrops(ada, { params: {} });
  await state(popup, "choose");
  // The bad site makes way for the good one, hoping for an answer that it can make use of.
  await goesTo(page, `${sites.good}/plain/`);
  await popup.click("button[type=submit]");
  await state(popup, "notice");
  await logs(page, "ready");
});

story("no page of Persona can be framed", async () => {
  const ada = await Person.arrives();
  const page = await ada.visits("/plain/?manual", sites.bad);
  for (const path of ["/sign_in", "/", "/confirm", "/about"]) {
    const framed = await page.evaluate(async (address) => {
      const frame = document.createElement("iframe");
      frame.src = address;
      document.body.append(frame);
      await new Promise((resolve) => (frame.onload = resolve));
      return frame.contentWindow.length;
    }, PERSONA + path);
    assert.equal(framed, 0);
  }
  for (const frame of page.frames().slice(1)) assert.match(frame.url(), /^$|^chrome-error:|^about:/);
  // The browser says so in the console of the page that tried.
  ada.forgives(/frame-ancestors|Refused to display|X-Frame-Options|Framing/);
});

/** Begins a flow by a form, as a site does. */
async function begins(page, fields) {
  await page.evaluate(
    ([action, fields]) => {
      const form = Object.assign(document.createElement("form"), { method: "post", action });
      for (const [name, value] of Object.entries(fields)) form.append(Object.assign(document.createElement("input"), { name, value }));
      document.body.append(form);
      form.submit();
    },
    [`${PERSONA}/sign_in`, fields],
  );
  await page.waitForURL(/sign_in/);
}

story("a flow that a bad site begins comes back to the bad site", async () => {
  const { ada } = await regular();
  for (const returnTo of ["/", "/plain/", `/open?to=${encodeURIComponent(`${sites.good}/plain/`)}`]) {
    const page = await ada.visits("/plain/?manual", sites.bad);
    await begins(page, { returnTo, key: JSON.stringify(KEY), origin: sites.good, audience: sites.good });
    await state(page, "choose");
    assert.equal(await page.textContent("#asks .origin"), sites.bad);
    const [left] = await Promise.all([page.waitForRequest((request) => request.isNavigationRequest() && request.url().startsWith(sites.bad)), page.click("button[type=submit]")]);
    assert.equal(new URL(left.url()).origin, sites.bad);
  }
  for (const returnTo of ["//rp.localhost/", `${sites.good}/`, "/\\rp.localhost/", "javascript:alert(1)"]) {
    const page = await ada.visits("/plain/?manual", sites.bad);
    await begins(page, { returnTo, key: JSON.stringify(KEY) });
    assert.equal(await page.locator("#dialog").count(), 0, returnTo);
  }
});

story("whose answer it is cannot be changed in a flow that a good site began", async () => {
  const { ada, email } = await regular();
  const shop = await ada.visits("/isolated/");
  await shop.click("#in");
  await shop.waitForURL(`${PERSONA}/sign_in?flow=*`);
  const address = shop.url();
  // The bad site knows the flow's name, and adds what it likes.
  const { page, popup } = await eavesdrops(ada, { params: { origin: sites.bad, key: KEY } }, `${address}&key=${encodeURIComponent(JSON.stringify(KEY))}&returnTo=/&origin=${sites.bad}#popup`);
  assert.equal(await popup.textContent("#asks .origin"), sites.good);
  assert.deepEqual(await page.evaluate(() => window.heard), [], "it is not a popup's flow");
  await popup.click("button[type=submit]");
  await popup.waitForURL(`${sites.good}/**`);
  // That tab is not the one that asked: it has no key, and drops the answer.
  await logs(popup, "ready");
  assert.equal(await page.evaluate(() => window.assertion), undefined);
  await ada.context.pages().find((one) => one === shop).bringToFront();
  assert.ok(email);
});

story("an answer that a good site's open redirector passes on is sealed", async () => {
  const { ada } = await regular();
  const shop = await ada.visits(`/isolated/?manual`);
  const path = `/open?to=${encodeURIComponent(`${sites.bad}/plain/?manual`)}`;
  await shop.evaluate((returnTo) => navigator.id.get(() => {}, { returnTo }), path);
  await shop.waitForURL(`${PERSONA}/sign_in?flow=*`);
  await state(shop, "choose");
  // Its script has no key for it there; the fragment is what the bad site's own script sees.
  await ada.context.addInitScript(() => (window.fragment = location.hash));
  await shop.click("button[type=submit]");
  await shop.waitForURL(`${sites.bad}/plain/?manual*`);
  const fragment = await shop.evaluate(() => window.fragment);
  assert.match(fragment, /^#persona=[\w-]+\.\.[\w-]+\.[\w-]+\.[\w-]+$/, "five parts of a JWE");
  const [head] = fragment.slice("#persona=".length).split(".");
  assert.equal(JSON.parse(Buffer.from(head, "base64url")).alg, "ECDH-ES");
  assert.ok(!Buffer.from(fragment.split(".")[3], "base64url").toString("latin1").includes("assertion"));
});

story("an answer is good once, in the tab that asked", async () => {
  const { ada, email } = await regular();
  const shop = await ada.visits("/isolated/");
  await shop.click("#in");
  await shop.waitForURL(`${PERSONA}/sign_in?flow=*`);
  const flow = shop.url();
  await state(shop, "choose");
  const [back] = await Promise.all([shop.waitForRequest((request) => request.url().includes("/isolated/") && request.isNavigationRequest()), shop.click("button[type=submit]")]);
  await ada.isKnown(shop, email);
  assert.ok(back);
  // Another tab, with somebody's answer.
  const other = await ada.visits(`/isolated/#persona=e30..AA.AA.AA`);
  await logs(other, "ready");
  assert.equal(new URL(other.url()).hash, "");
  // The flow once more, in its tab.
  await shop.goto(flow);
  await state(shop, "notice");
});

story("a page of Persona's cookies and calls are out of a bad site's reach", async () => {
  const { ada } = await regular();
  const page = await ada.visits("/plain/?manual", sites.bad);
  const outcomes = await page.evaluate(async (persona) => {
    const read = await fetch(`${persona}/wsapi/session_context`, { credentials: "include" }).then(() => "read", () => "refused");
    const form = new FormData();
    const write = await fetch(`${persona}/wsapi/logout`, { method: "POST", body: form, credentials: "include", mode: "no-cors" }).then(() => "sent", () => "refused");
    return [read, write];
  }, PERSONA);
  assert.equal(outcomes[0], "refused");
  ada.forgives(/CORS policy/);
  const shop = await ada.visits();
  const dialog = await ada.opensDialog(shop);
  await state(dialog, "choose");
});

story("third-party cookies are blocked in these stories", async () => {
  const ada = await Person.arrives();
  const tries = () => {
    document.cookie = "tried=1; SameSite=None; Secure; Path=/";
    return document.cookie;
  };
  const page = await ada.visits("/plain/?manual", sites.bad);
  await page.evaluate(async (good) => {
    const frame = document.createElement("iframe");
    frame.src = `${good}/plain/?manual`;
    document.body.append(frame);
    await new Promise((resolve) => (frame.onload = resolve));
  }, sites.good);
  const frame = page.frames().find((one) => one.url().startsWith(sites.good));
  assert.equal(await frame.evaluate(tries), "");
  // The same site at the top of a window has its cookie.
  assert.equal(await (await ada.visits("/plain/?manual")).evaluate(tries), "tried=1");
});
