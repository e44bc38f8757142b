//! Hashes of the original service: bcrypt. They are checked, never made, and are argon2id after the next sign-in.
//!
//! bcrypt reads 72 bytes of a password, as UTF-8; what follows counted for nothing in the original, and so not here. The
//! original hashed what the browser sent, whatever its normal form: so what was typed is tried as it was typed, too.
//!
//! Not promised here: until its next sign-in an account with such a hash can be told from others by how long a wrong password
//! takes, since a bcrypt hash costs another time than the decoy.

use super::password::HashError;

/// The greatest cost of a stored hash (2 to that power rounds): about a second here. The original's was 12.
const COST_MAX: u32 = 14;
/// The least that bcrypt has.
const COST_MIN: u32 = 4;
/// `$2b$12$`, 22 signs of salt, 31 of hash.
const BYTES: usize = 60;

/// Whether a stored text claims to be of this kind.
pub(super) fn is_bcrypt(stored: &str) -> bool {
    ["$2a$", "$2b$", "$2y$"]
        .iter()
        .any(|form| stored.starts_with(form))
}

/// Sees that it can be checked, within a cost that is bounded: it may come from a peer.
pub(super) fn check_form(stored: &str) -> Result<(), HashError> {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    let cost = stored
        .get(4..6)
        .filter(|cost| cost.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|cost| cost.parse::<u32>().ok());
    let tail = stored.get(6..).and_then(|rest| rest.strip_prefix('$'));
    let good = is_bcrypt(stored)
        && stored.len() == BYTES
        && cost.is_some_and(|cost| (COST_MIN..=COST_MAX).contains(&cost))
        && tail.is_some_and(|tail| tail.bytes().all(is_base64));
    if good { Ok(()) } else { Err(HashError::Unreadable) }
}

/// Whether it is of this password.
pub(super) fn matches(password: &str, stored: &str) -> Result<bool, HashError> {
    check_form(stored)?;
    bcrypt::verify(password, stored).map_err(|_| HashError::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From jBCrypt's own tests (Damien Miller, 2006).
    const ALPHABET: &str = "$2a$06$.rCVZVOThsIa97pEDOxvGuRRgzG64bvtJ0938xuqzv18d3ZpQhstC";
    const SIGNS: &str = "$2a$06$fPIsBO8qRqkjj273rfaOI.HtSV9jLDpTbZn782DC6/t7qT67P6FfO";

    #[track_caller]
    fn check(password: &str, stored: &str, expected: bool) {
        assert_eq!(matches(password, stored), Ok(expected), "{password}");
    }

    #[test]
    fn hashes_that_others_made_are_checked() {
        check("abcdefghijklmnopqrstuvwxyz", ALPHABET, true);
        check("abcdefghijklmnopqrstuvwxyZ", ALPHABET, false);
        check("~!@#$%^&*()      ~!@#$%^&*()PNBFRD", SIGNS, true);
        for form in ["$2b$", "$2y$"] {
            check(
                "abcdefghijklmnopqrstuvwxyz",
                &ALPHABET.replace("$2a$", form),
                true,
            );
        }
        let long = "x".repeat(72);
        let stored = bcrypt::hash(&long, COST_MIN).expect("hashed");
        check(&format!("{long} and whatever follows"), &stored, true);
        check(&"x".repeat(71), &stored, false);
    }

    #[test]
    fn a_stored_hash_cannot_ask_for_the_moon_nor_be_another_form() {
        assert_eq!(check_form(ALPHABET), Ok(()));
        for wrong in [
            "",
            "$2a$",
            &ALPHABET.replace("$06$", "$15$"),
            &ALPHABET.replace("$06$", "$31$"),
            &ALPHABET.replace("$06$", "$03$"),
            &ALPHABET.replace("$06$", "$+6$"),
            &ALPHABET.replace("$2a$", "$2x$"),
            &ALPHABET.replace("$2a$", "$3a$"),
            &ALPHABET.replace(".rCV", "!rCV"),
            &ALPHABET[..59],
            &format!("{ALPHABET}x"),
            &"\u{e4}".repeat(30),
        ] {
            assert_eq!(check_form(wrong), Err(HashError::Unreadable), "{wrong}");
        }
    }
}
