//! Email domains that certify their own users, over real HTTPS: what each says can be changed while it runs.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header::HOST},
    response::{IntoResponse, Response},
    routing::get,
};
use persona::{
    browserid::{Domain, NewAssertion, NewCertificate, SigningKey},
    config::LabConfig,
    identity::Address,
    listener::Listener,
};
use rand::rng;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivatePkcs8KeyDer};
use serde_json::json;

/// What a domain says at its well-known place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// That it certifies its users, by the key that all of them share here.
    Primary,
    /// That it does not.
    Disabled,
    /// Nothing: there is no such page.
    Nothing,
}

/// Some domains on one host.
pub(crate) struct Idps {
    pub(crate) key: SigningKey,
    domains: Vec<&'static str>,
    at: SocketAddr,
    here: Arc<Here>,
    authority: tempfile::NamedTempFile,
}

struct Here {
    says: Mutex<BTreeMap<String, Says>>,
    document: String,
    asked: AtomicUsize,
}

impl Idps {
    /// Listens; each domain says that it is a primary.
    pub(crate) async fn start(domains: &[&'static str]) -> Idps {
        let key = SigningKey::generate(&mut rng()).expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, own).expect("an authority");
        let written = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(written.path(), authority.pem()).expect("written");
        let own = KeyPair::generate().expect("a key");
        let names: Vec<String> = domains.iter().map(|&name| name.to_owned()).collect();
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.signed_by(&own, &authority).expect("signed");
        let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(own.serialize_der()).into(),
            )
            .expect("a certificate");
        let mut jwk = key.public().to_jwk();
        jwk["kid"] = json!(key.kid());
        let document = json!({
            "public-key": jwk,
            "authentication": "/sign_in",
            "provisioning": "/provision",
        });
        let says = domains.iter().map(|&name| (name.to_owned(), Says::Primary));
        let here = Arc::new(Here {
            says: Mutex::new(says.collect()),
            document: document.to_string(),
            asked: AtomicUsize::new(0),
        });
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), Some(Arc::new(tls)))
            .await
            .expect("a port");
        let at = listener.address().expect("an address");
        let router = Router::new()
            .route("/.well-known/browserid", get(answer))
            .with_state(here.clone());
        tokio::spawn(listener.serve(router, std::future::pending()));
        Idps {
            key,
            domains: domains.to_vec(),
            at,
            here,
            authority: written,
        }
    }

    /// From now on a domain says this.
    pub(crate) fn say(&self, domain: &str, says: Says) {
        let mut all = self.here.says.lock().expect("whole");
        all.insert(domain.to_owned(), says);
    }

    /// How often anybody was asked.
    pub(crate) fn asked(&self) -> usize {
        self.here.asked.load(Ordering::SeqCst)
    }

    /// Where a laboratory finds them.
    pub(crate) fn lab(&self) -> LabConfig {
        LabConfig {
            idps: self
                .domains
                .iter()
                .map(|&name| (name.to_owned(), self.at))
                .collect(),
            ..LabConfig::default()
        }
    }

    /// The certificate that a site has to trust.
    pub(crate) fn authority_file(&self) -> PathBuf {
        self.authority.path().to_path_buf()
    }

    /// A user's key and its certificate, as the domain makes them.
    pub(crate) fn certify(&self, email: &str, now_ms: u64) -> (SigningKey, String) {
        let address = Address::parse(email).expect("an address");
        let user = SigningKey::generate(&mut rng()).expect("a key");
        let new = NewCertificate {
            issuer: &Domain::of(&address),
            email: &address,
            public_key: user.public(),
            now_ms,
            rests_on_ms: 0,
            resets: 0,
            short: false,
            session_ends_ms: now_ms + 3_600_000,
        };
        let certificate = new.issue(&self.key).expect("a certificate");
        (user, certificate)
    }

    /// What a user shows to whoever asks who they are.
    pub(crate) fn assertion(&self, email: &str, audience: &str, now_ms: u64) -> String {
        let (user, certificate) = self.certify(email, now_ms);
        let assertion = NewAssertion {
            audience,
            expires_ms: now_ms + 120_000,
            nonce: None,
        };
        assertion.back(&certificate, &user).expect("an assertion")
    }
}

async fn answer(State(here): State<Arc<Here>>, headers: HeaderMap) -> Response {
    here.asked.fetch_add(1, Ordering::SeqCst);
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let host = host.split(':').next().unwrap_or_default();
    let says = here.says.lock().expect("whole").get(host).copied();
    let json = [("content-type", "application/json")];
    match says {
        Some(Says::Primary) => (json, here.document.clone()).into_response(),
        Some(Says::Disabled) => (json, r#"{"disabled":true}"#).into_response(),
        Some(Says::Nothing) | None => StatusCode::NOT_FOUND.into_response(),
    }
}
