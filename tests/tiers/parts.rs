//! The four processes of a site, made as `deploy/README.md` tells an operator to make them.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::SystemTime,
};

use persona::{
    config::{LabConfig, TiersConfig, hex},
    tiers::Tier,
};
use tokio::process::Command;

use crate::{
    browser::{Browser, Mailbox},
    process::{Plan, Site},
};

pub(crate) const PUBLIC_URL: &str = "http://persona.localhost:8080";
pub(crate) const PASSWORD: &str = "correct horse battery";
pub(crate) const SHOP: &str = "https://shop.example";
pub(crate) const ADA: &str = "ada@shop.invalid";

/// A site of four processes.
pub(crate) struct Parts {
    plan: Plan,
    pub(crate) mailbox: Mailbox,
    web: SocketAddr,
    inside: [SocketAddr; 3],
    running: [Option<Site>; 4],
}

/// In which order they are kept.
const ORDER: [Tier; 4] = [Tier::Replica, Tier::Keysigner, Tier::SecureWebhead, Tier::Webhead];

fn place(tier: Tier) -> usize {
    ORDER.iter().position(|other| *other == tier).expect("a tier")
}

impl Parts {
    /// Makes certificates with `persona tiers certify`, and starts all four.
    pub(crate) async fn start(lab: &LabConfig) -> Parts {
        let parts = Parts::plan(lab, None);
        let certified = Command::new(env!("CARGO_BIN_EXE_persona"))
            .args(["tiers", "certify", "--site", "site-0", "--out"])
            .arg(parts.tiers())
            .output()
            .await
            .expect("it runs");
        let said = String::from_utf8_lossy(&certified.stdout).into_owned();
        assert!(
            certified.status.success() && said.contains("keysigner.pem"),
            "{said}"
        );
        parts.run().await
    }

    /// The same, with the certificates that lie there already.
    pub(crate) async fn run(mut self) -> Parts {
        for tier in ORDER {
            self.begin(tier);
        }
        self.is_well().await;
        self
    }

    /// Writes everybody's configuration. What is found outside is as in the laboratory, by this authority.
    pub(crate) fn plan(lab: &LabConfig, authority: Option<&Path>) -> Parts {
        let mut plan = Plan::new(1);
        let directory = plan.directory.path().to_path_buf();
        // Held until all are drawn, so that no two are the same.
        let sockets: Vec<TcpListener> = (0..4)
            .map(|_| TcpListener::bind(("127.0.0.1", 0)).expect("a port"))
            .collect();
        let at: Vec<SocketAddr> = sockets
            .iter()
            .map(|socket| socket.local_addr().expect("an address"))
            .collect();
        let (inside, web) = ([at[0], at[1], at[2]], at[3]);
        let mails = directory.join("mails");
        fs::create_dir_all(&mails).expect("a directory");
        let config = &mut plan.configs[0];
        config.public_url = Some(PUBLIC_URL.parse().expect("a public URL"));
        config.tiers = Some(TiersConfig {
            identity: directory.join("tiers/replica.pem"),
            authority: directory.join("tiers/authority.pem"),
            listen: Some(inside[0]),
            replica: None,
            secure_webhead: None,
            keysigner: None,
        });
        let index_key = hex(&config.cluster.index_key.0);
        let parts = Parts {
            plan,
            mailbox: Mailbox(mails.clone()),
            web,
            inside,
            running: [None, None, None, None],
        };
        for tier in [Tier::Keysigner, Tier::SecureWebhead, Tier::Webhead] {
            fs::create_dir_all(parts.home(tier)).expect("a directory");
            let data = match tier {
                Tier::Webhead => String::new(),
                _ => format!("data = {:?}\n", parts.home(tier).join("data")),
            };
            let mut text = format!(
                "site = \"site-0\"\npublic_url = \"{PUBLIC_URL}\"\nindex_key = \"{index_key}\"\n{data}"
            );
            // All browsers here are one client, and hashing is not what is tested.
            text += "[limits]\nclient = { burst = 10000000, per_second = 1000000 }\n\
                address = { burst = 100000, per_second = 1000 }\n";
            let own = parts
                .at(tier)
                .map(|at| format!("listen = \"{at}\"\n"))
                .unwrap_or_default();
            text += &format!(
                "[tiers]\nidentity = {:?}\nauthority = {:?}\nreplica = \"{}\"\n{own}",
                parts.pem(tier.name()),
                parts.pem("authority"),
                inside[0],
            );
            match tier {
                Tier::Webhead => {
                    text += &format!(
                        "keysigner = \"{}\"\nsecure_webhead = \"{}\"\n[web]\nlisten = \"{web}\"\n",
                        inside[1], inside[2]
                    );
                }
                Tier::SecureWebhead => {
                    text += &format!(
                        "[mail]\nfrom = \"Persona <no-reply@persona.example>\"\ntransport = \"file:{}\"\n",
                        mails.display()
                    );
                    text += "[passwords]\nmemory_kib = 8\niterations = 1\n";
                    if let Some(authority) = authority {
                        text += &format!("[outbound]\nca_file = {authority:?}\n");
                    }
                    text += "[lab.idps]\n";
                    for (name, at) in &lab.idps {
                        text += &format!("\"{name}\" = \"{at}\"\n");
                    }
                }
                Tier::Keysigner | Tier::Replica => {}
            }
            fs::write(parts.file(tier), text).expect("written");
        }
        parts
    }

