//! What the world consists of: sites, ports, keys and the files that tell each site so.
//!
//! A plan is kept in the world's directory, so that a world that is started again is the same world. All ten
//! private keys lie in one place, which is right for a laboratory and nowhere else.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::WorldError;
use super::network::Link;
use super::web::{MAILS, WebPlan};
use crate::config::{SiteConfig, hex};

/// A world's directory, locked, and the sites in it.
pub(crate) struct Plan {
    pub(crate) dir: PathBuf,
    pub(crate) sites: Vec<PlannedSite>,
    pub(crate) settings: Settings,
    /// What browsers reach; a scenario has none.
    pub(crate) web: Option<WebPlan>,
    secrets: Secrets,
    /// Held until the world ends.
    _lock: fs::File,
}

/// What one run decides for all its sites.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) sites: usize,
    /// Share of datagrams lost on every link.
    pub(crate) loss: f64,
    /// Jitter, as a share of the one-way delay.
    pub(crate) jitter: f64,
    /// `[durability] answer` in every site's configuration.
    pub(crate) answer: &'static str,
    /// What the sites' configurations say of how they keep, compare and forget.
    pub(crate) upkeep: Upkeep,
}

/// How sites keep their log, compare themselves with others, and forget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upkeep {
    /// `[log] max_mib`.
    pub(crate) log_mib_max: u64,
    /// How often each peer is compared with.
    pub(crate) look_interval: Duration,
    /// `[erasure] interval_minutes`.
    pub(crate) erasure_minutes: u32,
}

impl Default for Upkeep {
    fn default() -> Upkeep {
        Upkeep {
            log_mib_max: 1_024,
            look_interval: Duration::from_secs(20),
            erasure_minutes: 60,
        }
    }
}

/// One data center to be.
#[derive(Clone, Debug)]
pub(crate) struct PlannedSite {
    /// Its place in the list, and in the table of regions.
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) city: &'static str,
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
    /// Which member this is: 16 hex digits.
    pub(crate) member: String,
    /// DER of the subject public key, in base64.
    pub(crate) public_key: String,
    /// Gossip, UDP.
    pub(crate) gossip: SocketAddr,
    /// Prometheus, TCP.
    pub(crate) metrics: SocketAddr,
    /// People, TCP, behind the front; in a scenario nobody listens there.
    pub(crate) web: SocketAddr,
    /// Its own directory: `data/`, `site.toml`, `site.log`.
    pub(crate) dir: PathBuf,
    /// PEM of certificate and private key; apart from the data, so that a wiped disk can come back.
    pub(crate) identity: PathBuf,
    /// It is not listed in anybody's configuration: it joins by invitation.
    pub(crate) invited: bool,
    /// How often it compares itself with others, if not as all do.
    pub(crate) look_interval: Option<Duration>,
}

impl PlannedSite {
    /// The directory that the site itself fills.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The admin API.
    pub(crate) fn socket(&self) -> PathBuf {
        self.data().join("admin.sock")
    }

    /// The configuration file, written anew before each start.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.join("site.toml")
    }

    /// What the process prints, of all its starts.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("site.log")
    }
}

