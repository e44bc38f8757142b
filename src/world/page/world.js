// The page of the world: asks for its state once a second and draws it. Draws by changing what is there, so
// that focus and selection stay where they are. No inline styles: the content security policy forbids them.

const SVG = "http://www.w3.org/2000/svg";
const at = (id) => document.getElementById(id);

/** Makes an element: `make("td", {class: "n"}, "text", child…)`. */
function make(name, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "circle", "text", "tspan", "line", "polyline", "polygon", "rect"].includes(name);
  const node = svg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue;
    if (key === "onclick") node.addEventListener("click", value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child != null && child !== false));
  return node;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

// ---- The earth -------------------------------------------------------------------------------------------

/** Natural Earth projection (Šavrič, Jenny, Patterson et al. 2011), scaled and placed as land.svg is. */
function project(longitude, latitude) {
  const l = (longitude * Math.PI) / 180, p = (latitude * Math.PI) / 180, p2 = p * p, p4 = p2 * p2;
  const x = l * (0.8707 - 0.131979 * p2 + p4 * (-0.013791 + p4 * (0.003971 * p2 - 0.001529 * p4)));
  const y = p * (1.007226 + p2 * (0.015085 + p4 * (-0.044475 + 0.028874 * p2 - 0.005916 * p4)));
  return [500 + 180 * x, 262 - 180 * y];
}

function graticule() {
  let d = "";
  const run = (points) => points.forEach(([x, y], i) => { d += `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`; });
  const range = (from, to, step) => Array.from({ length: (to - from) / step + 1 }, (_, i) => from + i * step);
  for (const longitude of range(-180, 180, 30)) run(range(-60, 84, 6).map((latitude) => project(longitude, latitude)));
  for (const latitude of range(-60, 60, 30)) run(range(-180, 180, 6).map((longitude) => project(longitude, latitude)));
  return d;
}

/** An arc between two points, bowed towards the nearer pole as great circles are. */
function bow([x1, y1], [x2, y2]) {
  const reach = Math.hypot(x2 - x1, y2 - y1);
  const north = (y1 + y2) / 2 < 300 ? -1 : 1;
  return `M${x1.toFixed(1)} ${y1.toFixed(1)}Q${((x1 + x2) / 2).toFixed(1)} ${((y1 + y2) / 2 + north * reach * 0.16).toFixed(1)} ${x2.toFixed(1)} ${y2.toFixed(1)}`;
}

/** The arc of a link. One that is shorter over the Pacific leaves on one side and comes in on the other. */
function arc(a, b) {
  if (Math.abs(a.longitude - b.longitude) <= 180) {
    return bow(project(a.longitude, a.latitude), project(b.longitude, b.latitude));
  }
  const turn = a.longitude > b.longitude ? 360 : -360;
  return bow(project(a.longitude, a.latitude), project(b.longitude + turn, b.latitude)) +
    bow(project(a.longitude - turn, a.latitude), project(b.longitude, b.latitude));
}

// ---- What is known, and what is selected -----------------------------------------------------------------

let world = null;
let selected = null; // {site: index} or {from: index, to: index}
let drawn = null; // the nodes, made once the sites are known

const linkOf = (a, b) => world.links.find((link) => link.a === Math.min(a, b) && link.b === Math.max(a, b));
const city = (index) => world.sites[index].city;
const isCut = (from, to) => { const link = linkOf(from, to); return from < to ? link.cut_ab : link.cut_ba; };
const lagOf = (from, to) => { const link = linkOf(from, to); return from < to ? link.lag_ab : link.lag_ba; };
const behindOf = (from, to) => { const link = linkOf(from, to); return from < to ? link.behind_ab : link.behind_ba; };

/** Microseconds, as milliseconds worth reading. Jitter may make it negative: that is none. */
function ms(us) {
  if (us == null) return "–";
  const value = Math.max(0, us) / 1000;
  if (value >= 60000) return `${Math.round(value / 60000)} min`;
  if (value >= 10000) return `${Math.round(value / 1000)} s`;
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}
const unit = (text) => (/[–a-z]/.test(text) ? text : `${text} ms`);
const whole = (number) => number.toLocaleString("en");
const lately = (seconds, field, count) => seconds.slice(-count).reduce((sum, second) => sum + second[field], 0);

