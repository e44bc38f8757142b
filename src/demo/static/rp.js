// The shop's whole script: three handlers and a button.

const { nonce, user = null } = document.body.dataset;
const trouble = document.getElementById("trouble");

function say(words) {
  trouble.textContent = words;
  trouble.hidden = !words;
}

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (answer.ok) return;
  const { reason } = await answer.json().catch(() => ({}));
  throw new Error(reason ?? `status ${answer.status}`);
}

if (!navigator.id) {
  say("Persona does not answer, so nobody can sign in just now. Reload in a moment.");
  for (const button of document.querySelectorAll("[data-sign-in]")) button.disabled = true;
} else {
  navigator.id.watch({
    loggedInUser: user,
    async onlogin(assertion) {
      say("");
      try {
        await post("/login", { assertion });
        location.reload();
      } catch (error) {
        say(`You are not signed in: ${error.message}.`);
        navigator.id.logout();
      }
    },
    onlogout() {
      document.body.dataset.loggedOut = Number(document.body.dataset.loggedOut ?? 0) + 1;
      if (!user) return;
      post("/logout", {}).then(() => location.reload(), (error) => say(`You are still signed in: ${error.message}.`));
    },
    onready() {
      document.body.dataset.ready = "";
    },
  });
  const returnTo = new URLSearchParams(location.search).get("returnTo") ?? undefined;
  for (const button of document.querySelectorAll("[data-sign-in]")) {
    button.addEventListener("click", () => {
      say("");
      navigator.id.request({
        siteName: "Corner Books",
        backgroundColor: "#8a3b12",
        nonce,
        returnTo,
        oncancel: () => say("No address was shown to us. You can try again at any time."),
      });
    });
  }
  document.getElementById("sign-out")?.addEventListener("click", () => navigator.id.logout());
}
