//! The page at `/`, the world as JSON, and what its buttons do. Loopback only.
//!
//! A page of another origin must not be able to drive this: every request must name this host (so a name that
//! was rebound to loopback gets nowhere), a write must come from this origin, and carries a header that a form
//! cannot send and another origin's script may not. Nothing is fetched from elsewhere, no script is inline.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::front::Ambush;
use super::network::PairCut;
use super::state::WorldState;
use super::{World, WorldError, hands};
use crate::demo::identity_provider::Says;

/// What the router below has, but for the page itself.
pub(crate) const ROUTES: [&str; 10] = [
    STYLE, SCRIPT, LAND, STATE, ON_WORLD, ON_SITE, ON_LINK, ON_FRONT, ON_AMBUSH, ON_IDP,
];
const STYLE: &str = "/world.css";
const SCRIPT: &str = "/world.js";
const LAND: &str = "/land.svg";
const STATE: &str = "/api/world";
const ON_WORLD: &str = "/api/world/{action}";
const ON_SITE: &str = "/api/sites/{site}/{action}";
const ON_LINK: &str = "/api/links";
const ON_FRONT: &str = "/api/front";
const ON_AMBUSH: &str = "/api/front/ambush";
const ON_IDP: &str = "/api/idp";
/// The page at `/`.
pub(crate) const PAGE: &str = include_str!("page/index.html");

/// Serves the page; gives where. A scenario goes on without one when the port is taken, a plain world takes
/// one of the next ports.
pub(crate) async fn serve(world: &Arc<World>, listen: SocketAddr) -> Result<Option<SocketAddr>, WorldError> {
    let mut wanted = listen;
    let listener = loop {
        match TcpListener::bind(wanted).await {
            Ok(listener) => break listener,
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && wanted.port() > 0 => {
                if world.running.is_some() {
                    world.timeline.say(&format!("no page: {listen} is taken"));
                    return Ok(None);
                }
                if wanted.port() >= listen.port().saturating_add(PORTS_TRIED) || wanted.port() == u16::MAX {
                    return Err(WorldError::Page {
                        listen,
                        source: error,
                    });
                }
                wanted.set_port(wanted.port() + 1);
            }
            Err(source) => return Err(WorldError::Page { listen, source }),
        }
    };
    let at = listener
        .local_addr()
        .map_err(|source| WorldError::Page { listen, source })?;
    let guard = Arc::new(Guard::new(at));
    let router = Router::new()
        .route("/", get(async || asset("text/html; charset=utf-8", PAGE)))
        .route(
            STYLE,
            get(async || asset("text/css; charset=utf-8", include_str!("page/world.css"))),
        )
        .route(
            SCRIPT,
            get(async || asset("text/javascript; charset=utf-8", include_str!("page/world.js"))),
        )
        .route(
            LAND,
            get(async || asset("image/svg+xml", include_str!("page/land.svg"))),
        )
        .route(STATE, get(state))
        .route(ON_WORLD, post(act_on_world))
        .route(ON_SITE, post(act_on_site))
        .route(ON_LINK, post(act_on_link))
        .route(ON_FRONT, post(act_on_front))
        .route(ON_AMBUSH, post(lie_in_wait))
        .route(ON_IDP, post(have_it_said))
        .layer(middleware::from_fn_with_state(guard, guarded))
        .with_state(Arc::clone(world));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(%error, "the page is no longer served");
        }
    });
    Ok(Some(at))
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (headers, text).into_response()
}

async fn state(State(world): State<Arc<World>>) -> Response {
    (
        [(header::CACHE_CONTROL, "no-store")],
        Json(WorldState::of(&world)),
    )
        .into_response()
}

/// Who may ask.
struct Guard {
    hosts: Vec<String>,
}

impl Guard {
    fn new(at: SocketAddr) -> Guard {
        Guard {
            hosts: vec![at.to_string(), format!("localhost:{}", at.port())],
        }
    }

