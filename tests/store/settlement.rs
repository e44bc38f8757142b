//! Losers go, and what was cancelled is forgotten, once nothing concurrent is on its way.

use std::{sync::Arc, time::Duration};

use crdt::{
    AccountId, CellKind, ClusterWrite, MemberField, MemberId, MemberState, Ownership,
    cluster::feature_setting,
};
use gossip::{Dot, Vector, Writer};
use persona::{
    identity::{Outcome, Word},
    members::features,
    settlement::{Settler, Told, WaitsFor},
    store::{CommittedGroup, KeepLog, Listener, Obstacle, Records, Snapshot, Store, TransactError},
};

use crate::replica::{Replica, Time, address, password, passwords};

pub(crate) const HOUR: Duration = Duration::from_hours(1);

/// A replica that settles, in a site of its own.
pub(crate) struct Site {
    pub(crate) replica: Replica,
    told: Arc<Told>,
    pub(crate) settler: Settler,
    member: MemberId,
    interval: Duration,
}

/// What the gossip does in a running site.
struct Tells(Store, Arc<Told>);

impl Listener for Tells {
    fn committed(&self, group: &CommittedGroup) {
        self.1.committed(group, &self.0.state().vector);
    }

    fn restarted(&self, _: Writer, _: &[Writer], vector: &Vector) {
        self.1.restarted(vector);
    }

    fn lost(&self, _: Dot) {}
}

impl Site {
    fn new(replica: Replica, member: MemberId, interval: Duration) -> Site {
        let told = Arc::new(Told::default());
        replica
            .store
            .listen(Arc::new(Tells(replica.store.clone(), told.clone())));
        let settler = Settler::new(replica.store.clone(), told.clone(), member, None, interval);
        Site {
            replica,
            told,
            settler,
            member,
            interval,
        }
    }

    pub(crate) fn restart(self) -> Site {
        let Site {
            mut replica,
            member,
            interval,
            ..
        } = self;
        replica.restart(true);
        Site::new(replica, member, interval)
    }

    /// As often as it takes to do all that can be done now, the first scan included.
    pub(crate) async fn steps(&self) {
        for _ in 0..4 {
            self.settler.step().await.expect("a step");
        }
    }

    fn transactions(&self) -> u64 {
        self.replica.store.counters().transactions_local
    }

    /// Where these bytes lie, in words.
    pub(crate) fn traces(&self, text: &str) -> Vec<&'static str> {
        let traces = self.replica.store.traces(&[text.as_bytes()]).expect("a scan");
        traces.iter().map(|trace| trace.family.name()).collect()
    }

    pub(crate) fn waits_for(&self, account: AccountId) -> Option<String> {
        let report = self.settler.report(account).expect("a report").expect("known");
        let own = self.member.to_string();
        let member = report.members.into_iter().find(|member| member.member == own);
        member.expect("a member").waits_for
    }

    fn owner(&self, text: &str) -> Option<AccountId> {
        let id = self.replica.identity.email_id(&address(text));
        self.replica
            .store
            .read(|records| {
                let view = records.email(id).expect("readable").unwrap_or_default();
                match records.owner_of(&view).expect("readable") {
                    Ownership::Held { claim, .. } => Some(claim.account),
                    Ownership::Free => None,
                }
            })
            .expect("a read")
    }
}

/// Sites that know one another as active members; the first by name is the first given.
pub(crate) struct World {
    pub(crate) time: Time,
    pub(crate) sites: Vec<Site>,
}

impl World {
    pub(crate) async fn new<const N: usize>(names: [&str; N], interval: Duration) -> World {
        let world = World::of_before(names, interval).await;
        finalise(&world.sites[0]).await;
        world.heal().await;
        world
    }

    /// The same before anything was finalised.
    pub(crate) async fn of_before<const N: usize>(names: [&str; N], interval: Duration) -> World {
        let (time, passwords) = (Time::new(), passwords());
        let sites: Vec<Site> = (1..)
            .zip(names)
            .map(|(number, _)| {
                let replica = Replica::new(number, &time, &passwords, KeepLog::Unstable);
                Site::new(replica, MemberId::from_bytes([number; 8]), interval)
            })
            .collect();
        for (site, name) in sites.iter().zip(names) {
            register(&sites[0], site.member, name).await;
        }
        let world = World { time, sites };
        world.heal().await;
        world
    }

