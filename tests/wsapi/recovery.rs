//! A reset is a recovery: who held the old password gets nothing by it, at whatever site, however late.
//!
//! Each of several people resets at one site what a thief, who knows the old password and has a session, makes use of at a site
//! that is cut off from it. All are done in one cut, which then heals.

use serde_json::{Value, json};

use crate::{
    browser::Browser,
    sites::{PASSWORD, SHOP, Sites, now_ms},
};

const NEW: &str = "another horse battery";
const THIEFS: &str = "a thief's own choice";
/// Where people reset, and where the thief is.
const HOME: usize = 0;
const AWAY: usize = 1;

/// One person and one thief.
struct Theft {
    name: &'static str,
    owner: Browser,
    thief: Browser,
    /// Of certificates that the thief had made before the reset, or after it where it was not heard of yet, also for an address
    /// that only the thief put there.
    assertions: Vec<String>,
    /// The thief ends the account's sessions, too: of two that were ended apart none goes on, the owner's neither.
    ends_sessions: bool,
}

impl Theft {
    fn email(&self) -> String {
        format!("{}@shop.invalid", self.name)
    }

    fn other(&self) -> String {
        format!("{}@work.invalid", self.name)
    }

    async fn begin(sites: &Sites, name: &'static str) -> Theft {
        let mut theft = Theft {
            name,
            owner: sites.browser(HOME),
            thief: sites.browser(AWAY),
            assertions: Vec::new(),
            ends_sessions: false,
        };
        sites.create(HOME, &[&theft.email(), &theft.other()]).await;
        sites.agree().await;
        theft.thief.sign_in(&theft.email(), PASSWORD).await.good();
        let certified = theft.thief.certify(&theft.email()).await.expect("a certificate");
        theft.assertions.push(certified.assert_for(SHOP, now_ms()));
        theft
    }

    async fn stage(browser: &mut Browser, sites: &Sites, call: &str, email: &str) -> String {
        let before = sites.mailbox.of(email).len();
        let args = json!({ "email": email, "site": SHOP });
        browser.post(call, args).await.good();
        sites.mailbox.next(email, before).await.token()
    }

    /// The owner resets by mail.
    async fn reset(&mut self, sites: &Sites) {
        let email = self.email();
        let token = Theft::stage(&mut self.owner, sites, "stage_reset", &email).await;
        let reset = json!({ "token": token, "pass": NEW });
        let done = self.owner.post("complete_reset", reset).await.good();
        assert_eq!(
            done["elsewhere"], false,
            "{}: it is told that others do not know: {done}",
            self.name
        );
    }

    /// The thief has a key certified where the reset is not heard of yet, and dated after it.
    async fn certifies_late(&mut self) {
        let certified = self.thief.certify(&self.email()).await.expect("a certificate");
        self.assertions.push(certified.assert_for(SHOP, now_ms()));
    }