    /// The reason to refuse, if there is one.
    fn refusal(&self, method: &Method, headers: &HeaderMap) -> Option<&'static str> {
        let text = |name: &HeaderName| headers.get(name).map(HeaderValue::as_bytes);
        let is_host = |host: &[u8]| self.hosts.iter().any(|known| known.as_bytes() == host);
        if !text(&header::HOST).is_some_and(is_host) {
            return Some("this page answers to its own address only");
        }
        let origin = text(&header::ORIGIN);
        if origin.is_some_and(|origin| !origin.strip_prefix(b"http://").is_some_and(is_host)) {
            return Some("another origin has no business here");
        }
        let harmless = matches!(*method, Method::GET | Method::HEAD);
        if !harmless && text(&HeaderName::from_static(HEADER)) != Some(b"1") {
            return Some("the header X-Persona-World: 1 is missing");
        }
        None
    }
}

async fn guarded(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.refusal(request.method(), request.headers()) {
        Some(words) => refuse(StatusCode::FORBIDDEN, "forbidden", words),
        None => next.run(request).await,
    }
}

#[derive(Serialize)]
struct Refusal<'a> {
    error: &'a str,
    message: &'a str,
}

fn refuse(status: StatusCode, error: &str, message: &str) -> Response {
    (status, Json(Refusal { error, message })).into_response()
}

/// What a button does takes its time: starting a site waits until it answers.
fn done(outcome: Result<(), WorldError>) -> Response {
    match outcome {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => refuse(StatusCode::CONFLICT, "not-done", &error.to_string()),
    }
}

fn resting(world: &World) -> Option<Response> {
    let words = "a scenario is running: its verdict would be about the buttons";
    world
        .running
        .map(|_| refuse(StatusCode::CONFLICT, "scenario", words))
}

async fn act_on_world(State(world): State<Arc<World>>, Path(action): Path<String>) -> Response {
    if let Some(refused) = resting(&world) {
        return refused;
    }
    match action.as_str() {
        "lose-half" => {
            let lost = hands::lose_half(&world).await;
            world.timeline.say(&format!("killed -9: {}", world.names(&lost)));
            done(Ok(()))
        }
        "heal" => {
            world.timeline.say("healing everything");
            let outcome = hands::heal_everything(&world).await;
            if outcome.is_ok() {
                world.timeline.say("all links are whole, all sites are started");
            }
            done(outcome)
        }
        _ => refuse(
            StatusCode::NOT_FOUND,
            "unknown-action",
            "the world can lose-half or heal",
        ),
    }
}

async fn act_on_site(
    State(world): State<Arc<World>>,
    Path((name, action)): Path<(String, String)>,
) -> Response {
    if let Some(refused) = resting(&world) {
        return refused;
    }
    let Some(index) = world.plan.sites.iter().position(|site| site.name == name) else {
        return refuse(
            StatusCode::NOT_FOUND,
            "unknown-site",
            "there is no site of that name",
        );
    };
    let Some(site) = world.sites.get(index) else {
        return refuse(
            StatusCode::NOT_FOUND,
            "unknown-site",
            "there is no site of that name",
        );
    };
    let say = |words: &str| world.timeline.say(&format!("{words}: {name}"));
    match action.as_str() {
        "kill" => {
            site.kill().await;
            say("killed -9");
            done(Ok(()))
        }
        "wipe" => {
            let outcome = hands::wipe(&world, &[index]).await;
            say("killed -9 and emptied");
            done(outcome)
        }
        "stop" => {
            say("told to drain");
            site.terminate();
            done(Ok(()))
        }
        "restart" => {
            if site.is_up() {
                say("told to drain, to be started again");
                site.terminate();
                if site.gone(DRAIN_MAX).await.is_none() {
                    site.kill().await;
                }
            } else {
                say("starting");
            }
            let outcome = hands::start(&world, &[index]).await;
            if outcome.is_ok() {
                say("started");
            }
            done(outcome)
        }
        "cut" => {
            say("cut off, both ways");
            done(hands::set_apart(&world, &[index], true).await)
        }
        "heal" => {
            say("joined again");
            done(hands::set_apart(&world, &[index], false).await)
        }
        _ => refuse(
            StatusCode::NOT_FOUND,
            "unknown-action",
            "a site can be told: kill, wipe, stop, restart, cut, heal",
        ),
    }
}

