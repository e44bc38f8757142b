/* Persona for web sites: navigator.id. How to use it: PERSONA_ORIGIN/developers */
(() => {
  "use strict";
  const PERSONA = "PERSONA_ORIGIN";
  const KEPT = "persona.flow";
  const MARK = "#persona=";
  // The time after which a request by redirection is given up, as the service's flow cookie: two hours.
  const KEPT_MS = 72e5;
  const READY_MS = 200;
  if (navigator.id && navigator.id.persona === 1) return;

  let watching = null; // the handlers of watch()
  let getting = false;
  let user; // who is signed in here, as the site and its handlers see it
  let current = null; // { popup, params, done, met }

  const fail = (text) => {
    throw new TypeError("navigator.id: " + text);
  };
  // A handler that throws is the site's affair and stops nothing of ours.
  const call = (handler, ...args) => {
    if (handler) setTimeout(() => handler(...args));
  };
  const same = (one, other) => typeof one === "string" && one.toLowerCase() === String(other).toLowerCase();

  /* What a site may ask for. Text that is not understood is refused here, where its author sees it. */
  const text = (options, name, max) => {
    const value = options[name];
    if (value === undefined || value === null) return undefined;
    if (typeof value !== "string" || !value || value.length > max) fail(name + " is not a text of 1 to " + max + " characters");
    return value;
  };
  const read = (options) => {
    const given = { ...watching, ...options };
    // What watch() was given counts more than what request() is, as it always did.
    for (const name of ["siteName", "siteLogo", "backgroundColor"]) if (watching && watching[name]) given[name] = watching[name];
    given.email = given.email || given.experimental_emailHint || undefined;
    const params = {
      siteName: text(given, "siteName", 100),
      backgroundColor: text(given, "backgroundColor", 7),
      email: text(given, "email", 254),
      nonce: text(given, "nonce", 256),
      privacyPolicy: text(given, "privacyPolicy", 2083),
      termsOfService: text(given, "termsOfService", 2083),
    };
    if (params.nonce && new TextEncoder().encode(params.nonce).length > 256) fail("nonce has more than 256 bytes");
    if (!params.privacyPolicy !== !params.termsOfService) fail("privacyPolicy and termsOfService come together or not at all");
    for (const name of ["privacyPolicy", "termsOfService"]) {
      if (params[name]) params[name] = new URL(params[name], location.href).href;
    }
    const logo = text(given, "siteLogo", 131072);
    // An image elsewhere would be asked for by the dialog: it makes no request to anybody else.
    if (logo && logo.startsWith("data:image/")) params.siteLogo = logo;
    const path = text(given, "returnTo", 2048) || location.pathname + location.search;
    const back = new URL(path, location.origin);
    if (!/^\/(?![/\\])/.test(path) || back.origin !== location.origin) fail("returnTo is not a path of this site");
    params.returnTo = back.pathname + back.search;
    return params;
  };

  /* One request at a time. The window says when it is ready, each time that a page of ours is in it. */
  const ask = (options, done) => {
    if (!isSecureContext) fail("a site without https can sign nobody in");
    const params = read(options);
    if (current && !current.popup.closed) return current.popup.focus();
    if (window.crossOriginIsolated) return redirect(params);
    const [width, height] = [440, 700];
    const left = Math.max(0, screenX + (outerWidth - width) / 2);
    const top = Math.max(0, screenY + (outerHeight - height) / 3);
    const place = `popup,width=${width},height=${height},left=${left | 0},top=${top | 0}`;
    const popup = open(PERSONA + "/sign_in#popup", "_blank", place);
    if (!popup) return redirect(params);
    const mine = (current = { popup, params, done, met: false });
    const timer = setInterval(() => {
      if (current !== mine) return clearInterval(timer);
      if (!popup.closed) return;
      clearInterval(timer);
      current = null;
      // A window that was gone before a page of ours spoke was blocked, or cut from us by this page's own headers.
      if (mine.met) done(null);
      else redirect(params);
    }, READY_MS);
  };

  addEventListener("message", (event) => {
    if (!current || event.origin !== PERSONA || event.source !== current.popup || !event.data) return;
    const { persona, type, assertion, email } = event.data;
    if (persona !== 1) return;
    const answer = (data) => event.source.postMessage({ persona: 1, ...data }, PERSONA);
    if (type === "ready") {
      current.met = true;
      answer({ type: "request", params: current.params });
    } else if (type === "result") {
      const { done } = current;
      current = null;
      answer({ type: "received" });
      done(assertion ? { assertion, email } : null);
    }
  });

  /* By redirection: the answer comes in the fragment, encrypted to a key that this tab alone has. A fragment goes
     along with every redirection that the site may make, to wherever. */
  const redirect = async (params) => {
    const pair = await crypto.subtle.generateKey({ name: "ECDH", namedCurve: "P-256" }, true, ["deriveBits"]);
    const { kty, crv, x, y } = await crypto.subtle.exportKey("jwk", pair.publicKey);
    const key = await crypto.subtle.exportKey("jwk", pair.privateKey);
    sessionStorage.setItem(KEPT, JSON.stringify({ key, hash: location.hash, until: Date.now() + KEPT_MS }));
    // With the policy `no-referrer` a form says of itself that it comes from `null`. This page is left now, and all
    // that it says is its origin.
    const meta = document.createElement("meta");
    meta.name = "referrer";
    meta.content = "strict-origin";
    document.head.append(meta);
    const form = document.createElement("form");
    form.method = "post";
    form.action = PERSONA + "/sign_in";
    form.hidden = true;
    delete params.siteLogo;
    for (const [name, value] of Object.entries({ ...params, key: JSON.stringify({ kty, crv, x, y }) })) {
      if (value === undefined) continue;
      const input = document.createElement("input");
      input.name = name;
      input.value = value;
      form.append(input);
    }
    document.documentElement.append(form);
    HTMLFormElement.prototype.submit.call(form);
  };

  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (char) => char.charCodeAt(0));

  /* RFC 7518 §4.6 with direct key agreement: one round of Concat KDF. */
  const decrypt = async (jwe, jwk) => {
    const [head, , iv, sealed, tag] = jwe.split(".");
    const { alg, enc, epk } = JSON.parse(new TextDecoder().decode(bytes(head)));
    if (alg !== "ECDH-ES" || enc !== "A256GCM") return null;
    const curve = { name: "ECDH", namedCurve: "P-256" };
    const own = await crypto.subtle.importKey("jwk", jwk, curve, false, ["deriveBits"]);
    const other = await crypto.subtle.importKey("jwk", epk, curve, false, []);
    const secret = new Uint8Array(await crypto.subtle.deriveBits({ name: "ECDH", public: other }, own, 256));
    const about = [0, 0, 0, 7, ...new TextEncoder().encode(enc), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    const derived = await crypto.subtle.digest("SHA-256", new Uint8Array([0, 0, 0, 1, ...secret, ...about]));
    const key = await crypto.subtle.importKey("raw", derived, "AES-GCM", false, ["decrypt"]);
    const additionalData = new TextEncoder().encode(head);
    const whole = new Uint8Array([...bytes(sealed), ...bytes(tag)]);
    const plain = await crypto.subtle.decrypt({ name: "AES-GCM", iv: bytes(iv), additionalData }, key, whole);
    return JSON.parse(new TextDecoder().decode(plain));
  };

  /* The answer of a redirection, if this page is where it comes back: taken out of the address first of all. It is
     good once, in the tab that asked. */
  const take = async () => {
    const jwe = location.hash.slice(MARK.length);
    let kept = null;
    try {
      kept = JSON.parse(sessionStorage.getItem(KEPT));
      sessionStorage.removeItem(KEPT);
    } catch {
      // No storage: then no request went out from here.
    }
    history.replaceState(history.state, "", location.pathname + location.search + ((kept && kept.hash) || ""));
    if (!kept || kept.until < Date.now()) return null;
    const answer = await decrypt(jwe, kept.key).catch(() => null);
    return answer && answer.assertion ? answer : null;
  };
  let returned = location.hash.startsWith(MARK) ? take() : null;

  const signedIn = (answer) => {
    if (same(user, answer.email)) return call(watching.onmatch);
    user = answer.email;
    call(watching.onlogin, answer.assertion);
  };

  const id = {
    persona: 1,

    watch(options) {
      if (getting) fail("watch() and get() cannot be mixed");
      if (!options || typeof options.onlogin !== "function") fail("watch() needs onlogin");
      for (const name of ["onlogout", "onmatch", "onready"]) {
        if (options[name] && typeof options[name] !== "function") fail(name + " is not a function");
      }
      watching = options;
      user = "loggedInUser" in options ? options.loggedInUser : options.loggedInEmail;
      const given = user;
      const answer = Promise.resolve(returned);
      returned = null;
      answer.then((answer) => {
        if (watching !== options) return;
        if (answer) signedIn(answer);
        else if (given !== undefined) call(options.onmatch);
        call(options.onready);
      });
    },

    request(options = {}) {
      if (!watching) fail("call watch() before request()");
      ask(options, (answer) => (answer ? signedIn(answer) : call(options.oncancel)));
    },

    logout() {
      if (!watching) fail("call watch() before logout()");
      user = null;
      call(watching.onlogout);
    },

    get(callback, options = {}) {
      if (watching) fail("watch() and get() cannot be mixed");
      if (typeof callback !== "function") fail("get() needs a function");
      getting = true;
      const asked = () => ask(options, (answer) => call(callback, answer && answer.assertion));
      // An answer that came by redirection waits for the next call: the one that asked is gone with its page.
      const answer = returned;
      returned = null;
      if (!answer) return asked();
      answer.then((answer) => (answer ? call(callback, answer.assertion) : asked()));
    },
  };
  id.getVerifiedEmail = id.get;
  navigator.id = id;
})();
