// Who asks, and how the answer gets back to them.
//
// The relying party's origin is only ever the browser's word: `event.origin` of a message whose source is this window's
// opener, or what the service read from the `Origin` header when it began a redirection. Nothing in an address, a
// parameter or a message says it. The first origin heard counts for the life of this page, and answers go to it alone.
//
// | kind | the origin is from | the answer goes |
// | --- | --- | --- |
// | popup | the opener's message | in a message to that origin |
// | redirect | the flow, which a form began | in the fragment of `returnTo` at that origin, encrypted |
// | account | nobody asks | nowhere: the person goes on to their account |

import { encrypt } from "./jose.js";

/** How long the opener may take to answer: it is a page that has just opened this window. */
const OPENER_MS = 4000;
/** How often it is told that this window is ready: its script may still be on its way after a reload. */
const READY_MS = 150;
/** How long the opener may take to say that it has the answer. */
const RECEIVED_MS = 1500;

const OVER = "persona.over.";

/** Why nobody can be answered; `code` names the words. */
export class NoFlow extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

/** Finds out who asks. `resumed`: the kind of flow that this window left for a detour, if it comes back from one. */
export async function begin(resumed) {
  const meta = document.querySelector('meta[name="persona-flow"]');
  if (meta) return new Redirect(JSON.parse(meta.content));
  const query = new URLSearchParams(location.search);
  // The service knew no flow of this name: its cookie has ended.
  if (query.has("flow")) throw new NoFlow("flow-ended");
  if (resumed === "popup" || location.hash === "#popup") return Popup.meet();
  return new Account();
}

/** What a relying party said of itself, cut to what is understood. None of it is trusted, and none of it is its origin. */
function read(params, origin) {
  const given = params && typeof params === "object" ? params : {};
  const text = (name, max) => {
    const value = given[name];
    return typeof value === "string" && value.length > 0 && value.length <= max ? value : null;
  };
  const link = (name) => {
    const value = text(name, 2083);
    if (!value || !URL.canParse(value)) return null;
    return ["https:", new URL(origin).protocol].includes(new URL(value).protocol) ? value : null;
  };
  const logo = text("siteLogo", 131072);
  const color = text("backgroundColor", 7);
  return {
    siteName: text("siteName", 100),
    siteLogo: logo && /^data:image\/(png|jpeg|gif|webp|svg\+xml|avif)[;,]/.test(logo) ? logo : null,
    backgroundColor: color && /^#?([0-9a-f]{3}|[0-9a-f]{6})$/i.test(color) ? `#${color.replace("#", "")}` : null,
    email: text("email", 254),
    nonce: text("nonce", 256),
    privacyPolicy: link("privacyPolicy"),
    termsOfService: link("termsOfService"),
  };
}

/** Plain HTTP is for this machine only: elsewhere anybody on the way could be that site. */
export function mayAsk(origin) {
  if (!URL.canParse(origin)) return false;
  const { protocol, hostname } = new URL(origin);
  if (protocol === "https:") return true;
  const here = hostname === "localhost" || hostname.endsWith(".localhost") || hostname === "[::1]";
  return protocol === "http:" && (here || /^127\.\d+\.\d+\.\d+$/.test(hostname));
}

class Popup {
  kind = "popup";

  constructor(opener, origin, params) {
    this.opener = opener;
    this.origin = origin;
    this.params = read(params, origin);
    this.returnTo = null;
  }

  /** Says that this window is ready until its opener says what it wants. */
  static async meet() {
    const { opener } = window;
    if (!opener) {
      // The page that opened this window is cut from it by its own headers, and goes on by redirection.
      window.close();
      throw new NoFlow("no-opener");
    }
    const { origin, params } = await new Promise((resolve, reject) => {
      const said = setInterval(ready, READY_MS);
      const late = setTimeout(() => end(() => reject(new NoFlow("no-answer"))), OPENER_MS);
      function ready() {
        // To whoever is there: that this window is open is all that it says.
        opener.postMessage({ persona: 1, type: "ready" }, "*");
      }
      function heard(event) {
        if (event.source !== opener || event.data?.persona !== 1 || event.data.type !== "request") return;
        end(() => resolve({ origin: event.origin, params: event.data.params }));
      }
      function end(then) {
        clearInterval(said);
        clearTimeout(late);
        removeEventListener("message", heard);
        then();
      }
      addEventListener("message", heard);
      ready();
    });
    if (!mayAsk(origin)) throw new NoFlow("http-site");
    return new Popup(opener, origin, params);
  }

  /** Gives the answer to the page that asked, if it is still there. */
  async deliver(answer) {
    const received = new Promise((resolve) => {
      const late = setTimeout(() => resolve(false), RECEIVED_MS);
      addEventListener("message", (event) => {
        if (event.source !== this.opener || event.origin !== this.origin) return;
        if (event.data?.persona !== 1 || event.data.type !== "received") return;
        clearTimeout(late);
        resolve(true);
      });
    });
    // A page that has gone elsewhere since is of another origin, and the browser gives it nothing.
    this.opener.postMessage({ persona: 1, type: "result", ...answer }, this.origin);
    if (!(await received)) throw new NoFlow("opener-gone");
    window.close();
  }

  async cancel() {
    this.opener.postMessage({ persona: 1, type: "result", cancelled: true }, this.origin);
    window.close();
  }

  /** Where this flow goes on after a detour. */
  get address() {
    return "/sign_in";
  }
}

class Redirect {
  kind = "redirect";

  constructor({ id, origin, key, ...params }) {
    if (!mayAsk(origin)) throw new NoFlow("http-site");
    if (sessionStorage.getItem(OVER + id)) throw new NoFlow("flow-over");
    this.id = id;
    this.origin = origin;
    this.key = key;
    this.params = read(params, origin);
    const back = new URL(params.returnTo, origin);
    if (back.origin !== origin) throw new NoFlow("flow-ended");
    back.hash = "";
    this.returnTo = back.href;
  }

  async deliver(answer) {
    const jwe = await encrypt(answer, this.key);
    this.leave(jwe);
  }

  async cancel() {
    await this.deliver({ cancelled: true });
  }

  /** A flow is answered once, and with the first answer: this page lives on until the browser has left it. */
  leave(jwe) {
    if (sessionStorage.getItem(OVER + this.id)) return;
    sessionStorage.setItem(OVER + this.id, "1");
    location.replace(`${this.returnTo}#persona=${jwe}`);
  }

  get address() {
    return `/sign_in?flow=${encodeURIComponent(this.id)}`;
  }
}

class Account {
  kind = "account";
  origin = null;
  returnTo = null;
  params = read(null, location.origin);

  constructor() {
    const hint = new URLSearchParams(location.hash.slice(1)).get("email");
    if (hint && hint.length <= 254) this.params.email = hint;
  }

  async deliver() {
    location.replace("/");
  }

  async cancel() {
    location.replace("/");
  }

  get address() {
    return "/sign_in";
  }
}
