//! What packages have: a binary without the laboratory, and nothing of it in there.
//!
//! `deploy/test.sh` builds that binary and names it in `PERSONA_WITHOUT_LAB`. What is looked for, the laboratory's own code tells
//! ([`persona::laboratory`]).

#![cfg(feature = "lab")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failure fails the test")]

#[path = "../site/process.rs"]
#[expect(
    dead_code,
    reason = "these tests need less of it than those of the sites themselves"
)]
mod process;

use std::{
    env, fs,
    net::TcpListener,
    path::PathBuf,
    process::{Output, Stdio},
};

use persona::{
    config::{PasswordConfig, WebConfig},
    laboratory,
    limits::TrustedProxies,
};
use process::{Client, Failure, Plan};
use reqwest::StatusCode;
use tokio::process::Command;

fn without() -> PathBuf {
    let path = env::var_os("PERSONA_WITHOUT_LAB");
    PathBuf::from(
        path.expect("PERSONA_WITHOUT_LAB names a binary without the laboratory: run deploy/test.sh"),
    )
}

fn holds(binary: &[u8], words: &str) -> bool {
    let words = words.as_bytes();
    let mut places = binary.windows(words.len());
    places.any(|place| place == words)
}

#[test]
fn its_words_are_in_a_laboratory_s_binary_and_in_no_other() {
    let lab = fs::read(env!("CARGO_BIN_EXE_persona")).expect("a binary");
    let packaged = fs::read(without()).expect("a binary");
    for mark in laboratory::marks() {
        assert!(holds(&lab, mark), "`{mark}` is not found where it is");
        assert!(!holds(&packaged, mark), "`{mark}` is in the package");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_commands_and_its_section_are_not_known() {
    let run = async |arguments: &[&str]| -> Output {
        let mut command = Command::new(without());
        command.args(arguments).stdin(Stdio::null());
        command.output().await.expect("it runs")
    };
    for command in ["world", "sim"] {
        let output = run(&[command, "--help"]).await;
        assert_eq!(output.status.code(), Some(2), "{command}");
    }
    let plan = Plan::new(1);
    let path = plan.write(0);
    let text = fs::read_to_string(&path).expect("a configuration");
    assert!(text.contains("[lab]") || text.contains("[lab."), "{text}");
    let output = run(&["site", "--config", path.to_str().expect("text")]).await;
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("unknown field `lab`"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_routes_are_not_there() {
    let mut plan = Plan::new(1);
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let listen = listener.local_addr().expect("an address");
    drop(listener);
    let config = &mut plan.configs[0];
    config.public_url = Some("http://persona.localhost:8080".parse().expect("a public URL"));
    config.web = Some(WebConfig {
        listen,
        tls: None,
        trusted_proxies: TrustedProxies::default(),
    });
    let mail = "from = \"Persona <no-reply@persona.example>\"\nhost = \"localhost\"\ntls = \"none\"\n";
    config.mail = Some(toml::from_str(mail).expect("a section"));
    config.passwords = PasswordConfig::default();
    let mut text: toml::Table = toml::to_string(&plan.configs[0])
        .expect("a configuration")
        .parse()
        .expect("read back");
    text.remove("lab");
    let path = plan.write_text(0, &text.to_string());
    let mut site = Command::new(without())
        .arg("site")
        .arg("--config")
        .arg(&path)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("it runs");
    let operator = Client::new(&plan.configs[0].data);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    let version = loop {
        assert!(site.try_wait().expect("ours").is_none(), "it ended");
        assert!(tokio::time::Instant::now() < deadline, "it does not serve");
        if operator.get("/status").await.is_ok()
            && let Ok(answer) = reqwest::get(format!("http://{listen}/__version__")).await
        {
            break answer.text().await.expect("text");
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert!(!version.contains("lab"), "{version}");
    for route in laboratory::routes() {
        let answer = reqwest::get(format!("http://{listen}{route}"))
            .await
            .expect("an answer");
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{route}");
    }
    for route in laboratory::operator_routes() {
        let route = route.replace("{account}", "AAAAAAAAAAAAAAAAAAAA");
        let refused = operator.get(&route).await;
        assert!(
            matches!(refused, Err(Failure::Refused { status: 404, .. })),
            "{route}: {refused:?}"
        );
    }
    site.kill().await.expect("it is killed");
}
