//! Keys at one member's store, through all that can happen to them and to their files.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crdt::{ClusterView, KeyState, MemberId, MemberState};
use tempfile::TempDir;

use super::{publisher::Publisher, *};
use crate::{
    members::{self, own::Own, record as trust},
    store::{Store, disk::memory::MemoryDisk},
};

const NOON_MS: u64 = 1_700_000_000_000;
const DAY_MS: u64 = 24 * 3_600_000;

/// A member with a store and a directory of keys.
struct Site {
    store: Store,
    own: Own,
    publisher: Publisher,
    directory: TempDir,
    ring: Option<Keyring>,
    clock: Arc<AtomicU64>,
    /// Who lacks what is published, among those that were heard.
    behind: Vec<MemberId>,
}

impl Site {
    async fn new() -> Site {
        let clock = Arc::new(AtomicU64::new(NOON_MS));
        let read = clock.clone();
        let time = move || read.load(Ordering::Relaxed);
        let store = Store::open_memory(MemoryDisk::default(), time, [1; 32]).expect("a store");
        let mut site = Site {
            own: member(1),
            publisher: Publisher::new(member(1).id, store.clone()),
            store,
            directory: tempfile::tempdir().expect("a temporary directory"),
            ring: None,
            clock,
            behind: Vec::new(),
        };
        site.register(1).await;
        site.restart();
        site
    }

    /// An active member of this number is in the record.
    async fn register(&self, number: u8) {
        trust::register(&member(number), &[vec![number; 91]], &self.store)
            .await
            .expect("registered");
    }

    /// The process begins again: what is in memory is gone.
    fn restart(&mut self) {
        self.ring = None;
        self.publisher = Publisher::new(self.own.id, self.store.clone());
        self.ring = Some(Keyring::open(self.directory.path(), &USES).expect("a directory of keys"));
    }

    /// The same directory in the hands of another member.
    fn becomes(&mut self, number: u8) {
        self.own = member(number);
        self.restart();
    }

    fn ring(&self) -> &Keyring {
        self.ring.as_ref().expect("it runs")
    }

    /// Both halves talk until neither has news; gives what people are told.
    async fn settle(&self, usage: Usage) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..16 {
            let offer = self.ring().offer(usage);
            let awaited = self.publisher.awaited(&offer).expect("a readable record");
            let lacking = awaited.map(|_| self.behind.clone());
            let before = self.store.state().vector.clone();
            let settled = self.publisher.settle(&offer, lacking).await.expect("written");
            let heeded = self.ring().heed(usage, &settled).expect("a good disk");
            told.extend(heeded.alarms);
            if !heeded.changed && self.store.state().vector == before {
                return told;
            }
        }
        panic!("it never comes to rest");
    }

    async fn session_kid(&self) -> Option<String> {
        self.settle(Usage::Session).await;
        self.ring().session_signer().map(|key| key.kid().to_owned())
    }

    fn cluster(&self) -> ClusterView {
        members::cluster(&self.store).expect("the record")
    }

    fn state(&self, kid: &str) -> KeyState {
        let cluster = self.cluster();
        record::standing(&cluster.keys[kid], &cluster).state
    }

    fn keys(&self) -> Keys {
        Keys::of(&self.cluster(), self.clock.load(Ordering::Relaxed))
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).expect("a directory");
        let mut names: Vec<String> = entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .filter(|name| name != crate::directory_lock::NAME)
            .collect();
        names.sort();
        names
    }

    async fn revoke(&self, by: u8, kid: &str) -> bool {
        let (by, kid) = (member(by).id, kid.to_owned());
        let revoked = self
            .store
            .transact(move |txn| record::revoke(by, &kid, txn))
            .await;
        revoked.expect("revoked").value
    }

    async fn evict(&self, by: u8, whom: u8, compromised: bool) {
        let target = self.cluster().members[&member(whom).id].clone();
        trust::evict(member(by).id, target, compromised, String::new(), &self.store)
            .await
            .expect("evicted");
    }

    fn days_pass(&self, days: u64) {
        self.clock.fetch_add(days * DAY_MS, Ordering::Relaxed);
    }
}

fn member(number: u8) -> Own {
    Own {
        id: MemberId::from_bytes([number; 8]),
        name: format!("member-{number}"),
        site: format!("site-{number}"),
        addresses: vec![format!("site-{number}.example:7101")],
        begins: MemberState::Active,
    }
}

