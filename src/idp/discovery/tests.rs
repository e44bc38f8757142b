//! Discovery in virtual time, from hosts that are a table.

use hyper::{
    HeaderMap, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use tokio::time::{advance, sleep, timeout_at};

use super::*;

const KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}"#;

/// Hosts and what they say; each request takes a second.
#[derive(Debug, Default)]
struct Hosts {
    says: Mutex<HashMap<String, (String, &'static str)>>,
    asked: Mutex<Vec<String>>,
    slow: bool,
}

impl Hosts {
    fn say(&self, host: &str, body: &str, cache_control: &'static str) {
        let said = (body.to_owned(), cache_control);
        self.says.lock().expect("whole").insert(host.to_owned(), said);
    }

    fn primary(&self, host: &str, page: &str, cache_control: &'static str) {
        let body = format!(r#"{{"public-key":{KEY},"authentication":"/{page}","provisioning":"/p"}}"#);
        self.say(host, &body, cache_control);
    }

    fn delegate(&self, from: &str, to: &str) {
        self.say(from, &format!(r#"{{"authority":"{to}"}}"#), "max-age=3600");
    }

    fn silence(&self, host: &str) {
        self.says.lock().expect("whole").remove(host);
    }

    /// Who was asked since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("whole"))
    }

    async fn answer(&self, host: &str, path: &str) -> Result<OutboundAnswer, OutboundError> {
        self.asked.lock().expect("whole").push(format!("{host}{path}"));
        sleep(Duration::from_secs(if self.slow { 3 } else { 1 })).await;
        let says = self.says.lock().expect("whole").get(host).cloned();
        let (body, cache_control) = says.ok_or(OutboundError::NoAddress)?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache_control));
        Ok(OutboundAnswer {
            status: StatusCode::OK,
            headers,
            body: body.into_bytes().into(),
        })
    }
}

impl Fetch for Hosts {
    fn fetch<'a>(
        &'a self,
        host: &'a Domain,
        path: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<OutboundAnswer, OutboundError>> {
        async move {
            let answer = timeout_at(deadline, self.answer(host.as_str(), path)).await;
            answer.unwrap_or(Err(OutboundError::TooLate))
        }
        .boxed()
    }
}

fn world(hosts: Hosts, entries_max: usize) -> (Arc<Hosts>, Discovery) {
    let hosts = Arc::new(hosts);
    let settings = DiscoverySettings {
        own: Domain::parse("persona.example"),
        entries_max,
        ..DiscoverySettings::default()
    };
    let discovery = Discovery::new(hosts.clone(), settings);
    (hosts, discovery)
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).expect("a domain")
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Primary(primary) => format!("{} {}", primary.authority, primary.auth_url),
        Outcome::Ourselves => "ourselves".to_owned(),
        Outcome::Disabled => "disabled".to_owned(),
        Outcome::None(why) => why.to_string(),
    }
}

async fn look_up(discovery: &Discovery, text: &str) -> String {
    told(&discovery.look_up(&domain(text)).await)
}

#[tokio::test(start_paused = true)]
async fn a_domain_is_asked_once_by_all_who_ask_at_once() {
    let (hosts, discovery) = world(Hosts::default(), 8);
    hosts.primary("a.example", "in", "max-age=100");
    let domain = domain("a.example");
    let all = (0..50).map(|_| discovery.look_up(&domain));
    for outcome in futures_util::future::join_all(all).await {
        assert_eq!(told(&outcome), "a.example https://a.example/in");
    }
    assert_eq!(
        hosts.asked(),
        ["a.example/.well-known/browserid?domain=a.example"]
    );
}

