// Sites die between any two steps, and another one answers: what was begun goes on.
//
// As a browser sees it, a site that dies is a request without an answer. Here each call of the dialog loses one: either the
// request never arrived, or what it did was done and only the answer was lost.

import assert from "node:assert/strict";
import http from "node:http";
import { Person, state, story } from "../person.mjs";
import { PERSONA, address, mailTo } from "../world.mjs";


/** Sends a request as the browser would have, and throws the answer away, cookies and all. */
function arriveOnly(request, headers) {
  const url = new URL(request.url());
  return new Promise((resolve, reject) => {
    const sent = http.request(
      { host: "127.0.0.1", port: url.port || 80, path: url.pathname + url.search, method: request.method(), headers: { ...headers, host: url.host } },
      (answer) => answer.resume().on("end", resolve),
    );
    sent.on("error", reject);
    sent.end(request.postData() ?? undefined);
  });
}

/** From now on the first try of every call is lost; gives what was lost. */
async function loses(person, when) {
  const lost = [];
  const tried = new Set();
  await person.context.route(`${PERSONA}/wsapi/**`, async (route) => {
    const request = route.request();
    const headers = await request.allHeaders();
    const one = headers["idempotency-key"] ?? request.url();
    if (tried.has(one) || /_status/.test(request.url())) return route.continue();
    tried.add(one);
    lost.push(new URL(request.url()).pathname.slice("/wsapi/".length));
    if (when === "after") await arriveOnly(request, headers);
    await route.abort("connectionreset");
  });
  return lost;
}

for (const when of ["before", "after"]) {
  story(`every call is lost once, ${when} it was done: sign-up, sign-in, a second address`, async () => {
    const ada = await Person.arrives();
    const lost = await loses(ada, when);
    const email = address();
    const { password } = await ada.signsUp(email);
    const phone = await Person.arrives();
    const alsoLost = await loses(phone, when);
    const shop = await phone.visits();
    const dialog = await phone.opensDialog(shop);
    await phone.signsIn(dialog, email, password);
    await phone.isKnown(shop, email);
    for (const call of ["stage_user", "complete_user_creation", "cert_key", "session_context"]) assert.ok(lost.includes(call), `${call} of ${lost}`);
    for (const call of ["authenticate_user", "address_info"]) assert.ok(alsoLost.includes(call), `${call} of ${alsoLost}`);
  });
}

story("a service that is away for a while is said to be slow, then to be away, and trying again helps", async () => {
  const ada = await Person.arrives();
  const email = address();
  await ada.signsUp(email);
  let away = true;
  await ada.context.route(`${PERSONA}/wsapi/**`, (route) => (away ? route.fulfill({ status: 503, headers: { "Retry-After": "1" }, body: "" }) : route.continue()));
  const shop = await ada.visits();
  const [dialog] = await Promise.all([ada.context.waitForEvent("page"), shop.click("#in")]);
  await dialog.waitForSelector("#slow:not([hidden])");
  await dialog.waitForSelector('[data-state="trouble"]', { timeout: 60_000 });
  assert.ok((await dialog.textContent("#dialog [role=alert]")).length > 20);
  away = false;
  await dialog.click("[data-act=again]");
  await state(dialog, "choose");
  await dialog.click("button[type=submit]");
  await ada.isKnown(shop, email);
});

story("a mail that was asked for twice because an answer was lost is one mail", async () => {
  const ada = await Person.arrives();
  await loses(ada, "after");
  const email = address();
  const dialog = await ada.opensDialog(await ada.visits());
  await ada.asks(dialog, email, "correct horse battery");
  await mailTo(email);
  await assert.rejects(
    Promise.race([mailTo(email), new Promise((_, reject) => setTimeout(() => reject(new Error("no second mail")), 2000))]),
    /no/,
  );
});
