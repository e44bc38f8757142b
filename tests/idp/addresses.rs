//! Where a name may lead: nowhere but out.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use persona::outbound::Resolve;

use crate::hosts::{Answers, GLOBAL, Hosts, INSIDE, discovery, look_up};

#[tokio::test]
async fn a_name_that_leads_inside_is_not_followed() {
    let hosts = Hosts::start(&["a.test"]).await;
    hosts.primary("a.test");
    let refused = "its name leads to an address that is not on the internet";
    for inside in INSIDE {
        let address: IpAddr = inside.parse().expect("an address");
        for answer in [&[address][..], &[GLOBAL, address], &[address, GLOBAL]] {
            let client = hosts.client(Arc::new(Answers::always(answer)));
            let told = look_up(&discovery(client, Duration::from_secs(8)), "a.test").await;
            assert_eq!(told, refused, "{answer:?}");
        }
    }
    // Nor if it is what another domain delegates to.
    hosts.primary("b.test");
    let delegating = Answers::in_turn(&[&[GLOBAL], &["127.0.0.1".parse().expect("an address")]]);
    hosts.json("a.test", r#"{"authority":"b.test"}"#);
    assert_eq!(hosts.connections.load(Ordering::SeqCst), 0);
    let client = hosts.client(Arc::new(delegating));
    assert_eq!(
        look_up(&discovery(client, Duration::from_secs(8)), "a.test").await,
        refused
    );
    assert_eq!(hosts.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_name_server_that_answers_otherwise_the_second_time_gains_nothing() {
    let hosts = Hosts::start(&["a.test"]).await;
    hosts.primary("a.test");
    let local: IpAddr = "127.0.0.1".parse().expect("an address");
    let rebinding = Arc::new(Answers::in_turn(&[&[GLOBAL], &[local]]));
    let client = hosts.client(Arc::clone(&rebinding) as Arc<dyn Resolve>);
    let discovery = discovery(client, Duration::from_secs(8));
    assert_eq!(look_up(&discovery, "a.test").await, "a.test https://a.test/in");
    assert_eq!(rebinding.questions.load(Ordering::SeqCst), 1, "it is asked once");
    let domain = persona::browserid::Domain::parse("a.test").expect("a domain");
    discovery.refresh(&domain).await.expect("asked anew");
    assert_eq!(rebinding.questions.load(Ordering::SeqCst), 2);
    assert_eq!(
        hosts.connections.load(Ordering::SeqCst),
        1,
        "and then it leads inside"
    );
    assert_eq!(look_up(&discovery, "a.test").await, "a.test https://a.test/in");
}

#[tokio::test]
async fn an_address_is_no_name() {
    let hosts = Hosts::start(&["a.test"]).await;
    let client = hosts.client(Arc::new(Answers::always(&[GLOBAL])));
    let discovery = discovery(client, Duration::from_secs(8));
    for literal in [
        "1.2.3.4",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "localhost",
        "intranet",
    ] {
        let told = look_up(&discovery, literal).await;
        assert_eq!(told, "not the name of a host on the internet", "{literal}");
    }
    assert_eq!(hosts.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_without_an_address_is_said_to_have_none() {
    let hosts = Hosts::start(&["a.test"]).await;
    let client = hosts.client(Arc::new(Answers::always(&[])));
    let told = look_up(&discovery(client, Duration::from_secs(8)), "a.test").await;
    assert_eq!(told, "its name has no address");
}
