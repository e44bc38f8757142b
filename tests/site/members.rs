//! A cluster that grows by invitation and shrinks by leaving and eviction, by the commands that an operator has.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::PathBuf,
    process::Output,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{Client, Site, refusal};

/// Members' directories, made by `persona cluster init` and `prepare`.
struct Cluster {
    directory: TempDir,
    /// So that no two members draw the same port.
    ports: Vec<u16>,
}

/// A member's files.
#[derive(Clone)]
struct Files {
    config: PathBuf,
    data: PathBuf,
}

impl Cluster {
    fn new(members: usize) -> Cluster {
        let sockets: Vec<UdpSocket> = (0..members)
            .map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"))
            .collect();
        let port = |socket: &UdpSocket| socket.local_addr().expect("an address").port();
        Cluster {
            directory: tempfile::tempdir().expect("a temporary directory"),
            ports: sockets.iter().map(port).collect(),
        }
    }

    fn files(&self, number: usize) -> Files {
        let directory = self.directory.path().join(format!("{number}"));
        Files {
            config: directory.join("site.toml"),
            data: directory.join("data"),
        }
    }

    /// Makes the first member's files, or those of one like it.
    async fn make(&self, number: usize) -> Files {
        let files = self.files(number);
        let directory = files.config.parent().expect("a directory").display().to_string();
        let listen = format!("127.0.0.1:{}", self.ports[number]);
        let (name, site) = (format!("member-{number}"), format!("site-{number}"));
        let like = self.files(0).config.display().to_string();
        let begin: &[&str] = if number == 0 {
            &["init"]
        } else {
            &["prepare", "--like", &like]
        };
        let described = [
            "--out", &directory, "--name", &name, "--site", &site, "--listen", &listen,
        ];
        done(&persona(&[&["cluster"], begin, &described].concat()).await);
        // As cheap and as quick as it gets: neither hashing nor patience is what is tested.
        let quick = "startup_grace_ms = 500\ndrain_timeout_ms = 2000\n";
        let cheap =
            "[passwords]\nmemory_kib = 8\niterations = 1\n[disk]\nreserve_mib = 0\nfree_min_mib = 0\n";
        let text = fs::read_to_string(&files.config).expect("a configuration");
        fs::write(&files.config, format!("{quick}{text}{cheap}")).expect("written");
        files
    }

    /// Starts the first member of all.
    async fn found(&self) -> (Site, Files) {
        let files = self.make(0).await;
        let site = Site::spawn(&files.config, &files.data);
        is(&site, "active").await;
        (site, files)
    }

    /// Makes a member and has it join, let in by another.
    async fn join(&self, number: usize, by: &Files) -> (Site, Files) {
        let files = self.make(number).await;
        let site = Site::spawn_joining(&files.config, &files.data, &invite(by).await);
        is(&site, "active").await;
        (site, files)
    }
}

async fn persona(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_persona"));
    command.args(arguments).kill_on_drop(true);
    command.output().await.expect("it runs")
}

#[track_caller]
fn done(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let why = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}{why}");
    said
}

/// `persona cluster …` at a running member.
async fn cluster(at: &Files, arguments: &[&str]) -> Output {
    let data = at.data.display().to_string();
    persona(&[&["cluster"], arguments, &["--data", &data]].concat()).await
}

async fn invite(by: &Files) -> String {
    done(&cluster(by, &["invite"]).await).trim().to_owned()
}

/// Waits until a site has this standing, and serves if that is for people.
async fn is(site: &Site, standing: &str) {
    let looks = async || {
        assert!(site.is_alive(), "it ended:\n{}", site.log.text());
        let status = site.client.get("/status").await.ok()?;
        let serves = standing != "active" || status["healthy"] == true;
        (status["standing"] == standing && serves).then_some(())
    };
    site.eventually(&format!("it is {standing}"), looks).await;
}

async fn members(at: &Files) -> Vec<Value> {
    let report = Client::new(&at.data).get("/cluster").await.expect("its members");
    report["members"].as_array().expect("members").clone()
}

