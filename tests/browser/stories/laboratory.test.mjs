// What shows mails and kills data centers is for this machine's people alone: no page of another origin reaches it.

import assert from "node:assert/strict";
import { Person, sites, story } from "../person.mjs";
import { EVIL, INBOX, PERSONA, SHOP, WORLD, ask, send, theWorld } from "../world.mjs";

/** All that happened to data centers: starts, deaths. */
const fates = async () => JSON.stringify((await theWorld()).sites.map(({ name, starts, life, apart }) => [name, starts, life, apart]));

story("the villain tries everything that its page has a button for, and gets nothing", async () => {
  const before = await fates();
  const ada = await Person.arrives();
  // What it says of the world's page it has asked.
  ada.allowed.push(WORLD);
  const shop = await ada.visits("/", SHOP);
  assert.equal(await shop.locator("#user").count(), 0);
  const page = await ada.visits("/", EVIL);
  for (const attempt of ["reach", "frames", "watch"]) await page.click(`[data-attempt=${attempt}]`);
  await page.waitForSelector('#heard [data-what="reach"]');
  await page.waitForSelector('#heard [data-what="frames"]');
  const kept = await page.$$eval('#heard [data-finding="kept"]', (lines) => lines.map((line) => line.dataset.what));
  for (const what of ["session", "emails", "inbox", "world", "lose-half", "front"]) assert.ok(kept.includes(what), `${what} is not among ${kept}`);
  assert.deepEqual(await page.$$eval('#heard [data-finding="got"]', (lines) => lines.map((line) => line.textContent)), []);
  for (const frame of page.frames().slice(1)) assert.ok(!frame.url().startsWith(PERSONA) && !frame.url().startsWith(WORLD), frame.url());
  assert.equal(await fates(), before);
  // The browser says in the console of that page what it has refused it.
  ada.forgives(/./);
});

story("no page elsewhere drives the world: by a script, by a form, or by a name that leads here", async () => {
  const before = await fates();
  const ada = await Person.arrives();
  ada.allowed.push(WORLD);
  const targets = [
    ["POST", `${WORLD}/api/world/lose-half`],
    ["POST", `${WORLD}/api/sites/${(await theWorld()).sites[0].name}/kill`],
    ["POST", `${WORLD}/api/front`],
    ["POST", `${WORLD}/api/front/ambush`],
    ["POST", `${WORLD}/api/idp`],
    ["GET", `${WORLD}/api/world`],
    ["GET", `${INBOX}.json`],
    ["GET", INBOX],
  ];
  const page = await ada.visits("/plain/?manual", sites.bad);
  for (const [method, url] of targets) {
    const read = await page.evaluate(
      async ([method, url]) => {
        const tries = [{}, { credentials: "include" }, { headers: { "X-Persona-World": "1" } }];
        if (method === "POST") tries.push({ body: '{"says":"nothing"}', headers: { "Content-Type": "text/plain" } });
        const answers = [];
        for (const options of tries) answers.push(await fetch(url, { method, ...options }).then(({ status }) => status, () => null));
        await fetch(url, { method, mode: "no-cors", body: method === "POST" ? "{}" : undefined }).catch(() => {});
        return answers.filter((status) => status !== null);
      },
      [method, url],
    );
    assert.deepEqual(read, [], `${method} ${url} was read`);
  }
  // A form needs no leave to be sent: it is refused there.
  for (const [method, url] of targets.filter(([method]) => method === "POST")) {
    const form = await ada.visits("/plain/?manual", sites.bad);
    const [answer] = await Promise.all([
      form.waitForResponse((response) => response.url() === url),
      form.evaluate(
        ([method, action]) => {
          const form = Object.assign(document.createElement("form"), { method, action, enctype: "text/plain" });
          form.append(Object.assign(document.createElement("input"), { name: '{"says":"nothing","x":"', value: '"}' }));
          document.body.append(form);
          form.submit();
        },
        [method, url],
      ),
    ]);
    assert.equal(answer.status(), 403, url);
  }
  ada.forgives(/CORS policy|Content Security Policy/);
  // A name of somebody else's that leads to this machine (DNS rebinding) makes these pages of its own origin.
  for (const [method, url] of targets) {
    const host = `evil.example:${new URL(url).port}`;
    const { status, text } = await send(url, { method, headers: { Host: host, Origin: `http://${host}`, "X-Persona-World": "1" } });
    assert.ok([403, 421].includes(status), `${method} ${url}: ${status}`);
    assert.ok(!text.includes("token="), url);
  }
  assert.equal(await fates(), before);
  assert.equal((await ask(`${PERSONA}/wsapi/address_info?email=ada@idp.localhost`)).type, "primary", "the email domain says what it said");
});
