//! Somebody begins, somebody else reads the mail: what a click gives away, and to whom.

use super::{
    staging::{StagingId, StagingStatus},
    *,
};

const VICTIM: &str = "ada@example.org";

/// Each way of completing, with the purposes that it is for.
const DOORS: [(&str, &[Purpose]); 4] = [
    ("complete_user_creation", &[Purpose::NewAccount]),
    (
        "complete_email_confirmation",
        &[Purpose::AddEmail, Purpose::Reverify],
    ),
    ("complete_reset", &[Purpose::Reset]),
    ("complete_transition", &[Purpose::Transition]),
];

struct Attack {
    site: Site,
    purpose: Purpose,
    /// The attacker's own account.
    mallory: AccountId,
    /// What the attacker's browser holds, and the mail that the victim reads.
    mail: Mailed,
}

/// The attacker begins something of each purpose for the victim's address.
async fn attacks() -> Vec<Attack> {
    let mut attacks = Vec::new();
    for purpose in EVERY_PURPOSE {
        let site = Site::new(1);
        let mallory = done(site.create("mallory@example.net", OTHER, Word::Operator).await);
        let address = address(VICTIM);
        let begin = match purpose {
            Purpose::NewAccount => Begin::NewAccount {
                address,
                password: pass(OTHER),
            },
            Purpose::AddEmail => Begin::AddEmail {
                account: mallory,
                address,
                password: None,
            },
            Purpose::Reverify => {
                // It was the attacker's once, and a reset left it unverified.
                done(site.add(mallory, VICTIM, Word::Operator).await);
                done(site.reset("mallory@example.net", OTHER, Word::Operator).await);
                Begin::Reverify {
                    account: mallory,
                    address,
                }
            }
            Purpose::Reset => {
                done(site.create(VICTIM, OLD, Word::Operator).await);
                Begin::Reset { address }
            }
            Purpose::Transition => {
                stagings::certified(&site, VICTIM).await;
                Begin::Transition {
                    address,
                    password: pass(OTHER),
                }
            }
        };
        site.wait(1);
        let mail = site.begin(begin).await;
        attacks.push(Attack {
            site,
            purpose,
            mallory,
            mail,
        });
    }
    attacks
}

#[tokio::test]
async fn a_click_alone_completes_nothing_and_a_token_serves_its_own_purpose_only() {
    for attack in attacks().await {
        let before = (attack.site.holder(VICTIM), attack.site.emails(attack.mallory));
        for (door, purposes) in DOORS {
            for here in [None, Some(&attack.mail.here)] {
                for password in [None, Some(NEW)] {
                    if purposes.contains(&attack.purpose)
                        && (here.is_some() || attack.purpose == Purpose::Reset)
                    {
                        continue;
                    }
                    let outcome = attack
                        .site
                        .follow_to(purposes, &attack.mail.token, here, password)
                        .await;
                    let expected = match password {
                        _ if !purposes.contains(&attack.purpose) => Refusal::UnknownStaging,
                        None => Refusal::PasswordNeeded,
                        // The victim's own password is none that the attacker chose, nor that of their account.
                        Some(_) => Refusal::WrongPassword,
                    };
                    refused(outcome, expected);
                    assert_eq!(
                        (attack.site.holder(VICTIM), attack.site.emails(attack.mallory)),
                        before,
                        "{door} {:?}",
                        attack.purpose
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn nothing_that_the_initiator_holds_is_a_token() {
    for attack in attacks().await {
        let text = attack.mail.here.to_text();
        let id: String = attack
            .mail
            .here
            .id
            .as_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let nonce: String = attack
            .mail
            .here
            .nonce
            .hash()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let letters: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
        let site = attack.mail.token.as_str().get(..5).expect("its site");
        let candidates = [
            &id[..48],
            &id[16..],
            &nonce[..48],
            &letters[..48],
            &letters[letters.len() - 48..],
            &format!("{site}{}", &letters[..43]),
            &format!("{site}{}", &id[..43]),
        ];
        for candidate in candidates {
            let token = Token::parse(candidate).expect("the form of one");
            // Without the wait of a third of a second for what may be on its way.
            let known = attack.site.here().read(&staging::look::ReadStaging {
                id: token.id(),
                nonce_hash: Some(attack.mail.here.nonce.hash()),
            });
            assert!(matches!(known, Ok(None)), "{:?}", attack.purpose);
        }
        // Nor does the cookie of one staging count for another, nor the code without its nonce.
        let other = BegunHere {
            id: StagingId::from_bytes([1; 32]),
            ..attack.mail.here.clone()
        };
        if attack.purpose != Purpose::Reset {
            refused(
                attack
                    .site
                    .follow_to(&EVERY_PURPOSE, &attack.mail.token, Some(&other), None)
                    .await,
                Refusal::PasswordNeeded,
            );
        }
        refused(
            attack.site.type_code(&other, &attack.mail.code, Some(NEW)).await,
            Refusal::UnknownStaging,
        );
    }
}

#[tokio::test]
async fn the_victim_who_completes_gains_and_the_attacker_who_asks_learns_only_that() {
    for attack in attacks().await {
        let Attack { site, mail, .. } = &attack;
        let sites: Vec<Site> = (10..20).map(Site::new).collect();
        match attack.purpose {
            // The victim chooses a password of their own, and has the account.
            Purpose::Reset => {
                let reset = completed(site.follow(&mail.token, None, Some(NEW)).await);
                assert_eq!(site.holder(VICTIM), Some((reset.account, true)));
                refused(site.sign_in(VICTIM, OTHER).await, Refusal::WrongPassword);
            }
            // Else the click does nothing, and the victim may begin something of their own.
            _ => {
                let _ = site.follow(&mail.token, None, None).await;
                site.wait(60_000);
                if attack.purpose != Purpose::Transition {
                    let own = site.begin_sign_up(VICTIM, NEW).await;
                    let account = completed(site.follow(&own.token, Some(&own.here), None).await).account;
                    assert_eq!(site.holder(VICTIM), Some((account, true)));
                    refused(
                        site.follow(&mail.token, Some(&mail.here), None).await,
                        Refusal::StagingEnded,
                    );
                }
            }
        }
        for other in &sites {
            site.send_to(other).await;
            let status = other.identity.directory().staging_status(&mail.here).await;
            let status = status.expect("read").expect("known");
            match attack.purpose {
                Purpose::Reset => assert!(matches!(status, StagingStatus::Completed { .. })),
                Purpose::Transition => assert_eq!(status, StagingStatus::Pending),
                _ => assert_eq!(status, StagingStatus::Ended),
            }
            let guess = other.type_code(&mail.here, &Code::new([3; 8]), None).await;
            assert!(matches!(done(guess), Completion::WrongCode { .. }));
        }
    }
}
