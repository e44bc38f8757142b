//! Who is no member yet, and members whose keys change.

use gossip::quic::{ENROL_REQUEST_BYTES_MAX, EnrolError, enrol};

use crate::hostile::{Papers, goes_on, world};
use crate::memory::PATIENCE;
use crate::replica::{self, World, identity};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_may_ask_to_be_let_in_and_nothing_else() {
    let (world, _) = world().await;
    let address = world.sites[0].address.to_string();
    let newcomer = identity();
    let (mut binding, mut member) = ([0; 32], Vec::new());
    let asked = enrol(&address, &newcomer, |channel, key| {
        (binding, member) = (channel, key.to_vec());
        b"let me in".to_vec()
    });
    let (answer, key) = asked.await.unwrap();
    assert_eq!(key, world.sites[0].identity.public_key());
    assert_eq!(key, member, "the key is known before anything is said");
    // Both ends see one binding, and the member sees the newcomer's proven key.
    assert_eq!(
        answer,
        [&b"let me in"[..], &binding, newcomer.public_key()].concat()
    );
    let again = enrol(&address, &newcomer, |channel, _| {
        assert_ne!(channel, binding, "each connection has its own");
        b"again".to_vec()
    });
    again.await.unwrap();
    world
        .picture(0, "answered two", |status| {
            status.traffic.enrolments_answered == 2
        })
        .await;

    let refused = enrol(&address, &newcomer, |_, _| b"nonsense".to_vec()).await;
    assert!(
        matches!(refused, Err(EnrolError::Unanswered { .. })),
        "{refused:?}"
    );
    let too_long = enrol(&address, &newcomer, |_, _| vec![0; ENROL_REQUEST_BYTES_MAX + 1]).await;
    assert!(
        matches!(too_long, Err(EnrolError::Unanswered { .. })),
        "{too_long:?}"
    );

    // As a member it is not spoken to, and not if it asks for both.
    let stranger = Papers::new();
    let both = [&b"persona-enrol/1"[..], b"persona-gossip/1"];
    for protocols in [&both[1..], &both[..]] {
        let closed = match stranger.offer(world.node(0), protocols).await {
            Ok(raw) => tokio::time::timeout(PATIENCE, raw.connection.closed())
                .await
                .unwrap(),
            Err(error) => error,
        };
        assert!(
            matches!(closed, quinn::ConnectionError::ConnectionClosed(_)),
            "closed by {closed}"
        );
    }
    goes_on(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_may_ask_only_so_often() {
    let (world, _) = world().await;
    let address = world.sites[0].address.to_string();
    let newcomer = identity();
    let mut answered = 0;
    for _ in 0..12 {
        answered += usize::from(enrol(&address, &newcomer, |_, _| b"me".to_vec()).await.is_ok());
    }
    assert_eq!(answered, 10);
    goes_on(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_replaced_without_a_restart() {
    let world = World::new(3, 0).await;
    world.connected(2).await;
    let next = identity();
    let mut members = world.members();
    members[0].keys.push(next.public_key().to_vec());
    for site in &world.sites {
        site.node.set_members(members.clone());
    }
    world.connected(2).await;
    let connections = world.node(0).status().traffic.connections;
    world.node(0).set_identity(next.clone());
    world.memory(0).write(b"those that stand go on");
    world.level().await;
    assert_eq!(world.node(0).status().traffic.connections, connections);

    // The old key goes, and with it the connections under it; new ones are under the new one, in both directions.
    members[0].keys.remove(0);
    for site in &world.sites {
        site.node.set_members(members.clone());
    }
    for number in [1, 2] {
        world.sites[number].memory.write(b"under the new key");
    }
    world.memory(0).write(b"and back");
    world.level().await;
    world.connected(2).await;
    world
        .picture(0, "connected anew", |status| {
            status.traffic.connections > connections
        })
        .await;
    assert!(
        world.sites[1..]
            .iter()
            .all(|site| replica::connected(&site.node.status()) == 2)
    );
}