    /// Everyone hears everything.
    pub(crate) async fn heal(&self) {
        for _ in 0..2 {
            for at in &self.sites {
                for from in &self.sites {
                    at.replica.pull(&from.replica).await;
                }
            }
        }
        for site in &self.sites {
            site.replica.assert_same(&self.sites[0].replica);
        }
    }

    /// The gossip finds that everyone has everything, and that nothing is on its way; each site acts on it.
    pub(crate) async fn settle(&self) {
        self.time.pass(10);
        let settled = self.sites[0].replica.store.state().vector.clone();
        for site in &self.sites {
            site.told.settled(settled.clone());
            site.replica.store.trim(settled.clone());
            site.replica.settled().await;
            site.steps().await;
        }
    }

    pub(crate) fn assert_sound(&self) {
        for site in &self.sites {
            site.replica.assert_sound();
            site.replica.assert_same(&self.sites[0].replica);
        }
    }
}

async fn register(at: &Site, id: MemberId, name: &str) {
    write_member(at, id, name, None).await;
}

/// A member that was put out before anybody here heard of it.
pub(crate) async fn put_out(at: &Site, name: &str) {
    let evicted = MemberField::Evicted {
        by: at.member,
        compromised: false,
        words: String::new(),
    };
    write_member(at, MemberId::from_bytes([9; 8]), name, Some(evicted)).await;
}

async fn write_member(at: &Site, id: MemberId, name: &str, more: Option<MemberField>) {
    let active = [
        MemberField::Name(name.to_owned()),
        MemberField::Site(name.to_owned()),
        MemberField::State(MemberState::Active),
    ];
    at.replica
        .store
        .transact(move |txn| -> Result<(), TransactError> {
            let at = txn.stamp();
            for field in active.into_iter().chain(more) {
                txn.write_cluster(ClusterWrite::Member { id, at, field });
            }
            Ok(())
        })
        .await
        .expect("written");
}

/// An operator says that every member can read receipts.
pub(crate) async fn finalise(at: &Site) {
    at.replica
        .store
        .transact(|txn| -> Result<(), TransactError> {
            let setting = ClusterWrite::Setting {
                name: feature_setting(features::ERASURE_RECEIPTS),
                at: txn.stamp(),
                value: vec![1],
            };
            txn.write_cluster(setting);
            Ok(())
        })
        .await
        .expect("written");
}

/// Two sites that could not hear each other took a sign-up of one address each; the second wins.
async fn one_address_twice(world: &World) -> (AccountId, AccountId) {
    let [first, second, ..] = &world.sites[..] else {
        panic!("two sites at least")
    };
    let (loser, _) = first.replica.sign_up("LOSER@example.org").await.expect("written");
    world.time.pass(10);
    let (winner, _) = second
        .replica
        .sign_up("loser@example.org")
        .await
        .expect("written");
    (loser, winner)
}

#[tokio::test]
async fn of_two_sign_ups_of_one_address_the_losers_goes_everywhere() {
    let world = World::new(["accra", "lima", "oslo"], HOUR).await;
    let (_, winner) = one_address_twice(&world).await;
    world.heal().await;
    for site in &world.sites {
        site.steps().await;
        assert_eq!(site.told.counts(), (1, 0), "it has a loser, and is not settled");
        assert!(site.traces("LOSER@").contains(&"vault"));
    }
    let before: Vec<u64> = world.sites.iter().map(Site::transactions).collect();

    world.settle().await;
    let written: Vec<u64> = world.sites.iter().map(Site::transactions).collect();
    assert_eq!(
        written,
        [before[0] + 1, before[1], before[2]],
        "the first site alone collapses it"
    );
    world.heal().await;
    for site in &world.sites {
        site.steps().await;
        assert_eq!(site.told.counts(), (0, 0));
        assert_eq!(
            site.traces("LOSER@"),
            Vec::<&str>::new(),
            "also the log was trimmed"
        );
        assert!(site.traces("loser@").contains(&"vault"));
        assert_eq!(site.owner("loser@example.org"), Some(winner));
        assert!(site.replica.signs_in("loser@example.org").await);
    }
    world.heal().await;
    world.assert_sound();
}

