//! A member and newcomers, each with what a connection between them would have.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::*;
use crate::{
    members::{self, own::Own},
    store::disk::memory::MemoryDisk,
};

const HOUR_MS: u64 = 3_600_000;
const NOON_MS: u64 = 1_700_000_000_000;

/// A cluster of one active member, and its clock.
struct Host {
    store: Store,
    own: Own,
    common: Common,
    clock: Arc<AtomicU64>,
}

/// A site that wants in, in a connection to the host.
struct Newcomer {
    config: SiteConfig,
    channel: Channel,
}

const MEMBER_KEY: &[u8] = b"the member's key";

impl Host {
    async fn new() -> Host {
        let clock = Arc::new(AtomicU64::new(NOON_MS));
        let read = clock.clone();
        let time = move || read.load(Ordering::Relaxed);
        let store = Store::open_memory(MemoryDisk::default(), time, [1; 32]).expect("a store");
        let own = Own {
            id: MemberId::from_bytes([1; 8]),
            name: "oslo-1".to_owned(),
            site: "oslo".to_owned(),
            addresses: vec!["oslo.example:7101".to_owned()],
            begins: MemberState::Active,
        };
        record::register(&own, &[MEMBER_KEY.to_vec()], &store)
            .await
            .expect("registered");
        let common = Common {
            cluster: [9; 16],
            fingerprints: [("index-key".to_owned(), [8; 8])].into(),
        };
        Host {
            store,
            own,
            common,
            clock,
        }
    }

    async fn invites(&self) -> Invitation {
        let token = new_token(MEMBER_KEY);
        record::invite(self.own.id, token.hash(), HOUR_MS, &self.store)
            .await
            .expect("invited");
        Invitation {
            token,
            address: "oslo.example:7101".to_owned(),
        }
    }

    async fn hears(&self, newcomer: &Newcomer, request: &[u8]) -> Vec<u8> {
        let channel = newcomer.channel.clone();
        admit(self.own.id, &self.common, &self.store, channel, request)
            .await
            .0
    }

    fn cluster(&self) -> ClusterView {
        members::cluster(&self.store).expect("the record")
    }
}

impl Newcomer {
    fn new(name: &str, key: u8) -> Newcomer {
        let text = format!(
            "data = \"d\"\nsite = \"lima\"\nname = \"{name}\"\naddresses = [\"lima.example:7101\"]\n\
             listen = \"127.0.0.1:7101\"\nidentity = \"i\"\n[cluster]\nid = \"{}\"\nindex_key = \"{}\"\n\
             digest_key = \"{}\"\n",
            "09".repeat(16),
            "08".repeat(32),
            "07".repeat(32),
        );
        Newcomer {
            config: toml::from_str(&text).expect("a configuration"),
            channel: Channel {
                binding: [5; 32],
                newcomer: vec![key; 91],
                member: MEMBER_KEY.to_vec(),
            },
        }
    }

    fn asks(&self, host: &Host, invitation: &Invitation) -> Vec<u8> {
        request(&self.config, &host.common, &invitation.token, &self.channel)
    }

    async fn joins(&self, host: &Host, invitation: &Invitation) -> Result<MemberId, String> {
        let answer = host.hears(self, &self.asks(host, invitation)).await;
        read_answer(invitation, &self.channel, &answer)
            .map(|file| file.member.0)
            .map_err(|error| error.to_string())
    }
}

#[track_caller]
fn refused(result: Result<MemberId, String>, part: &str) {
    let words = result.expect_err("it is not let in");
    assert!(words.contains(part), "`{part}` is not in: {words}");
}

