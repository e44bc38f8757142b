//! Tables of who is asking, and of what they may.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::*;

fn proxies(header: ForwardedBy) -> TrustedProxies {
    let networks = ["10.0.0.0/8", "192.0.2.7", "2001:db8:1::/48"];
    TrustedProxies {
        networks: networks.map(|text| text.parse().expect(text)).into(),
        header,
    }
}

#[track_caller]
fn check(header: ForwardedBy, peer: &str, lines: &[&str], expected: &str) {
    let name = match header {
        ForwardedBy::XForwardedFor => "x-forwarded-for",
        ForwardedBy::Forwarded => "forwarded",
    };
    let mut headers = HeaderMap::new();
    for line in lines {
        let line = HeaderValue::from_bytes(line.as_bytes()).expect("a header's value");
        headers.append(HeaderName::from_static(name), line);
    }
    let client = Client::of(peer.parse().expect(peer), &headers, &proxies(header));
    let direct: IpAddr = expected.parse().expect(expected);
    let direct = Client::of(direct, &HeaderMap::new(), &TrustedProxies::default());
    assert!(client == direct, "{peer} {lines:?}: not {expected}");
}

#[test]
fn the_client_is_the_first_from_the_right_that_is_no_proxy_of_ours() {
    let check = |peer, lines: &[&str], expected| check(ForwardedBy::XForwardedFor, peer, lines, expected);
    // Whoever is connected directly may say what it likes.
    check("203.0.113.5", &[], "203.0.113.5");
    check("203.0.113.5", &["198.51.100.1"], "203.0.113.5");
    check("::ffff:203.0.113.5", &["198.51.100.1"], "203.0.113.5");
    check("10.1.2.3", &[], "10.1.2.3");
    check("10.1.2.3", &["198.51.100.1"], "198.51.100.1");
    check("::ffff:10.1.2.3", &["198.51.100.1"], "198.51.100.1");
    check("10.1.2.3", &["203.0.113.9, 198.51.100.1"], "198.51.100.1");
    check(
        "10.1.2.3",
        &["203.0.113.9, 198.51.100.1, 10.9.9.9"],
        "198.51.100.1",
    );
    check(
        "10.1.2.3",
        &["203.0.113.9", "198.51.100.1, 192.0.2.7"],
        "198.51.100.1",
    );
    check("2001:db8:1::5", &["2001:db8:2::1"], "2001:db8:2::1");
    check("10.1.2.3", &["[2001:db8:2::1]:443"], "2001:db8:2::1");
    check("10.1.2.3", &["198.51.100.1:5000"], "198.51.100.1");
    check("10.1.2.3", &["::ffff:198.51.100.1"], "198.51.100.1");
    check("10.1.2.3", &["10.4.4.4, 10.5.5.5"], "10.4.4.4");
    // What cannot be read was let in by the one right of it.
    check("10.1.2.3", &["198.51.100.1, unknown, 10.5.5.5"], "10.5.5.5");
    check("10.1.2.3", &["198.51.100.1, "], "10.1.2.3");
    check("10.1.2.3", &[""], "10.1.2.3");
    check("10.1.2.3", &["198.51.100.1", "\u{e4}"], "10.1.2.3");
    check("10.1.2.3", &["300.1.1.1"], "10.1.2.3");
    check("10.1.2.3", &["198.51.100.1 10.5.5.5"], "10.1.2.3");
    let long = format!("198.51.100.1{}", ", 10.5.5.5".repeat(1000));
    check("10.1.2.3", &[&long], "10.5.5.5");
}

#[test]
fn the_standard_s_header_is_read_as_the_standard_says() {
    let check = |lines: &[&str], expected| check(ForwardedBy::Forwarded, "10.1.2.3", lines, expected);
    check(&["for=198.51.100.1"], "198.51.100.1");
    check(&["For=198.51.100.1;proto=https;by=10.1.2.3"], "198.51.100.1");
    check(&["proto=https; for=\"198.51.100.1:80\""], "198.51.100.1");
    check(&["for=\"[2001:db8:2::17]:4711\""], "2001:db8:2::17");
    check(
        &["for=203.0.113.9, for=198.51.100.1, for=10.5.5.5"],
        "198.51.100.1",
    );
    check(
        &["for=203.0.113.9;host=\"a,for=1.1.1.1\", for=10.5.5.5"],
        "203.0.113.9",
    );
    check(&["host=\"a\\\",for=1.1.1.1\";for=198.51.100.1"], "198.51.100.1");
    check(&["for=unknown"], "10.1.2.3");
    check(&["for=_hidden, for=10.5.5.5"], "10.5.5.5");
    check(&["for=198.51.100.1;for=203.0.113.9"], "10.1.2.3");
    check(&["198.51.100.1"], "10.1.2.3");
    check(&["by=198.51.100.1"], "10.1.2.3");
}

