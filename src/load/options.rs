//! What `persona load` can be told.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;
use url::Url;

use super::{
    activity::{Activity, Mix},
    repeat::Repeated,
};
use crate::public_url::PublicUrl;

/// Plays the browsers of active users against one or many sites, and measures what they wait for.
///
/// People come at random, at the rates of the original service's own model: each active user does 40 things a day, most of
/// which is coming to a web site that has the script; a million of them make about 690 requests a second. They come whether or
/// not the site keeps up, and how long they wait counts from when they came: a slow site cannot hide behind a client that asks
/// less because it is slow.
///
/// Signing up, adding an address and resetting a password take a mail. They are read from the inbox of a laboratory (a build
/// with the feature `lab` and `mail.transport = "inbox"`); without one nobody can have an account here, and only what strangers
/// do is measured. What was left out is said in the report. An address gets a mail a minute at most, so where passwords are to be
/// reset, the measurement begins no earlier than a minute after the first of its people signed up.
///
/// Each person's requests come from an address of their own (X-Forwarded-For, of 198.18.0.0/15): let the site's
/// `web.trusted_proxies` name this machine, or its limits for one client will stop the run.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct LoadArgs {
    /// A site to send people to; several times for several. Each person is near one of them.
    #[arg(
        long = "url",
        value_name = "URL",
        default_value = "http://persona.localhost:8080"
    )]
    #[serde(rename = "urls", serialize_with = "texts")]
    pub(crate) urls: Vec<Url>,
    /// The address under which people reach the service, if that is not the first --url.
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<PublicUrl>,
    /// Active users.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub(crate) users: u64,
    /// So many times the requests of those users.
    #[arg(long, value_name = "TIMES", default_value_t = 1.0, value_parser = times)]
    pub(crate) rps_scale: f64,
    /// How often people come for what.
    #[arg(long, value_enum, default_value_t = Mix::Model)]
    pub(crate) mix: Mix,
    /// Leaves an activity out: include_only, signin, interaction_data, signup, reauth, add_email, reset_pass, change_pass.
    #[arg(long, value_name = "ACTIVITY")]
    pub(crate) without: Vec<Activity>,
    /// In place of people's days: this request over and over, as fast as it is answered; with --process of the site, also what
    /// it costs there, beside the bare signatures in it.
    #[arg(long, value_name = "REQUEST", value_enum)]
    pub(crate) repeat: Option<Repeated>,
    /// With --repeat: by so many people at once.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) at_once: u16,
    /// How long is measured, after the ramp: 60s, 5m.
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = duration)]
    #[serde(rename = "for_s", serialize_with = "seconds")]
    pub(crate) measured: Duration,
    /// During which ever more come, and which is not measured.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    #[serde(rename = "ramp_s", serialize_with = "seconds")]
    pub(crate) ramp: Duration,
    /// People with accounts, who stand for all of them. They sign up before the measurement.
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub(crate) accounts: usize,
    /// Where mails are read: a laboratory's site; several times if each site has its own [default: every --url].
    #[arg(long, value_name = "URL")]
    #[serde(serialize_with = "texts")]
    pub(crate) inbox: Vec<Url>,
    /// The share of visits that somebody makes near another site than their own, with the same cookies.
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = share)]
    pub(crate) moving: f64,
    /// Connections to each site at most; they are opened when needed, and kept. With fewer than a site takes requests at once, an
    /// overload waits here and not there.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) connections: u16,
    /// The seed of all that is drawn: who comes when and for what [default: another each time; the report has it].
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// The domain of people's addresses. Sites ask it whether it certifies its users.
    #[arg(long, value_name = "DOMAIN", default_value = "people.invalid")]
    pub(crate) domain: String,
    /// Trusts the certificates in this PEM file instead of the system's.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Also tells how much processor time this process of this machine used meanwhile: a site's; several times for several.
    #[arg(long, value_name = "PID")]
    pub(crate) process: Vec<u32>,
    /// Writes the results as JSON to this file; to standard output, and no table, with -.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// A number and a unit: `500ms`, `60s`, `5m`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    units
        .into_iter()
        .find_map(|(unit, seconds)| {
            let number = text.strip_suffix(unit)?.parse::<f64>().ok()?;
            Duration::try_from_secs_f64(number * seconds).ok()
        })
        .ok_or_else(|| "expected a time like 500ms, 60s or 5m".to_owned())
}

fn times(text: &str) -> Result<f64, String> {
    let times = text.parse::<f64>().ok();
    times
        .filter(|times| (0.0..=1e6).contains(times))
        .ok_or_else(|| "expected a number from 0 on".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok();
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn texts<S: serde::Serializer>(urls: &[Url], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(urls.iter().map(Url::as_str))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn parse(line: &str) -> Result<LoadArgs, String> {
        let command = Command::try_parse_from(std::iter::once("load").chain(line.split_whitespace()));
        command
            .map(|command| command.load)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn times_have_units() {
        for (text, expected_ms) in [
            ("500ms", 500),
            ("60s", 60_000),
            ("1.5m", 90_000),
            ("2h", 7_200_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(expected_ms)), "{text}");
        }
        for wrong in ["", "60", "s", "-1s", "1d", "NaNs", "infs", "1e99h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_said_is_a_million_users_for_a_minute_at_one_site() {
        let load = parse("").expect("nothing is needed");
        assert_eq!(load.urls.len(), 1);
        assert_eq!((load.users, load.rps_scale), (1_000_000, 1.0));
        assert_eq!(load.measured, Duration::from_secs(60));
        let two = parse("--url http://127.0.0.1:1 --url http://127.0.0.1:2").expect("two sites");
        assert_eq!(two.urls.len(), 2);
        for wrong in [
            "--rps-scale -1",
            "--rps-scale NaN",
            "--moving 1.1",
            "--connections 0",
            "--url persona",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