#[tokio::test]
async fn a_loser_is_not_ended_while_the_winners_release_is_on_its_way() {
    let world = World::new(["accra", "lima", "oslo"], HOUR).await;
    let (loser, winner) = one_address_twice(&world).await;
    let [accra, lima, oslo] = &world.sites[..] else {
        panic!("three sites")
    };
    // Oslo hears of the winner only, who lets the address go there.
    oslo.replica.pull(&lima.replica).await;
    accra.replica.pull(&lima.replica).await;
    lima.replica.pull(&accra.replica).await;
    world.time.pass(10);
    let removed = oslo
        .replica
        .identity
        .remove_email(winner, &address("loser@example.org"))
        .await;
    assert!(matches!(removed, Ok(Outcome::Done { .. })), "{removed:?}");
    // Oslo has acknowledged what it has; the loser's sign-up is not among that.
    let acknowledged = world.sites[2].replica.store.state().vector.clone();
    for site in [accra, lima] {
        site.told.settled(acknowledged.clone());
        site.steps().await;
        assert_eq!(site.told.counts(), (1, 0));
        assert!(site.traces("LOSER@").contains(&"vault"));
    }
    world.heal().await;
    world.settle().await;
    world.heal().await;
    for site in &world.sites {
        assert_eq!(
            site.owner("loser@example.org"),
            Some(loser),
            "who had lost to one that left"
        );
        assert_eq!(site.told.counts(), (0, 0));
    }
    world.assert_sound();
}

#[tokio::test]
async fn two_sites_that_both_think_they_are_first_write_the_same() {
    let world = World::new(["accra", "lima"], HOUR).await;
    one_address_twice(&world).await;
    world.heal().await;
    let settled = world.sites[0].replica.store.state().vector.clone();
    for site in &world.sites {
        // Each is told, where the other cannot hear it, that the other has gone.
        for other in world.sites.iter().filter(|other| other.member != site.member) {
            let id = other.member;
            let evict = move |txn: &mut persona::store::Txn<'_>| -> Result<(), TransactError> {
                let at = txn.stamp_past(txn.cluster()?.latest);
                let field = MemberField::State(MemberState::Evicted);
                txn.write_cluster(ClusterWrite::Member { id, at, field });
                Ok(())
            };
            site.replica.store.transact(evict).await.expect("written");
        }
        let before = site.transactions();
        site.told.settled(settled.clone());
        site.steps().await;
        assert_eq!(site.transactions(), before + 1, "each collapses it");
    }
    world.heal().await;
    world.assert_sound();
    let transactions: Vec<u64> = world.sites.iter().map(Site::transactions).collect();
    for _ in 0..3 {
        world.settle().await;
        world.heal().await;
    }
    for (site, before) in world.sites.iter().zip(transactions) {
        assert_eq!(site.told.counts(), (0, 0));
        assert_eq!(site.transactions(), before, "there is nothing left to collapse");
        assert_eq!(site.traces("LOSER@"), Vec::<&str>::new());
    }
}

#[tokio::test]
async fn of_two_changes_of_a_password_the_one_that_lost_goes() {
    let world = World::new(["accra", "lima"], HOUR).await;
    let (account, _) = world.sites[0]
        .replica
        .sign_up("ada@example.org")
        .await
        .expect("written");
    world.heal().await;
    for (site, new) in world
        .sites
        .iter()
        .zip(["battery staple", "tr0ub4dor&3 tr0ub4dor"])
    {
        world.time.pass(10);
        let changed = site
            .replica
            .identity
            .change_password(account, password("correct horse"), password(new), None)
            .await;
        assert!(matches!(changed, Ok(Outcome::Done { .. })), "{changed:?}");
    }
    world.heal().await;
    let values = |site: &Site| site.replica.store.audit().expect("an audit").vault_values;
    assert_eq!(values(&world.sites[0]), 3, "an address, and two passwords");
    world.settle().await;
    world.heal().await;
    for site in &world.sites {
        assert_eq!(values(site), 2);
        let signed_in = site
            .replica
            .identity
            .sign_in(
                &address("ada@example.org"),
                password("tr0ub4dor&3 tr0ub4dor"),
                None,
            )
            .await;
        assert!(matches!(signed_in, Ok(Outcome::Done { .. })), "{signed_in:?}");
    }
    world.assert_sound();
}

