// Signing in and out at the email domain, for itself or for Persona's dialog, which waits behind this page then.

const at = (id) => document.getElementById(id);
const { domain, user } = document.body.dataset;

function say(words) {
  at("trouble").textContent = words;
  at("trouble").hidden = !words;
}

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (answer.ok) return true;
  const { reason } = await answer.json().catch(() => ({}));
  say(`${reason ?? `status ${answer.status}`}.`);
  return false;
}

at("sign-out")?.addEventListener("click", async () => {
  if (await post("/sign_out", {})) location.reload();
});

if (domain) {
  let forPersona = false;
  navigator.id?.beginAuthentication?.((email) => {
    // Whoever is signed in here already has nothing to type: a dialog that frames this domain cannot see it.
    if (email.toLowerCase() === user?.toLowerCase()) return navigator.id.completeAuthentication();
    forPersona = true;
    at("user").value = email;
    at("user").readOnly = true;
    at("cancel").hidden = false;
    at("password").focus();
  });
  at("cancel").addEventListener("click", () => navigator.id.raiseAuthenticationFailure("cancelled"));
  at("sign-in").addEventListener("submit", async (event) => {
    event.preventDefault();
    say("");
    if (!(await post("/session", { user: at("user").value, password: at("password").value }))) return;
    if (forPersona) navigator.id.completeAuthentication();
    else location.assign("/");
  });
}
