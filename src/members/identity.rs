//! The key by which a member is known: made, read, and replaced without a restart.
//!
//! Trust is a pinned public key. A certificate is only the form in which TLS carries it: self-signed, its name and
//! dates meaning nothing.
//!
//! *Rotation.* What the cluster record should say of this member's keys follows from two files: `identity`, and beside
//! it `identity.next` while a rotation is under way. Both are listed; when every member has that, the next file takes
//! the first one's place. So a crash at any moment leaves a state that the next start goes on from.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use gossip::quic::Identity as GossipIdentity;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};

/// A member's identity, newly made.
pub struct MadeIdentity {
    /// Certificate and private key, to be kept by the member alone.
    pub pem: String,
    /// DER of the public key, for the others to pin.
    pub public_key: Vec<u8>,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It could not be made.
    #[error("could not make a key and certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The file could not be read or written, or is not one.
    #[error("identity `{}`: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
}

/// Makes a P-256 key and a certificate around it.
pub fn make_identity(name: &str) -> Result<MadeIdentity, IdentityError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.self_signed(&key)?;
    let pem = format!("{}{}", certificate.pem(), key.serialize_pem());
    Ok(MadeIdentity {
        pem,
        public_key: key.subject_public_key_info(),
    })
}

/// Writes a file that only its owner may read, synced; it must not exist yet.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    sync_directory_of(path)
}

/// Makes what was created or renamed there survive a power failure.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Reads an identity file.
pub fn read_identity(path: &Path) -> Result<GossipIdentity, IdentityError> {
    let pem = fs::read_to_string(path).map_err(|error| wrong(path, &error))?;
    GossipIdentity::from_pem(pem.as_bytes(), pem.as_bytes()).map_err(|error| wrong(path, &error))
}

fn wrong(path: &Path, message: &impl ToString) -> IdentityError {
    IdentityError::File {
        path: path.to_path_buf(),
        message: message.to_string(),
    }
}

/// This member's key, and the next one while it is being replaced.
pub(crate) struct Keys {
    path: PathBuf,
    present: GossipIdentity,
    next: Option<GossipIdentity>,
}

impl Keys {
    /// Reads what is there.
    pub(crate) fn read(path: &Path) -> Result<Keys, IdentityError> {
        let present = read_identity(path)?;
        let beside = next_path(path);
        let next = beside.exists().then(|| read_identity(&beside)).transpose()?;
        Ok(Keys {
            path: path.to_path_buf(),
            present,
            next,
        })
    }

    /// By which this member is known now.
    pub(crate) fn present(&self) -> &GossipIdentity {
        &self.present
    }

    /// What the cluster record should list: the present one, and the next if there is one.
    pub(crate) fn public(&self) -> Vec<Vec<u8>> {
        let all = [Some(&self.present), self.next.as_ref()];
        all.into_iter()
            .flatten()
            .map(|identity| identity.public_key().to_vec())
            .collect()
    }

    pub(crate) fn is_rotating(&self) -> bool {
        self.next.is_some()
    }

    /// Makes the next key, unless there is one already.
    pub(crate) fn begin(&mut self, name: &str) -> Result<(), IdentityError> {
        if self.next.is_none() {
            let beside = next_path(&self.path);
            let made = make_identity(name)?;
            // A half-written one of a crashed try is nobody's yet, but `read` would stumble over it: so it is
            // written aside and renamed.
            let aside = beside.with_added_extension("new");
            let _ = fs::remove_file(&aside);
            write_private(&aside, &made.pem)
                .and_then(|()| fs::rename(&aside, &beside))
                .and_then(|()| sync_directory_of(&beside))
                .map_err(|error| wrong(&beside, &error))?;
            self.next = Some(read_identity(&beside)?);
        }
        Ok(())
    }

    /// The next key becomes the present one, on the disk first; every member lists it already. The old private key
    /// is gone. False if there was none.
    pub(crate) fn promote(&mut self) -> Result<bool, IdentityError> {
        let Some(next) = self.next.take() else {
            return Ok(false);
        };
        let beside = next_path(&self.path);
        let renamed = fs::rename(&beside, &self.path).and_then(|()| sync_directory_of(&self.path));
        if let Err(error) = renamed {
            self.next = Some(next);
            return Err(wrong(&beside, &error));
        }
        self.present = next;
        Ok(true)
    }
}

/// Where the key lies that will be the next.
fn next_path(path: &Path) -> PathBuf {
    path.with_added_extension("next")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_goes_on_from_wherever_it_was_broken_off() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("oslo.pem");
        let first = make_identity("oslo-1").expect("an identity");
        write_private(&path, &first.pem).expect("written");
        assert!(write_private(&path, "").is_err(), "it is never written over");

        let read = || Keys::read(&path).expect("keys");
        assert_eq!(read().public(), std::slice::from_ref(&first.public_key));
        assert!(!read().promote().expect("nothing to do"));
        read().begin("oslo-1").expect("a next key");
        let listed = read().public();
        assert_eq!((listed.len(), &listed[0]), (2, &first.public_key));

        // Broken off and begun again, it is still the same next key.
        let mut keys = read();
        keys.begin("oslo-1").expect("there is one");
        assert_eq!(keys.public(), listed);
        assert!(keys.promote().expect("renamed"));
        assert_eq!(keys.public(), listed[1..]);
        assert_eq!(keys.present().public_key(), listed[1]);
        assert_eq!(read().public(), listed[1..]);
        assert!(!read().is_rotating());
    }
}
