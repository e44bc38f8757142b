//! Who is let in where: each listener against every certificate, and all that a webhead's files are good for.

use std::{fs, path::Path};

use persona::{
    browserid::{SigningKey, Usage},
    config::LabConfig,
    identity::operations::{self, Access},
    keyring::Keyring,
    session::{Methods, Session},
    tiers::{Tier, certificates::name_of},
    wsapi::ENDPOINTS,
};
use rand::rng;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use serde_json::{Value, json};

use crate::{
    browser::Browser,
    parts::{ADA, PASSWORD, Parts, SHOP, now_ms},
    wire::{ask, client},
};

/// What an operator's authority may do, and forgets.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// Writes a certificate with its key.
    fn certify(&self, name: &str, adapt: impl FnOnce(&mut CertificateParams), path: &Path) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        adapt(&mut params);
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        fs::write(path, format!("{}{}", certificate.pem(), key.serialize_pem())).expect("written");
    }
}

/// What a tier's listener has, and who may ask for it.
const DOORS: &[(Tier, &str, &[Tier])] = &[
    (Tier::Replica, "POST /replica/read/ping", READERS),
    (Tier::Replica, "GET /replica/keys", READERS),
    (Tier::Replica, "POST /replica/keys/ask/nobodys", READERS),
    (Tier::Replica, "GET /replica/health", READERS),
    (
        Tier::Replica,
        "POST /replica/write/recall",
        &[Tier::SecureWebhead],
    ),
    (
        Tier::Replica,
        "POST /replica/keys/settle/session",
        &[Tier::SecureWebhead],
    ),
    (
        Tier::Replica,
        "POST /replica/keys/settle/certificate",
        &[Tier::Keysigner],
    ),
    (Tier::SecureWebhead, "GET /tiers/health", &[Tier::Webhead]),
    (
        Tier::SecureWebhead,
        "POST /tiers/discovery/shop.invalid",
        &[Tier::Webhead],
    ),
    (Tier::SecureWebhead, "GET /wsapi/address_info", &[Tier::Webhead]),
    (
        Tier::SecureWebhead,
        "POST /wsapi/authenticate_user",
        &[Tier::Webhead],
    ),
    (Tier::Keysigner, "GET /tiers/health", &[Tier::Webhead]),
    (Tier::Keysigner, "POST /wsapi/cert_key", &[Tier::Webhead]),
];
const READERS: &[Tier] = &[Tier::Webhead, Tier::SecureWebhead, Tier::Keysigner];

#[tokio::test(flavor = "multi_thread")]
async fn each_listener_takes_the_tiers_that_it_lists_and_nobody_else() {
    // An authority as `persona tiers certify` makes them, kept for once to make what it never makes.
    let (ours, other) = (Authority::new(), Authority::new());
    let parts = Parts::plan(&LabConfig::default(), None);
    fs::create_dir_all(parts.tiers()).expect("a directory");
    fs::write(parts.pem("authority"), ours.0.pem()).expect("written");
    for tier in Tier::ALL {
        ours.certify(&name_of("site-0", tier), |_| {}, &parts.pem(tier.name()));
        let strange = |kind: &str| parts.pem(&format!("{kind}-{tier}"));
        ours.certify(&name_of("site-1", tier), |_| {}, &strange("elsewhere"));
        other.certify(&name_of("site-0", tier), |_| {}, &strange("other"));
        let expired = |params: &mut CertificateParams| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        };
        ours.certify(&name_of("site-0", tier), expired, &strange("expired"));
        let server = |params: &mut CertificateParams| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        };
        ours.certify(&name_of("site-0", tier), server, &strange("server"));
    }
    let parts = parts.run().await;
    let authority = parts.pem("authority");
    for (door, head, takes) in DOORS {
        let to = (*door, parts.at(*door).expect("a listener"));
        let request = format!("{head} HTTP/1.1");
        for tier in Tier::ALL {
            let heard = ask(
                &client(&authority, Some(&parts.pem(tier.name()))),
                to,
                &request,
                b"",
            )
            .await;
            let heard = heard.expect("one of ours");
            assert_eq!(
                heard.status != 404,
                takes.contains(&tier),
                "{tier} at {door}: {head}: {heard:?}"
            );
            // Of another site, with the same authority even, it is nobody.
            let strange = |kind: &str| client(&authority, Some(&parts.pem(&format!("{kind}-{tier}"))));
            let heard = ask(&strange("elsewhere"), to, &request, b"")
                .await
                .expect("one of ours");
            assert_eq!(heard.status, 404, "{tier} of another site at {door}: {head}");
            for kind in ["other", "expired", "server"] {
                let heard = ask(&strange(kind), to, &request, b"").await;
                assert!(heard.is_none(), "{kind} {tier} at {door}: {head}: {heard:?}");
            }
        }
        let heard = ask(&client(&authority, None), to, &request, b"").await;
        assert!(heard.is_none(), "nobody at {door}: {head}: {heard:?}");
        // What is not there looks the same as what one may not have.
        let webhead = client(&authority, Some(&parts.pem("webhead")));
        let heard = ask(&webhead, to, "GET /replica HTTP/1.1", b"")
            .await
            .expect("one of ours");
        assert_eq!(heard.status, 404);
    }
}