function stateOf(site) {
  const words = { ready: "serves", starting: "starting", down: "down" }[site.life];
  const more = [];
  if (site.apart && site.life !== "down") more.push("cut off");
  if (site.alone) more.push("alone");
  if (site.isolated) more.push("isolated");
  return [words, ...more].join(", ");
}

function linkState(link) {
  const down = [link.a, link.b].some((index) => world.sites[index].life === "down");
  if (link.cut_ab && link.cut_ba) return "cut";
  if (link.cut_ab || link.cut_ba) return "one-way";
  if (down || link.connected === false) return "quiet";
  return "live";
}

// ---- Doing -----------------------------------------------------------------------------------------------

let toastTimer = 0;
function toast(words) {
  at("toast").replaceChildren(make("p", {}, words));
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => at("toast").replaceChildren(), 7000);
}

async function post(path, body, button) {
  button?.classList.add("busy");
  try {
    const headers = { "X-Persona-World": "1" };
    if (body) headers["Content-Type"] = "application/json";
    const answer = await fetch(path, { method: "POST", headers, body: body && JSON.stringify(body) });
    if (!answer.ok) {
      const refusal = await answer.json().catch(() => ({}));
      toast(refusal.message ?? `That was refused (${answer.status}).`);
    }
  } catch {
    toast("The world does not answer.");
  } finally {
    button?.classList.remove("busy");
  }
  await refresh();
}

/** A button that wants to be pressed twice. */
function twice(button, words, act) {
  if (button.classList.contains("sure")) {
    button.classList.remove("sure");
    setText(button, button.dataset.words);
    return act();
  }
  button.dataset.words = button.textContent;
  setText(button, words);
  button.classList.add("sure");
  setTimeout(() => {
    if (!button.classList.contains("sure")) return;
    button.classList.remove("sure");
    setText(button, button.dataset.words);
  }, 3000);
}

const DEEDS = {
  kill: "kill −9", wipe: "wipe", restart: "restart", start: "start", stop: "drain", cut: "cut off", heal: "heal",
};

/** What can be done to a site as it is. */
function deedsFor(site) {
  const deeds = site.life === "down" ? ["start", "wipe"] : ["kill", "wipe", "restart"];
  return [...deeds, site.apart ? "heal" : "cut"];
}

function deedButton(site, deed) {
  const act = (button) => post(`/api/sites/${encodeURIComponent(site.name)}/${deed === "start" ? "restart" : deed}`, null, button);
  return make("button", {
    type: "button", "data-deed": deed, class: deed === "kill" || deed === "wipe" ? "danger" : "",
    "aria-label": `${DEEDS[deed]} ${site.city}`, disabled: world.running != null,
    onclick: (event) => {
      event.stopPropagation();
      const button = event.currentTarget;
      if (deed === "wipe") twice(button, "sure?", () => act(button));
      else act(button);
    },
  }, DEEDS[deed]);
}

/** Puts buttons into a place, only when they are not the same already. */
function placeDeeds(place, site) {
  const deeds = deedsFor(site);
  const key = deeds.join() + world.running;
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  place.replaceChildren(...deeds.map((deed) => deedButton(site, deed)));
}

function select(what) {
  selected = what;
  at("panel").dataset.key = "";
  draw();
  // On a phone the panel of a pair is far above the table in which it was chosen.
  if (what?.from != null && matchMedia("(max-width: 1100px)").matches) at("panel").scrollIntoView({ block: "nearest" });
}

// ---- Drawing ---------------------------------------------------------------------------------------------

