//! The SMTP server that takes our mail (RFC 5321, submission by RFC 6409), and what its answers mean.
//!
//! lettre's own transport has one verdict for a whole dialogue, and a server that is configured wrongly (a password
//! refused, a sender unknown, an address on a list) would refuse mails for good. So the dialogue is led here, on
//! lettre's connection: only an answer that is about this recipient or this content decides about a mail; all else is
//! the server's own trouble, and the mail waits.
//!
//! Promise: nothing is said before the server has proven its name, unless it is on this machine or in a laboratory;
//! what a server answers about a recipient reaches no log, for it may repeat the address.

use std::{
    fmt,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use lettre::{
    Address,
    transport::smtp::{
        Error as SmtpError,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters},
        commands::{Data, Mail, Rcpt, Rset},
        extension::ClientId,
    },
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::outbox::Entry;

/// A connection without work is given back after this long; many servers end it after a minute or more.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// A server that we leave gets this long to say goodbye.
const QUIT_MAX: Duration = Duration::from_secs(1);

/// How a connection is made safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// TLS from the first byte (RFC 8314 prefers it).
    #[default]
    Implicit,
    /// TLS after `STARTTLS`, without which nothing is sent.
    Starttls,
    /// None: only to this machine, or in a laboratory.
    None,
}

impl TlsMode {
    /// The port where servers offer it.
    pub fn port(self) -> u16 {
        match self {
            TlsMode::Implicit => 465,
            TlsMode::Starttls => 587,
            TlsMode::None => 25,
        }
    }
}

/// Where mail is handed in.
#[derive(Clone)]
pub struct SmtpSettings {
    /// Name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is made safe.
    pub tls: TlsMode,
    /// Trusted alone, in place of the system's: certificates in PEM.
    pub roots: Option<Vec<u8>>,
    /// User and password.
    pub credentials: Option<(String, Zeroizing<String>)>,
    /// What we call ourselves (`EHLO`).
    pub hello_name: String,
    /// For one mail, from the first byte to the last.
    pub timeout: Duration,
}

/// The password stays out of every log.
impl fmt::Debug for SmtpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpSettings")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// The settings make no connection: the certificates are none, or the name of the server.
#[derive(Debug, thiserror::Error)]
#[error("the TLS settings for the SMTP server are not usable")]
pub struct TlsError(#[from] SmtpError);

/// What became of one try.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Sent {
    /// The server has taken it over.
    Accepted,
    /// It will take it later, says the code.
    Later(String),
    /// It will never take it, says the code.
    Refused(String),
    /// The server could not be talked to, or would talk to nobody.
    Silence(String),
}

/// The server, and connections to it that have no work.
pub(super) struct Smtp {
    settings: SmtpSettings,
    tls: Option<TlsParameters>,
    hello: ClientId,
    credentials: Option<Credentials>,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: AsyncSmtpConnection,
    since: Instant,
}

