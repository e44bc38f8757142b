//! HTTPS hosts in this process, which say what they are told to, byte by byte.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use persona::{
    browserid::Domain,
    idp::{Discovery, DiscoverySettings, Outcome},
    outbound::{Lab, Outbound, OutboundSettings, Proxy, Resolve},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_rustls::TlsAcceptor;

pub(crate) const KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}"#;

/// Addresses of every kind that is not on the internet.
pub(crate) const INSIDE: [&str; 26] = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.170",
    "192.0.2.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "64:ff9b::10.0.0.1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2002:7f00:1::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
];

/// The address under which all hosts here are known. It is out on the internet, and passes the check; the laboratory
/// connects to this machine in its place.
pub(crate) const GLOBAL: IpAddr = IpAddr::V4(Ipv4Addr::new(1, 2, 3, 4));

/// Where they are in truth: at a loopback address of their own, so that a rule can name it.
pub(crate) const HERE: &str = "127.0.0.9";

/// One certificate authority, and what its hosts say.
pub(crate) struct Hosts {
    authority: CertifiedIssuer<'static, KeyPair>,
    says: Arc<Mutex<HashMap<String, Vec<Part>>>>,
    asked: Arc<Mutex<Vec<String>>>,
    pub(crate) hold: Arc<Hold>,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) socket: SocketAddr,
}

/// Some of an answer.
#[derive(Clone)]
pub(crate) enum Part {
    Bytes(Vec<u8>),
    /// The same bytes again and again, with a pause, until the other side has enough.
    Drip(Vec<u8>, Duration),
    /// Nothing, until it is released.
    Hold,
}

/// Answers that are held back.
pub(crate) struct Hold {
    /// How many now, and at most.
    held: watch::Sender<(usize, usize)>,
    gate: Semaphore,
}

impl Hold {
    pub(crate) async fn until(&self, held: usize) {
        let mut watch = self.held.subscribe();
        watch.wait_for(|&(now, _)| now == held).await.expect("ours");
    }

    pub(crate) fn release(&self, answers: usize) {
        self.gate.add_permits(answers);
    }

    pub(crate) fn most(&self) -> usize {
        self.held.borrow().1
    }

    async fn pass(&self) -> Option<()> {
        self.held
            .send_modify(|(now, most)| (*now, *most) = (*now + 1, (*most).max(*now + 1)));
        self.gate.acquire().await.ok()?.forget();
        self.held.send_modify(|(now, _)| *now -= 1);
        Some(())
    }
}

impl Hosts {
    /// Listens; the certificate has these names.
    pub(crate) async fn start(names: &[&str]) -> Hosts {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.signed_by(&key, &authority).expect("signed");
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .expect("a certificate");
        let listener = TcpListener::bind((HERE, 0)).await.expect("a port");
        let hosts = Hosts {
            authority,
            says: Arc::default(),
            asked: Arc::default(),
            hold: Arc::new(Hold {
                held: watch::Sender::new((0, 0)),
                gate: Semaphore::new(0),
            }),
            connections: Arc::default(),
            socket: listener.local_addr().expect("bound"),
        };
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (says, asked) = (Arc::clone(&hosts.says), Arc::clone(&hosts.asked));
        let (hold, connections) = (Arc::clone(&hosts.hold), Arc::clone(&hosts.connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(
                    acceptor.clone(),
                    stream,
                    says.clone(),
                    asked.clone(),
                    hold.clone(),
                ));
            }
        });
        hosts
    }

    /// From now on `host` answers so.
    pub(crate) fn say(&self, host: &str, parts: Vec<Part>) {
        self.says.lock().expect("whole").insert(host.to_owned(), parts);
    }

    /// A whole answer: status line and headers but the length, and a body.
    pub(crate) fn answer(&self, host: &str, head: &str, body: &[u8]) {
        let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len());
        self.say(host, vec![Part::Bytes([head.as_bytes(), body].concat())]);
    }

    pub(crate) fn json(&self, host: &str, body: &str) {
        self.answer(host, "200 OK\r\nContent-Type: application/json", body.as_bytes());
    }

    pub(crate) fn primary(&self, host: &str) {
        self.json(host, &primary_document());
    }

    /// What was asked since the last time: host and request line.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("whole"))
    }

    pub(crate) fn roots(&self) -> Vec<u8> {
        self.authority.pem().into_bytes()
    }

    /// A client that trusts these hosts and finds them under [`GLOBAL`], but for what `resolver` says.
    pub(crate) fn client(&self, resolver: Arc<dyn Resolve>) -> Outbound {
        let settings = OutboundSettings {
            proxy: None,
            roots: Some(self.roots()),
        };
        let lab = Lab {
            resolver: Some(resolver),
            sockets: HashMap::from([(GLOBAL, self.socket)]),
            port: Some(self.socket.port()),
        };
        Outbound::in_lab(&settings, lab).expect("a client")
    }

    /// A client that goes through a proxy, to this port.
    pub(crate) fn client_through(&self, proxy: Proxy, port: u16) -> Outbound {
        let settings = OutboundSettings {
            proxy: Some(proxy),
            roots: Some(self.roots()),
        };
        let lab = Lab {
            port: Some(port),
            ..Lab::default()
        };
        Outbound::in_lab(&settings, lab).expect("a client")
    }

    pub(crate) fn discovery(&self) -> Discovery {
        discovery(
            self.client(Arc::new(Answers::always(&[GLOBAL]))),
            Duration::from_secs(8),
        )
    }
}