#[tokio::test]
async fn a_key_is_published_before_it_signs_and_signs_once_whoever_was_heard_has_it() {
    let mut site = Site::new().await;
    site.register(2).await;
    site.behind = vec![member(2).id];
    assert_eq!(site.session_kid().await, None, "it waits");
    let kid = site.cluster().keys.keys().next().expect("a key").clone();
    assert_eq!(site.state(&kid), KeyState::Published);
    assert_eq!(site.publisher.waits_for(&kid), [member(2).id]);
    assert!(site.keys().sessions().knows(&kid), "it would be verified already");
    assert!(!site.keys().certificates().knows(&kid), "and only for its use");

    // It waits on after a restart, for the same key.
    site.restart();
    assert_eq!(site.session_kid().await, None);
    assert_eq!(site.cluster().keys.len(), 1);

    site.behind.clear();
    assert_eq!(site.session_kid().await, Some(kid.clone()));
    assert_eq!(site.state(&kid), KeyState::Active);
    assert!(site.publisher.waits_for(&kid).is_empty());
    // What a restart finds signs at once, whoever lacks what was written since.
    site.behind = vec![member(2).id];
    site.restart();
    assert_eq!(site.session_kid().await, Some(kid));
    assert_eq!(
        site.ring().certificate_signer().map(|_| ()),
        None,
        "of another use"
    );
}

#[tokio::test]
async fn the_old_key_signs_until_the_next_one_may_and_verifies_until_its_last_signature_is_over() {
    let mut site = Site::new().await;
    let first = site.session_kid().await.expect("a key");
    site.behind = vec![member(2).id];
    site.publisher.rotate(Usage::Session);
    site.publisher.rotate(Usage::Session);
    assert_eq!(
        site.session_kid().await.as_ref(),
        Some(&first),
        "the next one waits"
    );
    assert_eq!(site.files(), ["session.1.pem", "session.2.pem"]);
    assert!(
        !site.publisher.is_wished(Usage::Session),
        "asked twice is asked once"
    );

    site.behind.clear();
    let second = site.session_kid().await.expect("a key");
    assert_ne!(second, first);
    assert_eq!(site.files(), ["session.2.pem"], "what signs no more is erased");
    assert_eq!(
        (site.state(&first), site.state(&second)),
        (KeyState::Retired, KeyState::Active)
    );

    assert!(site.keys().sessions().knows(&first));
    site.days_pass(365);
    assert!(
        site.keys().sessions().knows(&first),
        "browsers are remembered for a year"
    );
    site.days_pass(1);
    assert!(
        !site.keys().sessions().knows(&first),
        "nobody has anything of it any more"
    );
    assert!(site.keys().sessions().knows(&second));
}

#[tokio::test]
async fn a_revoked_key_verifies_nothing_and_its_site_makes_another() {
    let site = Site::new().await;
    site.settle(Usage::Certificate).await;
    let kid = |site: &Site| site.ring().certificate_signer().expect("a key").kid().to_owned();
    let first = kid(&site);
    let before_ms = site.keys().domain_key_creation_ms();
    assert_eq!(before_ms, site.cluster().keys[&first].published.ms());
    let jwk = &site.keys().support_document_keys()[0];
    assert_eq!(
        (jwk["kid"].as_str(), jwk["crv"].as_str()),
        (Some(first.as_str()), Some("P-256"))
    );
    assert!(jwk.get("d").is_none());

    site.days_pass(1);
    site.publisher.rotate(Usage::Certificate);
    site.settle(Usage::Certificate).await;
    assert_eq!(
        site.keys().support_document_keys().len(),
        2,
        "the retired one verifies"
    );
    assert_eq!(
        site.keys().domain_key_creation_ms(),
        before_ms,
        "nothing is to be thrown away"
    );
    let second = kid(&site);

    site.days_pass(1);
    assert!(site.revoke(1, &second).await);
    assert!(!site.revoke(1, &second).await, "once is enough");
    site.settle(Usage::Certificate).await;
    let third = kid(&site);
    assert_eq!(site.state(&second), KeyState::Revoked);
    let listed = site.keys().support_document_keys();
    assert!(listed.iter().all(|jwk| jwk["kid"] != second.as_str()));
    assert!(listed.iter().any(|jwk| jwk["kid"] == third.as_str()));
    assert!(site.keys().domain_key_creation_ms() >= NOON_MS + 2 * DAY_MS);
    assert!(
        site.keys().certificates().knows(&second),
        "known, so that it is refused, not asked for"
    );
    assert_eq!(site.files().len(), 1, "what signs no more is erased");
}

