//! What a site refuses, before it starts or while it runs, and in which words.

use std::{
    collections::BTreeMap,
    fs,
    net::UdpSocket,
    os::unix::fs::{FileTypeExt, PermissionsExt},
};

use crdt::{ClusterWrite, cluster::feature_setting};
use persona::{config::Hex, members::make_identity, store::TransactError};

use crate::{
    gossiper::{Gossiper, Quirks},
    process::{Plan, Site, refusal},
};

#[track_caller]
fn assert_says(words: &str, parts: &[&str]) {
    for part in parts {
        assert!(words.contains(part), "`{part}` is not in: {words}");
    }
}

#[tokio::test]
async fn a_data_directory_of_a_newer_format() {
    let plan = Plan::new(1);
    plan.start(0).await.stop().await;
    let data = &plan.configs[0].data;
    let before = fs::read_to_string(data.join("format")).expect("a format file");
    assert!(before.starts_with("persona store "), "{before}");
    fs::write(data.join("format"), "persona store 999\n").expect("written");
    let words = plan.refusal(0).await;
    assert_says(
        &words,
        &[
            &data.display().to_string(),
            "store format 999",
            "this build reads up to",
            "newer build",
        ],
    );
    fs::write(data.join("format"), "PostgreSQL 18\n").expect("written");
    assert_says(
        &plan.refusal(0).await,
        &["not a data directory of Persona", "persona store N"],
    );
    fs::write(data.join("format"), before).expect("written");
    plan.start(0).await.stop().await;
}

#[tokio::test]
async fn two_processes_on_one_directory() {
    let plan = Plan::new(1);
    let first = plan.start(0).await;
    let words = plan.refusal(0).await;
    let holder = format!("in use by process {}", first.pid);
    assert_says(
        &words,
        &[
            &plan.configs[0].data.display().to_string(),
            &holder,
            "data directory of its own",
        ],
    );
    first
        .client
        .sign_up("ada@example.org")
        .await
        .expect("the first goes on");
    first.kill().await;
    // A lock that outlived its process would keep a killed site from ever coming back.
    plan.start(0).await.stop().await;
}

#[tokio::test]
async fn configurations_with_a_field_missing_or_wrong() {
    let plan = Plan::new(1);
    let good = toml::to_string(&plan.configs[0]).expect("a configuration");
    let check = async |from: &str, to: &str, parts: &[&str]| {
        assert!(good.contains(from), "`{from}` is not in: {good}");
        let path = plan.write_text(0, &good.replacen(from, to, 1));
        let words = refusal(&path).await;
        assert_says(&words, &[&path.display().to_string()]);
        assert_says(&words, parts);
    };
    let listen = format!("listen = \"{}\"\n", plan.configs[0].listen);
    check("site = \"site-0\"\n", "", &["missing field `site`"]).await;
    check(&listen, "", &["missing field `listen`"]).await;
    check(
        &listen,
        "listen = \"here\"\n",
        &["listen", "invalid socket address"],
    )
    .await;
    check(
        "index_key = \"0202",
        "index_key = \"02",
        &["index_key", "64 hex digits"],
    )
    .await;
    check(
        "answer = \"local\"",
        "answer = \"all\"",
        &["answer", "\"local\" or \"sites:N\""],
    )
    .await;
    check(
        "member = \"0000000000000001\"",
        "member = \"0000000000000009\"",
        &["`member`", "[[members]]"],
    )
    .await;
    check(
        "drain_timeout_ms = 2000",
        "drain_timeout_ms = \"2 s\"",
        &["drain_timeout_ms", "u64"],
    )
    .await;
    check(
        "site = \"site-0\"\n",
        "site = \"site-0\"\ncolour = 1\n",
        &["unknown field `colour`"],
    )
    .await;
    let nowhere = plan.directory.path().join("nowhere.toml");
    assert_says(&refusal(&nowhere).await, &["nowhere.toml", "No such file"]);
}

#[tokio::test]
async fn what_was_finalised_and_it_cannot_read() {
    let plan = Plan::new(1);
    plan.start(0).await.stop().await;
    // By a newer build, which ran here in between.
    let store = plan.open(0);
    let finalised = store.transact(|txn| -> Result<(), TransactError> {
        let setting = ClusterWrite::Setting {
            name: feature_setting("colour"),
            at: txn.stamp(),
            value: vec![1],
        };
        txn.write_cluster(setting);
        Ok(())
    });
    finalised.await.expect("written");
    store.close();
    drop(store);
    assert_says(
        &plan.refusal(0).await,
        &["colour", "start the version that ran here before"],
    );
}

#[tokio::test]
async fn an_identity_that_is_missing_damaged_or_another_s() {
    let plan = Plan::new(2);
    let identity = plan.configs[0].identity.clone();
    let path = identity.display().to_string();
    fs::copy(&plan.configs[1].identity, &identity).expect("copied");
    assert_says(
        &plan.refusal(0).await,
        &[&path, "its public key is not the one", "member-0"],
    );
    fs::write(&identity, "no PEM").expect("written");
    assert_says(&plan.refusal(0).await, &[&path, "CERTIFICATE"]);
    fs::remove_file(&identity).expect("removed");
    assert_says(&plan.refusal(0).await, &[&path, "No such file"]);
    assert!(
        !plan.configs[0].data.exists(),
        "a site that cannot start leaves nothing behind"
    );
}