function build() {
  at("graticule").replaceChildren(make("path", { d: graticule() }));
  const links = world.links.map((link) => {
    const d = arc(world.sites[link.a], world.sites[link.b]);
    const line = make("path", { d });
    const hit = make("path", { d, class: "hit" });
    hit.addEventListener("pointerenter", (event) => showTip(event, () => linkTip(link.a, link.b), [link.a, link.b]));
    hit.addEventListener("pointerleave", hideTip);
    hit.addEventListener("click", () => select({ from: link.a, to: link.b }));
    return { line, hit };
  });
  at("links").replaceChildren(...links.map(({ line }) => line), ...links.map(({ hit }) => hit));

  const dots = world.sites.map((site, index) => {
    const node = make("g", { class: "site", tabindex: 0, role: "button" },
      make("circle", { class: "halo" }), make("circle", { class: "beat" }), make("circle", { class: "ring" }),
      make("circle", { class: "core" }), make("path", { class: "cross" }), make("circle", { class: "focus" }),
      make("text"));
    node.addEventListener("click", () => select({ site: index }));
    node.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); select({ site: index }); }
      if (event.key === "Escape") select(null);
    });
    const show = (event) => showTip(event, () => siteTip(index), [index]);
    node.addEventListener("pointerenter", show);
    node.addEventListener("pointerleave", hideTip);
    node.addEventListener("focus", () => { if (node.matches(":focus-visible")) show(null); });
    node.addEventListener("blur", hideTip);
    return node;
  });
  at("dots").replaceChildren(...dots);

  const rows = world.sites.map((site, index) => {
    const cells = {
      dot: make("i", { class: "dot" }), state: make("span"), spark: sparkline(), rate: make("td", { class: "n", "data-label": "/ s" }),
      failures: make("td", { class: "n", "data-label": "failures" }), p50: make("td", { class: "n", "data-label": "p50 ms" }),
      p99: make("td", { class: "n", "data-label": "p99 ms" }), transactions: make("td", { class: "n", "data-label": "transactions" }),
      memory: make("td", { class: "n", "data-label": "memory" }), deeds: make("td", { class: "do" }),
    };
    const row = make("tr", { onclick: () => select({ site: index }) },
      make("th", { scope: "row" }, make("b", {}, site.city), make("small", {}, site.name)),
      make("td", { class: "state" }, cells.dot, cells.state),
      make("td", { class: "spark-cell" }, cells.spark.svg),
      cells.rate, cells.failures, cells.p50, cells.p99, cells.transactions, cells.memory, cells.deeds);
    return { row, cells };
  });
  at("rows").replaceChildren(...rows.map(({ row }) => row));

  const head = make("thead", {}, make("tr", {}, make("th", {}, ""),
    ...world.sites.map((site) => make("th", { scope: "col", title: site.city }, site.city))));
  const cells = [];
  const body = make("tbody", {}, ...world.sites.map((site, from) => make("tr", {},
    make("th", { scope: "row" }, site.city),
    ...world.sites.map((_, to) => {
      if (from === to) return make("td", { class: "self" });
      const button = make("button", { type: "button", onclick: () => select({ from, to }) });
      cells.push({ from, to, button });
      return make("td", {}, button);
    }))));
  at("matrix").replaceChildren(head, body);

  drawn = { links, dots, rows, cells, count: world.sites.length };
  placeDots();
}

