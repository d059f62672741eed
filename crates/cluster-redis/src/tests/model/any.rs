//! Any steps.

use proptest::prelude::*;
use signalbox_peerserver::{
    Kind,
    queue::{MAX_BYTES, MAX_SENDER_BYTES},
};

use super::{
    names::{EARLY, IDS, LATE, NAMESPACES, OWNERS, PROFILES, REALMS, ROOMS, TAGS, TOKENS, lists, sockets},
    steps::{Generation, Peer, Step, Text},
};
use signalbox_cluster::{RealmId, store::ClaimRank};

/// Numbers that choose one of those that were given.
const MANY: usize = 64;

fn peer() -> impl Strategy<Value = Peer> {
    (0..REALMS.len() as RealmId, 0..IDS.len())
}

fn generation() -> impl Strategy<Value = Generation> {
    prop_oneof![
        4 => (0..MANY).prop_map(Generation::Given),
        2 => EARLY.prop_map(Generation::Other),
        1 => LATE.prop_map(Generation::Other),
    ]
}

fn text(large_ones: u32) -> impl Strategy<Value = Text> {
    let kind = prop_oneof![6 => Just(Kind::Offer), 6 => Just(Kind::Candidate), 1 => Just(Kind::Leave)];
    // Around what fits into a queue.
    let large = prop_oneof![
        Just(MAX_SENDER_BYTES / 2),
        MAX_SENDER_BYTES - 40..=MAX_SENDER_BYTES,
        Just(MAX_SENDER_BYTES + 1)
    ];
    let len = prop_oneof![20 => 0..3_usize, large_ones => large];
    // Some messages are no text.
    let filler = prop_oneof![3 => Just(b'x'), 1 => Just(0), 1 => Just(0xFF)];
    (kind, any::<bool>(), len, filler).prop_map(|(kind, is_binary, len, filler)| Text {
        kind,
        is_binary,
        len,
        filler,
    })
}

fn about_peers() -> impl Strategy<Value = Step> {
    let (key, token) = (|| 1..3_u32, || 0..TOKENS.len());
    let rank = prop::sample::select(vec![ClaimRank::Granted, ClaimRank::Expired, ClaimRank::Offline]);
    let full = prop::bool::weighted(0.1);
    // Now and then more messages than wait for one id.
    let peer_messages = (text(1), prop_oneof![30 => Just(1_usize), 1 => Just(150), 1 => Just(400)])
        .prop_map(|(text, times)| (text, if text.len < 3 { times } else { 1 }));
    prop_oneof![
        4 => (0..OWNERS, key(), peer(), token(), full)
            .prop_map(|(owner, key, peer, token, full)| Step::Claim { owner, key, peer, token, full }),
        3 => (0..OWNERS, key(), peer(), token(), rank, generation()).prop_map(
            |(owner, key, peer, token, rank, generation)| {
                Step::Reclaim { owner, key, peer, token, rank, generation }
            }
        ),
        3 => (0..OWNERS, peer(), generation())
            .prop_map(|(owner, peer, generation)| Step::Release { owner, peer, generation }),
        1 => (peer(), 1..6_usize).prop_map(|(peer, times)| Step::CountTakeover { peer, times }),
        2 => (0..MANY).prop_map(|notice| Step::Acknowledge { notice }),
        6 => (0..IDS.len(), peer(), token(), any::<bool>(), peer_messages).prop_map(
            |(src, dst, token, forced, (peer_message, times))| Step::DeliverOrQueue { src, dst, token, forced, peer_message, times }
        ),
        4 => (0..MANY).prop_map(|wait| Step::Expire { wait }),
        1 => (peer(), token()).prop_map(|(peer, token)| Step::FindPeer { peer, token }),
        1 => (0..REALMS.len() as RealmId).prop_map(|realm| Step::Peers { realm }),
    ]
}

/// Messages for one id, large ones too, and their ends.
fn about_peer_messages() -> impl Strategy<Value = Step> {
    let dst = (0, 0);
    prop_oneof![
        9 => (0..IDS.len(), 0..TOKENS.len(), text(40)).prop_map(
            move |(src, token, peer_message)| Step::DeliverOrQueue { src, dst, token, forced: true, peer_message, times: 1 }
        ),
        6 => (0..MANY).prop_map(|wait| Step::Expire { wait }),
        1 => (0..OWNERS).prop_map(
            move |owner| Step::Claim { owner, key: 1, peer: dst, token: 0, full: false }
        ),
    ]
}