#[tokio::test]
async fn whom_a_cancelled_account_had_beaten_is_ended_too() {
    let world = World::new(["accra", "lima"], HOUR).await;
    let (loser, winner) = one_address_twice(&world).await;
    world.time.pass(10);
    let lima = &world.sites[1].replica;
    let cancelled = lima.identity.cancel_account(winner).await;
    assert!(matches!(cancelled, Ok(Outcome::Done { .. })));
    world.heal().await;
    for site in &world.sites {
        assert_eq!(
            site.owner("loser@example.org"),
            None,
            "a claim that lost does not return"
        );
        assert!(site.traces("LOSER@").contains(&"vault"));
    }
    world.settle().await;
    world.heal().await;
    world.settle().await;
    for site in &world.sites {
        assert_eq!(site.told.counts(), (0, 0), "collapsed, and forgotten");
        assert_eq!(site.traces("LOSER@"), Vec::<&str>::new());
        assert_eq!(site.traces("loser@"), Vec::<&str>::new());
        let report = site.settler.report(loser).expect("a report").expect("known");
        assert!(
            !report.cancelled && !report.complete,
            "the loser's account is there"
        );
    }
    world.heal().await;
    world.assert_sound();
    let (newcomer, _) = lima.sign_up("loser@example.org").await.expect("written");
    assert_eq!(world.sites[1].owner("loser@example.org"), Some(newcomer));
}

/// The hash of an account's password, which nothing may hold in the end.
fn hash(site: &Site, account: AccountId) -> String {
    let read = site.replica.store.read(|records| {
        let view = records.account(account).expect("readable").expect("known");
        let vault = view.password.expect("a password").vault;
        records.vault(vault).expect("readable").expect("there")
    });
    String::from_utf8(read.expect("a read")).expect("text")
}

#[tokio::test]
async fn a_cancelled_account_is_forgotten_and_every_site_gives_its_receipt() {
    let world = World::new(["accra", "lima"], HOUR).await;
    let [accra, lima] = &world.sites[..] else {
        panic!("two sites")
    };
    let (account, _) = accra.replica.sign_up("ada@example.org").await.expect("written");
    let hash = hash(accra, account);
    world.heal().await;
    let cancelled = lima.replica.identity.cancel_account(account).await;
    assert!(matches!(cancelled, Ok(Outcome::Done { .. })));
    world.heal().await;
    for site in &world.sites {
        site.steps().await;
        assert_eq!(site.waits_for(account), Some(WaitsFor::Settled.to_string()));
        assert!(site.traces("ada@example.org").contains(&"log"));
    }
    let settled = accra.replica.store.state().vector.clone();
    accra.told.settled(settled.clone());
    accra.steps().await;
    assert_eq!(
        accra.waits_for(account),
        Some(WaitsFor::Gone(Obstacle::Log).to_string())
    );
    accra.replica.store.trim(settled);
    accra.replica.settled().await;
    accra.steps().await;
    let report = accra.settler.report(account).expect("a report").expect("known");
    assert!(report.cancelled && !report.complete);
    assert!(report.members[0].erased_at_ms.is_some() && report.members[1].erased_at_ms.is_none());

    world.heal().await;
    world.settle().await;
    world.heal().await;
    for site in &world.sites {
        let report = site.settler.report(account).expect("a report").expect("known");
        assert!(report.complete, "{report:?}");
        assert_eq!(site.told.counts(), (0, 0));
        assert_eq!(site.traces("ada@example.org"), Vec::<&str>::new());
        assert_eq!(site.traces(&hash), Vec::<&str>::new());
    }
    world.assert_sound();
}

#[tokio::test]
async fn what_a_member_that_was_put_out_hands_over_late_is_forgotten_too() {
    let mut world = World::new(["accra", "lima"], HOUR).await;
    let account = world.sites[0]
        .replica
        .sign_up("ada@example.org")
        .await
        .expect("written")
        .0;
    world.heal().await;
    // Quito is cut off, and Ada adds an address there before anybody cancels.
    let quito = Replica::new(9, &world.time, &passwords(), KeepLog::Unstable);
    quito.pull(&world.sites[0].replica).await;
    let late = quito
        .identity
        .add_email(account, address("late@example.org"), Word::Operator)
        .await;
    assert!(matches!(late, Ok(Outcome::Done { .. })), "{late:?}");
    put_out(&world.sites[0], "quito").await;
    world.time.pass(10);
    let cancelled = world.sites[1].replica.identity.cancel_account(account).await;
    assert!(matches!(cancelled, Ok(Outcome::Done { .. })));
    let complete = |site: &Site| {
        let report = site.settler.report(account).expect("a report").expect("known");
        assert_eq!(report.put_out, ["quito"]);
        report.complete
    };
    world.heal().await;
    world.settle().await;
    world.heal().await;
    assert!(world.sites.iter().all(complete));

    for site in &world.sites {
        site.replica.pull(&quito).await;
        assert_eq!(site.traces("late@example.org"), ["log"]);
        assert!(
            !complete(site),
            "its receipt does not hold any more, nor does any other's"
        );
    }
    // A crash in that moment forgets nothing.
    let accra = world.sites.remove(0).restart();
    accra.steps().await;
    assert_eq!(accra.waits_for(account), Some(WaitsFor::Settled.to_string()));
    world.sites.insert(0, accra);
    world.time.pass(HOUR.as_millis() as u64);
    world.heal().await;
    world.settle().await;
    world.heal().await;
    for site in &world.sites {
        assert!(complete(site), "{:?}", site.waits_for(account));
        assert_eq!(site.told.counts(), (0, 0));
        assert_eq!(site.traces("late@example.org"), Vec::<&str>::new());
    }
    world.assert_sound();
}