/** Sizes dots and letters for the width at hand, and finds each name a place where it covers nobody. */
function placeDots() {
  if (!drawn) return;
  const scale = 1000 / Math.max(320, at("map").clientWidth);
  const size = Math.max(9.5, 12.5 * Math.min(scale, 2.4) * (scale > 1.6 ? 0.82 : 1));
  const radius = Math.max(5, 5.6 * Math.min(scale, 2));
  const points = world.sites.map((site) => project(site.longitude, site.latitude));
  const taken = points.map(([x, y]) => [x - radius * 1.6, y - radius * 1.6, x + radius * 1.6, y + radius * 1.6]);
  drawn.dots.forEach((node, index) => {
    const [x, y] = points[index];
    node.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
    const [halo, beat, ring, core, cross, focus, text] = node.children;
    halo.setAttribute("r", radius * 1.9);
    beat.setAttribute("r", radius);
    ring.setAttribute("r", radius * 1.6);
    core.setAttribute("r", radius);
    focus.setAttribute("r", radius * 2.2);
    const arm = radius * 0.45;
    cross.setAttribute("d", `M${-arm} ${-arm}L${arm} ${arm}M${arm} ${-arm}L${-arm} ${arm}`);
    const width = city(index).length * size * 0.62, gap = radius * 1.7;
    const places = [[gap, size * 0.35, "start"], [-gap, size * 0.35, "end"], [0, -gap - 1, "middle"], [0, gap + size * 0.8, "middle"]];
    const box = ([dx, dy, anchor]) => {
      const left = x + dx - (anchor === "end" ? width : anchor === "middle" ? width / 2 : 0);
      return [left, y + dy - size * 0.85, left + width, y + dy + size * 0.25];
    };
    const free = ([l, t, r, b]) => l > 4 && r < 996 && t > 2 &&
      taken.every(([l2, t2, r2, b2], other) => other === index || r < l2 || l > r2 || b < t2 || t > b2);
    const place = places.find((candidate) => free(box(candidate))) ?? places[3];
    taken.push(box(place));
    text.setAttribute("x", place[0]);
    text.setAttribute("y", place[1]);
    text.setAttribute("text-anchor", place[2]);
    text.setAttribute("font-size", size);
    setText(text, city(index));
  });
}

function sparkline() {
  const area = make("path", { class: "area" }), curve = make("path", { class: "curve" }), fail = make("g", { class: "fail" });
  const svg = make("svg", { class: "spark", viewBox: "0 0 120 30", preserveAspectRatio: "none", role: "img" }, area, curve, fail);
  return { svg, area, curve, fail };
}

function drawSpark({ svg, area, curve, fail }, seconds, most) {
  const step = 120 / Math.max(1, seconds.length - 1);
  const y = (value) => (27 - (value / most) * 24).toFixed(1);
  const line = seconds.map((second, i) => `${i ? "L" : "M"}${(i * step).toFixed(1)} ${y(second.sign_ins)}`).join("");
  curve.setAttribute("d", line);
  area.setAttribute("d", line ? `${line}L120 28L0 28z` : "");
  fail.replaceChildren(...seconds.flatMap((second, i) => second.failures
    ? [make("rect", { x: (i * step - 0.8).toFixed(1), width: 1.6, y: 30 - Math.min(30, 8 + second.failures * 3), height: Math.min(30, 8 + second.failures * 3) })]
    : []));
  setAttribute(svg, "aria-label", `${lately(seconds, "sign_ins", 60)} sign-ins and ${lately(seconds, "failures", 60)} failures in the last minute`);
}

function draw() {
  if (!world) return;
  if (drawn?.count !== world.sites.length) build();
  drawTotals();
  drawMap();
  drawRows();
  drawMatrix();
  drawPanel();
  drawTimeline();
  drawVisit();
  if (tip) fillTip();
}

