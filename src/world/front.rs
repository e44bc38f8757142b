//! The one origin under which browsers reach all the sites: what a load balancer and a name server are in earnest.
//!
//! It asks every site for its heartbeat, sends people to the one that was chosen on the world's page if that is well, and
//! else to the first that is. A connection that is refused sends the request to the next site at once, whatever it is:
//! nothing of it was heard. One that breaks later does so only where nothing can have been done, a `GET`; of anything else
//! nobody knows whether it was, so the dialog is told, and asks again with the same `Idempotency-Key`.
//!
//! A browser may also be held to one site by the cookie [`PIN`], which tests set: two people at two data centers. No page
//! of another host can set it, and nothing that is asked of this origin changes where it leads.
//!
//! The world's page may have the site killed that a certain request goes to, before or after it has done what it was asked
//! (`front/ambush.rs`).

mod ambush;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{CONNECTION, COOKIE, HOST, RETRY_AFTER, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{interval, timeout},
};

use super::locked;
use ambush::When;
pub(crate) use ambush::{Ambush, Killer};

/// Where people's requests go.
pub(crate) struct Front {
    /// Without `http://`.
    authority: String,
    sites: Vec<Door>,
    killer: Killer,
    minds: Mutex<Minds>,
    places: Semaphore,
}

/// A site's name, and where it listens for people now: another member may take its place.
pub(crate) type Door = Arc<dyn Fn() -> (String, SocketAddr) + Send + Sync>;

/// What is decided and known.
#[derive(Default)]
struct Minds {
    chosen: Option<usize>,
    /// Those whose last heartbeat was good.
    well: BTreeSet<usize>,
    ambush: Option<Ambush>,
    /// Whom the last one killed.
    ambushed: Option<usize>,
}

/// There was no answer, or half of one. It may have heard all of the request.
struct Broken;

impl Front {
    pub(crate) fn new(authority: &str, sites: Vec<Door>, killer: Killer) -> Front {
        Front {
            authority: authority.to_owned(),
            sites,
            killer,
            minds: Mutex::default(),
            places: Semaphore::new(REQUESTS_MAX),
        }
    }

    /// Serves whoever asks for this origin.
    pub(crate) fn router(self: &Arc<Front>) -> Router {
        Router::new().fallback(forward).with_state(Arc::clone(self))
    }

    /// Sends people to this site while it is well; `None`: to whichever is.
    pub(crate) fn choose(&self, site: Option<usize>) {
        locked(&self.minds).chosen = site;
    }

    /// Which site was chosen.
    pub(crate) fn chosen(&self) -> Option<usize> {
        locked(&self.minds).chosen
    }

    /// Which site people are sent to now.
    pub(crate) fn serving(&self) -> Option<usize> {
        let first = self.candidates(None).first().copied();
        first.filter(|site| locked(&self.minds).well.contains(site))
    }

    /// Those whose last heartbeat was good.
    pub(crate) fn well(&self) -> Vec<usize> {
        locked(&self.minds).well.iter().copied().collect()
    }

    /// Lies in wait for a request; whom it kills is told by [`ambushed`](Self::ambushed).
    pub(crate) fn lie_in_wait(&self, ambush: Ambush) {
        let mut minds = locked(&self.minds);
        minds.ambush = Some(ambush);
        minds.ambushed = None;
    }

    /// Whom the ambush has killed, once it has.
    pub(crate) fn ambushed(&self) -> Option<usize> {
        locked(&self.minds).ambushed
    }

    /// Asks for heartbeats as long as there is somebody to tell.
    pub(crate) async fn watch(self: Arc<Front>) {
        let mut ticks = interval(HEARTBEAT_INTERVAL);
        loop {
            ticks.tick().await;
            let asked = self.sites.iter().enumerate().map(|(index, site)| {
                let (_, address) = site();
                async move {
                    (
                        index,
                        timeout(HEARTBEAT_TIMEOUT, is_well(address))
                            .await
                            .unwrap_or(false),
                    )
                }
            });
            let well = futures_util::future::join_all(asked).await;
            let well = well.into_iter().filter(|(_, well)| *well).map(|(index, _)| index);
            locked(&self.minds).well = well.collect();
        }
    }

