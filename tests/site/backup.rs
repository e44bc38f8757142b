//! A site's backup is made while it runs, refused where it must be, and becomes a site again.

use std::{path::Path, process::Output};

use persona::config::Answer;
use tokio::process::Command;

use crate::process::{Plan, assert_sound};

async fn persona(arguments: &[&str], paths: &[(&str, &Path)]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_persona"));
    command.args(arguments);
    for (option, path) in paths {
        command.arg(option).arg(path);
    }
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().await.expect("the binary runs");
    let said = [stdout, stderr].concat();
    (status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_is_backed_up_and_comes_back_from_it() {
    let mut plan = Plan::new(2);
    for config in &mut plan.configs {
        config.durability.answer = Answer::Sites(2);
    }
    let (config, backups) = (plan.write(0), plan.directory.path().join("backups"));
    let to = backups.join("one");
    let (made, said) = persona(&["backup"], &[("--config", &config), ("--to", &to)]).await;
    assert!(!made && said.contains("no site answers"), "{said}");

    let (first, second) = (plan.start(0).await, plan.start(1).await);
    let (_, before) = first.client.sign_up("ada@example.org").await.expect("a sign-up");
    let (made, said) = persona(&["backup"], &[("--config", &config), ("--to", &to)]).await;
    assert!(made && said.contains("30 days"), "{said}");
    let (made, said) = persona(&["backup"], &[("--config", &config), ("--to", &to)]).await;
    assert!(!made && said.contains("is there already"), "{said}");
    let inside = plan.configs[0].data.join("backup");
    let (made, said) = persona(&["backup"], &[("--config", &config), ("--to", &inside)]).await;
    assert!(!made && said.contains("outside the data directory"), "{said}");
    let (_, after) = first.client.sign_up("bob@example.org").await.expect("a sign-up");
    second.has(after).await;

    let paths = [("--config", config.as_path()), ("--from", to.as_path())];
    let (restored, said) = persona(&["restore", "--replace"], &paths).await;
    assert!(!restored && said.contains("in use by process"), "{said}");
    first.stop().await;
    let (restored, said) = persona(&["restore"], &paths).await;
    assert!(!restored && said.contains("--replace"), "{said}");
    let (restored, said) = persona(&["restore", "--replace"], &paths).await;
    assert!(restored && said.contains("personal data"), "{said}");

    let first = plan.start(0).await;
    first.has(after).await;
    let (_, again) = first.client.sign_up("cy@example.org").await.expect("a sign-up");
    assert_ne!(again.writer.replica, before.writer.replica);
    assert!(again.writer.epoch > before.writer.epoch);
    second.has(again).await;
    first.stop().await;
    second.stop().await;
    for number in 0..2 {
        assert_sound(&plan.open(number), &[before, after, again]);
    }
    let (pruned, said) = persona(&["backup"], &[("--config", &config), ("--prune", &backups)]).await;
    assert!(pruned && said.contains("0 backups") && to.exists(), "{said}");
}