function drawTotals() {
  const serving = world.sites.filter((site) => site.life === "ready").length;
  const signIns = world.sites.reduce((sum, site) => sum + lately(site.seconds, "sign_ins", 5), 0) / 5;
  const failures = world.sites.reduce((sum, site) => sum + lately(site.seconds, "failures", 60), 0);
  const lags = world.links.flatMap((link) => [link.lag_ab, link.lag_ba]).filter(Boolean).map((lag) => lag.p99_us);
  const total = (id, main, small, state) => {
    at(id).replaceChildren(main, small ? make("small", {}, ` ${small}`) : "");
    at(id).className = state ?? "";
  };
  total("t-serving", String(serving), `of ${world.sites.length}`, serving < world.sites.length ? "bad" : "good");
  total("t-signins", signIns.toFixed(signIns < 10 ? 1 : 0), "");
  total("t-failures", whole(failures), "", failures ? "bad" : "");
  const worst = lags.length ? ms(Math.max(...lags)) : "–";
  total("t-lag", worst, /[–a-z]/.test(worst) ? "" : "ms");
  const numbers = ["no", "one", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten"];
  setText(at("motto"), `${numbers[world.sites.length] ?? world.sites.length} data centers, one truth; ${whole(world.people)} people, ${whole(world.writes.acknowledged)} writes answered`);
  setText(at("note"), `${world.note[0].toUpperCase()}${world.note.slice(1)}. Seed ${world.seed}; ${world.rate} requests a second; version ${world.version}.`);
  for (const button of document.querySelectorAll("[data-world]")) button.disabled = world.running != null;
  banner(world.running ? `The scenario “${world.running}” is being run: look, but the buttons rest until its verdict.` : null);
}

/** Where one can go with this browser, and which site is behind it. */
function drawVisit() {
  at("visit").hidden = !world.web;
  if (!world.web) return;
  const { places, chosen, serving } = world.web;
  for (const [name, place] of Object.entries(places)) setAttribute(at(`v-${name}`), "href", place);
  const choice = at("v-site");
  if (choice.options.length !== world.sites.length + 1) {
    const options = world.sites.map((site) => make("option", { value: site.name }, site.city));
    choice.replaceChildren(make("option", { value: "" }, "whichever is well"), ...options);
  }
  const value = chosen == null ? "" : world.sites[chosen].name;
  if (document.activeElement !== choice && choice.value !== value) choice.value = value;
  setText(at("v-serving"), serving == null ? "nobody answers" : serving === chosen ? "answers" : `${city(serving)} answers`);
  at("v-kill").disabled = serving == null;
}

function banner(words) {
  at("banner").hidden = !words;
  if (words) setText(at("banner"), words);
}

function drawMap() {
  const chosen = selected?.site;
  const pair = selected?.from != null ? [selected.from, selected.to] : null;
  const hovered = tip?.about;
  world.links.forEach((link, i) => {
    const state = linkState(link);
    const touches = (about) => about && (about.length === 1 ? about[0] === link.a || about[0] === link.b : about.includes(link.a) && about.includes(link.b));
    const about = hovered ?? (chosen != null ? [chosen] : pair);
    const names = [state];
    if (about) names.push(touches(about) ? "lit" : "dim");
    const { line } = drawn.links[i];
    setAttribute(line, "class", names.join(" "));
    // The arrow points to the one that still hears.
    line.removeAttribute("marker-end");
    line.removeAttribute("marker-start");
    if (state === "one-way") line.setAttribute(link.cut_ab ? "marker-start" : "marker-end", "url(#arrow)");
  });
  world.sites.forEach((site, i) => {
    const failing = lately(site.seconds, "failures", 5) > 0;
    const names = ["site", site.life];
    if (site.apart && site.life !== "down") names.push("apart");
    if (failing) names.push("failing");
    if (chosen === i || pair?.includes(i)) names.push("selected");
    const busy = lately(site.seconds, "sign_ins", 1) > 0;
    const node = drawn.dots[i];
    const again = node.classList.contains("pulse");
    if (busy && site.life === "ready") names.push("pulse");
    if (again) { setAttribute(node, "class", names.filter((name) => name !== "pulse").join(" ")); node.getBoundingClientRect(); }
    setAttribute(node, "class", names.join(" "));
    setAttribute(node, "aria-label", `${site.city}: ${stateOf(site)}`);
  });
}

function drawRows() {
  const most = Math.max(4, ...world.sites.flatMap((site) => site.seconds.map((second) => second.sign_ins)));
  world.sites.forEach((site, i) => {
    const { row, cells } = drawn.rows[i];
    setAttribute(row, "class", selected?.site === i ? "selected" : "");
    setAttribute(cells.dot, "class", `dot ${site.life}${site.apart && site.life !== "down" ? " apart" : ""}`);
    setText(cells.state, stateOf(site) + (site.alarms.length ? ", alarm" : ""));
    drawSpark(cells.spark, site.seconds, most);
    setText(cells.rate, (lately(site.seconds, "sign_ins", 5) / 5).toFixed(1));
    setText(cells.failures, whole(site.failed));
    cells.failures.classList.toggle("bad", site.failed > 0);
    setText(cells.p50, site.p50_ms.toFixed(1));
    setText(cells.p99, site.p99_ms.toFixed(1));
    setText(cells.transactions, whole(site.transactions));
    setText(cells.memory, site.resident_kib ? `${Math.round(site.resident_kib / 1024)} MB` : "–");
    placeDeeds(cells.deeds, site);
  });
}

function drawMatrix() {
  for (const { from, to, button } of drawn.cells) {
    const lag = lagOf(from, to);
    const cut = isCut(from, to);
    const p99 = lag?.p99_us;
    setText(button, cut ? (lag ? ms(p99) : "cut") : ms(p99));
    const heat = p99 == null ? "none" : p99 < 5000 ? "l0" : p99 < 10000 ? "l1" : p99 < 100000 ? "l2" : "l3";
    setAttribute(button, "class", cut ? "x" : heat);
    setAttribute(button, "aria-label", `${city(from)} to ${city(to)}: ${cut ? "cut, " : ""}${lag ? `lag p99 ${unit(ms(p99))}` : "nothing seen lately"}`);
  }
}

function drawTimeline() {
  const last = world.timeline.at(-1);
  const key = last ? `${last.at_s} ${last.words}` : "";
  const list = at("timeline");
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  const clock = (seconds) => (seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")} min`);
  list.replaceChildren(...world.timeline.toReversed().map((moment) =>
    make("li", {}, make("time", {}, clock(moment.at_s)), make("span", {}, moment.words.trim()))));
}

// ---- The panel -------------------------------------------------------------------------------------------

/** A list of facts. */
function facts(entries) {
  return make("dl", {}, ...entries.filter(Boolean).flatMap(([name, value, state]) =>
    [make("dt", {}, name), make("dd", { class: state ?? false }, value)]));
}

function drawPanel() {
  const panel = at("panel");
  const focused = panel.contains(document.activeElement) ? document.activeElement.dataset.keep : null;
  if (panel.querySelector(".sure, .busy")) return;
  const scrolled = panel.querySelector(".pairs")?.scrollTop ?? 0;
  if (selected?.site != null) sitePanel(panel, selected.site);
  else if (selected?.from != null) pairPanel(panel, selected.from, selected.to);
  else if (panel.dataset.key !== "hint") {
    panel.dataset.key = "hint";
    panel.replaceChildren(make("h2", {}, "Be unkind"), make("div", { class: "hint" },
      make("p", {}, "Choose a site on the map to kill it with −9, empty its disk, restart it or cut it off. Choose a link, or a pair in the table of lags, to cut it in one direction or both."),
      make("p", {}, "Or lose half of the world at once, and watch the sign-ins of the other half go on. Then heal everything: all come to hold the same again.")));
  }
  const list = panel.querySelector(".pairs");
  if (list) list.scrollTop = scrolled;
  if (focused) panel.querySelector(`[data-keep="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

function sitePanel(panel, index) {
  const site = world.sites[index];
  const row = make("div", { class: "row" }, ...deedsFor(site).map((deed) => {
    const button = deedButton(site, deed);
    button.dataset.keep = deed;
    return button;
  }));
  if (site.life !== "down") {
    const drain = deedButton(site, "stop");
    drain.dataset.keep = "stop";
    row.append(drain);
  }
  const others = world.sites.map((_, other) => other).filter((other) => other !== index)
    .sort((one, two) => linkOf(index, one).rtt_ms - linkOf(index, two).rtt_ms);
  panel.replaceChildren(
    make("h2", {}, site.city), make("p", { class: "where" }, `${site.name}, ${stateOf(site)}`), row,
    facts([
      ["sign-ins, last minute", whole(lately(site.seconds, "sign_ins", 60))],
      ["p50, p99, longest", `${site.p50_ms.toFixed(1)}, ${site.p99_ms.toFixed(1)}, ${site.longest_ms.toFixed(0)} ms`],
      ["failures so far", whole(site.failed), site.failed ? "bad" : null],
      ["sent elsewhere", whole(site.turned_away)],
      ["transactions", whole(site.transactions)],
      site.early > 0 && ["waiting for earlier ones", whole(site.early)],
      site.quarantined > 0 && ["in quarantine", whole(site.quarantined), "bad"],
      ["store", `${(site.disk.store_bytes / 1048576).toFixed(1)} MB, disk ${site.disk.state || "unknown"}`],
      ["memory", site.resident_kib ? `${Math.round(site.resident_kib / 1024)} MB` : "–"],
      ["process", site.pid ? `${site.pid}, start ${site.starts}` : `none; ${site.starts} starts`],
    ]),
    ...site.failures.map((words) => make("p", { class: "alarm" }, words)),
    ...site.alarms.map((words) => make("p", { class: "alarm" }, words)),
    make("h3", {}, "links: round trip, lag p99 to there"),
    make("div", { class: "pairs" }, ...others.map((other) => {
      const link = linkOf(index, other), state = linkState(link), lag = lagOf(index, other);
      const words = { cut: "cut", "one-way": "one way", quiet: "no link" }[state] ?? (lag ? unit(ms(lag.p99_us)) : "–");
      return make("button", { type: "button", "data-keep": `pair${other}`, onclick: () => select({ from: index, to: other }) },
        make("span", {}, city(other)), make("span", { class: "rtt" }, `${Math.round(link.rtt_ms)} ms`),
        make("span", { class: `lag ${state === "live" ? "" : state === "one-way" ? "warn" : "bad"}` }, words));
    })));
}

function pairPanel(panel, from, to) {
  const link = linkOf(from, to);
  const cutThere = isCut(from, to), cutBack = isCut(to, from);
  const apart = [from, to].filter((index) => world.sites[index].apart);
  const deed = (words, keep, label, cut, ends = [from, to]) => make("button", {
    type: "button", "data-keep": keep, class: cut === "none" ? "" : "danger", "aria-label": label, disabled: world.running != null,
    onclick: (event) => post("/api/links", { from: ends[0], to: ends[1], cut }, event.currentTarget),
  }, words);
  const way = (a, b) => {
    const lag = lagOf(a, b), behind = behindOf(a, b);
    return [
      make("h3", {}, `${city(a)} to ${city(b)}`),
      facts([
        isCut(a, b) ? ["datagrams", "are lost", "bad"] : ["datagrams", "arrive"],
        ["lag p50, p99", lag ? `${ms(lag.p50_us)}, ${unit(ms(lag.p99_us))}` : "nothing seen lately"],
        ["lacks", behind == null ? "–" : `${whole(behind)} transactions`, behind > 0 && (isCut(a, b) || behind > 100) ? "warn" : null],
      ]),
    ];
  };
  panel.replaceChildren(
    make("h2", {}, `${city(from)} and ${city(to)}`),
    make("p", { class: "where" }, `round trip ${Math.round(link.rtt_ms)} ms${link.measured_ms ? `, measured ${link.measured_ms.toFixed(0)} ms` : ""}`),
    make("div", { class: "row" },
      deed("cut both ways", "both", "cut both ways", "both"),
      deed(`cut ${city(from)} → ${city(to)}`, "there", `cut from ${city(from)} to ${city(to)}`, "one-way"),
      deed(`cut ${city(to)} → ${city(from)}`, "back", `cut from ${city(to)} to ${city(from)}`, "one-way", [to, from]),
      (cutThere || cutBack) && deed("heal", "heal", "heal this link", "none")),
    apart.length ? make("p", { class: "alarm" }, `${apart.map(city).join(" and ")} ${apart.length > 1 ? "are" : "is"} cut off from everybody.`) : "",
    ...way(from, to), ...way(to, from),
    make("div", { class: "row" }, ...[from, to].map((index) =>
      make("button", { type: "button", "data-keep": `to${index}`, onclick: () => select({ site: index }) }, city(index)))));
}

// ---- The tip ---------------------------------------------------------------------------------------------

let tip = null; // {about: [site] or [a, b], fill, x, y}

function showTip(event, fill, about) {
  const stage = at("stage").getBoundingClientRect();
  let point;
  if (event) point = [event.clientX - stage.left, event.clientY - stage.top];
  else {
    const box = drawn.dots[about[0]].getBoundingClientRect();
    point = [box.right - stage.left, box.top - stage.top];
  }
  tip = { about, fill, point };
  fillTip();
  drawMap();
}

function fillTip() {
  const node = at("tip"), stage = at("stage");
  node.replaceChildren(...tip.fill());
  node.hidden = false;
  const [x, y] = tip.point;
  node.style.left = `${Math.max(6, Math.min(x + 14, stage.clientWidth - node.offsetWidth - 8))}px`;
  node.style.top = `${Math.max(6, Math.min(y + 14, stage.clientHeight - node.offsetHeight - 8))}px`;
}

function hideTip() {
  tip = null;
  at("tip").hidden = true;
  if (world) drawMap();
}

function tipTable(entries) {
  return make("table", {}, make("tbody", {}, ...entries.map(([name, value]) => make("tr", {}, make("th", {}, name), make("td", {}, value)))));
}

function siteTip(index) {
  const site = world.sites[index];
  return [make("b", {}, site.city), ` ${stateOf(site)}`, tipTable([
    ["sign-ins / s", (lately(site.seconds, "sign_ins", 5) / 5).toFixed(1)],
    ["p99", `${site.p99_ms.toFixed(1)} ms`],
    ["failures", whole(site.failed)],
  ])];
}

function linkTip(a, b) {
  const link = linkOf(a, b), state = linkState(link);
  const words = { live: "", cut: " cut", "one-way": " one way only", quiet: " not connected" }[state];
  const lag = (from, to) => { const value = lagOf(from, to); return value ? `${ms(value.p50_us)} / ${unit(ms(value.p99_us))}` : "–"; };
  return [make("b", {}, `${city(a)} – ${city(b)}`), words, tipTable([
    ["round trip", `${Math.round(link.rtt_ms)} ms`],
    [`lag → ${city(b)}, p50 / p99`, lag(a, b)],
    [`lag → ${city(a)}, p50 / p99`, lag(b, a)],
  ])];
}

// ---- Going -----------------------------------------------------------------------------------------------

let asking = false;
async function refresh() {
  if (asking) return;
  asking = true;
  try {
    const answer = await fetch("/api/world", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(String(answer.status));
    world = await answer.json();
    draw();
  } catch (error) {
    if (error instanceof TypeError || error?.name === "TimeoutError" || /^\d+$/.test(error?.message)) {
      banner("The world does not answer: it has ended, or it is very busy.");
    } else throw error;
  } finally {
    asking = false;
  }
}

for (const button of document.querySelectorAll("[data-world]")) {
  button.addEventListener("click", () => post(`/api/world/${button.dataset.world}`, null, button));
}
at("v-site").addEventListener("change", () => {
  const site = at("v-site").value || null;
  at("v-site").blur();
  post("/api/front", { site }, null);
});
at("v-kill").addEventListener("click", () => {
  const serving = world?.web?.serving;
  if (serving == null) return;
  const { name, city } = world.sites[serving];
  twice(at("v-kill"), `Kill ${city} with −9?`, () => post(`/api/sites/${name}/kill`, null, at("v-kill")));
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && selected) select(null); });
new ResizeObserver(placeDots).observe(at("map"));

fetch("/land.svg").then((answer) => answer.text()).then((text) => {
  const land = new DOMParser().parseFromString(text, "image/svg+xml").querySelector("path");
  if (land) at("land").replaceChildren(document.importNode(land, true));
});
refresh();
setInterval(() => { if (!document.hidden) refresh(); }, 1000);
