//! What a relying party's server asks Persona: whom does this assertion prove, to me?
//!
//! Never the browser: whatever a browser says of a verification, it may have made up.

use std::{io, net::Ipv4Addr, time::Duration};

use axum::http::{
    Request, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, HOST},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use url::Url;

use super::DemoError;
use crate::{outbound::tls::Tls, public_url::PublicUrl};

/// Asks one Persona.
pub(super) struct Verification {
    host: String,
    port: u16,
    /// As it stands in `Host`.
    authority: String,
    tls: Option<Tls>,
}

/// What Persona says.
#[derive(Debug, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub(super) enum Verdict {
    /// The browser speaks for this address.
    Okay {
        /// Whose it is.
        email: String,
        /// To whom it was shown.
        audience: String,
        /// Until when, in milliseconds since 1970.
        expires: u64,
        /// Who certified it: the address's own domain, or Persona.
        issuer: String,
        /// What we gave the browser.
        nonce: Option<String>,
    },
    /// It does not.
    Failure {
        /// Why.
        reason: String,
    },
}

/// There is no verdict. Asking again may help.
#[derive(Debug, thiserror::Error)]
#[error("Persona could not be asked: {0}")]
pub(super) struct NoVerdict(String);

impl Verification {
    /// Makes no connection yet.
    pub(super) fn new(persona: &PublicUrl) -> Result<Verification, DemoError> {
        let origin = persona.origin();
        let is_https = origin.starts_with("https://");
        let port = Url::parse(origin)
            .ok()
            .and_then(|url| url.port_or_known_default());
        Ok(Verification {
            host: persona.host().trim_matches(['[', ']']).to_owned(),
            port: port.unwrap_or(if is_https { 443 } else { 80 }),
            authority: origin
                .split_once("://")
                .map_or(origin, |(_, authority)| authority)
                .to_owned(),
            tls: is_https.then(|| Tls::new(None)).transpose()?,
        })
    }

    /// Asks, and asks once more if there is no verdict: a data center may have gone in the middle of it. It changes nothing
    /// there, so it may be asked as often as one likes.
    pub(super) async fn ask(&self, assertion: &str, audience: &str) -> Result<Verdict, NoVerdict> {
        match self.ask_once(assertion, audience).await {
            Err(_) => self.ask_once(assertion, audience).await,
            verdict => verdict,
        }
    }

    async fn ask_once(&self, assertion: &str, audience: &str) -> Result<Verdict, NoVerdict> {
        let body = json!({ "assertion": assertion, "audience": audience }).to_string();
        let asked = timeout(TIME_LIMIT, self.post(body)).await;
        let (status, body) = asked
            .map_err(|_| NoVerdict("it took too long".to_owned()))?
            .map_err(|error| NoVerdict(error.to_string()))?;
        if status.is_server_error() {
            return Err(NoVerdict(format!("it answered {status}")));
        }
        serde_json::from_slice(&body).map_err(|_| NoVerdict(format!("it answered {status}, and no verdict")))
    }

    async fn post(&self, body: String) -> io::Result<(StatusCode, Bytes)> {
        let request = Request::post("/verify")
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))
            .map_err(io::Error::other)?;
        // Names below `localhost` are this machine's, whatever its resolver knows of them (RFC 6761 §6.3).
        let stream = if self.host == "localhost" || self.host.ends_with(".localhost") {
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?
        } else {
            TcpStream::connect((self.host.as_str(), self.port)).await?
        };
        match &self.tls {
            None => exchange(stream, request).await,
            Some(tls) => {
                let stream = tls.connect(&self.host, stream).await.map_err(io::Error::other)?;
                exchange(stream, request).await
            }
        }
    }
}

/// One request on one connection.
async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> io::Result<(StatusCode, Bytes)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(io::Error::other)?;
    let asked = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await;
        Ok((status, body.map_err(io::Error::other)?.to_bytes()))
    };
    // The connection moves the bytes, and ends after the answer.
    let mut connection = std::pin::pin!(connection);
    let mut asked = std::pin::pin!(asked);
    tokio::select! {
        answer = &mut asked => answer,
        ended = &mut connection => match ended {
            // What has come may still be read.
            Ok(()) => asked.await,
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// For one question.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// A verdict has a few hundred.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(persona: &str, host: &str, port: u16, authority: &str) {
        let asks = Verification::new(&persona.parse().expect("a URL")).expect("a way to ask");
        assert_eq!(
            (asks.host.as_str(), asks.port, asks.authority.as_str()),
            (host, port, authority)
        );
    }

    #[test]
    fn it_is_asked_where_people_reach_it() {
        check(
            "http://persona.localhost:8081",
            "persona.localhost",
            8081,
            "persona.localhost:8081",
        );
        check(
            "https://persona.example",
            "persona.example",
            443,
            "persona.example",
        );
        check("http://[::1]:8081", "::1", 8081, "[::1]:8081");
    }
}