#[tokio::test]
async fn a_disk_that_was_put_back_takes_no_receipt_of_its_later_self_for_its_own() {
    let mut world = World::new(["accra", "lima"], HOUR).await;
    let lima = world.sites.pop().expect("a site");
    let mut accra = world.sites.pop().expect("a site");
    let (account, _) = accra.replica.sign_up("ada@example.org").await.expect("written");
    let backup = accra.replica.disk.copy();
    let cancelled = accra.replica.identity.cancel_account(account).await;
    assert!(matches!(cancelled, Ok(Outcome::Done { .. })));
    // Accra forgets her, and gives its receipt; Lima keeps its log.
    let settled = accra.replica.store.state().vector.clone();
    lima.replica.pull(&accra.replica).await;
    accra.told.settled(settled.clone());
    accra.replica.store.trim(settled);
    accra.replica.settled().await;
    accra.steps().await;
    assert_eq!(accra.waits_for(account), None);
    assert_eq!(accra.traces("ada@example.org"), Vec::<&str>::new());
    let receipt = accra.replica.log_beyond(&lima.replica.store.state().vector);
    lima.replica.store.apply(receipt);
    lima.replica.settled().await;

    accra.replica.store.close();
    accra.replica.disk.restore(&backup);
    accra = accra.restart();
    accra.replica.pull(&lima.replica).await;
    assert_eq!(
        accra.waits_for(account),
        Some(WaitsFor::Settled.to_string()),
        "her address lies in the log again"
    );
    // Nor is what it waits for lost with the process.
    let accra = accra.restart();
    accra.steps().await;
    assert_eq!(accra.waits_for(account), Some(WaitsFor::Settled.to_string()));
    assert_eq!(accra.traces("ada@example.org"), ["log"]);
    world.sites = vec![accra, lima];
    world.time.pass(HOUR.as_millis() as u64);
    world.heal().await;
    world.settle().await;
    world.heal().await;
    for site in &world.sites {
        assert_eq!(site.waits_for(account), None);
        assert_eq!(site.told.counts(), (0, 0));
        assert_eq!(site.traces("ada@example.org"), Vec::<&str>::new());
    }
    world.assert_sound();
}

#[tokio::test]
async fn an_address_that_goes_on_with_another_owner_begins_no_erasure_again() {
    let world = World::new(["accra", "lima"], HOUR).await;
    let [accra, lima] = &world.sites[..] else {
        panic!("two sites")
    };
    let (account, _) = accra.replica.sign_up("ada@example.org").await.expect("written");
    let cancelled = accra.replica.identity.cancel_account(account).await;
    assert!(matches!(cancelled, Ok(Outcome::Done { .. })));
    world.heal().await;
    world.settle().await;
    world.heal().await;
    world.time.pass(10);
    lima.replica.sign_up("ada@example.org").await.expect("written");
    world.heal().await;
    for site in &world.sites {
        assert_eq!(site.told.counts(), (0, 0));
        assert!(
            site.settler
                .report(account)
                .expect("a report")
                .expect("known")
                .complete
        );
    }
}

#[tokio::test]
async fn no_receipt_is_written_before_every_member_can_read_it() {
    let world = World::of_before(["accra"], HOUR).await;
    let site = &world.sites[0];
    let (account, _) = site.replica.sign_up("ada@example.org").await.expect("written");
    let cancelled = site.replica.identity.cancel_account(account).await;
    assert!(matches!(cancelled, Ok(Outcome::Done { .. })));
    world.settle().await;
    assert_eq!(site.traces("ada@example.org"), Vec::<&str>::new());
    assert_eq!(site.waits_for(account), Some(WaitsFor::Finalised.to_string()));
    let receipts = || {
        let read = |records: &Snapshot<'_>| records.cells(CellKind::ERASED, account.as_bytes());
        site.replica
            .store
            .read(read)
            .expect("a read")
            .expect("cells")
            .len()
    };
    assert_eq!(receipts(), 0);
    finalise(site).await;
    site.steps().await;
    assert_eq!((receipts(), site.waits_for(account)), (1, None));
}

