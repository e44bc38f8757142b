//! What comes to a gossip port that should not: strangers, and members gone mad.

use std::sync::Arc;

use gossip::quic::{ALPN, Node, NodeStatus};
use gossip::{
    Dot, Envelope, Hello, Message, ReplicaId, StreamClass, TRANSACTION_BYTES_MAX, Tip, Vector, Writer,
};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, SendStream};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::memory::{self, CLUSTER};
use crate::replica::{self, World};

/// Accepts any certificate: what is tested is the other side.
#[derive(Debug)]
struct Gullible;

impl rustls::client::danger::ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A peer made by hand: a quinn client that says what it is told to.
pub(crate) struct Raw {
    _endpoint: Endpoint,
    pub(crate) connection: Connection,
}

/// A key and certificate as rustls wants them, and the public key to list.
pub(crate) struct Papers {
    certificate: rustls::pki_types::CertificateDer<'static>,
    key: rustls::pki_types::PrivateKeyDer<'static>,
}

impl Papers {
    pub(crate) fn new() -> Papers {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["raw".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        Papers {
            certificate: certificate.der().clone(),
            key: rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        }
    }

    fn public_key(&self) -> Vec<u8> {
        let parsed = rustls::server::ParsedCertificate::try_from(&self.certificate).unwrap();
        parsed.subject_public_key_info().to_vec()
    }

    pub(crate) async fn connect(&self, node: &Node) -> Result<Raw, ConnectionError> {
        self.offer(node, &[ALPN]).await
    }

    /// Connects to speak one of these.
    pub(crate) async fn offer(&self, node: &Node, protocols: &[&[u8]]) -> Result<Raw, ConnectionError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Gullible))
            .with_client_auth_cert(vec![self.certificate.clone()], self.key.clone_key())
            .unwrap();
        tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let endpoint = Endpoint::client(replica::loopback()).unwrap();
        let connection = endpoint
            .connect_with(client, node.local_addr(), "any")
            .unwrap()
            .await?;
        Ok(Raw {
            _endpoint: endpoint,
            connection,
        })
    }
}

impl Raw {
    async fn open(&self, class: u8) -> SendStream {
        let mut stream = self.connection.open_uni().await.unwrap();
        stream.write_all(&[class]).await.unwrap();
        stream
    }

    /// Opens a control stream and introduces itself as the third member of the world, with this vector.
    pub(crate) async fn hello(&self, vector: Vector) -> SendStream {
        let mut control = self.open(StreamClass::Control.to_byte()).await;
        let hello = Hello {
            cluster: CLUSTER,
            member: memory::member_id(2),
            site: "site-2".to_owned(),
            start: raw_writer(),
            versions: (1, 1),
            features: std::collections::BTreeSet::new(),
            fingerprints: std::collections::BTreeMap::new(),
            known_start: None,
            known_start_runs: false,
            counter: 1,
            vector,
            trimmed: Vector::new(),
            ready: true,
            holding: false,
            wall_ms: 0,
        };
        control
            .write_all(&Message::Hello(Box::new(hello)).to_frame())
            .await
            .unwrap();
        control
    }

    /// The node must close this, in words.
    pub(crate) async fn is_closed(&self, what: &str) {
        let closed = tokio::time::timeout(crate::LONG, self.connection.closed()).await;
        match closed.unwrap_or_else(|_| panic!("never closed: {what}")) {
            ConnectionError::ApplicationClosed(close) => assert!(!close.reason.is_empty(), "{what}"),
            other => panic!("{what}: closed by {other}"),
        }
    }
}

fn raw_writer() -> Writer {
    Writer {
        replica: ReplicaId(*b"raw-raw-"),
        epoch: 1,
        nonce: *b"raw-raw-",
    }
}

pub(crate) fn frame(content: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(content.len()).unwrap().to_le_bytes().to_vec();
    frame.extend_from_slice(content);
    frame
}

/// Two sites, and papers of a third member that the test plays.
pub(crate) async fn world() -> (World, Papers) {
    let world = World::new(2, 1).await;
    let papers = Papers::new();
    let mut members = world.members();
    members[2].keys = vec![papers.public_key()];
    for site in &world.sites {
        site.node.set_members(members.clone());
    }
    world
        .picture(0, "connected", |status| replica::connected(status) >= 1)
        .await;
    (world, papers)
}

