/* Persona for email domains: the page at `provisioning` of /.well-known/browserid. Describes itself at
   PERSONA_ORIGIN/developers#domains

   The dialog frames that page, or, where browsers keep frames from their cookies, goes to it. Either way the
   certificate goes to Persona alone: in a message to its origin, or in the fragment of its own page. */
(() => {
  "use strict";
  const PERSONA = "PERSONA_ORIGIN";
  const top = window.top === window;
  const say = (data) => parent.postMessage({ persona: 1, ...data }, PERSONA);
  const leave = (mark, rest) => location.replace(PERSONA + "/sign_in#" + mark + "=" + rest);

  let begun = null;
  if (top) {
    const found = /^#persona=([\w-]+)$/.exec(location.hash);
    if (found) {
      history.replaceState(history.state, "", location.pathname + location.search);
      const text = atob(found[1].replace(/-/g, "+").replace(/_/g, "/"));
      begun = Promise.resolve(JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (char) => char.charCodeAt(0)))));
    }
  } else {
    begun = new Promise((resolve) => {
      addEventListener("message", (event) => {
        if (event.source !== parent || event.origin !== PERSONA) return;
        if (event.data && event.data.persona === 1 && event.data.type === "begin") resolve(event.data);
      });
    });
  }
  const id = navigator.id || (navigator.id = {});

  /* Says for whom a certificate is wanted, and for how many seconds. */
  id.beginProvisioning = (callback) => {
    if (!begun) return console.warn("navigator.id: nobody asked this page for a certificate");
    if (!top) say({ type: "provision" });
    begun.then(({ email, duration }) => callback(email, duration));
  };
  /* Gives the key to certify: a JWK, as text. */
  id.genKeyPair = (callback) => begun && begun.then(({ pubkey }) => callback(pubkey));
  /* Takes the certificate. */
  id.registerCertificate = (certificate) =>
    begun && begun.then(({ state }) => (top ? leave("PROVISIONED", state + "." + certificate) : say({ type: "certificate", certificate })));
  /* The person is not signed in here, or this is not their address. */
  id.raiseProvisioningFailure = (reason) =>
    begun && begun.then(({ state }) => (top ? leave("PROVISION_FAILED", state) : say({ type: "failure", reason: String(reason) })));
})();
