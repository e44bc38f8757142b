//! Something that may go on, or has to wait.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Open or shut. Those who wait go on in the order in which they came.
#[derive(Debug)]
pub(super) struct Gate {
    open: AtomicBool,
    opened: Notify,
}

impl Gate {
    pub(super) fn new(open: bool) -> Self {
        Self {
            open: AtomicBool::new(open),
            opened: Notify::new(),
        }
    }

    pub(super) fn set(&self, open: bool) {
        if self.open.swap(open, Ordering::AcqRel) != open && open {
            self.opened.notify_waiters();
        }
    }

    /// Waits until it is open.
    pub(super) async fn pass(&self) {
        loop {
            // Made before the look: an opening in between wakes it.
            let opened = self.opened.notified();
            if self.open.load(Ordering::Acquire) {
                return;
            }
            opened.await;
        }
    }
}
