//! What people and web sites see: the dialog, the pages, and the scripts that sites include.
//!
//! Everything here is the same for everybody in one language. What is personal, the pages' scripts ask for at `/wsapi`;
//! so this knows nothing but the public address, and a request costs a look-up. The parts:
//!
//! | where | what |
//! | --- | --- |
//! | `words.rs`, `words/*.ftl` | what pages say, by language, for translators |
//! | `language.rs` | which language a browser wants |
//! | `pages.rs`, `templates/` | pages, made once for each language |
//! | `assets.rs`, `static/` | scripts and styles, and `include.js` |
//! | `encoding.rs` | a text with its compressed forms and their tags |
//! | `headers.rs` | what browsers are told to refuse |
//! | `flow.rs` | a sign-in by redirection: who asks, kept in a cookie |
//!
//! Promise: no page has inline code, is framed, says where it was linked from, or asks anybody else for anything. Who asks
//! for an assertion is the browser's word alone (`flow.rs` and `static/flow.js`). No request makes this write, wait or
//! speak to anything.

mod assets;
mod encoding;
mod flow;
mod headers;
mod language;
mod pages;
mod words;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, Path, Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;

pub use self::pages::PageError;
use self::{
    assets::Assets,
    flow::{FORM_BYTES_MAX, Flows},
    headers::{Caching, Headers, Share},
    language::Language,
    pages::{Page, Pages},
};
use crate::public_url::PublicUrl;

/// The front end of a service at one public address.
pub struct Web {
    headers: Headers,
    assets: Assets,
    pages: Pages,
    flows: Flows,
}

impl Web {
    /// Makes all that is served. What is compressed, is so when it is first asked for.
    pub fn new(public_url: &PublicUrl) -> Result<Web, PageError> {
        let assets = Assets::new(public_url);
        Ok(Web {
            headers: Headers::new(public_url),
            pages: Pages::new(public_url, &assets)?,
            flows: Flows::new(public_url),
            assets,
        })
    }

    /// All routes of the front end; whatever else is asked for is a page that is not there. So it is the
    /// `fallback_service` of a router that has more.
    pub fn router(self: &Arc<Self>) -> Router {
        let mut router = Router::new()
            .route(
                "/sign_in",
                get(sign_in)
                    .post(begin_flow)
                    .layer(DefaultBodyLimit::max(FORM_BYTES_MAX)),
            )
            .route("/s/{set}/{name}", get(asset))
            .route("/include/{name}", get(pinned_include))
            .route("/favicon.ico", get(favicon))
            .route("/unavailable", get(unavailable));
        for (path, page) in Page::SERVED {
            let serve = move |State(web): State<Arc<Web>>, headers: HeaderMap| async move {
                web.page(page, &headers)
            };
            router = router.route(path, get(serve));
        }
        for name in assets::FOR_OTHERS {
            let serve = move |State(web): State<Arc<Web>>, headers: HeaderMap| async move {
                web.script(name, &headers)
            };
            router = router.route(&format!("/{name}"), get(serve));
        }
        router.fallback(not_found).with_state(Arc::clone(self))
    }

    /// The page for what is not there.
    pub fn not_found(&self, request: &HeaderMap) -> Response {
        self.error(Page::NotFound, StatusCode::NOT_FOUND, request)
    }

    /// The page for who has to come back later, where not a script asks but a person.
    pub fn unavailable(&self, request: &HeaderMap) -> Response {
        self.error(Page::Unavailable, StatusCode::SERVICE_UNAVAILABLE, request)
    }

    fn page(&self, page: Page, request: &HeaderMap) -> Response {
        let text = self.pages.of(page, Language::wanted(request));
        let response = text.answer(StatusCode::OK, Caching::Revalidate, request);
        self.headers.of_page(page.kind(), response)
    }

    fn error(&self, page: Page, status: StatusCode, request: &HeaderMap) -> Response {
        let text = self.pages.of(page, Language::wanted(request));
        let response = text.answer(status, Caching::Never, request);
        self.headers.of_page(page.kind(), response)
    }

    /// A script that anybody's page may load. Its address never changes, so it is not kept for long.
    fn script(&self, name: &str, request: &HeaderMap) -> Response {
        match self.assets.named(name) {
            Some(text) => {
                let response = text.answer(StatusCode::OK, Caching::Minutes, request);
                self.headers.of_asset(Share::Everybody, response)
            }
            None => self.not_found(request),
        }
    }
}

async fn not_found(State(web): State<Arc<Web>>, request: HeaderMap) -> Response {
    web.not_found(&request)
}

async fn unavailable(State(web): State<Arc<Web>>, request: HeaderMap) -> Response {
    web.unavailable(&request)
}

#[derive(Deserialize)]
struct SignIn {
    flow: Option<String>,
}

/// The dialog; with `?flow=`, as a page that a site went to.
async fn sign_in(
    State(web): State<Arc<Web>>,
    query: Result<Query<SignIn>, QueryRejection>,
    request: HeaderMap,
) -> Response {
    let Some(id) = query.ok().and_then(|Query(query)| query.flow) else {
        return web.page(Page::SignIn, &request);
    };
    // One that has ended is an address without its flow, and the dialog says so.
    let flow = web.flows.read(&id, &request);
    match web.pages.sign_in(flow.as_ref(), Language::wanted(&request)) {
        Ok(text) => {
            let response = encoding::answer_once(text, &request);
            web.headers.of_page(Page::SignIn.kind(), response)
        }
        Err(error) => {
            tracing::error!(%error, "the dialog cannot be shown");
            web.unavailable(&request)
        }
    }
}

/// A site goes to the dialog by redirection: its form becomes a flow, kept by the browser.
async fn begin_flow(
    State(web): State<Arc<Web>>,
    request: HeaderMap,
    form: Result<Bytes, BytesRejection>,
) -> Response {
    let begun = match form {
        Ok(form) => web.flows.begin(&request, &form),
        Err(_) => Err(flow::Refused::Form),
    };
    match begun {
        Ok(begun) => web.headers.of_page(Page::SignIn.kind(), begun.into_response()),
        Err(refused) => web.error(refused.page(), StatusCode::BAD_REQUEST, &request),
    }
}

/// What pages load: the set is named by its content, so each name is good for ever. Asked for a set of another version,
/// whose page another site has served, a site gives what it has, and nobody keeps it.
async fn asset(
    State(web): State<Arc<Web>>,
    Path((set, name)): Path<(String, String)>,
    request: HeaderMap,
) -> Response {
    let Some(text) = web.assets.named(&name) else {
        return web.not_found(&request);
    };
    let caching = if web.assets.is_set(&set) {
        Caching::Forever
    } else {
        Caching::Revalidate
    };
    web.headers
        .of_asset(Share::Ourselves, text.answer(StatusCode::OK, caching, &request))
}

/// `include.js` under the name of its content, for pages that pin it.
async fn pinned_include(
    State(web): State<Arc<Web>>,
    Path(name): Path<String>,
    request: HeaderMap,
) -> Response {
    match web.assets.pinned(&name) {
        Some(text) => {
            let response = text.answer(StatusCode::OK, Caching::Forever, &request);
            web.headers.of_asset(Share::Everybody, response)
        }
        None => web.not_found(&request),
    }
}

/// Browsers ask for it where no page says better.
async fn favicon(State(web): State<Arc<Web>>, request: HeaderMap) -> Response {
    web.script("mark.svg", &request)
}
