//! What is not to be told apart: whose an address is, by a wrong password or by asking for a reset. The answers are the same to
//! the byte; the times are measured, side by side.
//!
//! `cargo test --release --workspace --features lab --test wsapi alike -- --nocapture` prints how they are distributed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    browser::{Browser, Reply},
    primary::Primary,
    sites::{PASSWORD, SHOP, Sites},
};

/// Of each kind. Ten wrong passwords lock an account, so there are many accounts.
const ADDRESSES: usize = 24;
const GUESSES: usize = 3;

/// All that an answer shows but the moment of it.
fn seen(reply: &Reply) -> (u16, String, Vec<(String, String)>) {
    let mut headers: Vec<_> = reply
        .headers
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "date" | "set-cookie"))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
        .collect();
    headers.sort();
    (reply.status.as_u16(), reply.text.clone(), headers)
}

/// How long one kind took.
struct Times {
    kind: &'static str,
    took: Vec<Duration>,
}

impl Times {
    fn at(&self, hundredths: usize) -> Duration {
        self.took[(self.took.len() - 1) * hundredths / 100]
    }
}

/// Asks about addresses of two kinds in turn, so that whatever else this machine does meets both. Gives the times, sorted.
async fn measure(
    browser: &mut Browser,
    kinds: [(&'static str, &str); 2],
    ask: impl AsyncFn(&mut Browser, String) -> Reply,
) -> [Times; 2] {
    let mut times = kinds.map(|(kind, _)| Times {
        kind,
        took: Vec::new(),
    });
    let mut looks = None;
    for guess in 0..GUESSES {
        for number in 0..ADDRESSES {
            // Neither is always the first.
            for at in [(guess + number) % 2, (guess + number + 1) % 2] {
                let email = format!("{}-{number}@{}", kinds[at].1, domain(kinds[at].1));
                let begun = Instant::now();
                let reply = ask(browser, email).await;
                times[at].took.push(begun.elapsed());
                let look = looks.get_or_insert_with(|| seen(&reply)).clone();
                assert_eq!(look, seen(&reply), "{}", kinds[at].0);
            }
        }
    }
    for times in &mut times {
        times.took.sort_unstable();
    }
    times
}

fn domain(name: &str) -> &'static str {
    if name == "passwordless" {
        "idp.localhost"
    } else {
        "shop.invalid"
    }
}

/// Prints both, and fails if a handful of questions would tell them apart.
fn compare(what: &str, [one, other]: &[Times; 2]) {
    println!(
        "{what:<24} {:>6} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "n", "p5", "p25", "p50", "p75", "p95"
    );
    for times in [one, other] {
        let [p5, p25, p50, p75, p95] =
            [5, 25, 50, 75, 95].map(|at| format!("{:.2} ms", times.at(at).as_secs_f64() * 1e3));
        println!(
            "  {:<22} {:>6} {p5:>9} {p25:>9} {p50:>9} {p75:>9} {p95:>9}",
            times.kind,
            times.took.len()
        );
    }
    // Medians closer together than the middle halves are wide, and half a millisecond for what a timer sees.
    let apart = one.at(50).abs_diff(other.at(50));
    let wide = (one.at(75) - one.at(25)).max(other.at(75) - other.at(25));
    assert!(
        apart <= wide + Duration::from_micros(500),
        "{what}: the medians are {apart:?} apart, the halves {wide:?} wide"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn alike_are_an_address_that_nobody_has_and_a_wrong_password_and_what_a_reset_is_answered() {
    let primary = Primary::start().await;
    let sites = Sites::one_with(|config| {
        primary.known_to(config);
        // As in earnest: the difference that a hash would make is to be seen.
        config.passwords.memory_kib = 19 * 1024;
        config.passwords.iterations = 2;
    })
    .await;
    for number in 0..ADDRESSES {
        sites.create(0, &[&format!("known-{number}@shop.invalid")]).await;
        sites.create(0, &[&format!("resets-{number}@shop.invalid")]).await;
        let email = format!("passwordless-{number}@idp.localhost");
        primary.sign_in(&mut sites.browser(0), &email).await;
    }
    let mut thief = sites.browser(0);
    thief.context().await;
    let guess =
        async |browser: &mut Browser, email: String| browser.sign_in(&email, "not the password").await;
    let kinds = [("wrong password", "known"), ("nobody's address", "unknown")];
    compare("authenticate_user", &measure(&mut thief, kinds, &guess).await);
    let kinds = [
        ("no password", "passwordless"),
        ("nobody's address", "unheard-of"),
    ];
    compare("authenticate_user", &measure(&mut thief, kinds, &guess).await);

    // Each address gets one mail a minute: the first question of each counts, the rest are throttled, both alike.
    let ask = async |browser: &mut Browser, email: String| {
        let args = json!({ "email": email, "site": SHOP });
        browser.post("stage_reset", args).await
    };
    let mut resets =
        [("somebody's address", "resets"), ("nobody's address", "nobodys")].map(|(kind, name)| {
            let times = Times {
                kind,
                took: Vec::new(),
            };
            (name, times)
        });
    let mut looks: Option<(u16, Value)> = None;
    for number in 0..ADDRESSES {
        for at in [number % 2, (number + 1) % 2] {
            let (name, times) = &mut resets[at];
            let begun = Instant::now();
            let reply = ask(&mut thief, format!("{name}-{number}@shop.invalid")).await;
            times.took.push(begun.elapsed());
            let look = (reply.status.as_u16(), reply.json());
            assert_eq!(looks.get_or_insert_with(|| look.clone()), &look, "{name}");
            assert_eq!(reply.headers.get_all("set-cookie").iter().count(), 1, "{reply:?}");
        }
    }
    let mut resets = resets.map(|(_, times)| times);
    resets.iter_mut().for_each(|times| times.took.sort_unstable());
    compare("stage_reset", &resets);
    thief.sign_in("known-0@shop.invalid", PASSWORD).await.good();
}