/// What is to become of a link.
#[derive(Deserialize)]
struct LinkAction {
    from: usize,
    to: usize,
    cut: PairCut,
}

async fn act_on_link(State(world): State<Arc<World>>, Json(action): Json<LinkAction>) -> Response {
    if let Some(refused) = resting(&world) {
        return refused;
    }
    let LinkAction { from, to, cut } = action;
    let count = world.sites.len();
    if from == to || from >= count || to >= count {
        return refuse(
            StatusCode::BAD_REQUEST,
            "bad-link",
            "a link is between two different sites",
        );
    }
    let (one, other) = (world.name(from), world.name(to));
    let words = match cut {
        PairCut::None => format!("link healed: {one} and {other}"),
        PairCut::OneWay => format!("link cut one way: {other} no longer hears {one}"),
        PairCut::Both => format!("link cut both ways: {one} and {other}"),
    };
    world.timeline.say(&words);
    done(hands::set_pairs(&world, &[(from, to)], cut).await)
}

/// Where people are to be sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrontAction {
    /// A site's name; none: to whichever is well.
    site: Option<String>,
}

async fn act_on_front(State(world): State<Arc<World>>, Json(action): Json<FrontAction>) -> Response {
    let Some((_, front, _)) = &world.web else {
        return refuse(StatusCode::CONFLICT, "no-web", "browsers reach nothing here");
    };
    let site = match &action.site {
        None => None,
        Some(name) => match world.plan.sites.iter().position(|site| site.name == *name) {
            Some(site) => Some(site),
            None => {
                return refuse(
                    StatusCode::NOT_FOUND,
                    "unknown-site",
                    "there is no site of that name",
                );
            }
        },
    };
    front.choose(site);
    let to = action.site.as_deref().unwrap_or("whichever is well");
    world.timeline.say(&format!("browsers are sent to {to}"));
    done(Ok(()))
}

/// Has the site killed that the next request of a path goes to.
async fn lie_in_wait(State(world): State<Arc<World>>, Json(ambush): Json<Ambush>) -> Response {
    let Some((_, front, _)) = &world.web else {
        return refuse(StatusCode::CONFLICT, "no-web", "browsers reach nothing here");
    };
    front.lie_in_wait(ambush);
    done(Ok(()))
}

/// What the email domain is to say of itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Word {
    says: Says,
}

async fn have_it_said(State(world): State<Arc<World>>, Json(Word { says }): Json<Word>) -> Response {
    let Some((.., mouth)) = &world.web else {
        return refuse(StatusCode::CONFLICT, "no-web", "browsers reach nothing here");
    };
    mouth.say(says);
    done(Ok(()))
}

const HEADER: &str = "x-persona-world";

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PORTS_TRIED: u16 = 20;
const DRAIN_MAX: std::time::Duration = std::time::Duration::from_secs(12);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: &Method, headers: &[(&'static str, &'static str)], allowed: bool) {
        let guard = Guard::new(SocketAddr::from(([127, 0, 0, 1], 8080)));
        let map = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        assert_eq!(
            guard.refusal(method, &map).is_none(),
            allowed,
            "{method} {headers:?}"
        );
    }

    #[test]
    fn only_this_page_may_drive_the_world() {
        let host = ("host", "127.0.0.1:8080");
        let own = ("origin", "http://127.0.0.1:8080");
        let mark = ("x-persona-world", "1");
        check(&Method::GET, &[host], true);
        check(&Method::GET, &[("host", "localhost:8080")], true);
        check(&Method::GET, &[("host", "evil.example:8080")], false);
        check(&Method::GET, &[], false);
        check(&Method::POST, &[host, own, mark], true);
        check(&Method::POST, &[host, mark], true);
        check(&Method::POST, &[host, own], false);
        check(
            &Method::POST,
            &[host, ("origin", "http://evil.example"), mark],
            false,
        );
        check(
            &Method::POST,
            &[host, ("origin", "https://127.0.0.1:8080"), mark],
            false,
        );
        check(&Method::POST, &[host, ("origin", "null"), mark], false);
        check(&Method::PUT, &[host, own], false);
    }
}