fn about_rooms() -> impl Strategy<Value = Step> {
    let (room, socket) = (|| 0..ROOMS.len(), || 0..4_usize);
    let member = move || (socket(), 0..PROFILES.len());
    let since = prop::option::of(prop::option::of(0..MANY));
    prop_oneof![
        6 => (0..OWNERS, room(), member(), since, prop::option::weighted(0.3, 1..4_usize))
            .prop_map(|(owner, room, member, since, most)| Step::Put { owner, room, member, since, most }),
        2 => (0..OWNERS, 0..TAGS.len(), room(), member())
            .prop_map(|(owner, from, room, member)| Step::Rehome { owner, from, room, member }),
        4 => (0..OWNERS, room(), socket())
            .prop_map(|(owner, room, socket)| Step::Remove { owner, room, socket }),
        1 => room().prop_map(|room| Step::Records { room }),
    ]
}

fn about_users() -> impl Strategy<Value = Step> {
    let (namespace, socket) = (|| 0..NAMESPACES.len(), || 0..sockets().len());
    let list = || 0..lists().len();
    prop_oneof![
        6 => (0..OWNERS, namespace(), socket(), 0..PROFILES.len(), prop::option::of(socket())).prop_map(
            |(owner, namespace, socket, profile, gone)| {
                Step::PutUser { owner, namespace, socket, profile, gone }
            }
        ),
        3 => (0..OWNERS, namespace(), socket())
            .prop_map(|(owner, namespace, socket)| Step::RemoveUser { owner, namespace, socket }),
        1 => (0..OWNERS, namespace(), prop::sample::select(vec![0, 255]), any::<bool>()).prop_map(
            |(owner, namespace, partition, half)| Step::CrowdOfUsers { owner, namespace, partition, half }
        ),
        4 => (0..OWNERS, list(), socket(), 0..4_u64).prop_map(|(owner, list, connection, most)| {
            Step::CountConnection { owner, list, connection, most }
        }),
        1 => (0..OWNERS, list(), socket())
            .prop_map(|(owner, list, connection)| Step::PutConnection { owner, list, connection }),
        2 => (0..OWNERS, list(), socket())
            .prop_map(|(owner, list, connection)| Step::UncountConnection { owner, list, connection }),
        2 => (namespace(), prop::option::of(socket()))
            .prop_map(|(namespace, after)| Step::Users { namespace, after }),
        2 => (namespace(), socket()).prop_map(|(namespace, socket)| Step::FindUser { namespace, socket }),
    ]
}

fn about_nodes() -> impl Strategy<Value = Step> {
    let often = || prop::bool::weighted(0.7);
    prop_oneof![
        8 => (0..OWNERS, often(), any::<bool>(), 0..4_u64, often()).prop_map(
            |(owner, joins, draining, claims, reaps)| {
                Step::Heartbeat { owner, joins, draining, claims, reaps }
            }
        ),
        3 => (0..OWNERS, 0..6_u64, 1..8_u64)
            .prop_map(|(owner, claims, limit)| Step::Admit { owner, claims, limit }),
        1 => any::<bool>().prop_map(|reaps| Step::CrowdOfNodes { reaps }),
        1 => Just(Step::Nodes),
        2 => (0..OWNERS).prop_map(|owner| Step::Leave { owner }),
        4 => (0..OWNERS, 0..MANY).prop_map(|(owner, partition)| Step::Reap { owner, partition }),
        2 => (0..OWNERS, prop::collection::vec(0..OWNERS, 0..4))
            .prop_map(|(by, owners)| Step::MarkDead { by, owners }),
        4 => prop_oneof![Just(1), Just(2), Just(5), Just(6), Just(50)].prop_map(Step::Pass),
    ]
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let any = || prop_oneof![about_peers(), about_rooms(), about_users(), about_nodes()];
    // What is about one thing only meets more often.
    prop_oneof![
        3 => prop::collection::vec(any(), 1..60),
        1 => prop::collection::vec(prop_oneof![9 => about_peers(), 1 => about_nodes()], 1..40),
        1 => prop::collection::vec(prop_oneof![9 => about_rooms(), 1 => about_nodes()], 1..40),
        1 => prop::collection::vec(about_peer_messages(), 1..20),
        1 => prop::collection::vec(about_nodes(), 1..40),
    ]
}

