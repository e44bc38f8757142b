//! Somebody begins, somebody else reads the mail: what a click gives away, and to whom.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    browser::{Browser, Letter},
    primary::Primary,
    sites::{BEGAN_COOKIE, PASSWORD, SHOP, Sites},
};

const ATTACKERS: &str = "the attacker's choice";

/// Each way of completing with a link.
const DOORS: [&str; 4] = [
    "complete_user_creation",
    "complete_email_confirmation",
    "complete_reset",
    "complete_transition",
];
/// Each way of beginning, and the door that it leads to.
const PURPOSES: [(&str, &str); 5] = [
    ("stage_user", "complete_user_creation"),
    ("stage_email", "complete_email_confirmation"),
    ("stage_reverify", "complete_email_confirmation"),
    ("stage_reset", "complete_reset"),
    ("stage_transition", "complete_transition"),
];
const STATUSES: [&str; 5] = [
    "user_creation_status",
    "email_addition_status",
    "email_reverify_status",
    "password_reset_status",
    "transition_status",
];

/// What an attacker began for a victim's address.
struct Attack {
    stage: &'static str,
    door: &'static str,
    attacker: Browser,
    victim: String,
    letter: Letter,
}

/// One of each purpose, begun at the first site.
async fn attacks(sites: &Sites, primary: &Primary) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (number, (stage, door)) in PURPOSES.into_iter().enumerate() {
        let attackers = format!("mallory-{number}@evil.invalid");
        let victim = match stage {
            "stage_transition" => format!("victim-{number}@idp.localhost"),
            _ => format!("victim-{number}@shop.invalid"),
        };
        let mut args = json!({ "email": victim, "site": SHOP });
        let mut attacker = sites.browser(0);
        match stage {
            "stage_user" => args["pass"] = json!(ATTACKERS),
            "stage_email" => sites.create(0, &[&attackers]).await,
            // It was the attacker's once, and a reset left it unverified.
            "stage_reverify" => {
                sites.create(0, &[&attackers, &victim]).await;
                sites.reset_by_operator(0, &attackers).await;
            }
            "stage_reset" => sites.create(0, &[&victim]).await,
            _ => {
                primary.sign_in(&mut sites.browser(0), &victim).await;
                args["pass"] = json!(ATTACKERS);
            }
        }
        if matches!(stage, "stage_email" | "stage_reverify") {
            attacker.sign_in(&attackers, PASSWORD).await.good();
        }
        attacker.post(stage, args).await.good();
        let letter = sites.mailbox.next(&victim, 0).await;
        attacks.push(Attack {
            stage,
            door,
            attacker,
            victim,
            letter,
        });
    }
    attacks
}