    /// All sites, the one to ask first first. Those that were not well come last: that may be over.
    fn candidates(&self, pinned: Option<usize>) -> Vec<usize> {
        let minds = locked(&self.minds);
        let wanted = pinned.or(minds.chosen);
        let mut sites: Vec<usize> = (0..self.sites.len()).collect();
        sites.sort_by_key(|site| (!minds.well.contains(site), Some(*site) != wanted, *site));
        sites
    }

    fn pinned(&self, headers: &HeaderMap) -> Option<usize> {
        let cookies = headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|header| header.to_str().ok());
        let mut pairs = cookies
            .flat_map(cookie::Cookie::split_parse)
            .filter_map(Result::ok);
        let pin = pairs.find(|cookie| cookie.name() == PIN)?;
        self.sites.iter().position(|site| site().0 == pin.value())
    }

    /// The moment at which the site dies that this request goes to, if one lies in wait for it. It does so for one only.
    fn ambush_for(&self, path: &str) -> Option<When> {
        let ambush = &mut locked(&self.minds).ambush;
        let found = ambush.take_if(|ambush| ambush.is_for(path));
        found.map(|ambush| ambush.when)
    }

    async fn kill(&self, site: usize) {
        (self.killer)(site).await;
        let mut minds = locked(&self.minds);
        minds.well.remove(&site);
        minds.ambushed = Some(site);
    }

    async fn ask(&self, parts: &Parts, mut body: Body) -> Response {
        let may_repeat = matches!(parts.method, Method::GET | Method::HEAD);
        let mut ambush = self.ambush_for(parts.uri.path());
        for index in self.candidates(self.pinned(&parts.headers)) {
            let Some(site) = self.sites.get(index) else {
                continue;
            };
            let (name, address) = site();
            if ambush.take_if(|when| *when == When::Before).is_some() {
                self.kill(index).await;
            }
            let Ok(Ok(stream)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await else {
                locked(&self.minds).well.remove(&index);
                continue;
            };
            let sent = std::mem::take(&mut body);
            let mut answer = timeout(ANSWER_TIMEOUT, exchange(stream, parts, sent)).await;
            if ambush.take().is_some() {
                self.kill(index).await;
                answer = Ok(Err(Broken));
            }
            match answer {
                Ok(Ok(mut response)) => {
                    if let Ok(name) = HeaderValue::from_str(&name) {
                        response.headers_mut().insert(SITE, name);
                    }
                    return response;
                }
                Ok(Err(Broken)) => {
                    locked(&self.minds).well.remove(&index);
                    // What may be repeated has no body that could have gone with it.
                    if !may_repeat {
                        return unavailable(
                            "site-lost",
                            "the data center went away in the middle of this; try again",
                        );
                    }
                }
                Err(_) => return unavailable("site-slow", "the data center takes too long; try again"),
            }
        }
        unavailable("no-site", "no data center answers; try again in a moment")
    }
}

async fn forward(State(front): State<Arc<Front>>, request: Request) -> Response {
    let hosts: Vec<_> = request.headers().get_all(HOST).iter().collect();
    // A name that somebody else's name server leads here gets nowhere.
    if hosts.len() != 1 || hosts[0].as_bytes() != front.authority.as_bytes() {
        let words = format!("this is http://{}/ and nothing else\n", front.authority);
        return (StatusCode::MISDIRECTED_REQUEST, words).into_response();
    }
    let Ok(_place) = front.places.try_acquire() else {
        return unavailable("busy", "too many requests at once; try again");
    };
    let (mut parts, body) = request.into_parts();
    drop_hops(&mut parts.headers);
    // Whom a request is from is for us to say, and all are from this machine.
    for name in FORWARDED {
        parts.headers.remove(name);
    }
    front.ask(&parts, body).await
}

