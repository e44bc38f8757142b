//! A relying party's server, where all its people come from one address.

use std::sync::Arc;

use persona::limits::{LimitSettings, Rate};
use serde_json::json;
use tokio::task::JoinSet;

use crate::sites::{PASSWORD, SHOP, Sites, now_ms};

const ADA: &str = "ada@shop.invalid";
/// More than any browser may do in a while.
const ASSERTIONS: usize = 1_600;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_verifies_for_thousands_is_not_refused_and_a_browser_still_is() {
    // A browser may do little here, and whoever verifies as much as where nobody has configured anything.
    let sites = Sites::start_with(1, |config| {
        config.limits = LimitSettings {
            client: Rate {
                burst: 200,
                per_second: 1,
            },
            ..LimitSettings::default()
        };
        config.durability.answer = persona::config::Answer::Local;
    })
    .await;
    sites.create(0, &[ADA]).await;
    let mut ada = sites.browser(0);
    ada.sign_in(ADA, PASSWORD).await.good();
    let certified = ada.certify(ADA).await.expect("a certificate");
    let assertion = certified.assert_for(SHOP, now_ms());
    let body: Arc<str> = json!({ "assertion": assertion, "audience": SHOP })
        .to_string()
        .into();
    let url: Arc<str> = format!("{}/verify", sites.url(0)).into();
    let server = reqwest::Client::new();
    let mut asking = JoinSet::new();
    for _ in 0..16 {
        let (server, url, body) = (server.clone(), url.clone(), body.clone());
        asking.spawn(async move {
            for _ in 0..ASSERTIONS / 16 {
                let request = server.post(&*url).header("content-type", "application/json");
                let answer = request.body(body.to_string()).send().await.expect("an answer");
                let status = answer.status().as_u16();
                let text = answer.text().await.expect("a body");
                assert!(status == 200 && text.contains("\"okay\""), "{status}: {text}");
            }
        });
    }
    while let Some(done) = asking.join_next().await {
        done.expect("all were verified");
    }
    // The same address as a browser's has an end.
    let url = format!("{}/wsapi/have_email?email={ADA}", sites.url(0));
    let mut refused = 0;
    for _ in 0..1_000 {
        let answer = server.get(&url).send().await.expect("an answer");
        if answer.status().as_u16() == 429 {
            refused += 1;
            assert!(answer.headers().contains_key("retry-after"));
            break;
        }
    }
    assert_eq!(refused, 1);
}
