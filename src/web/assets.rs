//! Scripts, styles and pictures: part of the program.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha384};

use super::encoding::Encoded;
use crate::public_url::PublicUrl;

/// What the pages of sites and of email domains load, at the root, where the original had it.
pub(super) const FOR_OTHERS: [&str; 3] = ["include.js", "provisioning_api.js", "authentication_api.js"];

/// Every file.
const FILES: [(&str, &str); 17] = [
    ("account.js", include_str!("static/account.js")),
    (
        "authentication_api.js",
        include_str!("static/authentication_api.js"),
    ),
    ("certificates.js", include_str!("static/certificates.js")),
    ("developers.js", include_str!("static/developers.js")),
    ("dialog.js", include_str!("static/dialog.js")),
    ("flow.js", include_str!("static/flow.js")),
    ("include.js", INCLUDE),
    ("jose.js", include_str!("static/jose.js")),
    ("landing.js", include_str!("static/landing.js")),
    ("mailed.js", include_str!("static/mailed.js")),
    ("mark.svg", include_str!("static/mark.svg")),
    ("net.js", include_str!("static/net.js")),
    ("persona.css", include_str!("static/persona.css")),
    ("primary.js", include_str!("static/primary.js")),
    ("provisioning_api.js", include_str!("static/provisioning_api.js")),
    ("store.js", include_str!("static/store.js")),
    ("view.js", include_str!("static/view.js")),
];

const INCLUDE: &str = include_str!("static/include.js");
/// Versions of `include.js` that pages may have pinned. What was ever released stays, for a pinned script that is gone is a
/// site without its sign-in.
const RELEASED: [&str; 1] = [INCLUDE];
/// In scripts for others this stands for our origin: where they were loaded from need not be us.
const ORIGIN_MARK: &str = "PERSONA_ORIGIN";
/// Characters of a file's hash in its name.
const NAME_CHARS: usize = 32;
/// Characters of the hash of all.
const SET_CHARS: usize = 16;

/// All files as they are served.
pub(super) struct Assets {
    files: HashMap<&'static str, Encoded>,
    pinned: HashMap<String, Encoded>,
    set: String,
    include: Pinned,
}

/// A script that pages may pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pinned {
    /// What its name begins with.
    pub hash: String,
    /// What a page's `integrity` says (W3C Subresource Integrity).
    pub integrity: String,
}

impl Assets {
    pub(super) fn new(public_url: &PublicUrl) -> Assets {
        let ours = |text: &str| text.replace(ORIGIN_MARK, public_url.origin());
        let mut hasher = blake3::Hasher::new();
        let mut files = HashMap::new();
        for (name, text) in FILES {
            let text = ours(text);
            hasher
                .update(name.as_bytes())
                .update(&[0])
                .update(text.as_bytes())
                .update(&[0]);
            files.insert(name, Encoded::new(content_type(name), None, &text));
        }
        let pinned = RELEASED
            .into_iter()
            .map(|text| {
                let text = ours(text);
                (
                    Pinned::of(&text).file_name(),
                    Encoded::new(JAVASCRIPT, None, &text),
                )
            })
            .collect();
        Assets {
            files,
            pinned,
            set: hasher.finalize().to_hex()[..SET_CHARS].to_owned(),
            include: Pinned::of(&ours(INCLUDE)),
        }
    }

    /// Where pages load them from.
    pub(super) fn path(&self) -> String {
        format!("/s/{}", self.set)
    }

    pub(super) fn is_set(&self, set: &str) -> bool {
        self.set == set
    }

    pub(super) fn named(&self, name: &str) -> Option<&Encoded> {
        self.files.get(name)
    }

    /// A version of `include.js` by its file name.
    pub(super) fn pinned(&self, name: &str) -> Option<&Encoded> {
        self.pinned.get(name)
    }

    /// The newest version of it.
    pub(super) fn include(&self) -> &Pinned {
        &self.include
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        FILES.into_iter().map(|(name, _)| name)
    }
}

impl Pinned {
    fn of(text: &str) -> Pinned {
        let hash = Sha384::digest(text.as_bytes());
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Pinned {
            hash: hex[..NAME_CHARS].to_owned(),
            integrity: format!("sha384-{}", STANDARD.encode(hash)),
        }
    }

    fn file_name(&self) -> String {
        format!("{}.js", self.hash)
    }
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => JAVASCRIPT,
    }
}
