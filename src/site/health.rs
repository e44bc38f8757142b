//! Whether a site may write, and whether people should be sent to it.

use super::Site;

/// With a clock further off than this from the median of at least three peers, local writes are refused.
const CLOCK_SKEW_MAX_MS: u64 = 60_000;

impl Site {
    /// Sees whether anything may be written here. With a clock far off those of the others it may not: what it stamps
    /// would beat or lose to theirs for no reason. Nor where this is no member any more.
    pub(crate) fn heed(&self) {
        let skew_ms = self
            .node
            .status()
            .gossip
            .skew_ms
            .filter(|skew_ms| skew_ms.unsigned_abs() > CLOCK_SKEW_MAX_MS);
        let skewed = skew_ms.map(|skew_ms| format!("the clock is {skew_ms} ms off the median of the peers"));
        self.store
            .withhold_writes(self.standing.borrow().why_not_writing().or(skewed));
    }

    /// Why this site should not be sent people; empty if it should. A full or failing disk alone is no reason while
    /// nothing is missing here, so that one shared cause cannot take every site out at once.
    pub fn unhealthy(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.is_draining() {
            reasons.push("draining".to_owned());
        }
        if let Some(words) = self.standing.borrow().why_not_serving() {
            reasons.push(words);
        } else if !self.node.is_ready() {
            reasons.push("still catching up with the others".to_owned());
        }
        if let Some(why) = self.store.refuses() {
            let gossip = &self.node.status().gossip;
            let behind: u64 = gossip.peers.iter().map(|peer| peer.behind_us).max().unwrap_or(0);
            if behind > 0 {
                reasons.push(format!(
                    "the disk takes no writes ({why}), and {behind} transactions are missing here"
                ));
            } else if gossip.isolated {
                reasons.push(format!(
                    "the disk takes no writes ({why}), and no peer was heard for a minute"
                ));
            }
        }
        if let Some(skew_ms) = self.node.status().gossip.skew_ms
            && skew_ms.unsigned_abs() > CLOCK_SKEW_MAX_MS
        {
            reasons.push(format!("the clock is {skew_ms} ms off the median of the peers"));
        }
        reasons
    }
}
