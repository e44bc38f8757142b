//! Real site processes that people reach.

use std::{net::TcpListener, path::PathBuf, time::SystemTime};

use persona::{
    config::{Answer, MailConfig, SiteConfig, WebConfig},
    limits::TrustedProxies,
};

use serde_json::json;

use crate::{
    browser::{Browser, Mailbox},
    idp::Idps,
    process::{Plan, Site},
};

/// Under which all of them are reached.
pub(crate) const PUBLIC_URL: &str = "http://persona.localhost:8080";
/// The password of everybody here.
pub(crate) const PASSWORD: &str = "correct horse battery";
/// A relying party.
pub(crate) const SHOP: &str = "https://shop.example";

/// Some sites of one cluster.
pub(crate) struct Sites {
    plan: Plan,
    running: Vec<Option<Site>>,
    pub(crate) mailbox: Mailbox,
}

impl Sites {
    /// Starts so many.
    pub(crate) async fn start(count: usize) -> Sites {
        Sites::start_with(count, |_| {}).await
    }

    /// The same, configured otherwise.
    pub(crate) async fn start_with(count: usize, adapt: impl Fn(&mut SiteConfig)) -> Sites {
        let mut sites = Sites::plan(count, adapt);
        for number in 0..count {
            sites.running[number] = Some(sites.plan.start(number).await);
        }
        for number in 0..count {
            sites.signs(number).await;
        }
        sites
    }

    /// Some sites that do not run yet.
    pub(crate) fn plan(count: usize, adapt: impl Fn(&mut SiteConfig)) -> Sites {
        let mut plan = Plan::new(count);
        let mails = plan.directory.path().join("mails");
        for config in &mut plan.configs {
            config.public_url = Some(PUBLIC_URL.parse().expect("a public URL"));
            config.web = Some(WebConfig {
                listen: free_address(),
                tls: None,
                trusted_proxies: TrustedProxies::default(),
            });
            config.mail = Some(mail(&mails));
            // All browsers here are one client.
            config.limits.client.burst = 10_000_000;
            config.limits.client.per_second = 1_000_000;
            config.limits.address.burst = 100_000;
            adapt(config);
        }
        Sites {
            running: (0..count).map(|_| None).collect(),
            plan,
            mailbox: Mailbox(mails),
        }
    }

    /// So many, which find these domains.
    pub(crate) async fn finding(count: usize, idps: &Idps) -> Sites {
        let authority = idps.authority_file();
        Sites::start_with(count, |config| {
            config.lab = idps.lab();
            config.outbound.ca_file = Some(authority.clone());
            if count == 1 {
                config.durability.answer = Answer::Local;
            }
        })
        .await
    }

    /// One site alone, which waits for nobody.
    pub(crate) async fn one() -> Sites {
        Sites::start_with(1, |config| config.durability.answer = Answer::Local).await
    }

    /// Where people reach a site.
    pub(crate) fn url(&self, number: usize) -> String {
        let web = self.plan.configs[number].web.as_ref().expect("a listener");
        format!("http://{}", web.listen)
    }

    /// A new browser that reaches this site.
    pub(crate) fn browser(&self, number: usize) -> Browser {
        Browser::new(&self.url(number))
    }

    /// Where a site keeps its signing keys.
    pub(crate) fn keys(&self, number: usize) -> PathBuf {
        self.plan.configs[number].keys_directory()
    }

    /// Where a site's data lie.
    pub(crate) fn data(&self, number: usize) -> PathBuf {
        self.plan.configs[number].data.clone()
    }

    /// Starts one that does not run, and waits until its keys may sign.
    pub(crate) async fn begin(&mut self, number: usize) {
        self.running[number] = Some(self.plan.start(number).await);
        self.signs(number).await;
    }

    /// The site's process.
    pub(crate) fn site(&self, number: usize) -> &Site {
        self.running[number].as_ref().expect("it runs")
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self, number: usize) {
        self.running[number].take().expect("it runs").kill().await;
    }

    /// An account with these addresses, made by an operator.
    pub(crate) async fn create(&self, number: usize, emails: &[&str]) {
        let client = &self.site(number).client;
        let (first, others) = emails.split_first().expect("an address");
        let made = json!({ "address": first, "password": PASSWORD });
        let made = client.post("/accounts", made).await.expect("an account");
        let account = made["account"].as_str().expect("its id");
        for email in others {
            let path = format!("/accounts/{account}/emails");
            client
                .post(&path, json!({ "address": email }))
                .await
                .expect("added");
        }
    }

    /// Waits until its keys may sign.
    async fn signs(&self, number: usize) {
        let url = format!("{}/__heartbeat__", self.url(number));
        let well = async || {
            let answer = reqwest::get(&url).await.ok()?;
            answer.status().is_success().then_some(())
        };
        self.site(number).eventually("it is well", well).await;
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("after 1970").as_millis() as u64
}

fn free_address() -> std::net::SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address")
}

fn mail(directory: &PathBuf) -> MailConfig {
    std::fs::create_dir_all(directory).expect("a directory");
    let text = format!(
        "from = \"Persona <no-reply@persona.example>\"\ntransport = \"file:{}\"\n",
        directory.display()
    );
    toml::from_str(&text).expect("a configuration")
}
