//! Real site processes that people reach.

use std::{collections::BTreeMap, fs, net::TcpListener, path::PathBuf, time::SystemTime};

use gossip::Writer;
use persona::{
    browserid::{KeySet, SignatureCache, SigningKey, Usage},
    config::{Answer, MailConfig, SiteConfig, WebConfig},
    limits::TrustedProxies,
    session::Session,
};
use reqwest::Method;
use serde_json::{Value, json};

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

/// Who is signed in, as long as the public URL is not of HTTPS.
pub(crate) const SESSION_COOKIE: &str = "persona_session";
/// What a browser began.
pub(crate) const BEGAN_COOKIE: &str = "persona_began";

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
            // As in earnest: on two sites' disks, where there are two.
            config.durability.answer = Answer::Sites(count.min(2));
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
        Sites::one_with(|_| {}).await
    }

    /// The same, configured otherwise.
    pub(crate) async fn one_with(adapt: impl Fn(&mut SiteConfig)) -> Sites {
        Sites::start_with(1, adapt).await
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

    /// A place in the directory of these sites, which goes with them.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.plan.directory.path().join(name)
    }

    /// The site's process.
    pub(crate) fn site(&self, number: usize) -> &Site {
        self.running[number].as_ref().expect("it runs")
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self, number: usize) {
        self.running[number].take().expect("it runs").kill().await;
    }

    /// Nothing reaches a site from the others, and nothing reaches them from it.
    pub(crate) async fn cut_off(&self, number: usize) {
        let cut = json!({ "cut_in": true, "cut_out": true });
        self.shape(number, &self.others_of(number), &cut).await;
    }

    /// Its links are as before.
    pub(crate) async fn heal(&self, number: usize) {
        self.shape(number, &self.others_of(number), &json!({})).await;
    }

    /// Shapes links of a site, as it sees them: what it sends, and what it hears.
    pub(crate) async fn shape(&self, number: usize, others: &[usize], shape: &Value) {
        let links = others.iter().map(|other| {
            let mut link = shape.clone();
            link["address"] = json!(self.plan.configs[*other].listen);
            link
        });
        let links = Value::Array(links.collect());
        let client = &self.site(number).client;
        let shaped = client.ask(Method::PUT, "/lab/links", Some(links)).await;
        shaped.expect("shaped");
    }

    fn others_of(&self, number: usize) -> Vec<usize> {
        (0..self.running.len()).filter(|other| *other != number).collect()
    }

    /// Waits until every site that runs has what any of them has now.
    pub(crate) async fn agree(&self) {
        let mut all: BTreeMap<Writer, u64> = BTreeMap::new();
        for site in self.running.iter().flatten() {
            for (writer, number) in site.vector().await {
                let most = all.entry(writer).or_default();
                *most = number.max(*most);
            }
        }
        for site in self.running.iter().flatten() {
            let has_all = async || {
                let vector = site.vector().await;
                let has =
                    |(writer, number): (&Writer, &u64)| vector.get(writer).is_some_and(|own| own >= number);
                all.iter().all(has).then_some(())
            };
            site.eventually("it has what the others have", has_all).await;
        }
    }

    /// Signs a browser's session anew, otherwise than the site would: by the site's own key, which a test can read and
    /// nobody else.
    pub(crate) fn alter_session(
        &self,
        number: usize,
        browser: &mut Browser,
        alter: impl FnOnce(&mut Session),
    ) {
        let directory = self.plan.configs[number].keys_directory();
        let pem = fs::read_to_string(directory.join("session.1.pem")).expect("the site's key");
        let key = SigningKey::from_pem(&pem).expect("a key");
        let mut keys = KeySet::ours(Usage::Session);
        keys.add(key.public().clone()).expect("added");
        let cookie = browser
            .cookies
            .get_mut(SESSION_COOKIE)
            .expect("somebody signed in");
        let mut session = Session::verify(cookie, &keys, &SignatureCache::new(1), now_ms())
            .expect("a session of this site");
        alter(&mut session);
        *cookie = session.sign(&key).expect("signed");
    }

    /// An operator ends what an account has of sessions.
    pub(crate) async fn reset_by_operator(&self, number: usize, email: &str) {
        let reset = json!({ "address": email, "password": PASSWORD });
        let client = &self.site(number).client;
        client.post("/password-reset", reset).await.expect("a reset");
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
