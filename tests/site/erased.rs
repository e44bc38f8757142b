//! After an account is cancelled and every site has given its receipt, no file of any site holds anything of it.

use std::{fs, path::Path};

use crdt::AccountId;
use persona::{
    members::features::ERASURE_RECEIPTS,
    store::{KeepLog, Records},
};
use serde_json::json;

use crate::process::{Plan, Site};

const ADDRESS: &str = "forgotten.zebra@example.org";
const SITES: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_file_of_any_site_holds_what_was_cancelled() {
    let mut plan = Plan::new(SITES);
    for config in &mut plan.configs {
        config.log.keep = KeepLog::Unstable;
        config.erasure.interval_minutes = 0;
    }
    let sites = all(&plan).await;
    for number in 0..20 {
        let address = format!("person{number}@example.org");
        let signed_up = sites[number % SITES].client.sign_up(&address).await;
        signed_up.expect("a sign-up");
    }
    let (account, dot) = sites[0].client.sign_up(ADDRESS).await.expect("a sign-up");
    for site in &sites {
        site.has(dot).await;
    }
    stop(sites).await;
    let hash = hash(&plan, &account);
    for number in 0..SITES {
        let found = files_with(&plan.configs[number].data, &[ADDRESS, &hash]);
        assert!(!found.is_empty(), "before it is cancelled it is there");
    }

    let sites = all(&plan).await;
    finalise(&sites[2]).await;
    sites[1].client.cancel(&account).await.expect("cancelled");
    let path = format!("/accounts/{account}/erased");
    for site in &sites {
        let complete = async || {
            let report = site.client.get(&path).await.ok()?;
            (report["complete"] == true).then_some(())
        };
        site.eventually("every site's receipt", complete).await;
    }
    // A process that runs has erased it, and one that ends leaves nothing behind either.
    for number in 0..SITES {
        let found = files_with(&plan.configs[number].data, &[ADDRESS, &hash]);
        assert_eq!(found, Vec::<String>::new(), "site {number}, while it runs");
    }
    stop(sites).await;
    for number in 0..SITES {
        let found = files_with(&plan.configs[number].data, &[ADDRESS, &hash]);
        assert_eq!(found, Vec::<String>::new(), "site {number}");
        let store = plan.open(number);
        let traces = store
            .traces(&[ADDRESS.as_bytes(), hash.as_bytes()])
            .expect("a scan");
        assert_eq!(traces, [], "site {number}: nor is it there compressed");
        store.close();
    }
}

async fn all(plan: &Plan) -> Vec<Site> {
    let mut sites = Vec::new();
    for number in 0..SITES {
        sites.push(plan.start(number).await);
    }
    sites
}

/// Every site's receipts can be read by all, once all are in the record.
async fn finalise(at: &Site) {
    let finalised = async || {
        let feature = json!({ "feature": ERASURE_RECEIPTS });
        let finalised = at.client.post("/cluster/features", feature).await;
        finalised.ok().map(|_| ())
    };
    at.eventually("receipts are finalised", finalised).await;
}

async fn stop(sites: Vec<Site>) {
    for site in sites {
        site.stop().await;
    }
}

/// The hash of the account's password: what stands behind its parameters and its salt.
fn hash(plan: &Plan, account: &str) -> String {
    let id: AccountId = account.parse().expect("an account");
    let store = plan.open(0);
    let read = store.read(|records| {
        let view = records.account(id).expect("readable").expect("known");
        let vault = view.password.expect("a password").vault;
        records.vault(vault).expect("readable").expect("there")
    });
    store.close();
    let phc = String::from_utf8(read.expect("a read")).expect("text");
    phc.rsplit('$').next().expect("a hash").to_owned()
}

/// The files below a directory that hold one of these texts.
fn files_with(directory: &Path, texts: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_with(&path, texts));
            continue;
        }
        // A table that was just rewritten may be gone by now; so is what it held.
        let Ok(bytes) = fs::read(&path) else { continue };
        for text in texts {
            if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
                found.push(format!("{} holds {text}", path.display()));
            }
        }
    }
    found
}