#[tokio::test]
async fn whoever_holds_an_invitation_is_let_in_once() {
    let host = Host::new().await;
    let invitation = host.invites().await;
    let lima = Newcomer::new("lima-1", 2);
    let answer = host.hears(&lima, &lima.asks(&host, &invitation)).await;
    let file = read_answer(&invitation, &lima.channel, &answer).expect("welcome");
    assert!(!file.founder);
    let told: Vec<_> = file.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(told, ["oslo-1"]);

    let cluster = host.cluster();
    let member = &cluster.members[&file.member.0];
    assert_eq!((member.name.as_str(), member.site.as_str()), ("lima-1", "lima"));
    assert_eq!(
        (member.state, &member.keys),
        (MemberState::Joining, &vec![lima.channel.newcomer.clone()])
    );
    assert_eq!(member.admission.map(|by| by.token), Some(invitation.token.hash()));

    // Its answer was lost: it asks again, on another connection. Somebody else comes too late.
    let mut again = Newcomer::new("lima-1", 2);
    again.channel.binding = [6; 32];
    assert_eq!(again.joins(&host, &invitation).await, Ok(file.member.0));
    refused(
        Newcomer::new("cusco-1", 3).joins(&host, &invitation).await,
        "used by lima-1",
    );
    assert_eq!(host.cluster().members.len(), 2);
}

#[tokio::test]
async fn who_was_let_in_twice_finds_out_which_of_the_two_it_is() {
    let host = Host::new().await;
    let invitation = host.invites().await;
    let lima = Newcomer::new("lima-1", 2);
    let first = lima.joins(&host, &invitation).await.expect("let in");
    // The answer was lost, and another member, which had not heard of that yet, let it in as well.
    let second = MemberId::from_bytes([0; 8]);
    let (token, key) = (invitation.token.hash(), lima.channel.newcomer.clone());
    let twice = host.store.transact(move |txn| -> Result<(), TransactError> {
        let at = txn.stamp_past(txn.cluster()?.latest);
        let fields = vec![
            MemberField::Name("lima-1".to_owned()),
            MemberField::Site("lima".to_owned()),
            MemberField::Key(key),
            MemberField::Invited(token),
            MemberField::State(MemberState::Joining),
        ];
        record::write_member(txn, second, at, fields);
        Ok(())
    });
    twice.await.expect("written");
    assert_eq!(host.cluster().members[&second].state, MemberState::Evicted);

    assert_eq!(lima.joins(&host, &invitation).await, Ok(first));
    // Also by another invitation, which stays open.
    let another = host.invites().await;
    assert_eq!(lima.joins(&host, &another).await, Ok(first));
    assert!(Newcomer::new("cusco-1", 3).joins(&host, &another).await.is_ok());
    refused(
        Newcomer::new("quito-1", 4).joins(&host, &invitation).await,
        "used by lima-1",
    );
}

#[tokio::test]
async fn an_invitation_expires_and_one_that_nobody_made_is_worth_nothing() {
    let host = Host::new().await;
    let invitation = host.invites().await;
    let lima = Newcomer::new("lima-1", 2);
    let made_up = Invitation {
        token: Token::new([3; 32], MEMBER_KEY),
        address: String::new(),
    };
    refused(lima.joins(&host, &made_up).await, "not known here");
    host.clock.fetch_add(HOUR_MS, Ordering::Relaxed);
    refused(lima.joins(&host, &invitation).await, "expired");
    assert_eq!(host.cluster().members.len(), 1);
}

#[tokio::test]
async fn a_proof_is_worth_nothing_on_another_connection_and_covers_every_word() {
    let host = Host::new().await;
    let invitation = host.invites().await;
    let lima = Newcomer::new("lima-1", 2);
    let request = lima.asks(&host, &invitation);
    let said = |answer: &[u8]| read_answer(&invitation, &lima.channel, answer).map(|file| file.member.0);
    for spoil in [
        |channel: &mut Channel| channel.binding[0] ^= 1,
        |channel: &mut Channel| channel.newcomer[0] ^= 1,
        |channel: &mut Channel| channel.member[0] ^= 1,
    ] {
        let mut elsewhere = Newcomer::new("lima-1", 2);
        spoil(&mut elsewhere.channel);
        assert!(said(&host.hears(&elsewhere, &request).await).is_err());
    }
    for place in 0..request.len() {
        let mut spoiled = request.clone();
        spoiled[place] ^= 1;
        assert!(said(&host.hears(&lima, &spoiled).await).is_err(), "byte {place}");
    }
    assert!(said(&host.hears(&lima, &request[..20]).await).is_err());
    assert!(said(&host.hears(&lima, &vec![0x81; REQUEST_BYTES_MAX + 1]).await).is_err());
    assert_eq!(host.cluster().members.len(), 1, "none of it let anybody in");

    // The request itself, sent back, is no answer: each side says which one it is.
    assert!(matches!(said(&request), Err(JoinError::Stranger { .. })));
    let answer = host.hears(&lima, &request).await;
    assert!(said(&answer).is_ok());
    for place in 0..answer.len() {
        let mut spoiled = answer.clone();
        spoiled[place] ^= 1;
        assert!(said(&spoiled).is_err(), "byte {place}");
    }
}

