//! Whether all sites hold the same.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::World;
use super::client::{CallError, Digest, VectorSeen};

/// All sites agree on this.
#[derive(Clone, Debug)]
pub(crate) struct Agreement {
    pub(crate) digest: Digest,
    pub(crate) vector: VectorSeen,
    /// How long it took from when it was first asked for.
    pub(crate) took: Duration,
}

/// What one site holds, looked at while nothing moved there.
struct Holding {
    digest: Digest,
    vector: VectorSeen,
}

/// Waits until every site is ready and holds the same transactions and the same records. Otherwise says how
/// they differ. Nobody may write meanwhile.
pub(crate) async fn agree(world: &World, within: Duration) -> Result<Agreement, Vec<String>> {
    let began = Instant::now();
    loop {
        let differences = match look(world).await {
            Ok(holdings) => {
                let differences = compare(world, &holdings);
                if differences.is_empty()
                    && let Some(first) = holdings.into_iter().next()
                {
                    world.timeline.quiet();
                    return Ok(Agreement {
                        digest: first.digest,
                        vector: first.vector,
                        took: began.elapsed(),
                    });
                }
                differences
            }
            Err(words) => words,
        };
        if began.elapsed() > within {
            world.timeline.quiet();
            return Err(differences);
        }
        world.timeline.now(&format!(
            "waiting for all to agree: {}",
            differences.first().map_or("", |d| d)
        ));
        tokio::time::sleep(POLL).await;
    }
}

async fn look(world: &World) -> Result<Vec<Holding>, Vec<String>> {
    let looks = world.sites.iter().enumerate().map(|(index, site)| async move {
        let name = world.name(index);
        let ask = async {
            let status = site.client.status().await?;
            let before = site.client.vector().await?;
            let digest = site.client.digest().await?;
            let after = site.client.vector().await?;
            Ok::<_, CallError>((status.ready, before, digest, after))
        };
        match ask.await {
            Err(error) => Err(format!("{name}: {error}")),
            Ok((false, ..)) => Err(format!("{name} is not ready")),
            Ok((true, before, _, after)) if before != after => Err(format!("{name} is still moving")),
            Ok((true, _, digest, vector)) => Ok(Holding { digest, vector }),
        }
    });
    let mut holdings = Vec::new();
    let mut words = Vec::new();
    for looked in join_all(looks).await {
        match looked {
            Ok(holding) => holdings.push(holding),
            Err(word) => words.push(word),
        }
    }
    if words.is_empty() {
        Ok(holdings)
    } else {
        Err(words)
    }
}

fn compare(world: &World, holdings: &[Holding]) -> Vec<String> {
    let Some(first) = holdings.first() else {
        return vec!["there are no sites".into()];
    };
    let mut differences = Vec::new();
    for (index, holding) in holdings.iter().enumerate().skip(1) {
        let (one, other) = (world.name(0), world.name(index));
        if !first.vector.agrees_with(&holding.vector) {
            differences.push(format!("{one} and {other} do not have the same transactions"));
        } else if first.digest != holding.digest {
            differences.push(format!(
                "{one} and {other} have the same transactions but not the same records: {} of {} and {} of {}",
                first.digest.digest, first.digest.records, holding.digest.digest, holding.digest.records
            ));
        }
    }
    differences
}

const POLL: Duration = Duration::from_millis(250);