#[test]
fn only_the_configured_header_is_read() {
    let mut headers = HeaderMap::new();
    headers.insert("x-forwarded-for", HeaderValue::from_static("198.51.100.1"));
    let peer: IpAddr = "10.1.2.3".parse().expect("an address");
    let client = Client::of(peer, &headers, &proxies(ForwardedBy::Forwarded));
    assert!(client == Client::of(peer, &HeaderMap::new(), &TrustedProxies::default()));
    assert_eq!(format!("{client:?}"), "Client(IPv4)");
}

#[test]
fn networks_are_what_operators_write_and_nothing_else() {
    let has = |network: &str, address: &str| {
        let network: Network = network.parse().expect(network);
        network.contains(address.parse().expect(address))
    };
    assert!(has("10.0.0.0/8", "10.255.0.1") && !has("10.0.0.0/8", "11.0.0.1"));
    assert!(has("10.0.0.0/8", "::ffff:10.0.0.1") && !has("10.0.0.0/8", "::a00:1"));
    assert!(has("0.0.0.0/0", "255.1.1.1") && !has("0.0.0.0/0", "::1"));
    assert!(has("::/0", "2001:db8::1") && has("::1", "::1") && !has("::1", "::2"));
    assert!(has("192.0.2.128/25", "192.0.2.200") && !has("192.0.2.128/25", "192.0.2.1"));
    for wrong in [
        "",
        "10.0.0.0/33",
        "10.0.0.1/8",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10.0.0/8",
        "::/129",
        "2001:db8::1/32",
        "host",
        "10.0.0.0/8/8",
        "::/999",
    ] {
        assert!(wrong.parse::<Network>().is_err(), "{wrong}");
    }
    assert_eq!(
        "10.0.0.0/8".parse::<Network>().expect("a network").to_string(),
        "10.0.0.0/8"
    );
}

/// Limits and the clock that they go by, in milliseconds.
fn limits(settings: &LimitSettings) -> (Limits, Arc<AtomicU64>) {
    let clock = Arc::new(AtomicU64::new(1_000));
    let read = clock.clone();
    let limits = Limits::new(settings, move || {
        Duration::from_millis(read.load(Ordering::Relaxed))
    });
    (limits, clock)
}

fn client(address: &str) -> Client {
    Client::of(
        address.parse().expect(address),
        &HeaderMap::new(),
        &TrustedProxies::default(),
    )
}

fn small() -> LimitSettings {
    LimitSettings {
        client: Rate {
            burst: 40,
            per_second: 10,
        },
        network: Rate {
            burst: 100,
            per_second: 10,
        },
        address: Rate {
            burst: 40,
            per_second: 10,
        },
        ..LimitSettings::default()
    }
}

#[test]
fn a_burst_goes_and_then_as_much_as_flows_in() {
    let (limits, clock) = limits(&small());
    let ada = client("203.0.113.5");
    assert_eq!(limits.pay(ada, Cost::Password), Ok(()));
    assert_eq!(limits.pay(ada, Cost::Password), Ok(()));
    assert_eq!(
        limits.pay(ada, Cost::Read),
        Err(RetryAfter(Duration::from_secs(1)))
    );
    assert_eq!(
        limits.pay(ada, Cost::Password),
        Err(RetryAfter(Duration::from_secs(2)))
    );
    assert_eq!(
        limits.pay(client("203.0.113.6"), Cost::Password),
        Ok(()),
        "another one"
    );
    clock.fetch_add(100, Ordering::Relaxed);
    assert_eq!(limits.pay(ada, Cost::Read), Ok(()));
    assert!(
        limits.pay(ada, Cost::Read).is_err(),
        "who was refused paid nothing, and owes nothing"
    );
    clock.fetch_add(1_999, Ordering::Relaxed);
    assert!(limits.pay(ada, Cost::Password).is_err());
    clock.fetch_add(1, Ordering::Relaxed);
    assert_eq!(limits.pay(ada, Cost::Password), Ok(()));
    // However long it waits, no more than a burst is there.
    clock.fetch_add(3_600_000, Ordering::Relaxed);
    assert_eq!(
        limits.pay(ada, Cost::Mail),
        Ok(()),
        "what costs a whole bucket takes it"
    );
    assert!(limits.pay(ada, Cost::Read).is_err());
}

#[test]
fn what_is_given_back_is_there_again_and_no_more_than_that() {
    let (limits, _) = limits(&small());
    let ada = b"ada@example.com";
    for _ in 0..100 {
        assert_eq!(limits.pay_for_address(ada, Cost::Password), Ok(()));
        limits.give_back_to_address(ada, Cost::Password);
    }
    limits.give_back_to_address(ada, Cost::Password);
    assert_eq!(limits.pay_for_address(ada, Cost::Mail), Ok(()));
    assert!(limits.pay_for_address(ada, Cost::Read).is_err());
}