/// One request on one connection, and the whole answer: so it is known whether all of it came.
async fn exchange(stream: TcpStream, parts: &Parts, body: Body) -> Result<Response, Broken> {
    let _ = stream.set_nodelay(true);
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|_| Broken)?;
    let driver = Driver(tokio::spawn(async { drop(connection.await) }));
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = parts.uri.clone();
    *request.headers_mut() = parts.headers.clone();
    let response = sender.send_request(request).await.map_err(|_| Broken)?;
    let (mut head, body) = response.into_parts();
    let body: Bytes = Limited::new(body, ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|_| Broken)?
        .to_bytes();
    drop(driver);
    drop_hops(&mut head.headers);
    Ok(Response::from_parts(head, Body::from(body)))
}

/// Moves a connection's bytes, and ends with whoever needs them.
struct Driver(tokio::task::JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn is_well(address: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect(address).await else {
        return false;
    };
    let Ok(request) = Request::get("/__heartbeat__").header(HOST, "heartbeat").body(()) else {
        return false;
    };
    let (parts, ()) = request.into_parts();
    let answer = exchange(stream, &parts, Body::empty()).await;
    answer.is_ok_and(|response| response.status() == StatusCode::OK)
}

/// What is said between two ends of one connection (RFC 9110 §7.6.1), and not beyond.
fn drop_hops(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let known = [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
    for name in named.iter().chain(&known) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

fn unavailable(code: &'static str, reason: &'static str) -> Response {
    let body = json!({ "success": false, "reason": reason, "code": code });
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], Json(body)).into_response()
}

/// The cookie that holds a browser to the site of that name.
pub(crate) const PIN: &str = "persona_world_site";
/// Which site answered.
const SITE: HeaderName = HeaderName::from_static("x-persona-site");
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-real-ip"];

/// Requests at once.
const REQUESTS_MAX: usize = 256;
/// The sites are on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longer than the longest that a site takes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// A page has a hundredth.
const ANSWER_BYTES_MAX: usize = 8 << 20;
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tower::ServiceExt;

    use super::*;

    const OWN: &str = "persona.localhost:8081";

    /// A site that says its name and what it was sent.
    async fn good(name: &'static str) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let echo = move |body: String| async move { format!("{name} {body}") };
        let router = Router::new().fallback(echo);
        tokio::spawn(async { axum::serve(listener, router).await });
        Arc::new(move || (name.to_owned(), address))
    }

    /// A site that is gone: nobody listens there any more.
    async fn gone(name: &'static str) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        Arc::new(move || (name.to_owned(), address))
    }

    /// A site that is killed as soon as it has heard a request, half of its answer being written.
    async fn dying(name: &'static str) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut heard = [0; 1024];
                let _ = stream.read(&mut heard).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
                    .await;
            }
        });
        Arc::new(move || (name.to_owned(), address))
    }

    async fn ask(front: &Arc<Front>, method: Method, host: &str, cookie: &str) -> (StatusCode, String) {
        let request = Request::builder()
            .method(method)
            .uri("/sign_in?a=b")
            .header(HOST, host)
            .header(COOKIE, cookie)
            .body(Body::from("said"))
            .expect("a request");
        let answer = front.router().oneshot(request).await.expect("an answer");
        let status = answer.status();
        let body = to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    /// Nobody is killed in these.
    fn front(sites: Vec<Door>) -> Arc<Front> {
        Arc::new(Front::new(OWN, sites, Box::new(|_| Box::pin(async {}))))
    }

    fn all_well(front: &Front) {
        locked(&front.minds).well = (0..front.sites.len()).collect();
    }

    #[tokio::test]
    async fn people_go_where_was_chosen_and_a_browser_where_it_is_held() {
        let front = front(vec![good("oslo").await, good("lima").await]);
        all_well(&front);
        let site = async |cookie: &'static str| ask(&front, Method::POST, OWN, cookie).await.1;
        assert_eq!(site("").await, "oslo said");
        assert_eq!(site("a=b; persona_world_site=lima").await, "lima said");
        assert_eq!(site("persona_world_site=rome").await, "oslo said");
        front.choose(Some(1));
        assert_eq!((site("").await.as_str(), front.serving()), ("lima said", Some(1)));
        // Nothing that a request says moves anybody else.
        assert_eq!(site("persona_world_site=oslo").await, "oslo said");
        assert_eq!(site("").await, "lima said");
    }

    #[tokio::test]
    async fn it_answers_to_its_own_name_only() {
        let front = front(vec![good("oslo").await]);
        for host in ["evil.example:8081", "127.0.0.1:8081", "persona.localhost", ""] {
            let (status, _) = ask(&front, Method::GET, host, "").await;
            assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{host}");
        }
        assert_eq!(ask(&front, Method::GET, OWN, "").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_refused_connection_sends_any_request_to_the_next_site_whole() {
        let front = front(vec![gone("oslo").await, good("lima").await]);
        all_well(&front);
        front.choose(Some(0));
        assert_eq!(
            ask(&front, Method::POST, OWN, "").await,
            (StatusCode::OK, "lima said".to_owned())
        );
        assert_eq!(front.serving(), Some(1), "it is known from then on");
    }

    #[tokio::test]
    async fn what_breaks_in_the_middle_is_repeated_only_if_it_changes_nothing() {
        let front = front(vec![dying("oslo").await, good("lima").await]);
        all_well(&front);
        let (status, body) = ask(&front, Method::POST, OWN, "").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("site-lost"), "{body}");
        all_well(&front);
        let (status, body) = ask(&front, Method::GET, OWN, "").await;
        assert_eq!(
            (status, body.starts_with("lima")),
            (StatusCode::OK, true),
            "{body}"
        );
    }

    #[tokio::test]
    async fn whoever_is_lain_in_wait_for_dies_before_it_hears_or_after_it_has_answered() {
        for (when, expected) in [
            (When::Before, (StatusCode::OK, "lima said")),
            (When::After, (StatusCode::SERVICE_UNAVAILABLE, "site-lost")),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
            let answers = Router::new().fallback(move |body: String| async move {
                heard.send(body).expect("a listener");
                "oslo"
            });
            let oslo = tokio::spawn(async { axum::serve(listener, answers).await }).abort_handle();
            let oslo_door: Door = Arc::new(move || ("oslo".to_owned(), address));
            let killer = move |site| {
                assert_eq!(site, 0);
                oslo.abort();
                // The port is free once the task is dropped.
                let gone = async move {
                    while TcpStream::connect(address).await.is_ok() {
                        tokio::task::yield_now().await;
                    }
                };
                Box::pin(gone) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>
            };
            let front = Front::new(OWN, vec![oslo_door, good("lima").await], Box::new(killer));
            let front = Arc::new(front);
            all_well(&front);
            front.lie_in_wait(
                serde_json::from_value(json!({ "path": "/other", "when": "before" })).expect("one"),
            );
            assert_eq!(ask(&front, Method::POST, OWN, "").await.1, "oslo");
            assert_eq!(hears.recv().await.as_deref(), Some("said"));
            assert_eq!(front.ambushed(), None, "it was for another path");
            front.lie_in_wait(
                serde_json::from_value(json!({ "path": "/sign_in", "when": when })).expect("one"),
            );
            let (status, body) = ask(&front, Method::POST, OWN, "").await;
            assert_eq!((status, body.contains(expected.1)), (expected.0, true), "{body}");
            assert_eq!(front.ambushed(), Some(0));
            assert_eq!(hears.try_recv().is_ok(), when == When::After);
            // It lies in wait once.
            assert_eq!(ask(&front, Method::POST, OWN, "").await.1, "lima said");
        }
    }

    #[tokio::test]
    async fn with_no_site_at_all_one_is_told_to_come_back() {
        let front = front(vec![gone("oslo").await]);
        let (status, body) = ask(&front, Method::GET, OWN, "").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("no-site"), "{body}");
        assert_eq!(front.serving(), None);
    }

    #[tokio::test]
    async fn heartbeats_say_who_is_well() {
        let front = front(vec![gone("oslo").await, good("lima").await]);
        let watching = tokio::spawn(Arc::clone(&front).watch());
        while front.serving() != Some(1) {
            tokio::task::yield_now().await;
        }
        watching.abort();
    }
}
