//! `persona account …`: what people do, done by an operator.

use std::{
    io::{BufRead, IsTerminal, stdin},
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Subcommand;
use persona::settlement::receipts::ErasureReport;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::SiteAt;

#[derive(clap::Args)]
pub(super) struct AccountArgs {
    #[command(flatten)]
    site: SiteAt,
    #[command(subcommand)]
    command: AccountCommand,
}

/// Passwords are read from standard input, a line each, so that they stand in no process list or shell history.
#[derive(Subcommand)]
enum AccountCommand {
    /// Make an account; you vouch for the address. Reads the password.
    Create {
        /// The person's address.
        address: String,
    },
    /// Check an address and password. Reads the password.
    SignIn {
        /// One of the person's addresses.
        address: String,
    },
    /// Change a password. Reads the old one, then the new one.
    ChangePassword {
        /// The account: 30 hex digits.
        account: String,
    },
    /// Set a password for whoever owns the address; you vouch for them. All sessions and certificates end, and the
    /// account's other addresses must be proven again. Reads the new password.
    ResetPassword {
        /// A verified address of the account.
        address: String,
    },
    /// Give an account another address, or move it there from another account; you vouch for it.
    AddEmail {
        /// The account: 30 hex digits.
        account: String,
        /// The address.
        address: String,
    },
    /// Take an address off an account.
    RemoveEmail {
        /// The account: 30 hex digits.
        account: String,
        /// The address.
        address: String,
    },
    /// End every session and certificate of an account.
    SignOutEverywhere {
        /// The account: 30 hex digits.
        account: String,
    },
    /// Cancel an account, for good: its addresses become free, its password and addresses are erased.
    Cancel {
        /// The account: 30 hex digits.
        account: String,
        /// Needed, because it cannot be undone.
        #[arg(long)]
        yes: bool,
    },
    /// Show which sites' disks hold nothing of a cancelled account any more, and what the others wait for. Its addresses
    /// are erased, so only its id names it. Exit status 0: all of them; 2: not yet.
    Erased {
        /// The account: 30 hex digits.
        account: String,
        /// Wait until it is erased everywhere, at most this long.
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        wait: u64,
        /// Print the site's own JSON instead.
        #[arg(long)]
        json: bool,
    },
    /// Show an account.
    Show {
        /// The account (30 hex digits), or one of its addresses.
        account: String,
    },
}

pub(super) async fn run(args: AccountArgs) -> Result<ExitCode, String> {
    let site = &args.site;
    match args.command {
        AccountCommand::Create { address } => {
            let password = read_password("Password")?;
            let answer = site
                .call(
                    Method::POST,
                    "/accounts",
                    Some(json!({"address": address, "password": password})),
                )
                .await?;
            println!(
                "Account {} made; {address} is its verified address.",
                text(&answer, "account")
            );
            say_durability(&answer);
        }
        AccountCommand::SignIn { address } => {
            let password = read_password("Password")?;
            let answer = site
                .call(
                    Method::POST,
                    "/sign-in",
                    Some(json!({"address": address, "password": password})),
                )
                .await?;
            println!("Right: {address} is account {}.", text(&answer, "account"));
        }
        AccountCommand::ChangePassword { account } => {
            let old = read_password("Old password")?;
            let new = read_password("New password")?;
            let body = json!({"old": old, "new": new});
            let answer = site
                .call(Method::POST, &format!("/accounts/{account}/password"), Some(body))
                .await?;
            println!("Password changed; sessions that began before are over.");
            say_durability(&answer);
        }
        AccountCommand::ResetPassword { address } => {
            let password = read_password("New password")?;
            let body = json!({"address": address, "password": password});
            let answer = site.call(Method::POST, "/password-reset", Some(body)).await?;
            println!(
                "Password of account {} reset; its sessions are over, its other addresses must be proven again.",
                text(&answer, "account")
            );
            say_durability(&answer);
        }
        AccountCommand::AddEmail { account, address } => {
            let path = format!("/accounts/{account}/emails");
            let answer = site
                .call(Method::POST, &path, Some(json!({"address": address})))
                .await?;
            println!("{address} belongs to account {account} now.");
            say_durability(&answer);
        }
        AccountCommand::RemoveEmail { account, address } => {
            let path = format!("/accounts/{account}/emails/{address}");
            let answer = site.call(Method::DELETE, &path, None).await?;
            println!("{address} is free now.");
            say_durability(&answer);
        }
        AccountCommand::SignOutEverywhere { account } => {
            let path = format!("/accounts/{account}/sign-out-everywhere");
            let answer = site.call(Method::POST, &path, None).await?;
            println!("Every session of account {account} is over.");
            say_durability(&answer);
        }
        AccountCommand::Cancel { account, yes } => {
            if !yes {
                return Err("cancelling cannot be undone; say --yes as well".into());
            }
            let answer = site
                .call(Method::POST, &format!("/accounts/{account}/cancel"), None)
                .await?;
            println!("Account {account} is cancelled; its addresses are free.");
            say_durability(&answer);
        }
        AccountCommand::Erased { account, wait, json } => {
            return erased(site, &account, Duration::from_secs(wait), json).await;
        }
        AccountCommand::Show { account } => {
            let id = if account.contains('@') {
                let answer = site
                    .call(Method::GET, &format!("/emails/{account}"), None)
                    .await?;
                match answer.get("account").and_then(Value::as_str) {
                    Some(id) => id.to_owned(),
                    None => {
                        println!("{account} is free: no account has it.");
                        return Ok(ExitCode::SUCCESS);
                    }
                }
            } else {
                account
            };
            let answer = site.call(Method::GET, &format!("/accounts/{id}"), None).await?;
            println!(
                "Account   {id}{}",
                if answer["cancelled"] == true {
                    "  (cancelled)"
                } else {
                    ""
                }
            );
            println!(
                "Password  {}",
                if answer["has_password"] == true {
                    "yes"
                } else {
                    "none"
                }
            );
            for email in answer["emails"].as_array().into_iter().flatten() {
                let verified = if email["verified"] == true {
                    "verified"
                } else {
                    "to be proven again"
                };
                println!("Address   {}  ({verified})", text(email, "address"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Between two looks at an erasure that is waited for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

async fn erased(site: &SiteAt, account: &str, wait: Duration, json: bool) -> Result<ExitCode, String> {
    let until = Instant::now() + wait;
    let path = format!("/accounts/{account}/erased");
    let (answer, report) = loop {
        let answer = site.call(Method::GET, &path, None).await?;
        let report: ErasureReport = serde_json::from_value(answer.clone())
            .map_err(|error| format!("the answer makes no sense: {error}"))?;
        // An account that is not cancelled is never erased, and waiting does not cancel it.
        if report.complete || !report.cancelled || Instant::now() >= until {
            break (answer, report);
        }
        tokio::time::sleep(LOOK_EVERY.min(until.saturating_duration_since(Instant::now()))).await;
    };
    if json {
        println!("{answer:#}");
    } else {
        print_erasure(&report);
    }
    Ok(if report.complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

fn print_erasure(report: &ErasureReport) {
    if !report.cancelled {
        println!(
            "Account {} is not cancelled, so nothing of it is erased. `persona account cancel` does that, for good.",
            report.account
        );
        return;
    }
    println!("{:<18} {:<18} erased", "site", "member");
    for member in &report.members {
        let state = match (member.erased_at_ms, &member.waits_for) {
            (Some(at_ms), _) => ago(at_ms),
            (None, Some(waits_for)) => format!("not yet; waits for {waits_for}"),
            (None, None) => "not yet".to_owned(),
        };
        println!("{:<18} {:<18} {state}", member.site, member.name);
    }
    if report.complete {
        println!("Erased everywhere. Backups that were taken elsewhere end at their maximum age.");
        if !report.put_out.is_empty() {
            println!(
                "Not known of the disks of members that were put out, which may hold it, and may hand over more of it: {}.",
                report.put_out.join(", ")
            );
        }
    } else {
        println!("Not yet erased everywhere; with --wait SECONDS this waits for it.");
    }
}

/// How long ago a moment was, by the clock here: roughly, for people.
fn ago(at_ms: u64) -> String {
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64);
    let minutes = now_ms.saturating_sub(at_ms) / 60_000;
    match minutes {
        0 => "within the last minute".to_owned(),
        1..120 => format!("{minutes} min ago"),
        120..2_880 => format!("{} h ago", minutes / 60),
        _ => format!("{} days ago", minutes / 1_440),
    }
}

fn text<'a>(answer: &'a Value, field: &str) -> &'a str {
    answer.get(field).and_then(Value::as_str).unwrap_or("?")
}

fn say_durability(answer: &Value) {
    match text(answer, "answered") {
        "degraded" => println!(
            "Done here, not yet elsewhere: too few other sites are in reach. `persona status` shows when they are."
        ),
        "local" => println!("On this site's disk."),
        sites => println!("On disk at {} sites.", sites.trim_start_matches("sites:")),
    }
}

fn read_password(prompt: &str) -> Result<String, String> {
    if stdin().is_terminal() {
        eprintln!("{prompt} (it is shown as you type):");
    }
    let mut line = String::new();
    stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| format!("could not read the password: {error}"))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(format!(
            "no {} was given on standard input",
            prompt.to_lowercase()
        ));
    }
    Ok(password.to_owned())
}
