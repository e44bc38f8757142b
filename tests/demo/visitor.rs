//! A browser, as far as cookies and the headers go that pages cannot choose.

use std::{collections::BTreeMap, net::SocketAddr};

use axum::Router;
use persona::listener::Listener;
use reqwest::{Method, StatusCode, header};
use serde_json::Value;

/// One browser at one site, which is reached at its address whatever it is called.
#[derive(Clone)]
pub(crate) struct Visitor {
    http: reqwest::Client,
    at: SocketAddr,
    /// What it says that it wants to reach.
    host: String,
    pub(crate) cookies: BTreeMap<String, String>,
}

impl Visitor {
    pub(crate) fn new(at: SocketAddr) -> Visitor {
        Visitor::named(at, &at.to_string())
    }

    /// At a host of that name, `name:port`.
    pub(crate) fn named(at: SocketAddr, host: &str) -> Visitor {
        Visitor {
            host: host.to_owned(),
            http: reqwest::Client::builder().no_proxy().build().expect("a client"),
            at,
            cookies: BTreeMap::new(),
        }
    }

    /// Looks at a page.
    pub(crate) async fn get(&mut self, path: &str) -> (StatusCode, String) {
        self.ask(Method::GET, path, None, None).await
    }

    /// What a page of this origin sends.
    pub(crate) async fn post(
        &mut self,
        origin: Option<&str>,
        path: &str,
        body: &Value,
    ) -> (StatusCode, Value) {
        let (status, text) = self.ask(Method::POST, path, origin, Some(body)).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        origin: Option<&str>,
        body: Option<&Value>,
    ) -> (StatusCode, String) {
        let url = format!("http://{}{path}", self.at);
        let mut request = self.http.request(method, url).header(header::HOST, &self.host);
        let cookies: Vec<_> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !cookies.is_empty() {
            request = request.header(header::COOKIE, cookies.join("; "));
        }
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.expect("an answer");
        for cookie in answer.headers().get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().expect("text");
            let (name, rest) = cookie.split_once('=').expect("a cookie");
            let value = rest.split(';').next().expect("a value");
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let status = answer.status();
        (status, answer.text().await.expect("a body"))
    }
}

/// Serves for as long as the test runs.
pub(crate) async fn serve(router: Router) -> SocketAddr {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into(), None)
        .await
        .expect("a port");
    let at = listener.address().expect("an address");
    tokio::spawn(listener.serve(router, std::future::pending()));
    at
}