impl Plan {
    /// Opens the world in `dir`, or makes it; with `fresh`, empties the directory first.
    pub(crate) fn open(dir: &Path, fresh: bool, settings: Settings) -> Result<Plan, WorldError> {
        fs::create_dir_all(dir).map_err(at("make", dir))?;
        let dir = dir.canonicalize().map_err(at("resolve", dir))?;
        let marker = dir.join(MARKER);
        if !marker.exists() && !holds_only_worlds(&dir)? {
            return Err(WorldError::NotOurs { path: dir });
        }
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&marker)
            .map_err(at("open", &marker))?;
        if lock.try_lock().is_err() {
            return Err(WorldError::InUse { path: dir });
        }
        let file = dir.join(SECRETS);
        if fresh {
            remove(&dir.join("sites"))?;
            remove(&dir.join("keys"))?;
            remove(&dir.join(MAILS))?;
            remove(&file)?;
        }
        let secrets = match fs::read_to_string(&file) {
            Ok(text) => serde_json::from_str::<Secrets>(&text).map_err(|error| {
                at("understand", &file)(io::Error::new(io::ErrorKind::InvalidData, error))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Secrets::make(),
            Err(error) => return Err(at("read", &file)(error)),
        };
        Plan::lay_out(dir, settings, secrets, lock)
    }

    fn lay_out(
        dir: PathBuf,
        settings: Settings,
        mut secrets: Secrets,
        lock: fs::File,
    ) -> Result<Plan, WorldError> {
        let keys = dir.join("keys");
        fs::create_dir_all(&keys).map_err(at("make", &keys))?;
        let mut ports = Ports::from(secrets.sites.first().map_or(PORT_BASE, |site| site.port));
        let mut sites = Vec::with_capacity(settings.sites);
        for (index, region) in gossip::regions::regions().iter().enumerate().take(settings.sites) {
            let name = region.code.to_string();
            let identity = keys.join(format!("{name}.pem"));
            // Ports may be taken since the last time: new ones then, known to all by their configurations.
            let port = ports.next_free()?;
            match secrets.sites.get_mut(index) {
                Some(known) => known.port = port,
                None => {
                    let made = crate::members::make_identity(&name).map_err(|error| WorldError::Site {
                        site: name.clone(),
                        words: error.to_string(),
                    })?;
                    write_private(&identity, made.pem.as_bytes())?;
                    let member = hex(&rand::random::<[u8; 8]>());
                    let public_key = BASE64.encode(&made.public_key);
                    secrets.sites.push(SecretSite {
                        member,
                        public_key,
                        port,
                    });
                }
            }
            let Some(known) = secrets.sites.get(index) else {
                continue;
            };
            let site_dir = dir.join("sites").join(&name);
            fs::create_dir_all(&site_dir).map_err(at("make", &site_dir))?;
            let planned = PlannedSite {
                index,
                city: region.city,
                latitude: region.latitude,
                longitude: region.longitude,
                member: known.member.clone(),
                public_key: known.public_key.clone(),
                gossip: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                metrics: SocketAddr::from((Ipv4Addr::LOCALHOST, port + METRICS_OFFSET)),
                web: SocketAddr::from((Ipv4Addr::LOCALHOST, port + WEB_OFFSET)),
                dir: site_dir,
                identity,
                invited: false,
                look_interval: None,
                name,
            };
            let socket = planned.socket();
            let bytes = socket.as_os_str().len();
            if bytes > SOCKET_PATH_BYTES_MAX {
                return Err(WorldError::LongPath { path: socket, bytes });
            }
            sites.push(planned);
        }
        let plan = Plan {
            dir,
            sites,
            settings,
            web: None,
            secrets,
            _lock: lock,
        };
        let text = serde_json::to_vec_pretty(&plan.secrets).unwrap_or_default();
        write_private(&plan.dir.join(SECRETS), &text)?;
        Ok(plan)
    }

    /// A second copy of a site, for the scenario `clone`: same member and key, its own directory and ports.
    pub(crate) fn twin(&self, of: &PlannedSite) -> Result<PlannedSite, WorldError> {
        let mut ports = Ports::from(self.sites.last().map_or(PORT_BASE, |s| s.gossip.port() + 1));
        let port = ports.next_free()?;
        let dir = self.dir.join("sites").join(format!("{}-copy", of.name));
        fs::create_dir_all(&dir).map_err(at("make", &dir))?;
        Ok(PlannedSite {
            gossip: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            metrics: SocketAddr::from((Ipv4Addr::LOCALHOST, port + METRICS_OFFSET)),
            web: SocketAddr::from((Ipv4Addr::LOCALHOST, port + WEB_OFFSET)),
            dir,
            ..of.clone()
        })
    }

    /// A new member in the place of one that is gone: another name, key and port. Who it is the others say.
    pub(crate) fn successor(&self, of: &PlannedSite) -> Result<PlannedSite, WorldError> {
        let name = format!("{}-new", of.name);
        let made = crate::members::make_identity(&name).map_err(|error| WorldError::Site {
            site: name.clone(),
            words: error.to_string(),
        })?;
        let identity = self.dir.join("keys").join(format!("{name}.pem"));
        write_private(&identity, made.pem.as_bytes())?;
        fs::create_dir_all(&of.dir).map_err(at("make", &of.dir))?;
        let last = self.sites.iter().map(|site| site.gossip.port()).max();
        // Each place has one of its own, also when several successors are made before any of them runs.
        let from = last.unwrap_or(PORT_BASE) + 1 + u16::try_from(of.index).unwrap_or(0) * SUCCESSOR_PORTS;
        let port = Ports::from(from).next_free()?;
        Ok(PlannedSite {
            name,
            member: String::new(),
            public_key: BASE64.encode(&made.public_key),
            gossip: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            metrics: SocketAddr::from((Ipv4Addr::LOCALHOST, port + METRICS_OFFSET)),
            web: SocketAddr::from((Ipv4Addr::LOCALHOST, port + WEB_OFFSET)),
            identity,
            invited: true,
            ..of.clone()
        })
    }

    /// Writes the configuration of one site, with the network as it is to be now, and reads it back the way
    /// the site will, so that a mistake shows here and not in ten logs.
    pub(crate) fn write_config(&self, site: &PlannedSite, links: &[Link]) -> Result<(), WorldError> {
        let upkeep = self.settings.upkeep;
        let looks = site.look_interval.unwrap_or(upkeep.look_interval);
        let config = ConfigFile {
            data: site.data(),
            site: &site.name,
            member: (!site.invited).then_some(&site.member),
            name: site.invited.then(|| format!("{}-1", site.name)),
            addresses: site.invited.then_some([site.gossip]),
            listen: site.gossip,
            identity: &site.identity,
            metrics: site.metrics,
            public_url: self.web.as_ref().map(|web| web.public_url.origin()),
            drain_timeout_ms: 10_000,
            startup_grace_ms: 10_000,
            cluster: Cluster {
                id: &self.secrets.cluster,
                index_key: &self.secrets.index_key,
                digest_key: &self.secrets.digest_key,
            },
            durability: Durability {
                answer: self.settings.answer,
                timeout_ms: 500,
            },
            log: Log {
                keep: "unstable",
                max_mib: upkeep.log_mib_max,
            },
            erasure: Erasure {
                interval_minutes: upkeep.erasure_minutes,
            },
            passwords: Passwords {
                memory_kib: 256,
                iterations: 1,
                parallelism: 1,
                threads: 1,
                queue_ms: 500,
            },
            disk: Disk {
                reserve_mib: 1,
                free_min_mib: 64,
            },
            web: self.web.as_ref().map(|_| WebTable { listen: site.web }),
            mail: self.web.as_ref().map(Mail::from),
            outbound: self.web.as_ref().map(|web| Outbound {
                ca_file: &web.authority,
            }),
            lab: Lab {
                look_interval_ms: u64::try_from(looks.as_millis()).unwrap_or(u64::MAX),
                idps: self
                    .web
                    .iter()
                    .map(|web| (web.idp.0.as_str(), web.idp.1))
                    .collect(),
                idp_pages: self
                    .web
                    .iter()
                    .map(|web| (web.idp.0.as_str(), web.idp.2.origin()))
                    .collect(),
                links,
            },
            members: if site.invited {
                Vec::new()
            } else {
                self.sites.iter().map(Member::from).collect()
            },
        };
        let text = toml::to_string(&config).map_err(|error| WorldError::Configuration {
            site: site.name.clone(),
            words: error.to_string(),
        })?;
        let path = site.config();
        write_private(&path, text.as_bytes())?;
        match SiteConfig::load(&path) {
            Ok(_) => Ok(()),
            Err(error) => Err(WorldError::Configuration {
                site: site.name.clone(),
                words: error.to_string(),
            }),
        }
    }

    /// Removes what the sites stored; reports stay.
    pub(crate) fn clear_sites(&self) -> Result<(), WorldError> {
        remove(&self.dir.join("sites"))
    }
}

/// What is kept between runs, readable by the owner only.
#[derive(Serialize, Deserialize)]
struct Secrets {
    cluster: String,
    index_key: String,
    digest_key: String,
    sites: Vec<SecretSite>,
}

#[derive(Serialize, Deserialize)]
struct SecretSite {
    member: String,
    public_key: String,
    port: u16,
}

impl Secrets {
    fn make() -> Secrets {
        Secrets {
            cluster: hex(&rand::random::<[u8; 16]>()),
            index_key: hex(&rand::random::<[u8; 32]>()),
            digest_key: hex(&rand::random::<[u8; 32]>()),
            sites: Vec::new(),
        }
    }
}

/// The configuration file of `persona site`, as far as a world uses it. Tables come after plain fields, as
/// TOML wants it.
#[derive(Serialize)]
struct ConfigFile<'a> {
    data: PathBuf,
    site: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<&'a String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    addresses: Option<[SocketAddr; 1]>,
    listen: SocketAddr,
    identity: &'a Path,
    metrics: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_url: Option<&'a str>,
    drain_timeout_ms: u64,
    startup_grace_ms: u64,
    cluster: Cluster<'a>,
    durability: Durability<'a>,
    log: Log<'a>,
    erasure: Erasure,
    passwords: Passwords,
    disk: Disk,
    #[serde(skip_serializing_if = "Option::is_none")]
    web: Option<WebTable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mail: Option<Mail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outbound: Option<Outbound<'a>>,
    lab: Lab<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<Member<'a>>,
}