#[tokio::test]
async fn a_stranger_s_refusal_is_shown_as_such() {
    let host = Host::new().await;
    let invitation = host.invites().await;
    let mut lima = Newcomer::new("lima-1", 2);
    let no = |channel: &Channel| {
        let words = "go \u{1b}[2Jaway".to_owned();
        channel.seal(None, Role::Member, to_cbor(&Answer::Refused { words }))
    };
    let heard = |lima: &Newcomer| read_answer(&invitation, &lima.channel, &no(&lima.channel));
    assert!(matches!(heard(&lima), Err(JoinError::Refused { words, .. }) if words == "go [2Jaway"));
    lima.channel.member = b"somebody's key".to_vec();
    assert!(matches!(heard(&lima), Err(JoinError::Stranger { .. })));
}

#[tokio::test]
async fn what_all_must_have_in_common_is_compared() {
    let host = Host::new().await;
    let invitation = host.invites().await;
    let lima = Newcomer::new("lima-1", 2);
    let mut other = Host::new().await;
    other.common.fingerprints = [("index-key".to_owned(), [1; 8])].into();
    let answer = host.hears(&lima, &lima.asks(&other, &invitation)).await;
    let words = read_answer(&invitation, &lima.channel, &answer)
        .expect_err("refused")
        .to_string();
    assert!(words.contains("index-key"), "{words}");
    other.common.cluster = [1; 16];
    let answer = host.hears(&lima, &lima.asks(&other, &invitation)).await;
    let words = read_answer(&invitation, &lima.channel, &answer)
        .expect_err("refused")
        .to_string();
    assert!(words.contains("cluster.id"), "{words}");
}