pub(crate) fn primary_document() -> String {
    format!(r#"{{"public-key":{KEY},"authentication":"/in","provisioning":"/prov"}}"#)
}

pub(crate) fn discovery(client: Outbound, time_limit: Duration) -> Discovery {
    let settings = DiscoverySettings {
        time_limit,
        ..DiscoverySettings::default()
    };
    Discovery::new(Arc::new(client), settings)
}

pub(crate) async fn look_up(discovery: &Discovery, domain: &str) -> String {
    match discovery.look_up(&Domain::parse(domain).expect("a domain")).await {
        Outcome::Primary(primary) => format!("{} {}", primary.authority, primary.auth_url),
        Outcome::Ourselves => "ourselves".to_owned(),
        Outcome::Disabled => "disabled".to_owned(),
        Outcome::None(why) => {
            let text = why.to_string();
            let prefix = format!("can't get public key for {}: ", why.domain);
            text.strip_prefix(&prefix)
                .expect("the original's words")
                .to_owned()
        }
    }
}

/// A name server that gives each question the next answer, and the last for ever.
pub(crate) struct Answers {
    answers: Vec<Vec<IpAddr>>,
    pub(crate) questions: AtomicUsize,
}

impl Answers {
    pub(crate) fn always(addresses: &[IpAddr]) -> Answers {
        Answers::in_turn(&[addresses])
    }

    pub(crate) fn in_turn(answers: &[&[IpAddr]]) -> Answers {
        Answers {
            answers: answers.iter().map(|addresses| addresses.to_vec()).collect(),
            questions: AtomicUsize::new(0),
        }
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answers")
    }
}

impl Resolve for Answers {
    fn resolve(&self, _: &str) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        let turn = self.questions.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.get(turn).or(self.answers.last()).cloned();
        async { Ok(answer.unwrap_or_default()) }.boxed()
    }
}

async fn serve(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    says: Arc<Mutex<HashMap<String, Vec<Part>>>>,
    asked: Arc<Mutex<Vec<String>>>,
    hold: Arc<Hold>,
) -> Option<()> {
    let mut stream = acceptor.accept(stream).await.ok()?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.ok()?);
    }
    let request = String::from_utf8(request).expect("ASCII");
    let lines: Vec<&str> = request.lines().collect();
    let host = lines
        .iter()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("a host");
    asked
        .lock()
        .expect("whole")
        .push(format!("{host} {}", lines.first().expect("a line")));
    let parts = says.lock().expect("whole").get(host).cloned().unwrap_or_default();
    for part in parts {
        match part {
            Part::Bytes(bytes) => stream.write_all(&bytes).await.ok()?,
            Part::Hold => hold.pass().await?,
            Part::Drip(bytes, pause) => loop {
                stream.write_all(&bytes).await.ok()?;
                stream.flush().await.ok()?;
                tokio::time::sleep(pause).await;
            },
        }
    }
    stream.shutdown().await.ok()
}
