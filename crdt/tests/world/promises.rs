//! What must hold of a world, whatever happened in it.

use super::*;

impl World {
    /// Delivers everything everywhere, in an order of its own at each site.
    pub(crate) fn heal(&mut self, mut order: u64) -> Result<(), TestCaseError> {
        for site in 0..SITES {
            loop {
                let here = &self.sites[site].vector;
                let ready: Vec<Sent> = self
                    .sent
                    .iter()
                    .filter(|sent| is_next(here, sent))
                    .cloned()
                    .collect();
                order = order
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let Some(sent) = pick(&ready, (order >> 56) as u8) else {
                    break;
                };
                self.receive(site, &sent)?;
            }
        }
        Ok(())
    }

    /// While it is still apart: no site shows what may never be seen.
    pub(crate) fn check_each_site(&self) -> Result<(), TestCaseError> {
        for site in 0..SITES {
            for email in emails() {
                let view = self.email(site, email);
                if let Ownership::Held { claim, .. } = self.owner(site, &view) {
                    prop_assert!(
                        !self.account(site, claim.account).cancelled,
                        "a cancelled account owns"
                    );
                    let newest = view
                        .released
                        .iter()
                        .find(|released| released.account == claim.account);
                    prop_assert!(
                        newest.is_none_or(|released| released.at < claim.proof),
                        "a released claim owns"
                    );
                }
            }
            for account in &self.accounts {
                let view = self.account(site, *account);
                prop_assert!(!view.cancelled || view.names().is_empty());
                let password = view.password.map(|password| password.vault);
                prop_assert!(view.cancelled || password.is_none_or(|id| view.names().contains(&id)));
            }
        }
        Ok(())
    }

    /// Any order, any grouping, twice is once: one state everywhere.
    pub(crate) fn check_agreement(&self, order: u64) -> Result<(), TestCaseError> {
        let mut changes: BTreeMap<RecordKey, Vec<Vec<u8>>> = BTreeMap::new();
        for sent in &self.sent {
            let body =
                Transaction::decode(&sent.body).map_err(|error| TestCaseError::fail(error.to_string()))?;
            for record in body.records {
                changes.entry(record.key).or_default().extend(record.changes);
            }
        }
        for (key, changes) in changes {
            let first = &self.sites[0].documents[&key];
            for site in &self.sites {
                let document = &site.documents[&key];
                prop_assert_eq!(document.heads(), first.heads());
                prop_assert_eq!(document.view(), first.view());
                let loaded = Document::load(kind(key), &document.save())
                    .map_err(|error| TestCaseError::fail(error.to_string()))?;
                prop_assert_eq!(loaded.view(), first.view());
                prop_assert_eq!(loaded.heads(), first.heads());
            }
            // In groups, each given twice.
            let size = 1 + (order % 7) as usize;
            let mut document = Document::new(kind(key));
            for group in changes.chunks(size) {
                for _ in 0..2 {
                    document = document
                        .apply(group)
                        .map_err(|error| TestCaseError::fail(error.to_string()))?;
                }
            }
            prop_assert_eq!(document.heads(), first.heads());
            prop_assert_eq!(document.view(), first.view());
            prop_assert_eq!(document.changes() as usize, changes.len());
        }
        Ok(())
    }

    /// The rules, once all have heard all.
    pub(crate) fn check_promises(&self) -> Result<(), TestCaseError> {
        for account in &self.accounts {
            self.check_account(*account)?;
        }
        for email in emails() {
            self.check_ownership(email)?;
        }
        Ok(())
    }

    fn check_account(&self, id: AccountId) -> Result<(), TestCaseError> {
        let view = self.account(0, id);
        prop_assert_eq!(
            view.cancelled,
            self.memory.cancelled.contains(&id),
            "cancelled stays cancelled"
        );
        let written = || {
            self.memory
                .passwords
                .iter()
                .filter(|(account, _)| *account == id)
                .map(|(_, it)| it)
        };
        let Some(password) = view.password else {
            prop_assert_eq!(written().count(), 0);
            return Ok(());
        };
        // Resets count versions of trust: no change made with a known password beats one.
        prop_assert_eq!(Some(password.resets), written().map(|it| it.resets).max());
        prop_assert_eq!(view.resets(), password.resets);
        // A rehash never beats a change: no password that stands was changed before the latest change.
        let changes = self.memory.changes.iter().filter(|(account, _)| *account == id);
        let latest = changes
            .filter(|(_, it)| it.resets == password.resets)
            .map(|(_, it)| it.changed)
            .max();
        prop_assert!(latest.is_none_or(|latest| password.changed >= latest));
        // Every session that was made before the meeting of two ends with them.
        prop_assert!(view.epoch.at >= password.changed || view.epoch.resets > password.resets);
        Ok(())
    }

    fn check_ownership(&self, email: EmailId) -> Result<(), TestCaseError> {
        let view = self.email(0, email);
        let claims = || {
            self.memory
                .claims
                .iter()
                .filter(|(of, _)| *of == email)
                .map(|(_, claim)| claim)
        };
        let released = |id: AccountId| {
            let of = self
                .memory
                .releases
                .iter()
                .filter(|(of, account, _)| *of == email && *account == id);
            of.map(|(_, _, at)| *at).max()
        };
        let owner = self.owner(0, &view);
        for site in 1..SITES {
            prop_assert_eq!(self.owner(site, &view), owner);
        }
        if let Ownership::Held { claim, verified } = owner {
            prop_assert!(
                released(claim.account).is_none_or(|at| at < claim.proof),
                "released, and not proven again"
            );
            prop_assert!(!self.memory.cancelled.contains(&claim.account));
            // A loser of a cancelled winner does not return: no cancelled account that let the address go had
            // proven it later, nor stands before the owner in the record.
            for other in &self.memory.cancelled {
                let gone = view.released.iter().find(|released| released.account == *other);
                prop_assert!(
                    gone.is_none_or(|gone| (gone.proof, claim.account) < (claim.proof, gone.account))
                );
                let resets = self.account(0, *other).resets();
                for it in view.claims.iter().filter(|it| it.account == *other) {
                    let beats = (claim.proof, it.account) < (it.proof, claim.account);
                    prop_assert!(!beats || verified && it.resets != resets);
                }
            }
        }
        // Where nothing was reset, cancelled or let go by it, the latest proof owns.
        let latest = claims().max_by_key(|claim| (claim.proof, std::cmp::Reverse(claim.account)));
        if let Some(latest) = latest
            && self.memory.resets == 0
            && released(latest.account).is_none()
            && !self.memory.cancelled.contains(&latest.account)
        {
            let Ownership::Held { claim, .. } = owner else {
                return Err(TestCaseError::fail(format!("{latest:?} was lost: {view:?}")));
            };
            prop_assert_eq!((claim.account, claim.proof), (latest.account, latest.proof));
        }
        // Where nobody let go, the latest proof's account has the address or, if that is unverified, another that
        // is there: nobody loses it to the cancelled.
        if let Some(latest) = latest
            && self.memory.releases.iter().all(|(of, _, _)| *of != email)
            && !self.memory.cancelled.contains(&latest.account)
        {
            prop_assert_ne!(owner, Ownership::Free, "{:?} was lost: {:?}", latest, view);
        }
        // What is named is what the view lists, less what belongs to the cancelled.
        let Ok(names) = view.names(|id| Ok::<_, Infallible>(self.memory.cancelled.contains(&id)));
        for claim in &view.claims {
            let gone = self.memory.cancelled.contains(&claim.account);
            prop_assert_eq!(names.contains(&claim.vault), !gone);
        }
        Ok(())
    }
}