#[tokio::test]
async fn what_was_signed_with_a_revoked_key_is_refused_and_what_nobody_knows_is_asked_for() {
    use crate::browserid::{JwsError, Kind, Unverified, jws};
    let site = Site::new().await;
    let first = site.session_kid().await.expect("a key");
    let signer = site.ring().session_signer().expect("a key");
    let token = jws::sign(Kind::Session, &serde_json::json!({ "exp": 1 }), &signer).expect("signed");
    let verdict = |site: &Site| {
        let token = Unverified::parse(Kind::Session, &token).expect("a token");
        token.verify(&site.keys().sessions())
    };
    assert_eq!(verdict(&site), Ok(()));
    site.revoke(1, &first).await;
    assert_eq!(verdict(&site), Err(JwsError::RevokedKey));
    let elsewhere = Site::new().await;
    assert_eq!(verdict(&elsewhere), Err(JwsError::UnknownKey));
}

#[tokio::test]
async fn a_lost_file_makes_another_key_and_what_nobody_holds_retires() {
    let mut site = Site::new().await;
    let first = site.session_kid().await.expect("a key");
    site.ring = None;
    fs::remove_file(site.directory.path().join("session.1.pem")).expect("it is lost");
    site.restart();
    let second = site.session_kid().await.expect("a key");
    assert_eq!(
        (site.state(&first), site.state(&second)),
        (KeyState::Retired, KeyState::Active)
    );

    // Half a file is none, and stays for whoever wants to look at it.
    site.ring = None;
    fs::write(site.directory.path().join("session.1.pem"), "-----BEGIN").expect("damaged");
    site.restart();
    let told = site.settle(Usage::Session).await;
    assert!(
        told.len() == 1 && told[0].contains("as if it were lost"),
        "{told:?}"
    );
    let third = site.session_kid().await.expect("a key");
    assert_eq!(site.state(&second), KeyState::Retired);
    assert_eq!(site.files(), ["session.1.pem", "session.2.pem"]);
    assert_eq!(site.state(&third), KeyState::Active);
}

#[tokio::test]
async fn a_directory_from_a_copy_is_worth_what_the_record_says_of_it() {
    let mut site = Site::new().await;
    let first = site.session_kid().await.expect("a key");
    let copy = fs::read(site.directory.path().join("session.1.pem")).expect("a key");
    site.publisher.rotate(Usage::Session);
    let second = site.session_kid().await.expect("a key");

    site.ring = None;
    fs::remove_file(site.directory.path().join("session.2.pem")).expect("rolled back");
    fs::write(site.directory.path().join("session.1.pem"), &copy).expect("rolled back");
    site.restart();
    let third = site.session_kid().await.expect("a key");
    assert!(third != first && third != second, "the old one had retired");
    assert_eq!(site.state(&first), KeyState::Retired);
    assert_eq!(site.files().len(), 1, "and is erased again");
    assert_eq!(site.state(&second), KeyState::Retired, "nobody holds it any more");
}

#[tokio::test]
async fn another_member_s_key_is_not_used() {
    let mut site = Site::new().await;
    let first = site.session_kid().await.expect("a key");
    site.register(2).await;
    site.becomes(2);
    let told = site.settle(Usage::Session).await;
    assert!(told.len() == 1 && told[0].contains(&first), "{told:?}");
    let second = site.session_kid().await.expect("a key");
    assert_ne!(second, first);
    assert_eq!(site.cluster().keys[&second].member, Some(member(2).id));
    assert_eq!(site.state(&first), KeyState::Active, "its member goes on");
    assert_eq!(
        site.files(),
        ["session.1.pem", "session.2.pem"],
        "nothing of another's is erased"
    );
    assert_eq!(
        site.settle(Usage::Session).await,
        Vec::<String>::new(),
        "said once"
    );
}

#[tokio::test]
async fn who_was_evicted_and_came_back_has_new_keys() {
    let mut site = Site::new().await;
    let first = site.session_kid().await.expect("a key");
    site.register(2).await;
    site.evict(2, 1, false).await;
    assert_eq!(site.state(&first), KeyState::Retired);
    assert_eq!(site.session_kid().await, None, "it signs nothing any more");
    site.register(3).await;
    site.becomes(3);
    let second = site.session_kid().await.expect("a key");
    assert_eq!(site.cluster().keys[&second].member, Some(member(3).id));
    assert!(
        site.keys().sessions().knows(&first),
        "people whom it signed in stay signed in"
    );
}

