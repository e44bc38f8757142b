//! How much room the disk has, and what is still written when there is little.
//!
//! A disk that fills up must not turn into a replica that serves old data while it looks healthy (the original's
//! worst outage lasted 22 hours that way). So sign-ups stop before the disk is full; a reserve file is given up
//! when it is, so that erasing and compacting still work; and what frees or protects (cancellations, resets) is
//! written as long as anything is.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::txn::TransactError;

/// What the disk has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Space {
    /// Anything.
    #[default]
    Enough,
    /// No new people: what is left is for those who are here.
    NearlyFull,
    /// Only what frees or protects; the reserve has been given up.
    Full,
}

impl Space {
    /// Whether a local write goes on.
    pub(super) fn admits(self, sign_up: bool, urgent: bool) -> Result<(), TransactError> {
        match self {
            Space::NearlyFull if sign_up => Err(TransactError::NearlyFull),
            Space::Full if !urgent => Err(TransactError::Full),
            _ => Ok(()),
        }
    }
}

/// Watches the room in a directory, and keeps its reserve.
pub(super) struct Reserve {
    path: PathBuf,
    reserve_bytes: u64,
    free_bytes_min: u64,
    given_up: bool,
    looked: Option<(Instant, Space)>,
}

/// How long what was seen of the disk stands: asking it after each of a hundred commits a second would be waste.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Reserve {
    /// Sets the reserve aside in `directory`, if there is room for it.
    pub(super) fn set_aside(directory: &Path, reserve_bytes: u64, free_bytes_min: u64) -> Reserve {
        let mut reserve = Reserve {
            path: directory.join("reserve"),
            reserve_bytes,
            free_bytes_min,
            given_up: true,
            looked: None,
        };
        reserve.take_back();
        reserve
    }

    /// The room, as it was a moment ago at most.
    pub(super) fn look(&mut self) -> Space {
        match self.looked {
            Some((at, space)) if at.elapsed() < LOOK_EVERY => space,
            _ => {
                let space = self.look_again();
                self.looked = Some((Instant::now(), space));
                space
            }
        }
    }

    /// The room now. Takes the reserve back when there is enough again.
    fn look_again(&mut self) -> Space {
        let free = free_bytes(self.path.parent().unwrap_or(Path::new("."))).unwrap_or(u64::MAX);
        if self.given_up && free > self.reserve_bytes + self.free_bytes_min {
            self.take_back();
        }
        match (self.given_up, free < self.free_bytes_min) {
            (true, _) => Space::Full,
            (false, true) => Space::NearlyFull,
            (false, false) => Space::Enough,
        }
    }

    /// A write met a full disk: the reserve makes room for what must still be written.
    pub(super) fn give_up(&mut self) {
        self.given_up = true;
        self.looked = None;
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "could not remove the reserve file");
        }
    }

    fn take_back(&mut self) {
        let written = || -> io::Result<()> {
            let mut file = File::create(&self.path)?;
            // Zeros written, not a hole: only blocks that are really taken can be given up.
            let block = vec![0; 1 << 20];
            let mut left = self.reserve_bytes;
            while left > 0 {
                let length = left.min(block.len() as u64);
                file.write_all(&block[..length as usize])?;
                left -= length;
            }
            file.sync_all()
        };
        match written() {
            Ok(()) => self.given_up = false,
            Err(error) => {
                tracing::warn!(%error, "no room for the reserve file");
                self.give_up();
            }
        }
    }
}

/// Bytes that an ordinary user may still write to the file system of `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail * stat.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_admitted_when_room_is_short() {
        #[track_caller]
        #[allow(clippy::needless_pass_by_value, reason = "the cases read better")]
        fn check(space: Space, sign_up: bool, urgent: bool, expected: Result<(), TransactError>) {
            assert_eq!(space.admits(sign_up, urgent), expected, "{space:?}");
        }
        check(Space::Enough, true, false, Ok(()));
        check(Space::Enough, false, false, Ok(()));
        check(Space::NearlyFull, true, false, Err(TransactError::NearlyFull));
        check(Space::NearlyFull, false, false, Ok(()));
        check(Space::NearlyFull, false, true, Ok(()));
        check(Space::Full, true, false, Err(TransactError::Full));
        check(Space::Full, false, false, Err(TransactError::Full));
        check(Space::Full, false, true, Ok(()));
    }

    #[test]
    fn the_reserve_is_given_up_and_taken_back() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut reserve = Reserve::set_aside(directory.path(), 1 << 20, 0);
        assert_eq!(reserve.look(), Space::Enough);
        assert_eq!(
            fs::metadata(directory.path().join("reserve"))
                .expect("the reserve")
                .len(),
            1 << 20
        );
        reserve.give_up();
        assert!(!directory.path().join("reserve").exists());
        assert_eq!(
            reserve.look(),
            Space::Enough,
            "there is room, so it is taken back"
        );
        assert!(directory.path().join("reserve").exists());
    }
}
