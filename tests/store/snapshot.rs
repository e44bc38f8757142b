//! Replicas that begin with another's copy, and stores that come back from a backup.

use std::{
    path::Path,
    sync::{Arc, Barrier},
};

use gossip::{
    MemberId,
    snapshot::{Action, Giver, Source, Taker},
};
use persona::store::{
    Backup, BackupError, BackupOwner, InstallError, KeepLog, Restore, RestoreError, Store, StoreConfig,
    TransactError,
    disk::{Family, memory::Fault},
    prune_backups,
};

use crate::replica::{Replica, Time, passwords};

const MEMBER: MemberId = MemberId([9; 8]);
const HOUR_MS: u64 = 60 * 60 * 1000;
/// Backups that are made while the disk is rewritten.
const BACKUPS: usize = 8;

/// Moves a whole copy from a source to a store's sink.
fn transfer(source: Arc<dyn Source>, to: &Store) {
    let mut giver = Giver::new(source);
    let mut taker = Taker::new(to.snapshot_sink().expect("a sink"));
    let mut to_giver: Vec<Action> = taker.more().expect("a question").into_iter().collect();
    while !to_giver.is_empty() {
        for action in std::mem::take(&mut to_giver) {
            if let Action::Send(frame) = action {
                giver.handle(&frame).expect("a frame for the giver");
            }
        }
        while let Some(Action::Send(frame)) = giver.more().expect("a readable checkpoint") {
            to_giver.extend(taker.handle(&frame).expect("a frame for the taker"));
        }
    }
}

fn take_copy(from: &Replica, to: &Replica) -> Result<(), InstallError> {
    transfer(
        from.store.snapshot_source(MEMBER).expect("a checkpoint"),
        &to.store,
    );
    to.store.install_snapshot()
}

/// What `meta` says that the log takes.
fn log_bytes(replica: &Replica) -> Option<Vec<u8>> {
    let mut found = None;
    let scanned = replica.store.scan_everything(|family, key, value| {
        if family == Family::Meta && key == b"log-bytes" {
            found = Some(value.to_vec());
        }
    });
    scanned.expect("a scan");
    found
}

#[tokio::test]
async fn an_empty_replica_begins_with_a_copy_and_goes_on_by_the_log() {
    let (time, passwords) = (Time::new(), passwords());
    let third = Replica::new(3, &time, &passwords, KeepLog::Everything);
    let giver = Replica::new(1, &time, &passwords, KeepLog::Unstable);
    let mut taker = Replica::new(2, &time, &passwords, KeepLog::Unstable);
    third.sign_up("cy@example.org").await.expect("a sign-up");
    giver.pull(&third).await;
    for name in ["ada", "bob"] {
        giver
            .sign_up(&format!("{name}@example.org"))
            .await
            .expect("a sign-up");
    }
    // The log is of no use to a newcomer any more.
    giver.store.trim(giver.store.state().vector.clone());
    giver.sign_up("dan@example.org").await.expect("a sign-up");
    let before = taker.store.state().start;

    take_copy(&giver, &taker).expect("installed");
    let state = taker.store.state();
    assert_ne!(state.start.replica, before.replica, "its own replica");
    assert_ne!(state.start.replica, giver.store.state().start.replica);
    assert!(state.start.epoch > before.epoch, "epochs go on");
    assert_eq!(state.own_starts[0], before);
    assert_eq!(state.trimmed, giver.store.state().trimmed);
    assert_eq!(
        log_bytes(&taker),
        log_bytes(&giver),
        "its log was not read to tell"
    );
    taker.assert_same(&giver);
    taker.assert_sound();
    assert!(taker.signs_in("ada@example.org").await && taker.signs_in("cy@example.org").await);

    let (_, dot) = taker.sign_up("eve@example.org").await.expect("a sign-up");
    assert_eq!(dot.writer, state.start);
    giver.sign_up("fay@example.org").await.expect("a sign-up");
    giver.pull(&taker).await;
    taker.pull(&giver).await;
    taker.restart(true);
    taker.assert_same(&giver);
    taker.assert_sound();
    giver.assert_sound();
    let heads = &taker.log_beyond(&state.vector)[0].envelope.follows;
    assert!(
        heads.len() <= 2,
        "what it follows is what nothing else follows: {heads:?}"
    );
}

