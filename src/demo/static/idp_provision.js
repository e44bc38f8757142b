// Nobody looks at this page: Persona's dialog asks it for a certificate.

navigator.id?.beginProvisioning((email, duration) => {
  navigator.id.genKeyPair(async (pubkey) => {
    try {
      const answer = await fetch("/certify", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ email, pubkey, duration: Math.floor(duration) }),
      });
      const { certificate, reason } = await answer.json();
      if (certificate) navigator.id.registerCertificate(certificate);
      else navigator.id.raiseProvisioningFailure(reason);
    } catch (error) {
      navigator.id.raiseProvisioningFailure(String(error));
    }
  });
});
