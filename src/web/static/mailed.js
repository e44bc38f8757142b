// Waiting for a mail to be answered: by its link, here or in another browser, or by its code, typed here.

import * as net from "./net.js";
import * as view from "./view.js";

const POLL_MS = 3000;
/** After this it is asked once more whether the mail was answered elsewhere. */
const SURE_MS = 1500;
/** A second mail to an address within this is refused. */
const AGAIN_MS = 60_000;

const STATUS = {
  "new-account": "user_creation_status",
  "add-email": "email_addition_status",
  reverify: "email_reverify_status",
  reset: "password_reset_status",
  transition: "transition_status",
};

/**
 * Shows that a mail was sent and waits. Gives `{ signedIn }` when it is answered and this browser has its session;
 * `"sign-in"` when it was answered elsewhere, so that this browser has to prove itself; `"ended"` when nothing can
 * answer it any more; `"back"` when the person would not wait.
 */
export function mail(place, { email, purpose, stage, pass, mine }, { onSubmit, onClick }) {
  view.show(place, "mail", { email, reset: purpose === "reset" });
  const form = place.querySelector("form");
  return new Promise((resolve) => {
    let timer = 0;
    let over = false;
    let elsewhere = false;
    const end = (outcome) => {
      over = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
      resolve(outcome);
    };

    async function poll() {
      clearTimeout(timer);
      try {
        const { status } = await net.get(STATUS[purpose], { email });
        if (over) return;
        if (status === "complete") return end({});
        if (status === "failed") return end("ended");
        if (status === "mustAuth") await prove();
      } catch {
        // A site that does not answer a poll is asked again like one that has no news.
      }
      if (!over) timer = setTimeout(poll, elsewhere ? SURE_MS : POLL_MS);
    }

    /** It was answered elsewhere. Who has just chosen the password here need not type it again. */
    async function prove() {
      if (!pass) {
        // Unless a page in this browser answered it, whose answer was lost, and with it the session: it asks again.
        if (elsewhere) end("sign-in");
        elsewhere = true;
        return;
      }
      const result = await net.post("authenticate_user", { email, pass, ephemeral: !mine });
      if (!over) end(result.success ? { signedIn: true } : "sign-in");
    }

    function look() {
      if (document.visibilityState === "visible" && !over) poll();
    }

    onSubmit(form, async () => {
      const code = form.elements.code.value.replace(/[\s-]/g, "");
      if (!/^[0-9a-z]{8}$/i.test(code)) return view.complain(form, view.words("error-code-form"), "code");
      const more = { code };
      if (purpose === "reset") {
        more.pass = form.elements.pass.value;
        const length = [...more.pass].length;
        if (length < 8 || length > 80) return view.complain(form, view.words("error-password-rules"), "pass");
      }
      const result = await net.post("complete_by_code", more);
      if (over) return;
      if (result.success) return end({});
      if (result.code === "code-ended") return end("ended");
      view.complain(form, view.say(`error-${result.code}`, { tries: result.tries_left }), "code");
    });

    onClick("[data-act=again]", async () => {
      await stage();
      form.querySelector("[data-act=again]").hidden = true;
      form.querySelector("[data-sent-again]").hidden = false;
    });
    onClick("[data-act=back]", () => end("back"));
    const again = form.querySelector("[data-act=again]");
    setTimeout(() => (again.hidden = false), AGAIN_MS);
    document.addEventListener("visibilitychange", look);
    timer = setTimeout(poll, POLL_MS);
  });
}
