//! What a host answers, and what is made of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use persona::outbound::BODY_BYTES_MAX;

use crate::hosts::{Answers, GLOBAL, Hosts, Part, discovery, look_up, primary_document};

const JSON: &str = "200 OK\r\nContent-Type: application/json";

/// Asks `a.test`, which says this.
#[track_caller]
fn check(answer: &[u8], expected: &str) {
    let told = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async {
            let hosts = Hosts::start(&["a.test"]).await;
            hosts.say("a.test", vec![Part::Bytes(answer.to_vec())]);
            look_up(&hosts.discovery(), "a.test").await
        });
    assert_eq!(told, expected, "{}", String::from_utf8_lossy(answer));
}

fn whole(head: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// In chunks of a thousand bytes, whose sum nobody says beforehand.
fn chunked(body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {JSON}\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.chunks(1000) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

/// A good document of so many bytes.
fn document(bytes: usize) -> Vec<u8> {
    let mut document = primary_document().into_bytes();
    assert!(document.len() <= bytes);
    document.resize(bytes, b' ');
    document
}

const PRIMARY: &str = "a.test https://a.test/in";
const TOO_LARGE: &str = "its answer is larger than 10240 bytes";

#[test]
fn a_good_document_is_taken_however_it_is_sent() {
    check(&whole(JSON, &document(1000)), PRIMARY);
    check(&chunked(&document(2500)), PRIMARY);
    let until_the_end = format!("HTTP/1.1 {JSON}\r\nConnection: close\r\n\r\n").into_bytes();
    check(&[until_the_end, document(1000)].concat(), PRIMARY);
    let hint = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".to_vec();
    check(&[hint, whole(JSON, &document(1000))].concat(), PRIMARY);
    check(
        &whole(
            "200 OK\r\nContent-Type: application/json; charset=utf-8",
            &document(500),
        ),
        PRIMARY,
    );
    check(&whole(JSON, br#"{"disabled":true}"#), "disabled");
}

#[test]
fn ten_kilobytes_are_taken_and_not_one_more() {
    check(&whole(JSON, &document(BODY_BYTES_MAX)), PRIMARY);
    check(&whole(JSON, &document(BODY_BYTES_MAX + 1)), TOO_LARGE);
    check(&chunked(&document(BODY_BYTES_MAX)), PRIMARY);
    check(&chunked(&document(BODY_BYTES_MAX + 1)), TOO_LARGE);
    let head = format!("HTTP/1.1 {JSON}\r\nContent-Length: 99999999999\r\n\r\n").into_bytes();
    check(&[head, document(BODY_BYTES_MAX + 1)].concat(), TOO_LARGE);
    let many = format!("{JSON}\r\n{}", "x: y\r\n".repeat(100));
    check(&whole(many.trim_end(), &document(500)), "it does not speak HTTP");
    let long = format!("{JSON}\r\nx: {}", "y".repeat(40_000));
    check(&whole(&long, &document(500)), "it does not speak HTTP");
}

#[test]
fn what_is_no_support_document_is_refused_in_words() {
    let good = primary_document();
    let good = good.as_bytes();
    check(
        &whole("404 Not Found", b"no"),
        "its support document has status 404",
    );
    check(&whole("500 Oh", good), "its support document has status 500");
    check(
        &whole("204 None\r\nContent-Type: application/json", b""),
        "its support document has status 204",
    );
    let redirect = "302 Found\r\nLocation: https://a.test/other\r\nContent-Type: application/json";
    check(&whole(redirect, good), "its support document has status 302");
    check(
        &whole("200 OK\r\nContent-Type: text/html", good),
        "its support document is not application/json",
    );
    check(
        &whole("200 OK", good),
        "its support document is not application/json",
    );
    let compressed = format!("{JSON}\r\nContent-Encoding: gzip");
    check(
        &whole(&compressed, b"\x1f\x8b\x08\0\0\0\0\0\0\x03"),
        "its answer is compressed",
    );
    let twice = format!("{JSON}\r\nContent-Encoding: identity\r\nContent-Encoding: br");
    check(&whole(&twice, good), "its answer is compressed");
    check(
        &whole(JSON, b"{"),
        "its support document is not strict JSON: EOF while parsing an object at line 1 column 1",
    );
    check(
        &whole(JSON, br#"{"disabled":true,"disabled":false}"#),
        "its support document is not strict JSON: a name is repeated at line 1 column 34",
    );
    check(&whole(JSON, b"[]"), "its support document is not a JSON object");
    check(
        &whole(JSON, br#"{"authority":"10.0.0.1"}"#),
        "not the name of a host on the internet",
    );
    check(b"SSH-2.0-OpenSSH_9.2\r\n", "it does not speak HTTP");
    check(b"", "no connection to it");
    let cut = format!("HTTP/1.1 {JSON}\r\nContent-Length: 9000\r\n\r\n{{}}");
    check(cut.as_bytes(), "no connection to it");
}

#[tokio::test]
async fn a_delegation_is_followed_and_each_host_is_asked_about_the_first() {
    let hosts = Hosts::start(&["a.test", "b.test", "c.test"]).await;
    hosts.json("a.test", r#"{"authority":"B.test"}"#);
    hosts.json("b.test", r#"{"authority":"c.test"}"#);
    hosts.primary("c.test");
    assert_eq!(
        look_up(&hosts.discovery(), "a.test").await,
        "c.test https://c.test/in"
    );
    let asked = hosts.asked();
    let line = "GET /.well-known/browserid?domain=a.test HTTP/1.1";
    assert_eq!(
        asked,
        [
            format!("a.test {line}"),
            format!("b.test {line}"),
            format!("c.test {line}")
        ]
    );
}

#[tokio::test]
async fn a_circle_and_a_chain_of_seven_end() {
    let names: Vec<String> = (1..=7).map(|number| format!("n{number}.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let hosts = Hosts::start(&names).await;
    for pair in names.windows(2) {
        if let [from, to] = pair {
            hosts.json(from, &format!(r#"{{"authority":"{to}"}}"#));
        }
    }
    hosts.primary("n7.test");
    let discovery = hosts.discovery();
    assert_eq!(look_up(&discovery, "n2.test").await, "n7.test https://n7.test/in");
    assert_eq!(
        look_up(&discovery, "n1.test").await,
        "its delegation has more than 6 names"
    );
    hosts.json("n3.test", r#"{"authority":"n1.test"}"#);
    assert_eq!(
        look_up(&hosts.discovery(), "n1.test").await,
        "its delegation goes in a circle"
    );
}

#[tokio::test]
async fn a_certificate_is_of_a_trusted_authority_and_of_that_name() {
    let hosts = Hosts::start(&["a.test"]).await;
    hosts.primary("a.test");
    hosts.primary("other.test");
    let invalid = "its TLS certificate is not valid for it";
    assert_eq!(look_up(&hosts.discovery(), "other.test").await, invalid);
    let strangers = Hosts::start(&["a.test"]).await;
    strangers.primary("a.test");
    let mut client = Hosts::start(&["a.test"]).await;
    client.socket = strangers.socket;
    assert_eq!(look_up(&client.discovery(), "a.test").await, invalid);
    assert!(
        strangers.asked().is_empty(),
        "nothing is said to whom we do not trust"
    );
    assert_eq!(
        look_up(&hosts.discovery(), "a.test").await,
        "a.test https://a.test/in"
    );
}

#[tokio::test]
async fn who_drips_is_left_at_the_time_limit() {
    let hosts = Hosts::start(&["a.test"]).await;
    let pause = Duration::from_millis(20);
    let head = format!("HTTP/1.1 {JSON}\r\n");
    let body = format!("{head}Content-Length: 9000\r\n\r\n");
    let limit = Duration::from_millis(400);
    for parts in [
        vec![Part::Drip(Vec::new(), pause)],
        vec![Part::Bytes(head.into_bytes()), Part::Drip(b"x".to_vec(), pause)],
        vec![Part::Bytes(body.into_bytes()), Part::Drip(b" ".to_vec(), pause)],
    ] {
        hosts.say("a.test", parts);
        let client = hosts.client(Arc::new(Answers::always(&[GLOBAL])));
        let before = Instant::now();
        assert_eq!(
            look_up(&discovery(client, limit), "a.test").await,
            "it did not answer in time"
        );
        assert!(before.elapsed() >= limit);
    }
}

#[tokio::test]
async fn sixty_four_hosts_are_asked_at_once_and_the_others_wait() {
    let hosts = Hosts::start(&["*.crowd.test"]).await;
    let client = hosts.client(Arc::new(Answers::always(&[GLOBAL])));
    let crowd = discovery(client, Duration::from_secs(60));
    let mut waiting = Vec::new();
    for number in 0..100 {
        let name = format!("n{number}.crowd.test");
        let document = Part::Bytes(whole(JSON, &document(1000)));
        hosts.say(&name, vec![Part::Hold, document]);
        let crowd = crowd.clone();
        waiting.push(tokio::spawn(async move { look_up(&crowd, &name).await }));
    }
    hosts.hold.until(64).await;
    hosts.hold.release(100);
    for told in waiting {
        let told = told.await.expect("told");
        assert!(told.ends_with("/in"), "{told}");
    }
    assert_eq!(hosts.hold.most(), 64);
}
