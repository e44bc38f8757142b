//! A small world with all that browsers reach in it, as `sh deploy/run.sh` starts it.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use persona::{
    browserid::{NewAssertion, SigningKey},
    demo::identity_provider::PASSWORD,
};
use rand::rng;
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::visitor::Visitor;

/// The world, until it is dropped: its sites end with it.
struct World {
    _process: Child,
    _directory: tempfile::TempDir,
    page: String,
    http: reqwest::Client,
}

impl World {
    async fn start() -> World {
        let directory = tempfile::tempdir().expect("a directory");
        let mut process = Command::new(env!("CARGO_BIN_EXE_persona"))
            .args([
                "world",
                "--sites",
                "2",
                "--rate",
                "1",
                "--listen",
                "127.0.0.1:0",
                "--dir",
            ])
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        let mut lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        let page = async {
            while let Some(line) = lines.next_line().await.expect("text") {
                if let Some((_, page)) = line.split_once("page: ") {
                    return page.trim().trim_end_matches('/').to_owned();
                }
            }
            panic!("it ended without a page");
        };
        let page = timeout(START_MAX, page).await.expect("in time");
        // What else it says is read, so that it is never stopped by a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        World {
            _process: process,
            _directory: directory,
            page,
            http: reqwest::Client::builder().no_proxy().build().expect("a client"),
        }
    }

    async fn state(&self) -> Value {
        let answer = self
            .http
            .get(format!("{}/api/world", self.page))
            .send()
            .await
            .expect("an answer");
        answer.json().await.expect("JSON")
    }

    /// Waits until the front sends people to this site; `None`: to any.
    async fn serves(&self, site: Option<u64>) -> Value {
        let deadline = Instant::now() + START_MAX;
        loop {
            let state = self.state().await;
            let serving = state["web"]["serving"].as_u64();
            if serving.is_some() && (site.is_none() || serving == site) {
                return state;
            }
            assert!(Instant::now() < deadline, "nobody serves: {}", state["web"]);
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn tell(&self, path: &str, body: &Value) {
        let told = self
            .http
            .post(format!("{}{path}", self.page))
            .header("X-Persona-World", "1");
        let answer = told.json(body).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{path}");
    }
}

/// One of the hosts below `localhost`.
struct Place {
    origin: String,
    at: SocketAddr,
}

impl Place {
    fn of(state: &Value, name: &str) -> Place {
        let text = state["web"]["places"][name].as_str().expect("a place");
        let url = Url::parse(text).expect("a URL");
        Place {
            origin: url.origin().ascii_serialization(),
            at: SocketAddr::from(([127, 0, 0, 1], url.port().expect("a port"))),
        }
    }

    /// A browser here, which says which host it means.
    fn visitor(&self) -> Visitor {
        Visitor::named(self.at, self.origin.trim_start_matches("http://"))
    }
}

/// Signs in at the shop with an address that the email domain certifies, as the dialog does it. Gives the shop's status and
/// its word.
async fn sign_in(state: &Value, user: &str) -> (StatusCode, Value) {
    let (shop, idp) = (Place::of(state, "shop"), Place::of(state, "idp"));
    let (mut at_shop, mut at_idp) = (shop.visitor(), idp.visitor());
    let (_, page) = at_shop.get("/").await;
    let (_, rest) = page.split_once("data-nonce=\"").expect("a nonce");
    let nonce = rest.split('"').next().expect("its end");
    let (status, _) = at_idp
        .post(
            Some(&idp.origin),
            "/session",
            &json!({ "user": user, "password": PASSWORD }),
        )
        .await;
    assert_eq!(status, StatusCode::OK);
    let key = SigningKey::generate(&mut rng()).expect("a key");
    let wanted = json!({
        "email": format!("{user}@idp.localhost"),
        "pubkey": key.public().to_jwk().to_string(),
        "duration": 3600,
    });
    let (_, answer) = at_idp.post(Some(&idp.origin), "/certify", &wanted).await;
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    let assertion = NewAssertion {
        audience: &shop.origin,
        expires_ms: u64::try_from(since.as_millis()).expect("small") + 120_000,
        nonce: Some(nonce),
    };
    let assertion = assertion.back(answer["certificate"].as_str().expect("a certificate"), &key);
    let assertion = assertion.expect("an assertion");
    let told = at_shop
        .post(Some(&shop.origin), "/login", &json!({ "assertion": assertion }))
        .await;
    if told.0 == StatusCode::OK {
        let (_, page) = at_shop.get("/").await;
        assert!(
            page.contains(&format!("data-user=\"{user}@idp.localhost\"")),
            "{page}"
        );
    }
    told
}

#[tokio::test]
async fn one_signs_in_at_the_shop_and_again_when_the_chosen_site_is_killed() {
    let world = World::start().await;
    let state = world.serves(None).await;
    let persona = Place::of(&state, "persona");

    // Persona says who it is, at its own name and no other.
    let (status, document) = persona.visitor().get("/.well-known/browserid").await;
    assert_eq!(status, StatusCode::OK);
    assert!(document.contains("\"provisioning\""), "{document}");
    let (status, _) = Visitor::new(persona.at).get("/.well-known/browserid").await;
    assert_eq!(status, StatusCode::MISDIRECTED_REQUEST);

    // It finds the email domain, and sends browsers to where its pages are.
    let (_, about) = persona
        .visitor()
        .get("/wsapi/address_info?email=ada@idp.localhost")
        .await;
    let about: Value = serde_json::from_str(&about).expect("JSON");
    assert_eq!(about["type"], "primary", "{about}");
    assert_eq!(about["issuer"], "idp.localhost");
    let idp = Place::of(&state, "idp");
    assert_eq!(about["auth"], format!("{}/sign_in", idp.origin));

    // A certificate of that domain is worth as much as one of Persona's own.
    let (status, said) = sign_in(&state, "ada").await;
    assert_eq!(
        (status, &said["email"]),
        (StatusCode::OK, &json!("ada@idp.localhost")),
        "{said}"
    );

    // The site that people are sent to is killed: the next request of theirs goes to the other.
    let chosen = state["sites"][1]["name"].as_str().expect("a name");
    world.tell("/api/front", &json!({ "site": chosen })).await;
    world.serves(Some(1)).await;
    world
        .tell(&format!("/api/sites/{chosen}/kill"), &Value::Null)
        .await;
    let (status, said) = sign_in(&state, "eve").await;
    assert_eq!(
        (status, &said["email"]),
        (StatusCode::OK, &json!("eve@idp.localhost")),
        "{said}"
    );
    let state = world.serves(Some(0)).await;
    assert_eq!(
        state["web"]["chosen"], 1,
        "it is still what was chosen, for when it is back"
    );
}

/// Two stores are opened on a machine that may have much else to do.
const START_MAX: Duration = Duration::from_secs(180);