#[tokio::test]
async fn a_copy_that_lacks_something_from_here_is_not_installed() {
    let (time, passwords) = (Time::new(), passwords());
    let giver = Replica::new(1, &time, &passwords, KeepLog::Everything);
    let taker = Replica::new(2, &time, &passwords, KeepLog::Everything);
    giver.sign_up("ada@example.org").await.expect("a sign-up");
    assert_eq!(taker.store.install_snapshot(), Err(InstallError::NotHere));
    transfer(
        giver.store.snapshot_source(MEMBER).expect("a checkpoint"),
        &taker.store,
    );
    let (_, dot) = taker.sign_up("bob@example.org").await.expect("a sign-up");
    let start = taker.store.state().start;
    assert_eq!(
        taker.store.install_snapshot(),
        Err(InstallError::Lacks { transactions: 1 })
    );
    assert_eq!(taker.store.state().start, start, "nothing has changed");
    assert!(taker.store.state().vector.covers(&dot));

    // Once the giver has it too, a later copy does.
    giver.pull(&taker).await;
    let other = MemberId([8; 8]);
    transfer(
        giver.store.snapshot_source(other).expect("a checkpoint"),
        &taker.store,
    );
    taker.store.install_snapshot().expect("installed");
    taker.assert_same(&giver);
    taker.assert_sound();
}

#[tokio::test]
async fn an_install_that_fails_leaves_a_replica_that_runs_on_one_or_the_other() {
    for fault in [Fault::Full, Fault::Lost, Fault::Landed, Fault::Unsynced] {
        let (time, passwords) = (Time::new(), passwords());
        let giver = Replica::new(1, &time, &passwords, KeepLog::Everything);
        let mut taker = Replica::new(2, &time, &passwords, KeepLog::Everything);
        giver.sign_up("ada@example.org").await.expect("a sign-up");
        transfer(
            giver.store.snapshot_source(MEMBER).expect("a checkpoint"),
            &taker.store,
        );
        let before = taker.store.state().start;
        taker.disk.plan(fault);
        let installed = taker.store.install_snapshot();
        let after = taker.store.state().start;
        assert_ne!(after, before, "{fault:?}: a new start in any case");
        assert_eq!(installed.is_ok(), after.replica != before.replica, "{fault:?}");
        for crash in [false, true] {
            taker.assert_sound();
            assert_eq!(
                taker.signs_in("ada@example.org").await,
                installed.is_ok(),
                "{fault:?}"
            );
            taker.restart(crash);
        }
        taker.pull(&giver).await;
        assert!(taker.signs_in("ada@example.org").await, "{fault:?}");
    }
}

#[tokio::test]
async fn a_checkpoint_is_kept_for_its_member_until_it_is_done_or_old() {
    let (time, passwords) = (Time::new(), passwords());
    let giver = Replica::new(1, &time, &passwords, KeepLog::Everything);
    let member = |number: u8| MemberId([number; 8]);
    let source = |number| giver.store.snapshot_source(member(number));
    let first = source(1).expect("a checkpoint");
    giver.sign_up("ada@example.org").await.expect("a sign-up");
    let again = source(1).expect("a checkpoint");
    assert_eq!(first.manifest(), again.manifest(), "the same, to go on with");
    let second = source(2).expect("a checkpoint");
    assert_ne!(first.manifest().id, second.manifest().id);
    assert!(source(3).is_err(), "two at once");

    second.done();
    assert!(second.read(0, 0, &mut [0]).is_err());
    source(3).expect("there is room again");
    time.pass(25 * HOUR_MS);
    let new = source(1).expect("a checkpoint");
    assert_ne!(first.manifest().id, new.manifest().id);
    assert!(first.read(0, 0, &mut [0]).is_err(), "nobody reads an old one");
}

fn owner(member: u8) -> BackupOwner {
    BackupOwner {
        cluster: "0123".to_owned(),
        site: "oslo".to_owned(),
        member: Some(MemberId([member; 8])),
    }
}

fn open(directory: &Path) -> Store {
    let config = StoreConfig {
        directory: directory.to_path_buf(),
        keeping: KeepLog::Everything.into(),
        reserve_bytes: 0,
        free_bytes_min: 0,
    };
    Store::open(&config).expect("a store")
}

async fn fill(store: &Store, from: &Replica) {
    store.apply(from.log_beyond(&store.state().vector));
    let _ = store.transact(|_| Ok::<(), TransactError>(())).await;
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_millis() as u64
}