#[tokio::test]
async fn a_port_that_is_taken() {
    let plan = Plan::new(1);
    let listen = plan.configs[0].listen;
    let _taken = UdpSocket::bind(listen).expect("the port is free");
    assert_says(
        &plan.refusal(0).await,
        &[&format!("cannot listen on {listen}"), "in use"],
    );
}

#[tokio::test]
async fn the_admin_socket_is_its_owner_s_alone() {
    let plan = Plan::new(1);
    let site = plan.start(0).await;
    let data = &plan.configs[0].data;
    let socket = fs::symlink_metadata(data.join("admin.sock")).expect("a socket");
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    assert_eq!(
        fs::metadata(data).expect("the data").permissions().mode() & 0o777,
        0o700
    );
    // A socket that a killed process left is no obstacle, one of a stopped site is gone.
    site.kill().await;
    assert!(data.join("admin.sock").exists());
    plan.start(0).await.stop().await;
    assert!(!data.join("admin.sock").exists());
}

/// Two sites that never became peers serve all the same, each its own people.
async fn assert_apart(sites: &[Site]) {
    for (number, site) in sites.iter().enumerate() {
        let address = format!("ada@site-{number}.example");
        site.client.sign_up(&address).await.expect("a sign-up");
        site.client.sign_in(&address).await.expect("a sign-in");
        let status = site.client.get("/status").await.expect("its status");
        assert_eq!(status["peers"][0]["connected"], false, "{status}");
        assert_eq!(status["alone"], true, "{status}");
    }
    assert!(sites[0].client.is_not_let_in("ada@site-1.example").await);
    assert!(sites[1].client.is_not_let_in("ada@site-0.example").await);
}

#[tokio::test]
async fn a_peer_whose_key_is_not_listed() {
    let mut plan = Plan::new(2);
    // Member 0 has another key than member 1 lists for it.
    let other = make_identity("an earlier key").expect("an identity");
    let fingerprint = gossip::quic::fingerprint(&plan.configs[0].members[0].public_key);
    plan.configs[1].members[0].public_key = other.public_key;
    let sites = [plan.start(0).await, plan.start(1).await];
    // The one that does not list the key says which it is, and from where it was shown.
    let from = format!("remote={}", plan.configs[0].listen);
    sites[1]
        .log
        .says(&["WARN", "connection refused", &from, &fingerprint])
        .await;
    sites[1].counted("handshakes_refused", 1).await;
    assert_apart(&sites).await;
}

#[tokio::test]
async fn two_peers_neither_of_which_lists_the_other_s_key() {
    let mut plan = Plan::new(2);
    for (number, peer) in [(0, 1), (1, 0)] {
        let other = make_identity("an earlier key").expect("an identity");
        plan.configs[number].members[peer].public_key = other.public_key;
    }
    let sites = [plan.start(0).await, plan.start(1).await];
    for (site, peer) in sites.iter().zip([1, 0]) {
        let from = format!("remote={}", plan.configs[peer].listen);
        site.log
            .says(&["WARN", "connection refused", &from, "invalid peer certificate"])
            .await;
        site.counted("handshakes_refused", 1).await;
    }
    assert_apart(&sites).await;
}

#[tokio::test]
async fn a_peer_of_another_cluster_or_with_another_index_key() {
    for (what, words) in [
        ("cluster", "of another cluster"),
        ("index key", "the fingerprints of index-key differ"),
    ] {
        let mut plan = Plan::new(2);
        let cluster = &mut plan.configs[1].cluster;
        match what {
            "cluster" => cluster.id = Hex([9; 16]),
            _ => cluster.index_key = Hex([9; 32]),
        }
        let sites = [plan.start(0).await, plan.start(1).await];
        for site in &sites {
            site.log.says(&["WARN", "refused", words]).await;
            site.counted("refused", 1).await;
        }
        assert_apart(&sites).await;
    }
}

#[tokio::test]
async fn a_peer_of_a_later_protocol() {
    let plan = Plan::new(2);
    let site = plan.start(0).await;
    let quirks = Quirks {
        versions: (2, 3),
        ..Quirks::default()
    };
    let _later = Gossiper::start(&plan, 1, 1, plan.configs[0].listen, quirks).await;
    site.log
        .says(&[
            "WARN",
            "refused",
            "no protocol version in common: here 1 to 1, there 2 to 3",
        ])
        .await;
    site.counted("refused", 1).await;
    // What a later version says beyond what is known here is no obstacle.
    let fingerprints = BTreeMap::from([("colour".to_owned(), [5; 8])]);
    let mut newer = Gossiper::start(
        &plan,
        1,
        2,
        plan.configs[0].listen,
        Quirks {
            versions: (1, 3),
            features: ["colours".to_owned()].into(),
            fingerprints,
        },
    )
    .await;
    let dot = newer.write(Vec::new());
    site.has(dot).await;
    site.stop().await;
}
