//! A data center that dies at the worst moment: with a request of one path on its way to it, or with the answer to that on
//! its way back. The dialog's stories go from step to step by it.

use std::pin::Pin;

use serde::{Deserialize, Serialize};

/// Kills the site of this index, and ends when it is gone.
pub(crate) type Killer = Box<dyn Fn(usize) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// What lies in wait for the next request of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ambush {
    /// Without what follows a question mark.
    path: String,
    pub(crate) when: When,
}

/// At which moment the site is killed that the request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum When {
    /// It hears nothing of the request.
    Before,
    /// It has done what was asked, and nobody hears its answer.
    After,
}

impl Ambush {
    /// Whether this is about a request of that path.
    pub(crate) fn is_for(&self, path: &str) -> bool {
        self.path == path
    }
}
