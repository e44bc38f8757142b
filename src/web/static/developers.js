// The live example: this page as a relying party. It asks for assertions to itself, and verifies them as a server would.

import "./include.js";

const live = document.getElementById("live");
const [signIn, signOut] = ["in", "out"].map((act) => live.querySelector(`[data-act=${act}]`));

function show(verified) {
  live.querySelector("[data-none]").hidden = Boolean(verified);
  live.querySelector("[data-some]").hidden = !verified;
  signIn.hidden = Boolean(verified);
  signOut.hidden = !verified;
  live.querySelector("code").textContent = verified ? JSON.stringify(verified, null, 2) : "";
}

const { id } = navigator;
id.watch({
  loggedInUser: null,
  async onlogin(assertion) {
    const body = JSON.stringify({ assertion, audience: location.origin });
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch("/verify", { method: "POST", headers, body }).catch(() => null);
    show(answer ? await answer.json() : { status: "failure", reason: "unreachable" });
    live.scrollIntoView({ block: "center" });
  },
  onlogout: () => show(null),
});
signIn.onclick = () => id.request();
signOut.onclick = () => id.logout();
