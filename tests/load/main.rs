//! `persona load` against a real site: a few seconds of everything that people do, without an error; and what it says of a site
//! where less can be done.
#![cfg(feature = "lab")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failure fails the test")]

#[path = "../site/process.rs"]
#[expect(
    dead_code,
    reason = "these tests need less of it than those of the sites themselves"
)]
mod process;

use std::net::{SocketAddr, TcpListener};

use persona::{
    config::{Answer, MailConfig, WebConfig},
    limits::TrustedProxies,
};
use serde_json::Value;
use tokio::{process::Command, sync::Mutex};

use crate::process::{Plan, Site};

/// Activities of a short run. A reset is left out: its mail may go out a minute after that of the sign-up.
const ACTIVITIES: [&str; 7] = [
    "include_only",
    "signin",
    "interaction_data",
    "signup",
    "reauth",
    "add_email",
    "change_pass",
];

/// A site of one process, and where people reach it.
async fn site(mail: &str) -> (Plan, Site, SocketAddr) {
    let mut plan = Plan::new(1);
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let listen = listener.local_addr().expect("an address");
    drop(listener);
    let mails = plan.directory.path().join("mails");
    let mail = format!("from = \"Persona <no-reply@persona.example>\"\ntransport = \"{mail}\"\n")
        .replace("DIRECTORY", &mails.display().to_string());
    let config = &mut plan.configs[0];
    config.public_url = Some("http://persona.localhost:8080".parse().expect("a public URL"));
    config.web = Some(WebConfig {
        listen,
        tls: None,
        trusted_proxies: TrustedProxies {
            networks: vec!["127.0.0.0/8".parse().expect("a network")],
            ..TrustedProxies::default()
        },
    });
    config.mail = Some(toml::from_str::<MailConfig>(&mail).expect("a configuration"));
    config.durability.answer = Answer::Local;
    let site = plan.start(0).await;
    let url = format!("http://{listen}/__heartbeat__");
    let well = async || reqwest::get(&url).await.ok()?.status().is_success().then_some(());
    site.eventually("it is well", well).await;
    (plan, site, listen)
}

/// One run after another: a generator whose hours another run took from it says that it measured nothing.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Runs the command; its exit status, its JSON, and what it said meanwhile.
async fn load(listen: SocketAddr, more: &[&str]) -> (Option<i32>, Value, String) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let output = Command::new(env!("CARGO_BIN_EXE_persona"))
        .args(["load", "--url", &format!("http://{listen}")])
        .args(["--public-url", "http://persona.localhost:8080", "--json", "-"])
        .args(more)
        .output()
        .await
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {said}"));
    (output.status.code(), report, said)
}

fn row<'r>(report: &'r Value, table: &str, name: &str) -> &'r Value {
    let rows = report[table].as_array().expect("rows");
    rows.iter()
        .find(|row| row["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_seconds_of_everything_that_people_do_go_without_an_error() {
    let (_plan, _site, listen) = site("inbox").await;
    let (status, report, said) = load(
        listen,
        &[
            // 30 activities a second, of one kind as many as of another.
            "--users=64800",
            "--mix=even",
            "--without=reset_pass",
            "--for=2s",
            "--ramp=500ms",
            "--accounts=20",
            "--seed=5",
        ],
    )
    .await;
    assert_eq!(status, Some(0), "{said}\n{report:#}");
    for activity in ACTIVITIES {
        let row = row(&report, "activities", activity);
        assert!(row["done"].as_u64() > Some(0), "{activity}: {report:#}");
        assert_eq!(
            (row["failed"].as_u64(), row["refused"].as_u64()),
            (Some(0), Some(0)),
            "{activity}"
        );
    }
    let left_out: Vec<_> = report["left_out"].as_array().expect("a list").iter().collect();
    assert_eq!(left_out.len(), 1, "{left_out:?}");
    for path in ["/__heartbeat__", "/__lbheartbeat__"] {
        assert!(
            row(&report, "health", path)["done"].as_u64() > Some(0),
            "{path}: {report:#}"
        );
    }
    assert_eq!(report["seed"], 5);
    assert!(report["generator"]["cpu_s"].as_f64() > Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_mail_can_be_read_only_what_strangers_do_is_measured_and_it_says_so() {
    // A mail server that is not there: nothing is sent in this test, so nothing waits for it.
    let (_plan, _site, listen) = site("smtp\"\ntls = \"none\"\nhost = \"127.0.0.1").await;
    let (status, report, said) = load(listen, &["--users=100000", "--for=1s", "--ramp=0s"]).await;
    assert_eq!(status, Some(0), "{said}\n{report:#}");
    assert!(
        row(&report, "activities", "include_only")["done"].as_u64() > Some(0),
        "{report:#}"
    );
    assert_eq!(row(&report, "activities", "signin")["done"], 0);
    let left_out = report["left_out"].as_array().expect("a list");
    assert!(
        left_out.iter().any(|left_out| left_out["activity"] == "signin"),
        "{left_out:?}"
    );
    assert!(said.contains("nobody can prove an address"), "{said}");
}

#[tokio::test]
async fn a_site_that_is_not_there_is_named() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let listen = listener.local_addr().expect("an address");
    drop(listener);
    let output = Command::new(env!("CARGO_BIN_EXE_persona"))
        .args([
            "load",
            "--url",
            &format!("http://{listen}"),
            "--public-url",
            "http://localhost",
        ])
        .output()
        .await
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&listen.to_string()) && said.contains("no connection"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_over_and_over_is_told_beside_its_signatures() {
    let (_plan, site, listen) = site("inbox").await;
    let pid = site.pid.to_string();
    for call in ["session_context", "cert_key", "verify"] {
        let repeat = format!("--repeat={call}");
        let (status, report, said) = load(
            listen,
            &[
                &repeat,
                "--at-once=2",
                "--accounts=2",
                "--for=500ms",
                "--ramp=100ms",
                "--process",
                &pid,
            ],
        )
        .await;
        assert_eq!(status, Some(0), "{said}\n{report:#}");
        assert!(
            row(&report, "requests", call)["done"].as_u64() > Some(0),
            "{report:#}"
        );
        assert!(report["bare"]["verify_us"].as_f64() > Some(0.0));
        assert!(report["processes"][0]["cpu_s"].as_f64().is_some());
    }
}
