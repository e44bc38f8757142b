// Web sites of the tests: a good one, a bad one, and a good one with headers that make it harder.
//
// They run in the tests' process, so that what their servers were told can be looked at. Each name below `localhost`
// is a site of its own to a browser.

import http from "node:http";

/** Headers by the first part of the path. */
const VARIANTS = {
  plain: {},
  coop: { "Cross-Origin-Opener-Policy": "same-origin" },
  isolated: { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" },
  "no-referrer": { "Referrer-Policy": "no-referrer" },
};

/** Starts the sites; `ask` is how their servers reach Persona. */
export async function startSites({ persona, ask }) {
  const server = http.createServer(async (request, response) => {
    const url = new URL(request.url, `http://${request.headers.host}`);
    const [, variant, rest] = url.pathname.split("/");
    if (request.method === "POST" && url.pathname === "/login") {
      const { assertion, nonce } = JSON.parse(await text(request));
      // The audience is this site's own word.
      const verified = await ask("/verify", { assertion, audience: `http://${request.headers.host}` });
      response.writeHead(200, { "Content-Type": "application/json" });
      return response.end(JSON.stringify({ ...verified, nonce_right: verified.nonce === nonce }));
    }
    if (url.pathname === "/open") {
      response.writeHead(302, { Location: url.searchParams.get("to") });
      return response.end();
    }
    if (rest === "open") {
      response.writeHead(302, { Location: url.searchParams.get("to") });
      return response.end();
    }
    if (!(variant in VARIANTS)) {
      response.writeHead(404);
      return response.end();
    }
    response.writeHead(200, { "Content-Type": "text/html; charset=utf-8", ...VARIANTS[variant] });
    response.end(page(persona, url));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const at = server.address().port;
  return {
    good: `http://rp.localhost:${at}`,
    bad: `http://evil.localhost:${at}`,
    stop: () => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve))),
  };
}

/** Its log says every call of a handler, in order. `?as=` says whom its own session knows; `?manual` does not watch. */
function page(persona, url) {
  const as = url.searchParams.has("as") ? JSON.stringify(url.searchParams.get("as") || null) : "undefined";
  return `<!doctype html>
<html lang="en"><title>A shop</title>
<link rel="icon" href="data:,">
<h1>A shop</h1>
<button id="in">Sign in</button> <button id="get">Get</button> <button id="out">Sign out</button>
<ol id="log"></ol>
<pre id="verified"></pre>
<script src="${persona}/include.js" crossorigin="anonymous"></script>
<script>
const said = (text) => { const line = document.createElement("li"); line.textContent = text; log.append(line); };
const login = async (assertion) => {
  window.assertion = assertion;
  const answer = await fetch("/login", { method: "POST", body: JSON.stringify({ assertion, nonce }) });
  const known = await answer.json();
  verified.textContent = JSON.stringify(known);
  verified.dataset.status = known.status;
};
const options = ${JSON.stringify(Object.fromEntries([...url.searchParams].filter(([name]) => !["as", "manual"].includes(name))))};
let nonce;
try {
  nonce = sessionStorage.nonce ||= crypto.randomUUID();
} catch {
  // In a frame of another site there is no storage.
}
if (${!url.searchParams.has("manual")}) navigator.id.watch({
  loggedInUser: ${as},
  onlogin(assertion) { said("login"); login(assertion); },
  onlogout() { said("logout"); },
  onmatch() { said("match"); },
  onready() { said("ready"); },
});
document.getElementById("in").onclick = () => navigator.id.request({ siteName: "A shop", nonce, ...options, oncancel() { said("cancel"); } });
document.getElementById("get").onclick = () => navigator.id.get((assertion) => { said(assertion ? "got" : "got nothing"); if (assertion) login(assertion); }, { nonce });
document.getElementById("out").onclick = () => navigator.id.logout();
</script>
</html>`;
}

function text(request) {
  return new Promise((resolve) => {
    let all = "";
    request.on("data", (part) => (all += part));
    request.on("end", () => resolve(all));
  });
}
