//! What the comparisons of replicas came to while there was a load: every one is to tell something, though no two vectors
//! are ever equal then.

use serde_json::json;

use super::{World, client::LooksSeen, verdict::Verdict};

/// Comparisons that all sites together have asked for until now.
#[derive(Clone, Copy, Default)]
pub(crate) struct Looks(LooksSeen);

impl Looks {
    /// Those until now; `None` if a site does not tell.
    pub(crate) async fn now(world: &World) -> Option<Looks> {
        let mut sum = LooksSeen::default();
        for site in &world.sites {
            for peer in site.client.status().await.ok()?.peers {
                let looks = peer.looks;
                sum.equal += looks.equal;
                sum.lag_only += looks.lag_only;
                sum.divergent += looks.divergent;
                sum.inconclusive += looks.inconclusive;
                sum.failed += looks.failed;
            }
        }
        Some(Looks(sum))
    }

    /// Those between then and now.
    pub(crate) fn since(self, before: Looks) -> Looks {
        let less = |now: u64, then: u64| now.saturating_sub(then);
        Looks(LooksSeen {
            equal: less(self.0.equal, before.0.equal),
            lag_only: less(self.0.lag_only, before.0.lag_only),
            divergent: less(self.0.divergent, before.0.divergent),
            inconclusive: less(self.0.inconclusive, before.0.inconclusive),
            failed: less(self.0.failed, before.0.failed),
        })
    }

    /// Each told that all is well.
    pub(crate) fn judge(self, verdict: &mut Verdict) {
        let looks = self.0;
        let told = looks.equal + looks.lag_only;
        let all = told + looks.divergent + looks.inconclusive + looks.failed;
        verdict.detail(
            "comparisons of replicas under the load",
            json!({
                "nothing differed": looks.equal,
                "what differed was on its way": looks.lag_only,
                "diverged": looks.divergent,
                "inconclusive": looks.inconclusive,
                "failed": looks.failed,
            }),
        );
        verdict.check(
            "comparisons of replicas that came to \"all is well\"",
            format!("all {all}"),
            format!("{told}, {} of them with something on its way", looks.lag_only),
            told == all && all > 0,
        );
    }
}
