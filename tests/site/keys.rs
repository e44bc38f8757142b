//! Signing keys of real sites: published, replaced while others look on, revoked for all, and made where another site is
//! dead.

use std::{fs, path::Path, process::Output, time::Duration};

use serde_json::{Value, json};
use tokio::{process::Command, time::Instant};

use crate::process::{Failure, Plan, Site};

/// `persona key …` at a running site.
async fn key(plan: &Plan, number: usize, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_persona"));
    command
        .arg("key")
        .args(arguments)
        .arg("--data")
        .arg(&plan.configs[number].data)
        .kill_on_drop(true);
    command.output().await.expect("it runs")
}

#[track_caller]
fn said(output: &Output, status: i32) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let why = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}{why}");
    said
}

/// The keys of a member, as a site knows them.
async fn keys(at: &Site, member: &str) -> Vec<Value> {
    let report = at.client.get("/keys").await.expect("its keys");
    let keys = report["keys"].as_array().expect("keys");
    keys.iter()
        .filter(|key| key["member"] == member)
        .cloned()
        .collect()
}

/// The one that a member signs with, as that member says; waits for it.
async fn signer(at: &Site, member: &str, usage: &str) -> String {
    let signs = async || {
        let keys = keys(at, member).await;
        let signs = keys
            .iter()
            .find(|key| key["use"] == usage && key["signs"] == true)?;
        Some(signs["kid"].as_str().expect("a kid").to_owned())
    };
    at.eventually(&format!("{member} signs for {usage} use"), signs)
        .await
}

/// Waits until a site knows a key to be in this state.
async fn is(at: &Site, kid: &str, state: &str) {
    let looks = async || {
        let report = at.client.get("/keys").await.ok()?;
        let mut keys = report["keys"].as_array()?.iter();
        keys.any(|key| key["kid"] == kid && key["state"] == state)
            .then_some(())
    };
    at.eventually(&format!("{kid} is {state}"), looks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_s_keys_are_replaced_while_it_signs_and_others_look_on() {
    let plan = Plan::new(2);
    let (first, second) = (plan.start(0).await, plan.start(1).await);
    let old = signer(&first, "member-0", "session").await;
    let certificate = signer(&first, "member-0", "certificate").await;
    signer(&second, "member-1", "session").await;
    is(&second, &old, "active").await;

    let rotation = tokio::spawn({
        let data = plan.configs[0].data.display().to_string();
        async move {
            let mut command = Command::new(env!("CARGO_BIN_EXE_persona"));
            command.args(["key", "rotate", "--use", "session", "--data", &data]);
            command.kill_on_drop(true).output().await.expect("it runs")
        }
    });
    let mut looks = 0;
    while !rotation.is_finished() {
        let keys = keys(&first, "member-0").await;
        let signs = |usage: &str| {
            keys.iter()
                .filter(|key| key["use"] == usage && key["signs"] == true)
                .count()
        };
        assert_eq!((signs("session"), signs("certificate")), (1, 1), "{keys:?}");
        looks += 1;
    }
    assert!(looks > 0);
    let words = said(&rotation.await.expect("it ended"), 0);
    let new = signer(&first, "member-0", "session").await;
    assert_ne!(new, old);
    assert!(
        words.contains(&format!("for session use: {new}")) && words.contains(&format!("Retired: {old}")),
        "{words}"
    );
    is(&second, &new, "active").await;
    is(&second, &old, "retired").await;
    assert_eq!(
        signer(&first, "member-0", "certificate").await,
        certificate,
        "only one was replaced"
    );
    let listed = said(&key(&plan, 1, &["list"]).await, 0);
    assert!(listed.contains("verifies for"), "{listed}");

    // A restart signs with the same key, and the old private half is nowhere.
    first.stop().await;
    assert_eq!(pem_files(&plan.configs[0].data.join("keys")), 2);
    let first = plan.start(0).await;
    assert_eq!(signer(&first, "member-0", "session").await, new);
    assert!(!first.log.text().contains("PRIVATE"));
    first.stop().await;
    second.stop().await;
}

fn pem_files(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").path());
    names
        .filter(|name| name.extension().is_some_and(|extension| extension == "pem"))
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_is_revoked_at_another_site_too_and_its_own_makes_the_next() {
    let plan = Plan::new(2);
    let (first, second) = (plan.start(0).await, plan.start(1).await);
    let kid = signer(&first, "member-0", "certificate").await;
    is(&second, &kid, "active").await;
    let moved_before = second.client.get("/keys").await.expect("its keys")["domain_key_creation_ms"].clone();

    // Shown first, and only with --yes done; by another site's operator, and by the beginning of its name.
    let beginning = &kid[..8];
    let shown = said(&key(&plan, 1, &["revoke", beginning]).await, 2);
    assert!(
        shown.contains("Nothing was done") && shown.contains("Every certificate"),
        "{shown}"
    );
    is(&first, &kid, "active").await;
    let done = said(&key(&plan, 1, &["revoke", beginning, "--yes"]).await, 0);
    assert!(done.contains("It is revoked: here now"), "{done}");
    is(&first, &kid, "revoked").await;

    let signs_anew = async || {
        let next = signer(&first, "member-0", "certificate").await;
        (next != kid).then_some(next)
    };
    let next = first.eventually("it makes another key", signs_anew).await;
    is(&second, &next, "active").await;
    let moved = second.client.get("/keys").await.expect("its keys")["domain_key_creation_ms"].clone();
    assert!(moved.as_u64() > moved_before.as_u64(), "{moved_before} {moved}");
    assert_eq!(pem_files(&plan.configs[0].data.join("keys")), 2);

    let unknown = first
        .client
        .post("/keys/revoke", json!({ "key": "nobody's", "confirmed": true }))
        .await;
    assert_eq!(unknown.as_ref().map_err(Failure::code), Err("not-now"));
    let wrong = first
        .client
        .post("/keys/rotate", json!({ "use": "assertion" }))
        .await;
    assert_eq!(wrong.as_ref().map_err(Failure::code), Err("bad-use"));
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_site_s_key_signs_while_another_is_dead_and_a_dead_one_delays_a_rotation_by_ten_seconds_at_most()
 {
    let plan = Plan::new(3);
    let (first, second) = (plan.start(0).await, plan.start(1).await);
    let old = signer(&first, "member-0", "session").await;
    second.kill().await;
    let third = plan.start(2).await;
    let kid = signer(&third, "member-2", "session").await;
    is(&first, &kid, "active").await;

    let begun = Instant::now();
    said(&key(&plan, 0, &["rotate"]).await, 0);
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    assert_ne!(signer(&first, "member-0", "session").await, old);
    first.stop().await;
    third.stop().await;
}
