//! The files that a member begins with: a key, a configuration, and for the first of a cluster who it is.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use crdt::MemberId;
use rand::RngExt;

use super::{
    enrol::check_words,
    identity::{IdentityError, make_identity, write_private},
    own::{MemberFile, OwnError},
};
use crate::config::{ClusterConfig, ConfigError, Hex, Member, SiteConfig};

/// What a member is to be called, and where it listens.
#[derive(Clone, Debug)]
pub struct Description {
    /// For people.
    pub name: String,
    /// Its site.
    pub site: String,
    /// Where it listens for gossip.
    pub listen: SocketAddr,
    /// Where others dial it; if none, where it listens.
    pub addresses: Vec<String>,
}

/// Why the files could not be made. Those that had been made are left.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// The description.
    #[error("{0}")]
    Description(String),
    /// A file is there, or cannot be made.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Who it is.
    #[error(transparent)]
    Own(#[from] OwnError),
    /// What was written is no configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Begins a cluster: the first member's files, in a directory that must not have them yet. Gives the configuration.
pub fn first_member(directory: &Path, description: &Description) -> Result<PathBuf, FoundError> {
    let mut rng = rand::rng();
    let cluster = ClusterConfig {
        id: Hex(rng.random()),
        index_key: Hex(rng.random()),
        digest_key: Hex(rng.random()),
    };
    let path = lay_out(directory, description, &cluster)?;
    let data = directory.join("data");
    let private = fs::DirBuilder::new().mode(0o700).create(&data);
    private.map_err(|source| FoundError::Io {
        path: data.clone(),
        source,
    })?;
    MemberFile {
        member: Member(MemberId::from_bytes(rng.random())),
        founder: true,
        arriving: false,
        members: Vec::new(),
    }
    .write(&data)?;
    SiteConfig::load(&path)?;
    Ok(path)
}

/// Prepares another member of the cluster that `like` is a configuration of: it is still to be invited.
pub fn further_member(
    directory: &Path,
    description: &Description,
    like: &Path,
) -> Result<PathBuf, FoundError> {
    let path = lay_out(directory, description, &SiteConfig::load(like)?.cluster)?;
    SiteConfig::load(&path)?;
    Ok(path)
}

fn lay_out(
    directory: &Path,
    description: &Description,
    cluster: &ClusterConfig,
) -> Result<PathBuf, FoundError> {
    let Description {
        name,
        site,
        listen,
        addresses,
    } = description;
    let addresses = match addresses.as_slice() {
        [] if listen.ip().is_unspecified() => {
            return Err(FoundError::Description(format!(
                "others cannot dial {listen}: say where they can, with --address HOST:PORT"
            )));
        }
        [] => vec![listen.to_string()],
        some => some.to_vec(),
    };
    check_words(name, site, &addresses).map_err(FoundError::Description)?;
    let at = |path: &Path| {
        let path = path.to_path_buf();
        move |source| FoundError::Io { path, source }
    };
    fs::create_dir_all(directory).map_err(at(directory))?;
    let directory = directory.canonicalize().map_err(at(directory))?;
    let config = directory.join("site.toml");
    let identity = directory.join("identity.pem");
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let quoted_path = |path: &Path| quoted(&path.to_string_lossy());
    let list: Vec<String> = addresses.iter().map(|address| quoted(address)).collect();
    let text = format!(
        r#"# Every field: deploy/README.md.
name = {name}
site = {site}
listen = "{listen}"
addresses = [{addresses}]
data = {data}
identity = {identity}

[cluster] # secret, and the same at every site
id = {id}
index_key = {index_key}
digest_key = {digest_key}
"#,
        name = quoted(name),
        site = quoted(site),
        addresses = list.join(", "),
        data = quoted_path(&directory.join("data")),
        identity = quoted_path(&identity),
        id = quoted(&crate::config::hex(&cluster.id.0)),
        index_key = quoted(&crate::config::hex(&cluster.index_key.0)),
        digest_key = quoted(&crate::config::hex(&cluster.digest_key.0)),
    );
    // The configuration comes first: where there is one already, its key stays untouched.
    write_private(&config, &text).map_err(at(&config))?;
    write_private(&identity, &make_identity(name)?.pem).map_err(at(&identity))?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(name: &str) -> Description {
        Description {
            name: name.to_owned(),
            site: "oslo".to_owned(),
            listen: "127.0.0.1:7101".parse().expect("an address"),
            addresses: Vec::new(),
        }
    }

    #[test]
    fn the_files_of_a_cluster_s_first_members() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (first, second) = (directory.path().join("one"), directory.path().join("two"));
        let path = first_member(&first, &description("oslo-1")).expect("made");
        let config = SiteConfig::load(&path).expect("a configuration");
        assert_eq!(config.addresses, ["127.0.0.1:7101"]);
        let file = MemberFile::read(&config.data).expect("readable").expect("a file");
        assert!(file.founder);
        let again = first_member(&first, &description("oslo-1")).expect_err("it is there already");
        assert!(again.to_string().contains("site.toml"), "{again}");

        let like = further_member(&second, &description("oslo-2"), &path).expect("made");
        let other = SiteConfig::load(&like).expect("a configuration");
        assert_eq!(other.cluster.index_key, config.cluster.index_key);
        assert!(MemberFile::read(&other.data).expect("readable").is_none());

        let mut unreachable = description("oslo-3");
        unreachable.listen = "0.0.0.0:7101".parse().expect("an address");
        let words = further_member(&directory.path().join("three"), &unreachable, &path)
            .expect_err("nobody can dial it")
            .to_string();
        assert!(words.contains("--address"), "{words}");
    }
}