    /// After all has been heard: at each site only the new password opens the account, and nothing that the thief has
    /// counts.
    async fn only_the_owner_is_in(&mut self, sites: &Sites, addresses: &[(&str, bool)]) {
        let name = self.name;
        for number in [HOME, AWAY] {
            let mut anybody = sites.browser(number);
            for wrong in [PASSWORD, THIEFS] {
                anybody
                    .sign_in(&self.email(), wrong)
                    .await
                    .refused(200, "wrong-password");
            }
            anybody.sign_in(&self.email(), NEW).await.good();
            let details = anybody.get("account_details", &[]).await.good();
            let mut held: Vec<_> = details["emails"]
                .as_array()
                .expect("emails")
                .iter()
                .map(|held| {
                    (
                        held["email"].as_str().expect("an address"),
                        held["verified"] == true,
                    )
                })
                .collect();
            held.sort_unstable();
            assert_eq!(held, addresses, "{name} at {number}");
            self.thief.site = sites.url(number);
            assert_eq!(
                self.thief.level().await,
                None,
                "{name}: the thief's session at {number}"
            );
            self.thief
                .get("list_emails", &[])
                .await
                .refused(400, "not-signed-in");
            assert!(!self.assertions.is_empty());
            for assertion in &self.assertions {
                let verdict = anybody.verify(assertion, SHOP).await;
                assert_eq!(verdict["status"], "failure", "{name} at {number}: {verdict}");
            }
            self.owner.site = sites.url(number);
            if std::mem::take(&mut self.ends_sessions) {
                assert_eq!(self.owner.level().await, None, "{name}");
                self.owner.sign_in(&self.email(), NEW).await.good();
            }
            assert_eq!(
                self.owner.level().await.as_deref(),
                Some("password"),
                "{name}'s own session at {number}"
            );
        }
        let certified = self.owner.certify(&self.email()).await.expect("a certificate");
        let verdict = self
            .owner
            .verify(&certified.assert_for(SHOP, now_ms()), SHOP)
            .await;
        assert_eq!(verdict["status"], "okay", "{name}: {verdict}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_held_the_old_password_gets_nothing_by_it_where_nobody_had_heard_of_the_reset() {
    let sites = Sites::start(2).await;
    let mut signs_in = Theft::begin(&sites, "signs-in").await;
    let mut changes = Theft::begin(&sites, "changes").await;
    let mut adds = Theft::begin(&sites, "adds").await;
    let mut removes = Theft::begin(&sites, "removes").await;
    let mut older_link = Theft::begin(&sites, "older-link").await;
    let mut cancels = Theft::begin(&sites, "cancels").await;
    // Begun before the reset: a link by which an address is added, and a reset by the account's other address.
    let begun = Theft::stage(
        &mut older_link.thief,
        &sites,
        "stage_email",
        "older@thief.invalid",
    )
    .await;
    let (email, other) = (older_link.email(), older_link.other());
    let older_reset = Theft::stage(&mut older_link.thief, &sites, "stage_reset", &other).await;
    sites.agree().await;

    sites.cut_off(AWAY).await;
    for theft in [
        &mut signs_in,
        &mut changes,
        &mut adds,
        &mut removes,
        &mut older_link,
        &mut cancels,
    ] {
        theft.reset(&sites).await;
        assert_eq!(
            theft.thief.level().await.as_deref(),
            Some("password"),
            "nothing is heard there yet"
        );
    }
    // With the old password.
    signs_in.thief = sites.browser(AWAY);
    signs_in.thief.sign_in(&signs_in.email(), PASSWORD).await.good();
    signs_in.certifies_late().await;
    // A password of the thief's own.
    let change = json!({ "oldpass": PASSWORD, "newpass": THIEFS });
    changes.thief.post("update_password", change).await.good();
    changes.certifies_late().await;
    changes.ends_sessions = true;
    changes.thief = sites.browser(AWAY);
    changes.thief.sign_in(&changes.email(), THIEFS).await.good();
    changes.thief.post("sign_out_everywhere", json!({})).await.good();
    // An address of the thief's own.
    let token = Theft::stage(&mut adds.thief, &sites, "stage_email", "added@thief.invalid").await;
    adds.thief
        .post("complete_email_confirmation", json!({ "token": token }))
        .await
        .good();
    let certified = adds
        .thief
        .certify("added@thief.invalid")
        .await
        .expect("a certificate");
    adds.assertions.push(certified.assert_for(SHOP, now_ms()));
    // One of the owner's goes.
    let other_of_removes = removes.other();
    removes
        .thief
        .post("remove_email", json!({ "email": other_of_removes }))
        .await
        .good();
    // A link from before.
    older_link
        .thief
        .post("complete_email_confirmation", json!({ "token": begun }))
        .await
        .good();
    // The account itself.
    cancels.thief.post("account_cancel", json!({})).await.good();

    sites.heal(AWAY).await;
    sites.agree().await;
    for theft in [&mut signs_in, &mut changes] {
        let (email, other) = (theft.email(), theft.other());
        theft
            .only_the_owner_is_in(&sites, &[(&*email, true), (&*other, false)])
            .await;
    }
    let (email_of_adds, other_of_adds) = (adds.email(), adds.other());
    let held = [
        ("added@thief.invalid", false),
        (&*email_of_adds, true),
        (&*other_of_adds, false),
    ];
    adds.only_the_owner_is_in(&sites, &held).await;
    let email_of_removes = removes.email();
    removes
        .only_the_owner_is_in(&sites, &[(&*email_of_removes, true)])
        .await;
    let held = [(&*email, true), (&*other, false), ("older@thief.invalid", false)];
    older_link.only_the_owner_is_in(&sites, &held).await;
    // Neither does a link from before the reset do anything now.
    for number in [HOME, AWAY] {
        let mut thief = sites.browser(number);
        let reset = json!({ "token": older_reset, "pass": THIEFS });
        thief
            .post("complete_reset", reset)
            .await
            .refused(409, "later-reset");
        // By an address that was added meanwhile nobody resets: it is answered alike, and no mail goes out.
        let args = json!({ "email": "added@thief.invalid", "site": SHOP });
        let reply = thief.post("stage_reset", args).await;
        assert!(matches!(reply.status.as_u16(), 200 | 429), "{reply:?}");
    }
    let sent = sites.mailbox.of("added@thief.invalid");
    let proofs = sent.iter().filter(|letter| letter.text.contains("?token="));
    assert_eq!(proofs.count(), 1, "that of the addition itself");

    // A thief can destroy, and gains nothing by it: the address is its owner's by the next mail.
    for number in [HOME, AWAY] {
        let mut anybody = sites.browser(number);
        for password in [PASSWORD, NEW, THIEFS] {
            anybody
                .sign_in(&cancels.email(), password)
                .await
                .refused(200, "wrong-password");
        }
        for browser in [&mut cancels.owner, &mut cancels.thief] {
            browser.site = sites.url(number);
            assert_eq!(browser.level().await, None);
        }
        for assertion in &cancels.assertions {
            assert_eq!(anybody.verify(assertion, SHOP).await["status"], "failure");
        }
        let known = anybody
            .get("have_email", &[("email", &cancels.email())])
            .await
            .good();
        assert_eq!(known["email_known"], Value::Bool(false));
    }
}
