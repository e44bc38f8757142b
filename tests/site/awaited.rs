//! Real sites that wait for what is not there yet, over slow and broken links.

use std::time::Duration;

use gossip::Dot;
use persona::awaited::AWAITED_MAX;
use reqwest::Method;
use serde_json::{Value, json};

use crate::process::{Plan, Site};

/// For a machine that has other things to do, too.
const SLACK: Duration = Duration::from_secs(5);

async fn awaited(at: &Site, query: &str) -> (bool, Duration) {
    let path = format!("/lab/awaited?{query}");
    let answer = at.client.get(&path).await.expect("an answer");
    let waited = Duration::from_micros(answer["waited_us"].as_u64().expect("a time"));
    (answer["came"] == true, waited)
}

fn transaction(dot: Dot) -> String {
    format!("writer={}&number={}", dot.writer, dot.number)
}

/// Shapes the way from one site to another.
async fn shape(plan: &Plan, from: &Site, to: usize, link: Value) {
    let mut link = link;
    link["address"] = plan.configs[to].members[to].addresses[0].clone().into();
    from.client
        .ask(Method::PUT, "/lab/links", Some(json!([link])))
        .await
        .expect("shaped");
}

async fn is_connected(at: &Site, name: &str, connected: bool) {
    let looks = async || {
        let report = at.client.get("/cluster").await.ok()?;
        let members = report["members"].as_array()?;
        let member = members.iter().find(|member| member["name"] == name)?;
        (member["connected"] == connected).then_some(())
    };
    at.eventually(&format!("{name} connected: {connected}"), looks)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_waited_for_over_a_long_way_and_not_if_its_origin_is_gone() {
    let plan = Plan::new(2);
    let (first, second) = (plan.start(0).await, plan.start(1).await);
    is_connected(&first, "member-1", true).await;
    is_connected(&second, "member-0", true).await;
    shape(&plan, &first, 1, json!({ "delay_us": 30_000 })).await;
    let (_, dot) = first.client.sign_up("ada@example.org").await.expect("a sign-up");
    let (came, waited) = awaited(&second, &transaction(dot)).await;
    assert!(came, "it was on its way, and was waited for for {waited:?}");

    // What was never written is waited for as long as may be, once.
    let never = Dot {
        number: dot.number + 1_000,
        ..dot
    };
    let (came, waited) = awaited(&second, &transaction(never)).await;
    assert!(!came && waited >= AWAITED_MAX, "{waited:?}");
    assert!(waited < AWAITED_MAX + SLACK, "{waited:?}");
    let (came, waited) = awaited(&second, &transaction(never)).await;
    assert!(!came && waited < AWAITED_MAX, "{waited:?}");

    // With its origin dead nothing of it is waited for.
    first.kill().await;
    is_connected(&second, "member-0", false).await;
    let other = Dot {
        number: dot.number + 2_000,
        ..dot
    };
    let (came, waited) = awaited(&second, &transaction(other)).await;
    assert!(!came && waited < AWAITED_MAX, "{waited:?}");
    let (came, waited) = awaited(&second, "kid=nobodys").await;
    assert!(!came && waited < AWAITED_MAX, "nobody is there: {waited:?}");
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_key_is_asked_for_and_known_once_it_is_here() {
    let plan = Plan::new(2);
    let (first, second) = (plan.start(0).await, plan.start(1).await);
    is_connected(&first, "member-1", true).await;
    is_connected(&second, "member-0", true).await;
    let (came, waited) = awaited(&second, "kid=nobodys").await;
    assert!(!came && waited >= AWAITED_MAX, "{waited:?}");
    let signs = async || {
        let report = first.client.get("/keys").await.ok()?;
        let keys = report["keys"].as_array()?;
        let signs = keys.iter().find(|key| key["signs"] == true)?;
        Some(signs["kid"].as_str()?.to_owned())
    };
    let kid = first.eventually("it signs", signs).await;
    let (came, waited) = awaited(&second, &format!("kid={kid}")).await;
    assert!(
        came && waited < SLACK,
        "what signs is known wherever it was heard: {waited:?}"
    );
    first.stop().await;
    second.stop().await;
}