#[tokio::test]
async fn a_backup_is_whole_though_the_disk_is_rewritten_meanwhile() {
    let (time, passwords) = (Time::new(), passwords());
    let peer = Replica::new(1, &time, &passwords, KeepLog::Everything);
    for name in 0..20 {
        let address = format!("ada{name}@example.org");
        peer.sign_up(&address).await.expect("a sign-up");
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = open(&directory.path().join("data"));
    fill(&store, &peer).await;
    // One rewriting for each backup, begun in the same moment: whichever has the other wait, both are done.
    let together = Barrier::new(2);
    std::thread::scope(|scope| {
        let rewriting = scope.spawn(|| {
            let rewrite = |_| {
                together.wait();
                store.compact()
            };
            (0..BACKUPS).map(rewrite).collect::<Vec<_>>()
        });
        let back_up = |number: usize| {
            together.wait();
            store.backup(&directory.path().join(number.to_string()), owner(1))
        };
        // Judged when nobody waits for anybody any more.
        let backups: Vec<_> = (0..BACKUPS).map(back_up).collect();
        for rewritten in rewriting.join().expect("no panic") {
            rewritten.expect("it is rewritten");
        }
        for backup in backups {
            assert_eq!(backup.expect("a backup").transactions, 20);
        }
    });
}

#[tokio::test]
async fn a_store_comes_back_from_a_backup_as_a_new_replica() {
    let (time, passwords) = (Time::new(), passwords());
    let peer = Replica::new(1, &time, &passwords, KeepLog::Everything);
    peer.sign_up("ada@example.org").await.expect("a sign-up");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (data, to) = (directory.path().join("data"), directory.path().join("backup"));
    let store = open(&data);
    fill(&store, &peer).await;
    let before = store.state();
    let made = store.backup(&to, owner(1)).expect("a backup");
    assert_eq!((made.transactions, made.start), (1, before.start));
    assert!(matches!(
        store.backup(&to, owner(1)),
        Err(BackupError::Exists { .. })
    ));
    peer.sign_up("bob@example.org").await.expect("a sign-up");
    fill(&store, &peer).await;

    let by = owner(1);
    let restore = Restore {
        directory: &data,
        from: &to,
        owner: &by,
        age_max_days: 30,
        replace: false,
        now_ms: now_ms(),
    };
    assert!(
        matches!(restore.run(), Err(RestoreError::Directory(_))),
        "while the site runs"
    );
    store.close();
    drop(store);
    assert!(matches!(restore.run(), Err(RestoreError::Occupied { .. })));
    let old = Restore {
        now_ms: made.made_at_ms + 31 * 24 * HOUR_MS,
        ..restore.clone()
    };
    let words = old.run().expect_err("too old").to_string();
    assert!(
        words.contains("31 days old") && words.contains("promised"),
        "{words}"
    );
    let stranger = BackupOwner {
        cluster: "4567".to_owned(),
        ..owner(1)
    };
    let strange = Restore {
        owner: &stranger,
        ..restore.clone()
    };
    assert!(matches!(strange.run(), Err(RestoreError::Cluster { .. })));
    let nothing = Restore {
        from: directory.path(),
        ..restore.clone()
    };
    assert!(matches!(nothing.run(), Err(RestoreError::NotABackup { .. })));
    let untouched = open(&data);
    assert_eq!(untouched.state().vector.total(), 2, "a refusal changes nothing");
    let latest = untouched.state().start;
    untouched.close();
    drop(untouched);

    let replace = Restore {
        replace: true,
        ..restore.clone()
    };
    let restored = replace.run().expect("restored");
    assert!(restored.aside.is_some_and(|aside| aside.join("CURRENT").exists()));
    let store = open(&data);
    let state = store.state();
    assert_eq!(state.vector.total(), 1);
    assert_ne!(state.start.replica, before.start.replica);
    assert!(
        state.start.epoch > latest.epoch,
        "past the store that was replaced, too"
    );
    assert_eq!(store.audit().expect("an audit").findings, Vec::<String>::new());
    fill(&store, &peer).await;
    assert_eq!(
        store.digest().expect("a digest"),
        peer.store.digest().expect("a digest")
    );
    let mut own = 0;
    store
        .scan_everything(|family, key, _| {
            own += u32::from(family == Family::Meta && key.starts_with(b"start/"));
        })
        .expect("a scan");
    assert_eq!(own, 3, "two starts of before, and this one");
}

#[tokio::test]
async fn backups_that_may_not_be_restored_are_pruned_and_damaged_ones_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = open(&directory.path().join("data"));
    let backups = directory.path().join("backups");
    for name in ["one", "two"] {
        store.backup(&backups.join(name), owner(1)).expect("a backup");
    }
    std::fs::create_dir(backups.join("something else")).expect("a directory");
    let made = Backup::read(&backups.join("two"))
        .expect("readable")
        .expect("a backup");
    let soon = made.made_at_ms + 29 * 24 * HOUR_MS;
    assert_eq!(
        prune_backups(&backups, &owner(1), 30, soon).expect("pruned"),
        Vec::<std::path::PathBuf>::new()
    );

    let table = std::fs::read_dir(backups.join("two").join("files"))
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.to_string_lossy().contains("MANIFEST"))
        .expect("a file");
    let mut bytes = std::fs::read(&table).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&table, bytes).expect("written");
    let by = owner(2);
    let fresh = directory.path().join("fresh");
    let restore = Restore {
        directory: &fresh,
        from: &backups.join("two"),
        owner: &by,
        age_max_days: 30,
        replace: false,
        now_ms: soon,
    };
    let words = restore.run().expect_err("damaged").to_string();
    assert!(words.contains("its hash is another"), "{words}");
    let whole = Restore {
        from: &backups.join("one"),
        ..restore
    };
    whole.run().expect("restored, also by another member");

    let late = made.made_at_ms + 31 * 24 * HOUR_MS;
    let removed = prune_backups(&backups, &owner(1), 30, late).expect("pruned");
    assert_eq!(removed.len(), 2);
    assert!(backups.join("something else").exists());
}
