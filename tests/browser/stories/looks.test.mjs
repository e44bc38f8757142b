// Pages and states as they look: nothing that axe-core finds, in light and dark, on a phone and a desktop, in each language.
//
// With SHOTS=directory, pictures of all of them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Person, shot, state, story } from "../person.mjs";
import { PERSONA } from "../world.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");


/** What to fill into a state that nobody brought about. */
const DATA = {
  email: "ada.lovelace@example.org",
  domain: "example.org",
  site: "shop.example",
  text: "Persona is not available at the moment.",
  note: "Your password, please: it has been a while.",
  device: "Firefox on Linux",
  when: "22 Nov 2026, 14:03",
  fresh: true,
  password: true,
  must_auth: true,
  new_account: true,
  has_password: true,
  unverified: true,
  many: true,
};

/** Rows are shown in other states. */
const PARTS = /^(address|row-.*)$/;

async function judge(page, name) {
  // Its policy allows no script of ours: these people's browsers have none.
  const found = await page.evaluate(async (source) => {
    if (!window.axe) (0, eval)(source);
    const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" | ")}`);
  }, axe);
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (wider > 0) found.push(`scrolls sideways by ${wider}`);
  return found.map((finding) => `${name}: ${finding}`);
}

const LOOKS = [
  { colorScheme: "light", viewport: { width: 440, height: 700 }, locale: "en-GB", wide: { width: 1100, height: 800 } },
  { colorScheme: "dark", viewport: { width: 360, height: 740 }, locale: "de-DE", wide: { width: 360, height: 740 } },
  { colorScheme: "light", viewport: { width: 360, height: 740 }, locale: "fr-FR", wide: { width: 1100, height: 800 } },
];

for (const { wide, ...options } of LOOKS) {
  const look = `${options.colorScheme}-${options.viewport.width}-${options.locale.slice(0, 2)}`;

  story(`pages, ${look}`, async () => {
    const person = await Person.arrives({ ...options, viewport: wide, bypassCSP: true });
    const found = [];
    for (const path of ["/", "/about", "/terms", "/privacy", "/developers", "/nothing", "/unavailable", "/confirm", "/sign_in", "/sign_in?flow=0"]) {
      const page = await person.visits(path, PERSONA);
      await page.waitForSelector("[data-state]:not([aria-busy]), main > article, main > .narrow");
      await page.waitForTimeout(600);
      found.push(...(await judge(page, path)));
      await shot(page, `page${path.replace(/\W/g, "-")}-${look}`);
      await page.close();
    }
    assert.deepEqual(found, []);
  });

  story(`states, ${look}`, async () => {
    const person = await Person.arrives({ ...options, bypassCSP: true });
    const found = [];
    for (const [path, place] of [
      ["/sign_in", "#dialog"],
      ["/", "#page"],
      ["/confirm", "#page"],
    ]) {
      const page = await person.visits(path, PERSONA);
      await page.waitForSelector("[data-state]:not([aria-busy])");
      const names = await page.$$eval("template", (all) => all.map(({ id }) => id.replace("state-", "")));
      for (const name of names.filter((name) => !PARTS.test(name))) {
        await page.evaluate(
          async ([place, name, data]) => {
            const style = document.querySelector('link[rel="stylesheet"]').href;
            const view = await import(style.replace("persona.css", "view.js"));
            const asks = document.getElementById("asks");
            if (asks) {
              asks.hidden = false;
              asks.querySelector(".origin").textContent = "a-rather-long-name-of-a-shop.example";
            }
            let parent = document.querySelector(place);
            if (/^(form-|mail|ask)/.test(name) && place === "#page") {
              // A part of the account's page, where it belongs.
              view.show(parent, "account", data);
              parent = name.startsWith("ask") ? document.getElementById("ask") : parent.querySelector(".sub");
              parent.showModal?.();
            }
            view.show(parent, name, data);
            for (const error of parent.querySelectorAll(".error")) {
              error.textContent = view.words("error-password-rules");
              error.hidden = false;
            }
            for (const [list, row, count] of [[".addresses", "address", 2], ["#addresses ul", "row-address", 2], ["#sessions ul", "row-session", 2], ["#lost ul", "row-lost", 1]]) {
              const rows = parent.querySelector(list);
              for (let index = 0; rows && index < count; index++) {
                const made = view.build(row, { ...data, email: `${index}.${data.email}`, current: index === 0, unverified: index > 0 });
                rows.append(made);
              }
              rows?.querySelector("input")?.click();
              rows?.closest("section")?.removeAttribute("hidden");
            }
          },
          [place, name, DATA],
        );
        await page.waitForTimeout(600);
        found.push(...(await judge(page, `${name} of ${path}`)));
        await shot(page, `${path.slice(1) || "home"}-${name}-${look}`);
        await page.evaluate(() => document.getElementById("ask")?.close());
      }
      await page.close();
    }
    assert.deepEqual(found, []);
  });
}
