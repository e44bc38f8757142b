//! One request on one connection.

use std::future::Future;

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1::{Builder, Connection},
    header::{ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, HOST, USER_AGENT},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    spawn,
    task::AbortHandle,
};

use super::{BODY_BYTES_MAX, OutboundAnswer, OutboundError};

/// Asks a forward proxy for a way to a host.
pub(super) async fn connect<S>(stream: S, host: &str, port: u16) -> Result<Upgraded, OutboundError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let target = format!("{host}:{port}");
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(&target)
        .header(HOST, &target)
        .header(USER_AGENT, PRODUCT)
        .body(Empty::new())
        .map_err(|_| OutboundError::NotAName)?;
    let (response, _driver) = send(stream, request, Connection::with_upgrades)
        .await
        .map_err(|_| OutboundError::NoProxy)?;
    if !response.status().is_success() {
        return Err(OutboundError::ProxyRefused(response.status().as_u16()));
    }
    hyper::upgrade::on(response)
        .await
        .map_err(|_| OutboundError::NoProxy)
}

/// Asks for a path, and reads the whole answer.
pub(super) async fn get<S>(stream: S, host: &str, path: &str) -> Result<OutboundAnswer, OutboundError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = Request::builder()
        .uri(path)
        .header(HOST, host)
        .header(USER_AGENT, PRODUCT)
        .header(ACCEPT, "application/json")
        .header(ACCEPT_ENCODING, "identity")
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(|_| OutboundError::NotAName)?;
    let (response, _driver) = send(stream, request, |connection| connection).await?;
    let (head, body) = response.into_parts();
    let encodings = head.headers.get_all(CONTENT_ENCODING);
    if encodings
        .iter()
        .any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(OutboundError::Compressed);
    }
    // Counted while it is read, whatever its head says of its length.
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| match error.is::<LengthLimitError>() {
        true => OutboundError::TooLarge,
        false => OutboundError::Unreachable,
    })?;
    Ok(OutboundAnswer {
        status: head.status,
        headers: head.headers,
        body: body.to_bytes(),
    })
}

/// Sends a request; the connection lives until the driver is dropped.
async fn send<S, D>(
    stream: S,
    request: Request<Empty<Bytes>>,
    driven: impl FnOnce(Connection<TokioIo<S>, Empty<Bytes>>) -> D,
) -> Result<(Response<Incoming>, Driver), OutboundError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D: Future<Output = hyper::Result<()>> + Send + 'static,
{
    let (mut sender, connection) = Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| OutboundError::Unreachable)?;
    // Its error is also the sender's.
    let driven = driven(connection);
    let driver = Driver(spawn(async { drop(driven.await) }).abort_handle());
    let response = sender.send_request(request).await;
    let response = response.map_err(|error| match error.is_parse() {
        true => OutboundError::Http,
        false => OutboundError::Unreachable,
    })?;
    Ok((response, driver))
}

/// The task that moves a connection's bytes. It ends with whoever needs them.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What we call ourselves.
const PRODUCT: &str = "Persona";
/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Lines of it.
const HEADERS_MAX: usize = 64;