#[tokio::test(start_paused = true)]
async fn it_is_asked_for_the_others_though_the_first_gives_up() {
    let (hosts, discovery) = world(Hosts::default(), 8);
    hosts.primary("a.example", "in", "max-age=100");
    let a = domain("a.example");
    assert!(discovery.look_up(&a).now_or_never().is_none(), "under way");
    assert_eq!(
        look_up(&discovery, "a.example").await,
        "a.example https://a.example/in"
    );
    assert_eq!(hosts.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn delegation_is_followed_six_names_far_and_never_in_a_circle() {
    let (hosts, discovery) = world(Hosts::default(), 8);
    for (from, to) in [("n1.example", "n2.example"), ("n2.example", "N3.example")] {
        hosts.delegate(from, to);
    }
    for (from, to) in [(3, 4), (4, 5), (5, 6)] {
        hosts.delegate(&format!("n{from}.example"), &format!("n{to}.example"));
    }
    hosts.primary("n6.example", "in", "max-age=3600");
    assert_eq!(
        look_up(&discovery, "n1.example").await,
        "n6.example https://n6.example/in"
    );
    let asked = hosts.asked();
    assert_eq!(asked.len(), 6);
    assert!(
        asked.iter().all(|asked| asked.ends_with("?domain=n1.example")),
        "{asked:?}"
    );

    hosts.delegate("n0.example", "n1.example");
    assert_eq!(
        look_up(&discovery, "n0.example").await,
        "can't get public key for n5.example: its delegation has more than 6 names"
    );
    hosts.delegate("x.example", "y.example");
    hosts.delegate("y.example", "x.example");
    let circle = "can't get public key for y.example: its delegation goes in a circle";
    assert_eq!(look_up(&discovery, "x.example").await, circle);
    hosts.delegate("z.example", "z.example");
    let circle = "can't get public key for z.example: its delegation goes in a circle";
    assert_eq!(look_up(&discovery, "z.example").await, circle);
}

#[tokio::test(start_paused = true)]
async fn a_delegation_to_us_ends_here_and_we_are_not_asked() {
    let (hosts, discovery) = world(Hosts::default(), 8);
    hosts.delegate("a.example", "Persona.example");
    assert_eq!(look_up(&discovery, "a.example").await, "ourselves");
    assert_eq!(look_up(&discovery, "persona.example").await, "ourselves");
    assert!(discovery.refresh(&domain("persona.example")).await.is_none());
    assert_eq!(hosts.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_is_for_the_whole_chain() {
    let slow = Hosts {
        slow: true,
        ..Hosts::default()
    };
    let (hosts, discovery) = world(slow, 8);
    hosts.delegate("a.example", "b.example");
    hosts.delegate("b.example", "c.example");
    hosts.primary("c.example", "in", "max-age=3600");
    let before = Instant::now();
    assert_eq!(
        look_up(&discovery, "a.example").await,
        "can't get public key for c.example: it did not answer in time"
    );
    assert_eq!(before.elapsed().as_secs(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_domain_is_remembered_as_http_says_and_a_failure_for_a_minute() {
    #[track_caller]
    fn check(hosts: &Hosts, times: usize) {
        assert_eq!(hosts.asked().len(), times);
    }
    let (hosts, discovery) = world(Hosts::default(), 8);
    hosts.primary("a.example", "in", "max-age=100");
    hosts.say("d.example", r#"{"disabled":true}"#, "no-store");
    for (host, live) in [
        ("a.example", Live::Primary),
        ("d.example", Live::Declined),
        ("none.example", Live::Absent),
    ] {
        assert_eq!(discovery.look_up(&domain(host)).await.live(), Some(live));
    }
    check(&hosts, 3);
    advance(Duration::from_secs(5)).await;
    for host in ["a.example", "d.example", "none.example"] {
        look_up(&discovery, host).await;
    }
    check(&hosts, 0);
    advance(Duration::from_secs(10)).await;
    assert_eq!(look_up(&discovery, "d.example").await, "disabled");
    check(&hosts, 1);
    hosts.primary("none.example", "in", "max-age=3600");
    assert_eq!(
        look_up(&discovery, "none.example").await,
        "can't get public key for none.example: its name has no address"
    );
    check(&hosts, 0);
    advance(Duration::from_secs(45)).await;
    look_up(&discovery, "none.example").await;
    check(&hosts, 1);
    look_up(&discovery, "a.example").await;
    check(&hosts, 0);
    advance(Duration::from_secs(50)).await;
    look_up(&discovery, "a.example").await;
    check(&hosts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_chain_is_remembered_as_long_as_its_shortest_part() {
    let (hosts, discovery) = world(Hosts::default(), 8);
    hosts.delegate("a.example", "b.example");
    hosts.primary("b.example", "in", "max-age=30");
    look_up(&discovery, "a.example").await;
    advance(Duration::from_secs(31)).await;
    hosts.asked();
    look_up(&discovery, "a.example").await;
    assert_eq!(hosts.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_changed_key_is_asked_for_once_a_minute_and_a_failure_does_not_replace_it() {
    let (hosts, discovery) = world(Hosts::default(), 8);
    let a = domain("a.example");
    hosts.primary("a.example", "old", "max-age=3600");
    look_up(&discovery, "a.example").await;
    hosts.primary("a.example", "new", "max-age=3600");
    assert_eq!(
        look_up(&discovery, "a.example").await,
        "a.example https://a.example/old"
    );
    let refreshed = discovery.refresh(&a).await.expect("asked");
    assert_eq!(told(&refreshed), "a.example https://a.example/new");
    assert_eq!(
        look_up(&discovery, "a.example").await,
        "a.example https://a.example/new"
    );
    assert!(discovery.refresh(&a).await.is_none(), "within a minute");
    advance(Duration::from_secs(60)).await;
    hosts.silence("a.example");
    let refreshed = discovery.refresh(&a).await.expect("asked");
    assert!(matches!(refreshed, Outcome::None(_)));
    assert_eq!(
        look_up(&discovery, "a.example").await,
        "a.example https://a.example/new"
    );
    assert!(discovery.refresh(&a).await.is_none(), "a failure counts, too");
    advance(Duration::from_secs(60)).await;
    hosts.say("a.example", r#"{"disabled":true}"#, "max-age=3600");
    assert!(matches!(discovery.refresh(&a).await, Some(Outcome::Disabled)));
    assert_eq!(look_up(&discovery, "a.example").await, "disabled");
}

#[tokio::test(start_paused = true)]
async fn failures_make_room_before_anybodys_keys() {
    let (hosts, discovery) = world(Hosts::default(), 3);
    hosts.primary("a.example", "in", "max-age=3600");
    hosts.primary("b.example", "in", "max-age=7200");
    look_up(&discovery, "a.example").await;
    look_up(&discovery, "b.example").await;
    for number in 0..20 {
        look_up(&discovery, &format!("none{number}.example")).await;
    }
    assert_eq!(discovery.0.known().cache.len(), 3);
    hosts.asked();
    look_up(&discovery, "a.example").await;
    look_up(&discovery, "b.example").await;
    assert!(hosts.asked().is_empty());
    hosts.primary("c.example", "in", "max-age=9000");
    look_up(&discovery, "c.example").await;
    hosts.primary("d.example", "in", "max-age=9000");
    look_up(&discovery, "d.example").await;
    hosts.asked();
    look_up(&discovery, "b.example").await;
    assert!(hosts.asked().is_empty());
    look_up(&discovery, "a.example").await;
    assert_eq!(hosts.asked().len(), 1, "the first to end went first");
}

#[tokio::test(start_paused = true)]
async fn with_too_many_under_way_who_asks_is_told_so_and_it_is_not_remembered() {
    let (hosts, discovery) = world(Hosts::default(), 8);
    hosts.primary("a.example", "in", "max-age=3600");
    let domains: Vec<Domain> = (0..FLIGHTS_MAX)
        .map(|number| domain(&format!("n{number}.example")))
        .collect();
    for asked in &domains {
        assert!(discovery.look_up(asked).now_or_never().is_none());
    }
    let a = domain("a.example");
    let outcome = discovery.look_up(&a).now_or_never().expect("at once");
    assert_eq!(outcome.live(), None);
    assert_eq!(
        told(&outcome),
        "can't get public key for a.example: too busy to ask"
    );
    sleep(Duration::from_secs(2)).await;
    assert!(discovery.0.known().flights.is_empty());
    assert_eq!(
        look_up(&discovery, "a.example").await,
        "a.example https://a.example/in"
    );
}