impl Attack {
    /// The attacker asks each site for each status, and looks who they are: nothing of the victim's.
    async fn learns_nothing(&mut self, sites: &Sites, count: usize) {
        for number in 0..count {
            self.attacker.site = sites.url(number);
            for status in STATUSES {
                let reply = self.attacker.get(status, &[("email", &self.victim)]).await;
                let told = reply.json();
                assert_ne!(
                    told["status"], "complete",
                    "{} at {number}, {status}: {told}",
                    self.stage
                );
                assert!(!reply.headers.contains_key("set-cookie"), "{status}: {reply:?}");
            }
            let context = self.attacker.context().await;
            let is_theirs = |emails: &Value| emails.to_string().contains(&self.victim);
            assert!(
                !is_theirs(&context["emails"]),
                "{} at {number}: {context}",
                self.stage
            );
            let expected = match self.stage {
                "stage_email" | "stage_reverify" => json!("password"),
                _ => json!(false),
            };
            assert_eq!(context["auth_level"], expected, "{} at {number}", self.stage);
            let refused = self
                .attacker
                .certify(&self.victim)
                .await
                .err()
                .expect("no certificate");
            assert!(matches!(refused.status.as_u16(), 400 | 403), "{refused:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_click_gives_the_attacker_nothing_at_any_site() {
    const COUNT: usize = 3;
    let primary = Primary::start().await;
    let sites = Sites::start_with(COUNT, |config| primary.known_to(config)).await;
    let mut attacks = attacks(&sites, &primary).await;
    sites.agree().await;
    for (number, attack) in attacks.iter_mut().enumerate() {
        attack.learns_nothing(&sites, COUNT).await;
        // The victim clicks, at each site and each door, with no password and with a wrong one.
        let token = attack.letter.token();
        for (at, door) in DOORS.into_iter().enumerate() {
            let mut victim = sites.browser((number + at) % COUNT);
            let told = victim.get("email_for_token", &[("token", &token)]).await.good();
            assert_eq!(told["email"], json!(attack.victim), "{}", attack.stage);
            assert_eq!(told["must_auth"], json!(attack.door != "complete_reset"));
            for pass in [None, Some("the victim's guess")] {
                let mut args = json!({ "token": token });
                if let Some(pass) = pass {
                    args["pass"] = json!(pass);
                }
                if door != attack.door {
                    // A token serves its own purpose only.
                    victim.post(door, args).await.refused(409, "unknown-staging");
                } else if door != "complete_reset" || pass.is_none() {
                    victim.post(door, args).await.refused(401, "password-needed");
                }
                assert_eq!(victim.level().await, None, "{} at {door}", attack.stage);
            }
        }
        sites.agree().await;
        attack.learns_nothing(&sites, COUNT).await;
        if attack.door == "complete_reset" {
            // The one click that does something does it for the victim: a new password of theirs.
            let mut victim = sites.browser(1);
            let reset = json!({ "token": token, "pass": "the victim's own" });
            victim.post("complete_reset", reset).await.good();
            assert_eq!(victim.level().await.as_deref(), Some("password"));
            sites.agree().await;
            attack.learns_nothing(&sites, COUNT).await;
        }
        // Nor does the code of a mail that is not read by who began.
        attack.attacker.site = sites.url(2);
        let guess = json!({ "code": "ZZZZ-7777", "pass": ATTACKERS });
        let reply = attack.attacker.post("complete_by_code", guess).await;
        reply.refused(200, "wrong-code");
        assert_eq!(reply.json()["tries_left"], 4, "{reply:?}");
    }
}

/// Whatever has the form of a token and can be made of what a browser holds.
fn candidates(browser: &Browser) -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    for value in browser.cookies.values() {
        texts.insert(value.clone());
        for part in value.split('.') {
            texts.insert(part.to_owned());
            let Ok(bytes) = URL_SAFE_NO_PAD.decode(part) else {
                continue;
            };
            let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
            texts.insert(hex(&bytes));
            for half in bytes.chunks(32) {
                texts.insert(URL_SAFE_NO_PAD.encode(half));
                texts.insert(hex(half));
            }
            if let Ok(Value::Object(claims)) = serde_json::from_slice(&bytes) {
                texts.extend(claims.values().filter_map(Value::as_str).map(str::to_owned));
            }
        }
    }
    let mut tokens = BTreeSet::new();
    for text in texts {
        let letters: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
        if letters.len() >= 48 {
            tokens.insert(letters[..48].to_owned());
            tokens.insert(letters[letters.len() - 48..].to_owned());
        } else if letters.len() >= 16 {
            tokens.insert(format!("{letters:0<48}"));
            tokens.insert(format!("{letters:0>48}"));
        }
    }
    tokens
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_the_attackers_browser_holds_is_a_token() {
    let primary = Primary::start().await;
    let sites = Sites::one_with(|config| primary.known_to(config)).await;
    for mut attack in attacks(&sites, &primary).await {
        let began = attack.attacker.cookies[BEGAN_COOKIE].clone();
        let tokens = candidates(&attack.attacker);
        assert!(tokens.len() >= 8, "{tokens:?}");
        assert!(!tokens.contains(&attack.letter.token()));
        for token in tokens {
            for door in DOORS {
                let args = json!({ "token": token, "pass": ATTACKERS });
                attack
                    .attacker
                    .post(door, args)
                    .await
                    .refused(409, "unknown-staging");
            }
            let told = attack.attacker.get("email_for_token", &[("token", &token)]).await;
            told.refused(200, "unknown-staging");
        }
        // What one browser began is nothing to another's mail: half of one cookie and half of another are neither.
        let mut other = sites.browser(0);
        let email = format!(
            "second-{}",
            attack.victim.replace("idp.localhost", "shop.invalid")
        );
        let args = json!({ "email": email, "pass": ATTACKERS, "site": SHOP });
        other.post("stage_user", args).await.good();
        let own = sites.mailbox.next(&email, 0).await;
        let bytes = |cookie: &str| URL_SAFE_NO_PAD.decode(cookie).expect("base64url");
        let (first, second) = (bytes(&began), bytes(&other.cookies[BEGAN_COOKIE]));
        for (id, nonce) in [(&first, &second), (&second, &first)] {
            let mixed = URL_SAFE_NO_PAD.encode([&id[..32], &nonce[32..]].concat());
            other.cookies.insert(BEGAN_COOKIE.to_owned(), mixed);
            for code in [own.code(), attack.letter.code()] {
                let args = json!({ "code": code });
                other
                    .post("complete_by_code", args)
                    .await
                    .refused(409, "unknown-staging");
            }
            let args = json!({ "token": own.token() });
            other
                .post("complete_user_creation", args)
                .await
                .refused(401, "password-needed");
        }
        attack.learns_nothing(&sites, 1).await;
    }
}