pub(crate) async fn goes_on(world: &World) {
    let dot = world.memory(0).write(b"still here");
    world.memory(1).has(dot).await;
    let dot = world.memory(1).write(b"here too");
    world.memory(0).has(dot).await;
}

fn refused(status: &NodeStatus) -> u64 {
    status.traffic.frames_refused + status.gossip.counters.misbehaved
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_refused_in_the_handshake() {
    let (world, _) = world().await;
    let stranger = Papers::new();
    // To TLS 1.3 the client is done before the server has looked at its certificate.
    let closed = match stranger.connect(world.node(0)).await {
        Ok(raw) => tokio::time::timeout(crate::LONG, raw.connection.closed())
            .await
            .unwrap(),
        Err(error) => error,
    };
    assert!(
        matches!(closed, ConnectionError::ConnectionClosed(_)),
        "closed by {closed}"
    );
    world
        .picture(0, "counted it", |status| status.traffic.handshakes_refused == 1)
        .await;
    assert_eq!(world.node(0).status().gossip.counters.misbehaved, 0);
    goes_on(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_no_member_sends_close_the_connection_and_no_more() {
    let (world, papers) = world().await;
    let (control, push, pull) = (
        StreamClass::Control.to_byte(),
        StreamClass::Push.to_byte(),
        StreamClass::Pull.to_byte(),
    );
    let junk = [0xff; 40];
    let huge = u32::MAX.to_le_bytes().to_vec();
    let over = u32::try_from(TRANSACTION_BYTES_MAX + 1)
        .unwrap()
        .to_le_bytes()
        .to_vec();
    let cut_short = [&100_u32.to_le_bytes()[..], b"and no more"].concat();
    let gap = Envelope {
        dot: Dot {
            writer: raw_writer(),
            number: 0,
        },
        predecessor: [0; 8],
        follows: Vec::new(),
        body: Vec::new(),
    };
    let own = Envelope {
        dot: Dot {
            writer: raw_writer(),
            number: 1,
        },
        follows: vec![(
            raw_writer(),
            Tip {
                number: 1,
                hash: [1; 8],
            },
        )],
        ..gap.clone()
    };
    let cases: Vec<(&str, u8, Vec<u8>)> = vec![
        ("junk for a message", control, frame(&junk)),
        ("a message of 4 GiB", control, huge.clone()),
        ("half a message", control, cut_short.clone()),
        ("an empty message", control, frame(&[])),
        ("junk for a transaction", push, frame(&junk)),
        ("a transaction of 4 GiB", push, huge.clone()),
        ("a transaction too long by a byte", push, over),
        ("half a transaction", push, cut_short.clone()),
        ("an empty transaction", push, frame(&[])),
        ("a transaction without a number", push, frame(&gap.encode())),
        ("a transaction that follows itself", push, frame(&own.encode())),
        ("junk for a pull", pull, frame(&junk)),
        ("a pull of 4 GiB", pull, huge),
        ("half a pull", pull, cut_short),
        ("a pull that asks for nothing", pull, Vec::new()),
    ];
    for (what, class, bytes) in cases {
        let before = refused(&world.node(0).status());
        let raw = papers.connect(world.node(0)).await.unwrap();
        let said = raw.hello(Vector::new()).await;
        // Kept open where it is not the one that is spoilt: a connection may also end by its control stream.
        let mut kept = None;
        let mut stream = if class == pull {
            kept = Some(said);
            let (mut send, _) = raw.connection.open_bi().await.unwrap();
            send.write_all(&[class]).await.unwrap();
            send
        } else if class == control {
            // The hello's own stream: there is but one.
            said
        } else {
            kept = Some(said);
            raw.open(class).await
        };
        // The node may close before all is written.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.finish();
        raw.is_closed(what).await;
        drop(kept);
        world
            .picture(0, &format!("counted {what}"), |status| refused(status) > before)
            .await;
    }
    goes_on(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_a_later_version_is_declined_and_the_connection_kept() {
    let (world, papers) = world().await;
    let raw = papers.connect(world.node(0)).await.unwrap();
    let _control = raw.hello(Vector::new()).await;
    let stream = raw.open(77).await;
    let stopped = tokio::time::timeout(crate::LONG, stream.stopped()).await.unwrap();
    assert!(matches!(stopped, Ok(Some(_))), "{stopped:?}");
    let (mut send, mut receive) = raw.connection.open_bi().await.unwrap();
    send.write_all(&[78]).await.unwrap();
    let read = tokio::time::timeout(crate::LONG, receive.read_to_end(10))
        .await
        .unwrap();
    assert!(read.is_err(), "a two-way stream is reset");
    world
        .picture(0, "declined two", |status| status.traffic.streams_declined == 2)
        .await;
    assert!(raw.connection.close_reason().is_none());
    // And it is still heard: what it pushes is taken.
    let dot = Dot {
        writer: raw_writer(),
        number: 1,
    };
    let envelope = Envelope {
        dot,
        predecessor: [0; 8],
        follows: Vec::new(),
        body: b"sane".to_vec(),
    };
    let mut push = raw.open(StreamClass::Push.to_byte()).await;
    push.write_all(&frame(&envelope.encode())).await.unwrap();
    world.memory(0).has(dot).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_control_stream_is_no_way_around_the_first() {
    let (world, papers) = world().await;
    let raw = papers.connect(world.node(0)).await.unwrap();
    let _control = raw.hello(Vector::new()).await;
    let _second = raw.open(StreamClass::Control.to_byte()).await;
    raw.is_closed("a second control stream").await;
    goes_on(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn junk_in_answer_to_a_pull_closes_the_connection() {
    let (world, papers) = world().await;
    let answers: [(&str, Vec<u8>); 3] = [
        ("a transaction of 4 GiB", u32::MAX.to_le_bytes().to_vec()),
        (
            "half a transaction",
            [&100_u32.to_le_bytes()[..], b"and no more"].concat(),
        ),
        ("junk for a transaction", frame(&[0xff; 40])),
    ];
    for (what, answer) in answers {
        let before = refused(&world.node(0).status());
        let raw = papers.connect(world.node(0)).await.unwrap();
        let ahead = [(
            raw_writer(),
            Tip {
                number: 9,
                hash: [1; 8],
            },
        )]
        .into_iter()
        .collect();
        let _control = raw.hello(ahead).await;
        let asked = tokio::time::timeout(crate::LONG, raw.connection.accept_bi()).await;
        let (mut send, _receive) = asked.expect("it pulls what it lacks").unwrap();
        let _ = send.write_all(&answer).await;
        let _ = send.finish();
        raw.is_closed(what).await;
        world
            .picture(0, &format!("counted {what}"), |status| refused(status) > before)
            .await;
    }
    goes_on(&world).await;
}

/// `GOSSIP_SEED=… cargo test -p gossip --features quic,shaped --test quic random_bytes` repeats a run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_on_any_stream_do_no_harm() {
    let seed = std::env::var("GOSSIP_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("GOSSIP_SEED={seed} cargo test -p gossip --features quic,shaped --test quic random_bytes");
    let mut chance = StdRng::seed_from_u64(seed);
    let (world, papers) = world().await;
    for _ in 0..60 {
        let raw = papers.connect(world.node(0)).await.unwrap();
        let control = raw.hello(Vector::new()).await;
        let mut bytes = vec![0; chance.random_range(0..3000)];
        chance.fill_bytes(&mut bytes);
        if chance.random() {
            // A plausible length gets the junk past the framing.
            let length = bytes.len().saturating_sub(4) as u32;
            bytes
                .iter_mut()
                .zip(length.to_le_bytes())
                .for_each(|(byte, length)| *byte = length);
        }
        let mut stream = match chance.random_range(0..4) {
            0 => control,
            1 => raw.open(StreamClass::Push.to_byte()).await,
            2 => raw.open(chance.random()).await,
            _ => {
                let (mut send, _) = raw.connection.open_bi().await.unwrap();
                send.write_all(&[StreamClass::Pull.to_byte()]).await.unwrap();
                send
            }
        };
        let _ = stream.write_all(&bytes).await;
        let _ = stream.finish();
        let _ = stream.stopped().await;
    }
    goes_on(&world).await;
    assert_eq!(world.memory(0).bodies(), world.memory(1).bodies());
}