#[derive(Serialize)]
struct Cluster<'a> {
    id: &'a str,
    index_key: &'a str,
    digest_key: &'a str,
}

#[derive(Serialize)]
struct Durability<'a> {
    answer: &'a str,
    timeout_ms: u64,
}

#[derive(Serialize)]
struct Log<'a> {
    keep: &'a str,
    max_mib: u64,
}

#[derive(Serialize)]
struct Erasure {
    interval_minutes: u32,
}

#[derive(Serialize)]
struct Passwords {
    memory_kib: u32,
    iterations: u32,
    parallelism: u32,
    threads: u32,
    queue_ms: u64,
}

#[derive(Serialize)]
struct Disk {
    reserve_mib: u64,
    free_min_mib: u64,
}

#[derive(Serialize)]
struct WebTable {
    listen: SocketAddr,
}

#[derive(Serialize)]
struct Mail {
    from: &'static str,
    transport: String,
}

impl From<&WebPlan> for Mail {
    fn from(web: &WebPlan) -> Mail {
        Mail {
            from: "Persona <no-reply@persona.localhost>",
            transport: format!("file:{}", web.mails.display()),
        }
    }
}

#[derive(Serialize)]
struct Outbound<'a> {
    ca_file: &'a Path,
}

#[derive(Serialize)]
struct Lab<'a> {
    look_interval_ms: u64,
    idps: BTreeMap<&'a str, SocketAddr>,
    idp_pages: BTreeMap<&'a str, &'a str>,
    links: &'a [Link],
}