fn holds(directory: &Path, words: &str) -> bool {
    fs::read_dir(directory).expect("a directory").any(|entry| {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => holds(&path, words),
            false => String::from_utf8_lossy(&fs::read(&path).expect("read")).contains(words),
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_webhead_s_files_no_session_and_no_certificate_can_be_made() {
    let parts = Parts::start(&LabConfig::default()).await;
    let mut ada = parts.browser();
    let args = json!({ "email": ADA, "pass": PASSWORD, "site": SHOP });
    ada.post("stage_user", args).await.good();
    let letter = parts.mailbox.next(ADA, 0).await;
    ada.post("complete_user_creation", json!({ "token": letter.token() }))
        .await
        .good();

    // Its configuration and its home hold no key at all; its certificate's is all that it has.
    assert!(!holds(&parts.home(Tier::Webhead), "PRIVATE KEY"));
    assert!(holds(&parts.home(Tier::Keysigner), "PRIVATE KEY"));
    let thief = client(&parts.pem("authority"), Some(&parts.pem("webhead")));

    // It reaches no operation that writes or tells a secret, by neither way, whatever it says.
    let replica = (Tier::Replica, parts.at(Tier::Replica).expect("a listener"));
    let writes = operations::names(Access::Write);
    assert!(writes.len() > 15, "{writes:?}");
    for name in writes {
        for way in ["read", "write"] {
            for body in [&b""[..], b"\xa0", b"\xf6"] {
                let head = format!("POST /replica/{way}/{name} HTTP/1.1");
                let heard = ask(&thief, replica, &head, body).await.expect("an answer");
                assert_eq!(heard.status, 404, "{head}");
            }
        }
    }
    for name in operations::names(Access::Read) {
        let head = format!("POST /replica/write/{name} HTTP/1.1");
        let heard = ask(&thief, replica, &head, b"").await.expect("an answer");
        assert_eq!(heard.status, 404, "{head}");
    }

    // Nor does it get a key of its own published.
    let own = tempfile::tempdir().expect("a directory");
    let own = Keyring::open(own.path(), &[Usage::Session, Usage::Certificate]).expect("keys");
    for usage in [Usage::Session, Usage::Certificate] {
        let mut offer = Vec::new();
        ciborium::into_writer(&own.offer(usage), &mut offer).expect("an offer");
        let head = format!("POST /replica/keys/settle/{} HTTP/1.1", usage.name());
        let heard = ask(&thief, replica, &head, &offer).await.expect("an answer");
        assert_eq!(heard.status, 404, "{head}");
    }

    // With a session that it signed itself, and with the visitor's own words repeated, every call at the other two tiers
    // comes to nothing.
    let key = SigningKey::generate(&mut rng()).expect("a key");
    let forged = forged(&ada, &key);
    for endpoint in ENDPOINTS.iter().filter(|endpoint| endpoint.tier != Tier::Webhead) {
        let to = (endpoint.tier, parts.at(endpoint.tier).expect("a listener"));
        for (what, cookie) in [("forged", forged.as_str()), ("none", "")] {
            let head = format!(
                "{} /wsapi/{} HTTP/1.1\r\nContent-Type: application/json\r\nX-Persona-Client: 127.0.0.1\r\nCookie: \
                 persona_session={cookie}; persona_visit=AAAAAAAAAAAAAAAAAAAAAA",
                endpoint.method, endpoint.name
            );
            let body = arguments(endpoint.name, &key);
            let heard = ask(&thief, to, &head, body.to_string().as_bytes())
                .await
                .expect("an answer");
            let text = String::from_utf8_lossy(&heard.body).into_owned();
            assert!(!heard.signs_in(), "{what} {}: {heard:?}", endpoint.name);
            assert!(
                !text.starts_with("eyJ"),
                "{what} {}: a certificate: {text}",
                endpoint.name
            );
            let is_refused = heard.status >= 400 || text.contains("\"success\":false");
            assert!(is_refused, "{what} {}: {} {text}", endpoint.name, heard.status);
        }
    }
}

/// What a call takes, as far as a thief may know it.
fn arguments(call: &str, key: &SigningKey) -> Value {
    let mut arguments = match call {
        "cert_key" => {
            json!({ "email": ADA, "pubkey": key.public().to_jwk().to_string(), "ephemeral": false })
        }
        "remove_email" | "used_address_as_primary" => json!({ "email": ADA }),
        "stage_email" | "stage_reverify" => json!({ "email": ADA, "site": SHOP }),
        "authenticate_user" => json!({ "email": ADA, "pass": "not the password", "ephemeral": false }),
        "update_password" => json!({ "oldpass": "not the password", "newpass": "another horse battery" }),
        _ => json!({}),
    };
    arguments["csrf"] = json!("AAAAAAAAAAAAAAAAAAAAAA");
    arguments
}

/// Ada's session as the thief would have it: with everything right but the key.
fn forged(ada: &Browser, key: &SigningKey) -> String {
    let cookie = ada.cookies.get("persona_session").expect("signed in");
    let claims = cookie.split('.').nth(1).expect("claims");
    let claims = persona::browserid::json::decode_base64url(claims).expect("base64");
    let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
    let account = claims["sub"].as_str().expect("an account");
    let account = persona::browserid::json::decode_base64url(account).expect("base64");
    let session = Session {
        id: [7; 16],
        account: crdt::AccountId::from_bytes(account.try_into().expect("an id")),
        methods: Methods {
            assertion_ms: None,
            password_ms: Some(now_ms()),
        },
        issued_ms: now_ms(),
        expires_ms: now_ms() + 3_600_000,
        csrf: [0; 16],
        last_dot: None,
        epoch: crdt::Epoch::default(),
    };
    session.sign(key).expect("a cookie")
}