impl Smtp {
    pub(super) fn new(settings: SmtpSettings) -> Result<Smtp, TlsError> {
        let tls = match settings.tls {
            TlsMode::None => None,
            TlsMode::Implicit | TlsMode::Starttls => {
                let mut parameters = TlsParameters::builder(settings.host.clone());
                if let Some(pem) = &settings.roots {
                    parameters = parameters
                        .certificate_store(CertificateStore::None)
                        .add_root_certificate(Certificate::from_pem(pem)?);
                }
                Some(parameters.build()?)
            }
        };
        let hello = match settings.hello_name.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => ClientId::Ipv4(address),
            Ok(IpAddr::V6(address)) => ClientId::Ipv6(address),
            Err(_) => ClientId::Domain(settings.hello_name.clone()),
        };
        let credentials = settings
            .credentials
            .as_ref()
            .map(|(user, password)| Credentials::new(user.clone(), password.to_string()));
        Ok(Smtp {
            settings,
            tls,
            hello,
            credentials,
            idle: Mutex::default(),
        })
    }

    /// Offers a mail once.
    pub(super) async fn send(&self, entry: &Entry) -> Sent {
        let (Ok(from), Ok(to)) = (entry.from.parse(), entry.to.parse()) else {
            return Sent::Refused("the envelope has no address".to_owned());
        };
        match timeout(self.settings.timeout, self.offer(from, to, &entry.message)).await {
            Ok(sent) => sent,
            // The connection went with the future. Whether the mail was accepted nobody knows.
            Err(_) => Sent::Silence(format!("no answer within {:?}", self.settings.timeout)),
        }
    }

    /// Ends connections that had no work for long; with `all`, every one that has none.
    pub(super) async fn rest(&self, all: bool) {
        let now = Instant::now();
        let over: Vec<Idle> = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.extract_if(.., |idle| all || now - idle.since > IDLE_MAX)
                .collect()
        };
        for mut idle in over {
            // Courtesy: whatever comes of it, the connection is dropped.
            let _ = timeout(QUIT_MAX, idle.connection.quit()).await;
        }
    }

    async fn offer(&self, from: Address, to: Address, message: &[u8]) -> Sent {
        let mut connection = match self.begin(from).await {
            Ok(connection) => connection,
            Err(error) => return Sent::Silence(error.to_string()),
        };
        let said = converse(&mut connection, to, message).await;
        let usable = match &said {
            Ok(()) => true,
            Err(error) => error.status().is_some() && connection.command(Rset).await.is_ok(),
        };
        if usable {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Idle {
                    connection,
                    since: Instant::now(),
                });
        }
        match said {
            Ok(()) => Sent::Accepted,
            Err(error) => verdict(&error),
        }
    }

    /// A connection on which the server has heard the sender. Nothing of the mail was said yet.
    async fn begin(&self, from: Address) -> Result<AsyncSmtpConnection, SmtpError> {
        while let Some(mut connection) = self.take_idle() {
            // The server may have ended it meanwhile, which is nobody's fault.
            if connection
                .command(Mail::new(Some(from.clone()), vec![]))
                .await
                .is_ok()
            {
                return Ok(connection);
            }
        }
        let mut connection = self.connect().await?;
        connection.command(Mail::new(Some(from), vec![])).await?;
        Ok(connection)
    }

    fn take_idle(&self) -> Option<AsyncSmtpConnection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.pop().map(|idle| idle.connection)
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, SmtpError> {
        let SmtpSettings {
            host,
            port,
            tls,
            timeout,
            ..
        } = &self.settings;
        let implicit = self.tls.clone().filter(|_| *tls == TlsMode::Implicit);
        let server = (host.as_str(), *port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, Some(*timeout), &self.hello, implicit, None).await?;
        if let (TlsMode::Starttls, Some(parameters)) = (tls, &self.tls) {
            // Fails if the server does not offer it.
            connection.starttls(parameters.clone(), &self.hello).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(connection)
    }
}

async fn converse(
    connection: &mut AsyncSmtpConnection,
    to: Address,
    message: &[u8],
) -> Result<(), SmtpError> {
    connection.command(Rcpt::new(to, vec![])).await?;
    connection.command(Data).await?;
    connection.message(message).await?;
    Ok(())
}

/// What an error after `MAIL` says about the mail. Its text is left out: it may repeat the address.
fn verdict(error: &SmtpError) -> Sent {
    let Some(code) = error.status() else {
        return Sent::Silence("the connection broke".to_owned());
    };
    let code = code.to_string();
    let said = match enhanced_code(error) {
        Some(enhanced) => format!("{code} {enhanced}"),
        None => code.clone(),
    };
    match code.as_str() {
        // The server goes away (RFC 5321 §3.8), or wants to know us or TLS first (RFC 4954 §6, RFC 3207 §4).
        "421" | "454" | "530" | "534" | "535" | "538" => Sent::Silence(said),
        _ if error.is_permanent() => Sent::Refused(said),
        _ => Sent::Later(said),
    }
}

/// `5.1.1`, where the server says that (RFC 3463).
fn enhanced_code(error: &SmtpError) -> Option<String> {
    let text = std::error::Error::source(error)?.to_string();
    let first = text.split_whitespace().next()?;
    let mut parts = first.split('.');
    let class = parts.next()?;
    let is_number =
        |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    let all = matches!(class, "4" | "5") && parts.clone().count() == 2 && parts.all(is_number);
    all.then(|| first.to_owned())
}