#[tokio::test]
async fn a_compromised_member_s_keys_verify_nothing_also_those_that_its_evictor_did_not_know() {
    let site = Site::new().await;
    let first = site.session_kid().await.expect("a key");
    site.register(2).await;
    site.evict(2, 1, true).await;
    assert_eq!(site.state(&first), KeyState::Revoked);

    // As at a replica that hears of the key after it heard of the eviction.
    let mut cluster = site.cluster();
    let key = cluster.keys.get_mut(&first).expect("a key");
    (key.state, key.since) = (KeyState::Active, key.published);
    let standing = record::standing(&cluster.keys[&first], &cluster);
    assert_eq!(standing.state, KeyState::Revoked);
    assert!(standing.since >= cluster.keys[&first].published);
    assert_eq!(cluster.keys[&first].state, KeyState::Active);
    let sessions = Keys::of(&cluster, NOON_MS).sessions();
    assert!(sessions.knows(&first));
}

#[tokio::test]
async fn who_leaves_signs_no_more_and_its_keys_retire_with_that_word() {
    let site = Site::new().await;
    let first = site.session_kid().await.expect("a key");
    site.register(2).await;
    trust::begin_to_leave(site.own.id, &site.store)
        .await
        .expect("it leaves");
    assert_eq!(site.state(&first), KeyState::Retired);
    assert_eq!(site.session_kid().await, None);
    assert_eq!(site.files(), Vec::<String>::new());
}

#[tokio::test]
async fn keys_are_private_files_for_one_process() {
    let mut site = Site::new().await;
    site.session_kid().await.expect("a key");
    let file = site.directory.path().join("session.1.pem");
    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    let other = Keyring::open(site.directory.path(), &USES)
        .err()
        .expect("it is locked");
    assert!(other.to_string().contains("is for one process"), "{other}");

    site.ring = None;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("careless");
    site.restart();
    let told = site.settle(Usage::Session).await;
    assert!(told.len() == 1 && told[0].contains("mode 644"), "{told:?}");
    assert_eq!(mode(&file), 0o600);
    assert!(!format!("{:?}", site.ring().session_signer()).contains("PRIVATE"));
}

#[tokio::test]
async fn a_disk_that_takes_no_key_leaves_the_site_without_and_is_tried_again() {
    let site = Site::new().await;
    // A directory where the file is written aside: the disk says no, also to the superuser.
    let aside = site.directory.path().join("session.1.pem.new");
    fs::create_dir(&aside).expect("made");
    let offer = site.ring().offer(Usage::Session);
    let settled = site.publisher.settle(&offer, None).await.expect("answered");
    assert!(settled.wants_key);
    assert!(matches!(
        site.ring().heed(Usage::Session, &settled),
        Err(KeyringError::Io { .. })
    ));
    assert!(site.ring().session_signer().is_none());
    assert!(
        site.cluster().keys.is_empty(),
        "nothing is published that is not on disk"
    );
    fs::remove_dir(&aside).expect("space again");
    assert!(site.session_kid().await.is_some());
}

#[tokio::test]
async fn nothing_makes_key_after_key() {
    let site = Site::new().await;
    for _ in 0..MADE_MAX {
        let kid = site.session_kid().await.expect("a key");
        site.revoke(1, &kid).await;
    }
    let offer = site.ring().offer(Usage::Session);
    let settled = site.publisher.settle(&offer, None).await.expect("answered");
    assert!(matches!(
        site.ring().heed(Usage::Session, &settled),
        Err(KeyringError::TooMany { .. })
    ));
    assert!(site.ring().session_signer().is_none());
}

#[tokio::test]
async fn only_an_active_member_s_operator_revokes_and_a_name_must_be_one_key_s() {
    let site = Site::new().await;
    let kid = site.session_kid().await.expect("a key");
    let cluster = site.cluster();
    assert_eq!(record::named(&cluster, &kid[..6]).expect("found").0, kid);
    for wrong in ["", &kid[..5], "nobody's"] {
        assert!(record::named(&cluster, wrong).is_err(), "{wrong:?}");
    }
    let stranger = member(9).id;
    let named = kid.clone();
    let refused = site
        .store
        .transact(move |txn| record::revoke(stranger, &named, txn))
        .await;
    assert!(matches!(refused, Err(trust::RecordError::Refused(_))));
    assert_eq!(site.state(&kid), KeyState::Active);
}
