/* Persona for email domains: the page at `authentication` of /.well-known/browserid. Describes itself at
   PERSONA_ORIGIN/developers#domains */
(() => {
  "use strict";
  const PERSONA = "PERSONA_ORIGIN";
  const id = navigator.id || (navigator.id = {});

  /* Says who is to sign in. */
  id.beginAuthentication = (callback) => {
    const email = new URLSearchParams(location.search).get("email");
    if (email) setTimeout(() => callback(email));
  };
  /* They have; the dialog goes on. */
  id.completeAuthentication = () => location.replace(PERSONA + "/sign_in#AUTH_RETURN");
  /* They have not, or would not. */
  id.raiseAuthenticationFailure = () => location.replace(PERSONA + "/sign_in#AUTH_RETURN_CANCEL");
})();