#[tokio::test]
async fn an_erasure_goes_on_after_a_restart_and_is_done_once() {
    let mut world = World::new(["accra"], HOUR).await;
    let (account, _) = world.sites[0]
        .replica
        .sign_up("ada@example.org")
        .await
        .expect("written");
    let cancelled = world.sites[0].replica.identity.cancel_account(account).await;
    assert!(matches!(cancelled, Ok(Outcome::Done { .. })));
    let site = world.sites.remove(0).restart();
    assert_eq!(site.waits_for(account), Some(WaitsFor::Scan.to_string()));
    site.steps().await;
    assert_eq!(site.waits_for(account), Some(WaitsFor::Settled.to_string()));
    world.sites.push(site);
    world.settle().await;
    let site = world.sites.remove(0);
    assert!(
        site.settler
            .report(account)
            .expect("a report")
            .expect("known")
            .complete
    );

    let site = site.restart();
    site.steps().await;
    assert_eq!(site.told.counts(), (0, 0), "it has its receipt");
}

#[tokio::test]
async fn losers_are_found_again_after_a_restart() {
    let mut world = World::new(["accra", "lima"], HOUR).await;
    one_address_twice(&world).await;
    world.heal().await;
    let first = world.sites.remove(0).restart();
    // The gossip says so once, perhaps before the scan comes to it.
    first.told.settled(first.replica.store.state().vector.clone());
    assert_eq!(first.told.counts(), (0, 0));
    first.steps().await;
    assert_eq!(first.transactions(), 1, "found, and collapsed");
    world.sites.insert(0, first);
    world.heal().await;
    world.settle().await;
    for site in &world.sites {
        site.steps().await;
        assert_eq!(site.told.counts(), (0, 0));
        assert_eq!(site.traces("LOSER@"), Vec::<&str>::new());
    }
    world.assert_sound();
}

#[tokio::test]
async fn the_disk_is_rewritten_no_more_often_than_configured() {
    let world = World::new(["accra"], HOUR).await;
    let site = &world.sites[0];
    let mut accounts = Vec::new();
    for text in ["ada@example.org", "bob@example.org"] {
        let (account, _) = site.replica.sign_up(text).await.expect("written");
        let cancelled = site.replica.identity.cancel_account(account).await;
        assert!(matches!(cancelled, Ok(Outcome::Done { .. })));
        world.settle().await;
        accounts.push(account);
    }
    assert_eq!(site.waits_for(accounts[0]), None);
    assert_eq!(site.waits_for(accounts[1]), Some(WaitsFor::Rewrite.to_string()));
    world.time.pass(HOUR.as_millis() as u64);
    site.steps().await;
    assert_eq!(site.waits_for(accounts[1]), None);
}

/// An address that is added again in the moment of the collapse: the record is not what was settled any more.
#[tokio::test]
async fn a_record_that_changes_is_settled_anew() {
    let world = World::new(["accra", "lima"], HOUR).await;
    let (loser, _) = one_address_twice(&world).await;
    world.heal().await;
    let settled = world.sites[0].replica.store.state().vector.clone();
    world.time.pass(10);
    let again = world.sites[1]
        .replica
        .identity
        .add_email(loser, address("loser@example.org"), Word::Operator)
        .await;
    assert!(matches!(again, Ok(Outcome::Done { .. })), "{again:?}");
    let lima = &world.sites[1];
    lima.told.settled(settled.clone());
    lima.steps().await;
    assert_eq!(lima.told.counts(), (0, 0), "a later proof replaced both");
    // Accra, which had not heard of it, collapses: the earlier winner's claim comes beside the later proof.
    world.sites[0].told.settled(settled);
    world.sites[0].steps().await;
    world.heal().await;
    for site in &world.sites {
        assert_eq!(site.owner("loser@example.org"), Some(loser));
    }
    world.settle().await;
    world.heal().await;
    world.settle().await;
    for site in &world.sites {
        assert_eq!(site.told.counts(), (0, 0));
        assert_eq!(site.owner("loser@example.org"), Some(loser));
    }
    world.assert_sound();
}
