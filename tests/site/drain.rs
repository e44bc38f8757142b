//! Going out of service: requests under way are finished, what only this site has is handed on, or named.

use std::time::Duration;

use persona::config::Answer;
use rustix::process::Signal;
use serde_json::json;

use crate::process::{Failure, PASSWORD, Plan, assert_sound, written};

#[tokio::test]
async fn a_site_that_is_alone_in_the_world_stops_at_once() {
    let mut plan = Plan::new(1);
    plan.configs[0].drain_timeout = Duration::from_secs(50);
    let site = plan.start(0).await;
    let (_, dot) = site.client.sign_up("ada@example.org").await.expect("a sign-up");
    let (status, took, log) = site.terminate().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(
        took < plan.configs[0].drain_timeout,
        "nobody is there to wait for, but it took {took:?}"
    );
    assert!(
        !log.contains("WARN drained") && !log.contains("drained only here"),
        "{log}"
    );
    assert_sound(&plan.open(0), &[dot]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_draining_site_has_another_has_when_it_ends() {
    let mut plan = Plan::new(2);
    plan.configs[0].drain_timeout = Duration::from_secs(50);
    let (first, second) = (plan.start(0).await, plan.start(1).await);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..40 {
        let client = first.client.clone();
        tasks.spawn(async move { client.sign_up(&format!("person{number}@example.org")).await });
    }
    let mut answered = Vec::new();
    let mut asked = None;
    let mut refused = 0;
    while let Some(done) = tasks.join_next().await {
        match done.expect("a task") {
            Ok((_, dot)) => answered.push(dot),
            Err(Failure::Refused {
                status: 503, code, ..
            }) if code == "draining" => refused += 1,
            // Connected after the socket had gone: not taken.
            Err(Failure::Unanswered(words)) if words.contains("Connect") => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
        if answered.len() == 5 && asked.is_none() {
            asked = Some(());
            first.signal(Signal::TERM);
        }
    }
    assert!(answered.len() >= 5);
    let (status, took, log) = first.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(
        took < plan.configs[0].drain_timeout,
        "the other has everything, but it took {took:?}"
    );
    assert!(!log.contains("drained only here"), "{log}");
    println!("{} answered, {refused} told to go elsewhere", answered.len());
    let vector = second.vector().await;
    for dot in &answered {
        assert!(
            vector
                .get(&dot.writer)
                .is_some_and(|number| *number >= dot.number),
            "{dot:?} is not there"
        );
    }
    second.stop().await;
}

#[tokio::test]
async fn a_draining_site_says_so_and_ends() {
    let plan = Plan::new(1);
    let site = plan.start(0).await;
    site.client.sign_up("ada@example.org").await.expect("a sign-up");
    let answer = site.client.post("/drain", json!({})).await.expect("it drains");
    assert_eq!(answer, json!({ "draining": true }));
    let refused = site
        .client
        .sign_in("ada@example.org")
        .await
        .expect_err("it takes nothing new");
    match &refused {
        Failure::Refused { status, code, .. } => assert_eq!((*status, code.as_str()), (503, "draining")),
        // On a machine so slow that the socket is gone already.
        Failure::Unanswered(words) => assert!(words.contains("Connect"), "{words}"),
    }
    let (status, _, log) = site.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_under_way_is_finished_and_what_nobody_else_has_is_named() {
    let mut plan = Plan::new(2);
    plan.configs[0].durability.answer = Answer::Sites(2);
    plan.configs[0].durability.timeout = Duration::from_millis(1500);
    let (site, peer) = (plan.start(0).await, plan.start(1).await);
    let connected = async || {
        let status = site.client.get("/status").await.ok()?;
        (status["peers"][0]["connected"] == true).then_some(())
    };
    site.eventually("they are connected", connected).await;
    let (_, before) = site
        .client
        .sign_up("ada@example.org")
        .await
        .expect("a sign-up on both disks");
    peer.has(before).await;

    // From now on the peer is there, and silent: the next write waits for it.
    peer.signal(Signal::STOP);
    let client = site.client.clone();
    let waiting = tokio::spawn(async move {
        client
            .post(
                "/accounts",
                json!({ "address": "bob@example.org", "password": PASSWORD }),
            )
            .await
    });
    let committed = async || {
        let number = site.vector().await.get(&before.writer).copied();
        number.filter(|number| *number > before.number)
    };
    site.eventually("the write is on this disk", committed).await;
    assert!(!waiting.is_finished(), "and waits for the other");
    site.signal(Signal::TERM);

    let answer = waiting
        .await
        .expect("a task")
        .expect("it is answered all the same");
    assert_eq!(answer["answered"], "degraded", "{answer}");
    let dot = written(&answer).expect("a dot");
    let (status, took, log) = site.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    let config = &plan.configs[0];
    // The drain's own limit, and what an ending process needs beside it on a busy machine.
    assert!(
        took < config.drain_timeout + Duration::from_secs(15),
        "it took {took:?}"
    );
    let warning = log
        .lines()
        .find(|line| line.contains("drained only here"))
        .unwrap_or_else(|| panic!("{log}"));
    assert!(warning.contains("WARN"), "{warning}");
    assert!(warning.contains(&dot.writer.to_string()), "{warning}");
    assert!(warning.contains(&format!("number={}", dot.number)), "{warning}");

    // When they meet again, the peer gets it.
    peer.signal(Signal::CONT);
    let site = plan.start(0).await;
    peer.has(dot).await;
    site.stop().await;
    peer.stop().await;
}