/// The states of all that ever had this name, as a member sees them.
async fn states(at: &Files, name: &str) -> Vec<String> {
    let members = members(at).await;
    let named = members.iter().filter(|member| member["name"] == name);
    let mut states: Vec<String> = named
        .map(|member| member["state"].as_str().expect("a state").to_owned())
        .collect();
    states.sort();
    states
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_by_invitation_and_shrinks_by_leaving() {
    let world = Cluster::new(3);
    let (first, at_first) = world.found().await;
    let (_, dot) = first.client.sign_up("ada@example.org").await.expect("a sign-up");

    let files = world.make(1).await;
    let words = refusal(&files.config).await;
    assert!(words.contains("--join TOKEN@HOST:PORT"), "{words}");
    let invitation = invite(&at_first).await;
    let second = Site::spawn_joining(&files.config, &files.data, &invitation);
    is(&second, "active").await;
    second.has(dot).await;
    second
        .client
        .sign_in("ada@example.org")
        .await
        .expect("known here too");
    assert!(
        !second
            .log
            .text()
            .contains(invitation.split('@').next().expect("a token"))
    );

    // Started again it needs no invitation, and does not mind one.
    second.stop().await;
    let second = Site::spawn_joining(&files.config, &files.data, &invitation);
    is(&second, "active").await;

    // The invitation is used up; another one lets in at any member.
    let third = world.make(2).await;
    let used = Site::spawn_joining(&third.config, &third.data, &invitation);
    let (status, _, log) = used.ended().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("used by member-1"), "{log}");
    let token = invite(&at_first).await;
    let (token, _) = token.split_once('@').expect("a token");
    let elsewhere = format!("{token}@127.0.0.1:{}", world.ports[1]);
    let site = Site::spawn_joining(&third.config, &third.data, &elsewhere);
    is(&site, "active").await;

    let (_, dot) = site.client.sign_up("bob@example.org").await.expect("a sign-up");
    let left = done(&cluster(&third, &["leave"]).await);
    assert!(left.contains("It has left the cluster"), "{left}");
    let (status, _, log) = site.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    first.has(dot).await;
    let known = async || (states(&at_first, "member-2").await == ["left"]).then_some(());
    first.eventually("the first knows that it left", known).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evicted_member_hands_over_what_it_has_and_comes_back_as_another() {
    let world = Cluster::new(2);
    let (first, at_first) = world.found().await;
    let (second, at_second) = world.join(1, &at_first).await;
    // What only the second has is written while the first is away.
    first.stop().await;
    let (_, dot) = second.client.sign_up("bob@example.org").await.expect("a sign-up");
    second.kill().await;
    let first = Site::spawn(&at_first.config, &at_first.data);
    is(&first, "active").await;

    let shown = cluster(&at_first, &["evict", "member-1"]).await;
    assert_eq!(shown.status.code(), Some(2), "it asks first");
    let words = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(words.contains("Nothing was done"), "{words}");
    assert_eq!(states(&at_first, "member-1").await, ["active"]);
    let own = cluster(&at_first, &["evict", "member-0", "--yes"]).await;
    assert_eq!(
        own.status.code(),
        Some(1),
        "one leaves, and does not evict oneself"
    );
    done(&cluster(&at_first, &["evict", "member-1", "--reason", "a test", "--yes"]).await);
    assert_eq!(states(&at_first, "member-1").await, ["evicted"]);

    // It learns so, serves nobody any more, and hands over.
    let second = Site::spawn(&at_second.config, &at_second.data);
    is(&second, "out").await;
    first.has(dot).await;
    second.log.says(&["persona cluster invite"]).await;
    let refused = second
        .client
        .sign_up("eve@example.org")
        .await
        .expect_err("not here");
    assert_eq!(refused.code(), "not-active");
    second.stop().await;

    let invitation = invite(&at_first).await;
    let second = Site::spawn_joining(&at_second.config, &at_second.data, &invitation);
    is(&second, "active").await;
    second
        .client
        .sign_in("bob@example.org")
        .await
        .expect("its data stayed");
    let (_, again) = second.client.sign_up("cyd@example.org").await.expect("a sign-up");
    assert_ne!(
        again.writer.replica, dot.writer.replica,
        "what it wrote in its life before is no member's"
    );
    let known = async || (states(&at_first, "member-1").await == ["active", "evicted"]).then_some(());
    first.eventually("the first knows both of its lives", known).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_joined_serves_nobody_until_everyone_counts_with_it() {
    let world = Cluster::new(3);
    let (first, at_first) = world.found().await;
    let (second, at_second) = world.join(1, &at_first).await;
    second.stop().await;

    // Whoever has not heard of the third may call settled what the third has not seen.
    let files = world.make(2).await;
    let third = Site::spawn_joining(&files.config, &files.data, &invite(&at_first).await);
    is(&third, "arriving").await;
    assert_eq!(states(&files, "member-2").await, ["active"]);
    let refused = async |site: &Site| {
        let refused = site.client.sign_up("ada@example.org").await;
        assert_eq!(refused.expect_err("not yet").code(), "not-active");
    };
    refused(&third).await;
    third.kill().await;
    let third = Site::spawn(&files.config, &files.data);
    is(&third, "arriving").await;
    refused(&third).await;

    let second = Site::spawn(&at_second.config, &at_second.data);
    is(&third, "active").await;
    third.client.sign_up("ada@example.org").await.expect("a sign-up");
    // From now on it needs nobody for that.
    second.stop().await;
    first.stop().await;
    third.kill().await;
    let third = Site::spawn(&files.config, &files.data);
    is(&third, "active").await;
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_eviction_is_void_is_in_again_and_arrives_anew() {
    let world = Cluster::new(3);
    let (first, at_first) = world.found().await;
    let (second, at_second) = world.join(1, &at_first).await;
    let (third, at_third) = world.join(2, &at_first).await;
    second.stop().await;
    first.stop().await;
    // The third evicts the first, which does not hear of it, and evicts the second.
    done(&cluster(&at_third, &["evict", "member-0", "--yes"]).await);
    third.stop().await;
    let first = Site::spawn(&at_first.config, &at_first.data);
    is(&first, "active").await;
    done(&cluster(&at_first, &["evict", "member-1", "--yes"]).await);
    let second = Site::spawn(&at_second.config, &at_second.data);
    is(&second, "out").await;

    let third = Site::spawn(&at_third.config, &at_third.data);
    is(&first, "out").await;
    is(&second, "active").await;
    second.log.says(&["waits until every member has heard so"]).await;
    second.client.sign_up("ada@example.org").await.expect("a sign-up");
    for site in [first, second, third] {
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compromised_member_hands_over_nothing() {
    let world = Cluster::new(2);
    let (first, at_first) = world.found().await;
    let (second, at_second) = world.join(1, &at_first).await;
    first.stop().await;
    let (_, dot) = second
        .client
        .sign_up("mallory@example.org")
        .await
        .expect("a sign-up");
    second.kill().await;
    let first = Site::spawn(&at_first.config, &at_first.data);
    is(&first, "active").await;
    done(&cluster(&at_first, &["evict", "member-1", "--compromised", "--yes"]).await);
    let second = Site::spawn(&at_second.config, &at_second.data);
    // It dials, and is turned away each time: nobody lists its key.
    second.log.says(&["member-0"]).await;
    let known = first.vector().await.get(&dot.writer).copied();
    assert!(
        known.is_none_or(|number| number < dot.number),
        "what it wrote stays with it"
    );
    let invitation = invite(&at_first).await;
    second.kill().await;
    fs::remove_file(at_second.data.join("member.json")).expect("removed");
    let again = Site::spawn_joining(&at_second.config, &at_second.data, &invitation);
    let (status, _, log) = again.ended().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("compromised"), "{log}");
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_replaced_while_people_are_served() {
    let world = Cluster::new(2);
    let (first, at_first) = world.found().await;
    let (second, at_second) = world.join(1, &at_first).await;
    let key = async |at: &Files| {
        let members = members(at).await;
        let first = members
            .iter()
            .find(|member| member["name"] == "member-0")
            .expect("listed")
            .clone();
        first["keys"].as_array().expect("keys").clone()
    };
    let before = key(&at_first).await;
    assert_eq!(before.len(), 1);
    done(&cluster(&at_first, &["rotate-key"]).await);
    let replaced = async || {
        let now = key(&at_second).await;
        (now.len() == 1 && now != before).then_some(())
    };
    second
        .eventually("the second lists the new key alone", replaced)
        .await;
    let (_, dot) = first.client.sign_up("ada@example.org").await.expect("a sign-up");
    second.has(dot).await;
    // Its own disk has the new key too.
    first.stop().await;
    let first = Site::spawn(&at_first.config, &at_first.data);
    is(&first, "active").await;
    let (_, dot) = second.client.sign_up("bob@example.org").await.expect("a sign-up");
    first.has(dot).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_feature_is_finalised_by_hand() {
    let world = Cluster::new(1);
    let (first, at_first) = world.found().await;
    let feature = persona::members::features::ERASURE_RECEIPTS;
    let listed = done(&cluster(&at_first, &["features"]).await);
    assert!(
        listed.contains(feature) && listed.contains("can be finalised"),
        "{listed}"
    );
    assert_eq!(
        cluster(&at_first, &["finalise", "colour"]).await.status.code(),
        Some(1)
    );
    done(&cluster(&at_first, &["finalise", feature]).await);
    let again = done(&cluster(&at_first, &["finalise", feature]).await);
    assert!(again.contains("finalised before"), "{again}");
    let listed = done(&cluster(&at_first, &["members"]).await);
    assert!(
        listed.contains("member-0") && listed.contains("this site"),
        "{listed}"
    );
    first.stop().await;
}