/// Steps that leave two senders' messages in a queue, and steps that go on with it.
pub(super) fn about_a_queue() -> (Vec<Step>, Vec<Step>) {
    let send = |src, kind, len, times| {
        let peer_message = Text { kind, is_binary: false, len, filler: b'x' };
        Step::DeliverOrQueue { src, dst: (0, 0), token: 0, forced: false, peer_message, times }
    };
    let earlier =
        vec![send(0, Kind::Offer, 1, 1), send(0, Kind::Candidate, 1, 20), send(1, Kind::Candidate, 2, 30)];
    let later = vec![
        send(0, Kind::Candidate, 1, 240),
        send(0, Kind::Offer, 1, 30),
        send(1, Kind::Candidate, 2, 1),
        Step::Expire { wait: 0 },
        Step::Claim { owner: 0, key: 1, peer: (0, 0), token: 0, full: false },
    ];
    (earlier, later)
}

/// Where the two once differed, and what is seldom met.
pub(super) fn found() -> Vec<Vec<Step>> {
    let of_kind = |kind, src, len, times| {
        let peer_message = Text { kind, is_binary: false, len, filler: b'x' };
        Step::DeliverOrQueue { src, dst: (0, 0), token: 0, forced: false, peer_message, times }
    };
    let peer_message = |src, len| of_kind(Kind::Offer, src, len, 1);
    let claim = Step::Claim { owner: 0, key: 1, peer: (0, 0), token: 0, full: false };
    let expire = |wait: usize| Step::Expire { wait };
    let heartbeat = Step::Heartbeat { owner: 0, joins: true, draining: false, claims: 1, reaps: true };
    let (peer, rank, generation) = ((0, 0), ClaimRank::Granted, Generation::Other(LATE.start));
    vec![
        // A claim from a node whose clock is ahead is taken over.
        vec![
            Step::Reclaim { owner: 0, key: 1, peer, token: 0, rank, generation },
            Step::Claim { owner: 2, key: 1, peer, token: 0, full: false },
        ],
        // Two wait, though nothing of theirs was kept.
        vec![peer_message(0, MAX_BYTES + 1), peer_message(1, MAX_BYTES + 1), expire(0), expire(1)],
        // As much as may wait, and a little more.
        vec![
            peer_message(0, MAX_SENDER_BYTES - 1),
            peer_message(0, 1),
            peer_message(0, 1),
            peer_message(1, 1),
            expire(0),
            peer_message(1, MAX_SENDER_BYTES - 1),
            claim.clone(),
        ],
        // CANDIDATEs give way to OFFERs: those of the same sender, then anybody's. Who is told in any case is so after a claim.
        vec![
            of_kind(Kind::Candidate, 0, 1, 200),
            of_kind(Kind::Offer, 0, 1, 100),
            of_kind(Kind::Candidate, 1, 1, 3),
            of_kind(Kind::Offer, 1, 1, 256),
            claim.clone(),
            of_kind(Kind::Offer, 1, 1, 1),
            expire(0),
            expire(1),
        ],
        vec![
            of_kind(Kind::Candidate, 0, MAX_SENDER_BYTES / 4, 2),
            of_kind(Kind::Offer, 1, MAX_SENDER_BYTES / 2, 2),
            of_kind(Kind::Candidate, 2, MAX_SENDER_BYTES / 4, 4),
            of_kind(Kind::Offer, 0, MAX_SENDER_BYTES / 2, 3),
            expire(1),
            of_kind(Kind::Candidate, 2, 1, 1),
            claim,
            expire(0),
            expire(2),
        ],
        // More die at once than one heartbeat buries; nobody is there to reap for more than a minute.
        vec![
            Step::CrowdOfNodes { reaps: false },
            Step::Pass(70),
            heartbeat.clone(),
            Step::Nodes,
            heartbeat.clone(),
            Step::Pass(2),
            heartbeat.clone(),
            Step::Pass(60),
            heartbeat,
        ],
    ]
}
