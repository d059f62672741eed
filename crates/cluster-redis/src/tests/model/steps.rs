//! What the two stores are asked.

use std::sync::Arc;

use signalbox_peerserver::Kind;
use signalbox_websocket::Frame;

use super::names::{
    CROWD_OF_USERS, EARLY, IDS, NAMESPACES, PROFILES, TAGS, TOKENS, crowd_of_nodes, lists, of_crowd, owner,
    partitions, record, rooms, sockets,
};
use signalbox_cluster::{
    Address, NodeInfo, NodeTag, Owner, PeerAt, PeerMessage, RealmId, partition,
    store::{Call, ClaimRank, Counters, RoomVersion, SnapshotRequest, TakeoverNotice},
};

/// Time passes in these units (ms). No sum of them comes near to what a lease, a reaping or a memory lasts, so that the little
/// time that the test itself takes decides nothing.
const UNIT: u64 = 1_100;

/// What both stores gave: the model's, and Redis'.
pub(super) type Both<T> = [T; 2];

fn nth<T>(all: &[T], number: usize) -> &T {
    &all[number % all.len()]
}

/// What was given so far, for later calls to refer to.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) generations: Vec<Both<u64>>,
    pub(super) room_versions: Vec<Both<RoomVersion>>,
    pub(super) waits: Vec<Wait>,
    pub(super) notices: Vec<Both<TakeoverNotice>>,
}

#[derive(Debug)]
pub(super) struct Wait {
    pub(super) realm: RealmId,
    pub(super) src: Arc<str>,
    pub(super) dst: Arc<str>,
    pub(super) number: Both<u64>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Generation {
    Given(usize),
    Other(u64),
}

impl Generation {
    fn on(self, given: &Given, side: usize) -> u64 {
        match self {
            Self::Given(index) if !given.generations.is_empty() => nth(&given.generations, index)[side],
            Self::Given(_) => EARLY.start,
            Self::Other(number) => number,
        }
    }
}

/// A realm and an id.
pub(super) type Peer = (RealmId, usize);

#[derive(Debug, Clone)]
pub(super) enum Step {
    Claim {
        owner: u8,
        key: u32,
        peer: Peer,
        token: usize,
        full: bool,
    },
    Reclaim {
        owner: u8,
        key: u32,
        peer: Peer,
        token: usize,
        rank: ClaimRank,
        generation: Generation,
    },
    Release {
        owner: u8,
        peer: Peer,
        generation: Generation,
    },
    CountTakeover {
        peer: Peer,
        times: usize,
    },
    DeliverOrQueue {
        src: usize,
        dst: Peer,
        token: usize,
        forced: bool,
        peer_message: Text,
        times: usize,
    },
    Expire {
        wait: usize,
    },
    FindPeer {
        peer: Peer,
        token: usize,
    },
    Peers {
        realm: RealmId,
    },
    Put {
        owner: u8,
        room: usize,
        member: (usize, usize),
        since: Option<Option<usize>>,
        most: Option<usize>,
    },
    Rehome {
        owner: u8,
        from: usize,
        room: usize,
        member: (usize, usize),
    },
    Remove {
        owner: u8,
        room: usize,
        socket: usize,
    },
    Records {
        room: usize,
    },
    PutUser {
        owner: u8,
        namespace: usize,
        socket: usize,
        profile: usize,
        gone: Option<usize>,
    },
    RemoveUser {
        owner: u8,
        namespace: usize,
        socket: usize,
    },
    CrowdOfUsers {
        owner: u8,
        namespace: usize,
        partition: u8,
        half: bool,
    },
    Users {
        namespace: usize,
        after: Option<usize>,
    },
    CountConnection {
        owner: u8,
        list: usize,
        connection: usize,
        most: u64,
    },
    /// One that is counted, or written after an outage.
    PutConnection {
        owner: u8,
        list: usize,
        connection: usize,
    },
    UncountConnection {
        owner: u8,
        list: usize,
        connection: usize,
    },
    FindUser {
        namespace: usize,
        socket: usize,
    },
    Heartbeat {
        owner: u8,
        joins: bool,
        draining: bool,
        claims: u64,
        reaps: bool,
    },
    CrowdOfNodes {
        reaps: bool,
    },
    Admit {
        owner: u8,
        claims: u64,
        limit: u64,
    },
    Nodes,
    Leave {
        owner: u8,
    },
    Reap {
        owner: u8,
        partition: usize,
    },
    /// Of those that were recorded.
    Acknowledge {
        notice: usize,
    },
    MarkDead {
        by: u8,
        owners: Vec<u8>,
    },
    /// Nothing is asked for so many units.
    Pass(u64),
}

/// What a message says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    pub(super) kind: Kind,
    pub(super) is_binary: bool,
    /// In bytes.
    pub(super) len: usize,
    pub(super) filler: u8,
}

