//! Reading on behind what cannot be read.
//!
//! A bit flipped in a table file makes RocksDB refuse the whole block that it is in, and with it every scan that
//! comes there. The keys behind it are as good as ever: a seek past the block finds them. Where the block ends no
//! one says, so it is searched for: keys are compared as bytes, hence as numbers, and whether a seek fails tells on
//! which side of the end it came down.

use std::ops::ControlFlow;

use super::disk::{DiskError, DiskRead, Family, Visit};

/// Blocks passed over in one scan. Each costs some three hundred seeks; a disk with more is beyond reading around.
const GAPS_MAX: usize = 64;

/// Visits keys from `from` on, in order, and passes over blocks that cannot be read. Says how many it passed over.
pub(super) fn scan_around(
    disk: &dyn DiskRead,
    family: Family,
    from: &[u8],
    visit: &mut Visit<'_>,
) -> Result<usize, DiskError> {
    let mut last = from.to_vec();
    let scanned = disk.scan(family, from, &mut |key, value| {
        key.clone_into(&mut last);
        visit(key, value)
    });
    go_on(disk, family, last, scanned, visit)
}

/// The same for the keys that begin with `prefix`.
pub(super) fn scan_prefix_around(
    disk: &dyn DiskRead,
    family: Family,
    prefix: &[u8],
    visit: &mut Visit<'_>,
) -> Result<usize, DiskError> {
    let mut last = prefix.to_vec();
    let scanned = disk.scan_prefix(family, prefix, &mut |key, value| {
        key.clone_into(&mut last);
        visit(key, value)
    });
    go_on(disk, family, last, scanned, &mut |key, value| {
        if key.starts_with(prefix) {
            visit(key, value)
        } else {
            ControlFlow::Break(())
        }
    })
}

/// Goes on with a scan that came to `last` and ended like this.
fn go_on(
    disk: &dyn DiskRead,
    family: Family,
    mut last: Vec<u8>,
    mut scanned: Result<(), DiskError>,
    visit: &mut Visit<'_>,
) -> Result<usize, DiskError> {
    for gaps in 0..=GAPS_MAX {
        match scanned {
            Ok(()) => return Ok(gaps),
            Err(error) if error.is_local() && gaps < GAPS_MAX => {
                let Some(readable) = end_of_gap(disk, family, number(&last)) else {
                    return Ok(gaps + 1);
                };
                last = readable.to_be_bytes().to_vec();
                scanned = disk.scan(family, &last.clone(), &mut |key, value| {
                    key.clone_into(&mut last);
                    visit(key, value)
                });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(GAPS_MAX)
}

/// The least number behind `start`, as far as can be told, from which on keys can be read; `None` if there is none.
/// First in steps that double, so that a second damaged block far behind does not hide what lies between.
fn end_of_gap(disk: &dyn DiskRead, family: Family, start: u128) -> Option<u128> {
    let readable = |number: u128| {
        let sought = disk.scan(family, &number.to_be_bytes(), &mut |_, _| ControlFlow::Break(()));
        sought.is_ok()
    };
    let (mut damaged, mut step) = (start, 1_u128);
    let mut sound = loop {
        let next = start.checked_add(step)?;
        if readable(next) {
            break next;
        }
        damaged = next;
        step = step.checked_mul(2)?;
    };
    while sound - damaged > 1 {
        let middle = damaged + (sound - damaged) / 2;
        if readable(middle) {
            sound = middle;
        } else {
            damaged = middle;
        }
    }
    Some(sound)
}

/// The first sixteen bytes of a key.
fn number(key: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(key) {
        *to = *from;
    }
    u128::from_be_bytes(bytes)
}

#[cfg(test)]
#[allow(
    clippy::single_range_in_vec_init,
    reason = "a list of stretches with one in it"
)]
mod tests {
    use super::*;

    /// Keys of two bytes; those in `damaged` lie in blocks that cannot be read.
    struct Torn {
        damaged: Vec<std::ops::Range<u16>>,
    }

    impl DiskRead for Torn {
        fn get(&self, _: Family, _: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
            Ok(None)
        }

        fn scan(&self, _: Family, from: &[u8], visit: &mut Visit<'_>) -> Result<(), DiskError> {
            for key in (0..1000_u16).filter(|key| key.to_be_bytes().as_slice() >= from) {
                if self.damaged.iter().any(|block| block.contains(&key)) {
                    return Err(DiskError::Damaged("a block".into()));
                }
                if visit(&key.to_be_bytes(), &[]) == ControlFlow::Break(()) {
                    return Ok(());
                }
            }
            Ok(())
        }
    }

    #[test]
    fn what_lies_behind_a_damaged_block_is_read() {
        for damaged in [
            vec![],
            vec![0..1],
            vec![5..17],
            vec![990..1000],
            vec![3..9, 700..800],
        ] {
            let disk = Torn {
                damaged: damaged.clone(),
            };
            let mut seen = Vec::new();
            let gaps = scan_around(&disk, Family::Documents, &[], &mut |key, _| {
                seen.push(u16::from_be_bytes([key[0], key[1]]));
                ControlFlow::Continue(())
            });
            let expected: Vec<u16> = (0..1000)
                .filter(|key| !damaged.iter().any(|block| block.contains(key)))
                .collect();
            assert_eq!(seen, expected, "{damaged:?}");
            assert_eq!(gaps, Ok(damaged.len()), "{damaged:?}");
        }
    }
}