#[tokio::test]
async fn names_and_keys_are_one_member_s_each() {
    let host = Host::new().await;
    refused(
        Newcomer::new("oslo-1", 2)
            .joins(&host, &host.invites().await)
            .await,
        "called oslo-1 already",
    );
    refused(
        Newcomer::new("oslo 1", 2)
            .joins(&host, &host.invites().await)
            .await,
        "no spaces",
    );
    let lima = Newcomer::new("lima-1", 2)
        .joins(&host, &host.invites().await)
        .await
        .expect("let in");
    refused(
        Newcomer::new("lima-2", 2)
            .joins(&host, &host.invites().await)
            .await,
        "lima-1 has this key",
    );

    // Evicted, it comes back under its name and with its key, as another member; its life before is over for good.
    let put_out = async |id: MemberId, compromised| {
        let target = host.cluster().members[&id].clone();
        record::evict(host.own.id, target, compromised, "a test".to_owned(), &host.store)
            .await
            .expect("evicted");
    };
    put_out(lima, false).await;
    let back = Newcomer::new("lima-1", 2)
        .joins(&host, &host.invites().await)
        .await
        .expect("let in");
    assert_ne!(back, lima);
    let cluster = host.cluster();
    assert_eq!(cluster.members[&back].state, MemberState::Joining);
    let listed = members::for_gossip(cluster.members.into_values().collect());
    let with_key: Vec<_> = listed
        .iter()
        .filter(|member| member.keys.contains(&vec![2; 91]))
        .collect();
    assert_eq!(with_key.len(), 1, "one key is one member's");
    assert_eq!(with_key[0].peer.id.0, *back.as_bytes());

    // Compromised, it comes back with another key only.
    put_out(back, true).await;
    let cluster = host.cluster();
    let listed = members::for_gossip(cluster.members.into_values().collect());
    assert!(
        listed.iter().all(|member| !member.keys.contains(&vec![2; 91])),
        "it is not even spoken to"
    );
    refused(
        Newcomer::new("lima-1", 2)
            .joins(&host, &host.invites().await)
            .await,
        "compromised",
    );
    assert!(
        Newcomer::new("lima-1", 3)
            .joins(&host, &host.invites().await)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn only_an_active_member_has_a_word() {
    let host = Host::new().await;
    let (invitation, lima) = (host.invites().await, Newcomer::new("lima-1", 2));
    let target = {
        let other = lima.joins(&host, &invitation).await.expect("let in");
        host.cluster().members[&other].clone()
    };
    let invitation = host.invites().await;
    let evict = |by, target| record::evict(by, target, false, String::new(), &host.store);
    let own = host.cluster().members[&host.own.id].clone();
    let words = evict(host.own.id, own).await.expect_err("oneself").to_string();
    assert!(words.contains("persona cluster leave"), "{words}");
    let words = evict(target.id, host.cluster().members[&host.own.id].clone())
        .await
        .expect_err("joining")
        .to_string();
    assert!(words.contains("only an active one"), "{words}");
    let words = record::begin_to_leave(host.own.id, &host.store)
        .await
        .expect_err("the last")
        .to_string();
    assert!(words.contains("no other member is active"), "{words}");

    record::advance(target.id, MemberState::Active, &host.store)
        .await
        .expect("caught up");
    record::begin_to_leave(host.own.id, &host.store)
        .await
        .expect("another is active");
    refused(
        Newcomer::new("cusco-1", 3).joins(&host, &invitation).await,
        "not active itself",
    );
    assert!(
        record::invite(host.own.id, [1; 32], HOUR_MS, &host.store)
            .await
            .is_err()
    );
    assert!(evict(host.own.id, target).await.is_err());
    record::advance(host.own.id, MemberState::Left, &host.store)
        .await
        .expect("left");
    assert!(
        record::advance(host.own.id, MemberState::Active, &host.store)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_feature_is_finalised_once_and_for_all() {
    let host = Host::new().await;
    let finalise = |feature: &str| record::finalise(host.own.id, feature.to_owned(), &host.store);
    assert!(!host.cluster().finalised(features::ERASURE_RECEIPTS));
    assert!(matches!(
        finalise("colour").await,
        Err(record::RecordError::Feature(_))
    ));
    assert!(finalise(features::ERASURE_RECEIPTS).await.expect("it can be"));
    assert!(host.cluster().finalised(features::ERASURE_RECEIPTS));
    assert!(!finalise(features::ERASURE_RECEIPTS).await.expect("it is already"));

    // From then on nobody comes who cannot read it.
    let (lima, invitation) = (Newcomer::new("lima-1", 2), host.invites().await);
    let common = &host.common;
    let of_before = |features| {
        let (config, token) = (&lima.config, &invitation.token);
        request_with(config, common, token, &lima.channel, features)
    };
    let answer = host.hears(&lima, &of_before(BTreeSet::new())).await;
    refused(
        read_answer(&invitation, &lima.channel, &answer)
            .map(|file| file.member.0)
            .map_err(|error| error.to_string()),
        "update it first",
    );
    assert!(lima.joins(&host, &invitation).await.is_ok());
}

#[tokio::test]
async fn open_invitations_are_bounded() {
    let host = Host::new().await;
    for number in 0..record::INVITES_OPEN_MAX {
        record::invite(host.own.id, [number as u8; 32], HOUR_MS, &host.store)
            .await
            .expect("room");
    }
    let more = || record::invite(host.own.id, [255; 32], HOUR_MS, &host.store);
    assert!(more().await.is_err());
    host.clock.fetch_add(HOUR_MS, Ordering::Relaxed);
    assert!(more().await.is_ok(), "those have expired");
    assert!(
        record::invite(
            host.own.id,
            [254; 32],
            record::INVITE_VALID_MAX_MS + 1,
            &host.store
        )
        .await
        .is_err()
    );
}
