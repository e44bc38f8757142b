//! Which member this process is.
//!
//! Members that a configuration lists have their id from there. One that founded a cluster or joined by invitation
//! has it from `member.json` in its data directory: whoever lost the directory is that member no more, and joins
//! anew.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crdt::{MemberId, MemberState};
use serde::{Deserialize, Serialize};

use super::identity::{sync_directory_of, write_private};
use crate::config::{Member, MemberConfig, SiteConfig};

/// In the data directory.
const FILE: &str = "member.json";

/// This member, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Which.
    pub id: MemberId,
    /// What people call it.
    pub name: String,
    /// The site it is in.
    pub site: String,
    /// Where others dial it, the best first.
    pub addresses: Vec<String>,
    /// What it is until the cluster record says more: active where it was listed or founded the cluster, else
    /// joining.
    pub begins: MemberState,
}

/// Why it is not known who this is.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// Neither configuration nor data directory says.
    #[error(
        "{} is no member's data directory yet: start it with `--join TOKEN@HOST:PORT` (ask an operator of a running \
         member for `persona cluster invite`), or list it under [[members]]",
        data.display()
    )]
    Nobody {
        /// The directory.
        data: PathBuf,
    },
    /// The file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not one of ours.
    #[error("{}: {message}; put back the one from before, or join anew with an invitation", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
}

/// What the file says.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MemberFile {
    /// Which member this directory is of.
    pub member: Member,
    /// It founded the cluster, and so never joined it.
    #[serde(default)]
    pub founder: bool,
    /// It is in, and it is not certain yet that nothing is settled without it: see [`Standing::Arriving`].
    ///
    /// [`Standing::Arriving`]: super::keeper::Standing::Arriving
    #[serde(default)]
    pub arriving: bool,
    /// The others, as they were when it joined: whom to ask while the cluster record is not here yet.
    #[serde(default)]
    pub members: Vec<MemberConfig>,
}

impl MemberFile {
    /// Reads the file of a data directory; `None` if there is none.
    pub fn read(data: &Path) -> Result<Option<MemberFile>, OwnError> {
        let path = data.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(OwnError::Io { path, source }),
        };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| OwnError::Unreadable {
                path,
                message: error.to_string(),
            })
    }

    /// Writes it, in place of one that is there: aside, and renamed, so that a crash leaves one or the other.
    pub fn write(&self, data: &Path) -> Result<(), OwnError> {
        let path = data.join(FILE);
        let aside = data.join("member.json.new");
        let text = serde_json::to_string_pretty(self).map_err(|error| OwnError::Unreadable {
            path: path.clone(),
            message: error.to_string(),
        })?;
        let _ = fs::remove_file(&aside);
        write_private(&aside, &text)
            .and_then(|()| fs::rename(&aside, &path))
            .and_then(|()| sync_directory_of(&path))
            .map_err(|source| OwnError::Io { path, source })
    }
}

impl Own {
    /// Finds out who this is, from what the data directory says if it says anything, else from the configuration.
    pub fn find(config: &SiteConfig, file: Option<&MemberFile>) -> Result<Own, OwnError> {
        let (id, begins) = match (file, config.own()) {
            (Some(file), _) if file.founder => (file.member.0, MemberState::Active),
            (Some(file), _) => (file.member.0, MemberState::Joining),
            (None, Some(own)) => (own.id.0, MemberState::Active),
            (None, None) => {
                return Err(OwnError::Nobody {
                    data: config.data.clone(),
                });
            }
        };
        Ok(Own {
            id,
            name: config.own_name().to_owned(),
            site: config.site.clone(),
            addresses: config.own_addresses().to_vec(),
            begins,
        })
    }
}