    /// Where a tier's own files are.
    pub(crate) fn home(&self, tier: Tier) -> PathBuf {
        self.directory().join(format!("home-{tier}"))
    }

    pub(crate) fn directory(&self) -> &Path {
        self.plan.directory.path()
    }

    /// The site's certificates.
    pub(crate) fn tiers(&self) -> PathBuf {
        self.directory().join("tiers")
    }

    pub(crate) fn pem(&self, name: &str) -> PathBuf {
        self.tiers().join(format!("{name}.pem"))
    }

    fn file(&self, tier: Tier) -> PathBuf {
        self.home(tier).join("tier.toml")
    }

    /// Where other tiers reach a tier.
    pub(crate) fn at(&self, tier: Tier) -> Option<SocketAddr> {
        self.inside.get(place(tier)).copied()
    }

    /// Where people reach the site.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.web)
    }

    pub(crate) fn browser(&self) -> Browser {
        Browser::new(&self.url())
    }

    /// A process.
    pub(crate) fn part(&self, tier: Tier) -> &Site {
        self.running[place(tier)].as_ref().expect("it runs")
    }

    /// The same, to be ended.
    pub(crate) fn take(&mut self, tier: Tier) -> Site {
        self.running[place(tier)].take().expect("it runs")
    }

    /// Starts one of the processes.
    pub(crate) fn begin(&mut self, tier: Tier) {
        let (config, data) = match tier {
            Tier::Replica => (self.plan.write(0), self.plan.configs[0].data.clone()),
            _ => (self.file(tier), self.home(tier)),
        };
        let begun = Site::spawn_with(&config, &data, &["--tiers", tier.name()]);
        self.running[place(tier)] = Some(begun);
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self, tier: Tier) {
        self.take(tier).kill().await;
    }

    /// Waits until people may be sent here.
    pub(crate) async fn is_well(&self) {
        let well = async || {
            for tier in ORDER {
                let part = self.part(tier);
                assert!(part.is_alive(), "the {tier} ended:\n{}", part.log.text());
            }
            (self.heartbeat().await? == 200).then_some(())
        };
        self.part(Tier::Webhead).eventually("it is well", well).await;
    }

    /// The status of its heartbeat; `None`: nobody answers.
    pub(crate) async fn heartbeat(&self) -> Option<u16> {
        let answer = reqwest::get(format!("{}/__heartbeat__", self.url())).await.ok()?;
        Some(answer.status().as_u16())
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("after 1970").as_millis() as u64
}