#[derive(Serialize)]
struct Member<'a> {
    id: &'a str,
    name: String,
    site: &'a str,
    addresses: Vec<SocketAddr>,
    public_key: &'a str,
}

impl<'a> From<&'a PlannedSite> for Member<'a> {
    fn from(site: &'a PlannedSite) -> Member<'a> {
        Member {
            id: &site.member,
            name: format!("{}-1", site.name),
            site: &site.name,
            addresses: vec![site.gossip],
            public_key: &site.public_key,
        }
    }
}

/// Looks for ports that nobody uses now. Somebody may take one before the site does; the site then says so.
struct Ports {
    from: u16,
    next: u16,
}

impl Ports {
    fn from(port: u16) -> Ports {
        Ports {
            from: port,
            next: port,
        }
    }

    fn next_free(&mut self) -> Result<u16, WorldError> {
        while self.next < self.from.saturating_add(PORTS_TRIED) && self.next < u16::MAX - WEB_OFFSET {
            let port = self.next;
            self.next += 1;
            let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
                && TcpListener::bind((Ipv4Addr::LOCALHOST, port + METRICS_OFFSET)).is_ok()
                && TcpListener::bind((Ipv4Addr::LOCALHOST, port + WEB_OFFSET)).is_ok();
            if free {
                return Ok(port);
            }
        }
        Err(WorldError::Ports { from: self.from })
    }
}

/// `$XDG_STATE_HOME/persona/world`, as the XDG base directory specification places state.
pub(crate) fn default_dir() -> PathBuf {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    state
        .or_else(home)
        .unwrap_or_else(std::env::temp_dir)
        .join("persona/world")
}

/// Whether nothing is in a directory but worlds (scenarios have theirs inside the plain one's) and a report.
fn holds_only_worlds(dir: &Path) -> Result<bool, WorldError> {
    for entry in fs::read_dir(dir).map_err(at("read", dir))? {
        let entry = entry.map_err(at("read", dir))?;
        if entry.file_name() != REPORT && !entry.path().join(MARKER).exists() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes a file or directory tree, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), WorldError> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// For `map_err`: what was being done to which path.
pub(crate) fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WorldError {
    let path = path.to_path_buf();
    move |source| WorldError::Directory { doing, path, source }
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), WorldError> {
    let mut file = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(at("open", path))?;
    file.write_all(bytes).map_err(at("write", path))
}

/// Says that a directory is a world's, and is locked by the world that runs in it.
pub(crate) const MARKER: &str = "persona-world";

/// The verdict of the latest scenario.
pub(crate) const REPORT: &str = "report.json";

/// Keys and member ids.
const SECRETS: &str = "world.json";

/// `sun_path` holds 108 bytes, the last of them zero.
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 107;

const PORT_BASE: u16 = 7101;
const METRICS_OFFSET: u16 = 100;
const WEB_OFFSET: u16 = 200;
const PORTS_TRIED: u16 = 400;
const SUCCESSOR_PORTS: u16 = 2;

/// Said at the start and on the page: figures of hashing speed from a world mean nothing.
pub(crate) const HASHING_NOTE: &str =
    "password hashing is weakened here (argon2id with 256 KiB, 1 pass): ten sites share this machine";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_somebodys_files_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "years of work").unwrap();
        let settings = Settings {
            sites: 2,
            loss: 0.0,
            jitter: 0.0,
            answer: "sites:2",
            upkeep: Upkeep::default(),
        };
        let refused = Plan::open(dir.path(), true, settings).map(|_| ());
        assert!(matches!(refused, Err(WorldError::NotOurs { .. })));
        assert!(dir.path().join("thesis.tex").exists());
    }
}