#[test]
fn ipv6_pays_by_64_bits_and_by_48() {
    let (limits, _) = limits(&small());
    assert_eq!(limits.pay(client("2001:db8:1:1::1"), Cost::Mail), Ok(()));
    assert!(
        limits.pay(client("2001:db8:1:1::2"), Cost::Read).is_err(),
        "one customer's machines"
    );
    assert_eq!(limits.pay(client("2001:db8:1:2::1"), Cost::Mail), Ok(()));
    assert!(
        limits.pay(client("2001:db8:1:3::1"), Cost::Mail).is_err(),
        "one customer's networks"
    );
    assert_eq!(
        limits.pay(client("2001:db8:1:3::1"), Cost::Password),
        Ok(()),
        "who was refused paid nothing"
    );
    assert_eq!(limits.pay(client("2001:db8:2:1::1"), Cost::Mail), Ok(()));
    assert_eq!(
        limits.pay(client("32.1.13.184"), Cost::Mail),
        Ok(()),
        "IPv4 with the same bytes is another"
    );
}

#[test]
fn addresses_and_relying_parties_pay_from_buckets_of_their_own() {
    let (limits, _) = limits(&LimitSettings {
        address: Rate {
            burst: 20,
            per_second: 1,
        },
        rp: Rate {
            burst: 4,
            per_second: 1,
        },
        ..small()
    });
    let payer = b"https://rp.example";
    assert_eq!(limits.pay_for_address(payer, Cost::Password), Ok(()));
    assert!(limits.pay_for_address(payer, Cost::Read).is_err());
    limits.give_back_to_address(payer, Cost::Password);
    assert_eq!(limits.pay_for_address(payer, Cost::Password), Ok(()));
    let (server, stranger) = (client("203.0.113.5"), client("203.0.113.6"));
    let (shop, other) = ("https://rp.example", "https://other.example");
    assert_eq!(limits.pay_for_rp(server, shop, Cost::Verify), Ok(()));
    assert_eq!(limits.pay_for_rp(server, shop, Cost::Verify), Ok(()));
    assert!(limits.pay_for_rp(server, shop, Cost::Verify).is_err());
    assert_eq!(limits.pay_for_rp(server, other, Cost::Verify), Ok(()));
    assert_eq!(
        limits.pay_for_rp(stranger, shop, Cost::Verify),
        Ok(()),
        "who says to be the same relying party empties no bucket of theirs"
    );
}

#[test]
fn a_relying_party_s_server_may_verify_a_thousand_a_second_for_as_long_as_it_likes() {
    let (limits, now) = limits(&LimitSettings::default());
    let server = client("203.0.113.5");
    for second in 0..600 {
        for number in 0..1000 {
            let paid = limits.pay_as_verifier(server, Cost::Verify);
            assert_eq!(paid, Ok(()), "{number} of second {second}");
            let paid = limits.pay_for_rp(server, "https://rp.example", Cost::Verify);
            assert_eq!(paid, Ok(()), "{number} of second {second}");
        }
        now.fetch_add(1_000, Ordering::Relaxed);
    }
    // But not whatever it likes: all relying parties behind one address have an end.
    let mut paid = 0_u32;
    while limits.pay_as_verifier(server, Cost::Verify).is_ok() {
        paid += 1;
    }
    assert!(paid <= 40_000, "{paid}");
}

#[test]
fn memory_is_bounded_and_who_goes_on_paying_is_not_forgotten() {
    let (limits, _) = limits(&LimitSettings {
        payers_max: 3_200,
        ..small()
    });
    let busy = client("203.0.113.5");
    assert_eq!(limits.pay(busy, Cost::Mail), Ok(()));
    for number in 0..100_000_u32 {
        let passing = Client::of(
            Ipv4Addr::from(number).into(),
            &HeaderMap::new(),
            &TrustedProxies::default(),
        );
        assert_eq!(limits.pay(passing, Cost::Password), Ok(()));
        assert!(limits.pay(busy, Cost::Read).is_err(), "after {number}");
    }
    assert!(
        limits.clients.remembered() <= 3_200,
        "{}",
        limits.clients.remembered()
    );
}

#[test]
fn strange_settings_do_no_harm() {
    let nothing = Rate {
        burst: 0,
        per_second: 0,
    };
    let (limits, _) = limits(&LimitSettings {
        client: nothing,
        payers_max: 0,
        ..small()
    });
    assert_eq!(
        limits.pay(client("203.0.113.5"), Cost::Mail),
        Ok(()),
        "no limit holds nothing back"
    );
    let all = LimitSettings {
        client: Rate {
            burst: u32::MAX,
            per_second: 1,
        },
        ..small()
    };
    let (limits, _) = self::limits(&all);
    assert_eq!(limits.pay(client("203.0.113.5"), Cost::Mail), Ok(()));
}