impl Text {
    fn frame(self) -> Frame {
        let mut payload = vec![self.filler; self.len];
        if self.kind == Kind::Candidate {
            // As whatever is relayed begins.
            payload.splice(0..0, *b"{\"type\":\"CANDIDATE\"");
        }
        match String::from_utf8(payload) {
            Ok(text) if !self.is_binary => Frame::text(&text),
            Ok(text) => Frame::binary(text.as_bytes()),
            Err(error) => Frame::binary(error.as_bytes()),
        }
    }
}

fn heartbeat(owner: Owner, joins: bool, is_draining: bool, claims: u64, reaps: bool) -> Call {
    let node = NodeInfo { is_draining, ..NodeInfo::new(owner, owner.tag.to_string()) };
    Call::Heartbeat { owner, joins, node: node.into(), counters: Counters { claims }, reaps }
}

impl Step {
    /// Time that passes before, in ms. A little always does: owners come in the order of these calls to either store.
    pub(super) fn passes(&self) -> u64 {
        match self {
            Self::Pass(units) => 3 + units * UNIT,
            _ => 3,
        }
    }

    /// The calls, as one of the stores is to be asked.
    pub(super) fn calls(&self, given: &Given, side: usize) -> Vec<Call> {
        let id = |peer: &Peer| -> (RealmId, Arc<str>) { (peer.0, IDS[peer.1].into()) };
        let at = |key: &u32, generation| PeerAt { shard: *key as u8, key: *key, generation };
        let room = |room: &usize| rooms()[*room].clone();
        let namespace = |number: &usize| -> Arc<str> { NAMESPACES[*number].into() };
        let one = match self {
            Self::Claim { owner: by, key, peer, token, full } => {
                let (realm, id) = id(peer);
                // Now and then the present holder's token may be in another form.
                let other_token = (key % 2 == 0).then(|| TOKENS[(*token + 1) % TOKENS.len()].into());
                let (token, full) = (TOKENS[*token].into(), *full);
                Call::Claim { owner: owner(*by), at: at(key, 0), realm, id, token, other_token, full }
            }
            Self::Reclaim { owner: by, key, peer, token, rank, generation } => {
                let ((realm, id), token) = (id(peer), TOKENS[*token].into());
                let at = at(key, generation.on(given, side));
                Call::Reclaim { owner: owner(*by), at, realm, id, token, rank: *rank }
            }
            Self::Release { owner: by, peer, generation } => {
                let (realm, id) = id(peer);
                Call::Release { owner: owner(*by), realm, id, generation: generation.on(given, side) }
            }
            Self::CountTakeover { peer, times } => {
                let call = || {
                    let (realm, id) = id(peer);
                    Call::CountTakeover { realm, id }
                };
                return std::iter::repeat_with(call).take(*times).collect();
            }
            Self::DeliverOrQueue { src, dst, token, forced, peer_message: text, times } => {
                let call = || {
                    let (realm, dst) = id(dst);
                    let (from, src) = (at(&1, 1), IDS[*src].into());
                    let (kind, frame) = (text.kind, text.frame());
                    let peer_message = PeerMessage {
                        from,
                        realm,
                        kind,
                        src,
                        dst,
                        frame,
                        hops: 0,
                        sender: None,
                        trace: None,
                    };
                    Call::DeliverOrQueue { peer_message, token: TOKENS[*token].into(), forced: *forced }
                };
                return std::iter::repeat_with(call).take(*times).collect();
            }
            Self::Expire { .. } if given.waits.is_empty() => {
                Call::Expire { realm: 0, src: IDS[0].into(), dst: IDS[1].into(), number: 1 }
            }
            Self::Expire { wait } => {
                let Wait { realm, src, dst, number } = nth(&given.waits, *wait);
                Call::Expire { realm: *realm, src: src.clone(), dst: dst.clone(), number: number[side] }
            }
            Self::FindPeer { peer, token } => {
                let (realm, id) = id(peer);
                Call::FindPeer { realm, id, token: TOKENS[*token].into() }
            }
            Self::Peers { realm } => Call::Peers { realm: *realm },
            Self::Put { owner: by, room: into, member: (socket, content), since, most } => {
                let known = |index: &usize| {
                    (!given.room_versions.is_empty()).then(|| nth(&given.room_versions, *index)[side])
                };
                let snapshot = match since {
                    Some(since) => SnapshotRequest::Since(since.as_ref().and_then(known)),
                    None => SnapshotRequest::None(
                        given.room_versions.last().map(|room_version| room_version[side]),
                    ),
                };
                let (room, record) = (room(into), record(*socket, *content));
                Call::Put { owner: owner(*by), room, record, snapshot, most: *most }
            }
            Self::Rehome { owner: by, from, room: into, member: (socket, content) } => {
                let (from, record) = (NodeTag(TAGS[*from]), record(*socket, *content));
                Call::Rehome { owner: owner(*by), from, room: room(into), record }
            }
            Self::Remove { owner: by, room: from, socket } => {
                Call::Remove { owner: owner(*by), room: room(from), socket: sockets()[*socket] }
            }
            Self::Records { room: of } => Call::Records { room: room(of) },
            Self::PutUser { owner: by, namespace: of, socket, profile, gone } => {
                let (put, all) = (sockets()[*socket], sockets());
                let partition = partition::of_user(&namespace(of), put);
                let is_other =
                    |gone: &Address| partition::of_user(&namespace(of), *gone) == partition && *gone != put;
                let gone = gone.map(|gone| all[gone]).filter(is_other);
                Call::PutUsers {
                    owner: owner(*by),
                    partition,
                    puts: vec![(namespace(of), put, PROFILES[*profile].into())],
                    removes: gone.map(|gone| (namespace(of), gone)).into_iter().collect(),
                }
            }
            Self::RemoveUser { owner: by, namespace: of, socket } => {
                let socket = sockets()[*socket];
                let partition = partition::of_user(&namespace(of), socket);
                let removes = vec![(namespace(of), socket)];
                Call::PutUsers { owner: owner(*by), partition, puts: Vec::new(), removes }
            }
            Self::CrowdOfUsers { owner: by, namespace: of, partition, half } => {
                let first = u16::from(*half) * CROWD_OF_USERS;
                let user = |number| (namespace(of), of_crowd(*partition, number), PROFILES[0].into());
                let puts = (first..first + CROWD_OF_USERS).map(user).collect();
                Call::PutUsers { owner: owner(*by), partition: *partition, puts, removes: Vec::new() }
            }
            Self::Users { namespace: of, after } => {
                Call::Users { namespace: namespace(of), after: after.map(|after| sockets()[after]) }
            }
            Self::CountConnection { owner: by, list: of, connection, most } => Call::CountConnection {
                owner: owner(*by),
                list: lists()[*of].clone(),
                connection: sockets()[*connection],
                most: *most,
            },
            Self::PutConnection { owner: by, list: of, connection } => {
                let (name, connection) = (lists()[*of].name().clone(), sockets()[*connection]);
                let partition = partition::of_user(&name, connection);
                let puts = vec![(name, connection, "".into())];
                Call::PutUsers { owner: owner(*by), partition, puts, removes: Vec::new() }
            }
            Self::UncountConnection { owner: by, list: of, connection } => {
                let (name, connection) = (lists()[*of].name().clone(), sockets()[*connection]);
                let partition = partition::of_user(&name, connection);
                let removes = vec![(name, connection)];
                Call::PutUsers { owner: owner(*by), partition, puts: Vec::new(), removes }
            }
            Self::FindUser { namespace: of, socket } => {
                Call::FindUser { namespace: namespace(of), socket: sockets()[*socket] }
            }
            Self::Heartbeat { owner: by, joins, draining, claims, reaps } => {
                heartbeat(owner(*by), *joins, *draining, *claims, *reaps)
            }
            Self::Admit { owner: by, claims, limit } => {
                Call::Admit { owner: owner(*by), claims: *claims, limit: *limit }
            }
            Self::CrowdOfNodes { reaps } => {
                return crowd_of_nodes().map(|owner| heartbeat(owner, true, false, 1, *reaps)).collect();
            }
            Self::Nodes => Call::Nodes,
            Self::Leave { owner: by } => Call::Leave { owner: owner(*by) },
            Self::Reap { owner: by, partition } => {
                Call::Reap { owner: owner(*by), partition: *nth(&partitions(), *partition) }
            }
            Self::Acknowledge { .. } if given.notices.is_empty() => return Vec::new(),
            Self::Acknowledge { notice } => Call::Acknowledge(nth(&given.notices, *notice)[side].clone()),
            Self::MarkDead { by, owners } => Call::MarkDead {
                by: owner(*by),
                owners: owners.iter().map(|number| owner(*number)).collect(),
            },
            Self::Pass(_) => return Vec::new(),
        };
        vec![one]
    }
}
