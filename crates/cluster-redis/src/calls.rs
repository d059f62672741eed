//! Calls as Redis commands.

use redis::{Cmd, cmd};
use signalbox_peerserver::{Kind, queue};
use signalbox_telemetry::Metrics;
use signalbox_websocket::Frame;

use super::{
    keys::{Keys, owner_bytes},
    scripts::{Invocation, Scripts},
    wire,
};
use signalbox_cluster::{
    address::{Address, NodeTag, Owner},
    command::{Holder, PeerAt, RealmId},
    envelope::Format,
    model::{
        LEASE, REWRITE_GRACE,
        nodes::{AT_ONCE, REAPING, REMEMBERED, SWEEP},
    },
    partition::{self, PARTITIONS},
    record::{Record, RoomName},
    store::{Call, ClaimRank, MAX_TAKEOVERS, SnapshotRequest, TAKEOVERS_COUNT, TakeoverNotice},
};

/// Entries that are reaped with one call.
const REAP: usize = 500;

/// What all commands are made from.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) keys: Keys,
    pub(super) scripts: Scripts,
    pub(super) realms: Vec<String>,
    /// How long a message waits, in milliseconds. Redis keeps it for twice that: the sender's node ends the wait earlier.
    pub(super) expire_timeout_ms: u128,
    /// `PUBLISH`, or `SPUBLISH` on Redis Cluster.
    pub(super) publish: &'static str,
    pub(super) metrics: Metrics,
}

/// The first 17 bytes of a claim: owner, shard, key.
fn claim_head(owner: Owner, at: PeerAt) -> Vec<u8> {
    let mut head = owner_bytes(owner).to_vec();
    head.push(at.shard);
    head.extend_from_slice(&at.key.to_be_bytes());
    head
}

/// The first 25 bytes of a claim, which name its holder: owner, shard, key, generation.
fn holder_bytes(holder: Holder) -> Vec<u8> {
    let mut bytes = claim_head(holder.owner, holder.at);
    bytes.extend_from_slice(&holder.at.generation.to_be_bytes());
    bytes
}

fn entry(kind: &str, first: &str, rest: &[u8]) -> Vec<u8> {
    [kind.as_bytes(), b"\0", first.as_bytes(), b"\0", rest].concat()
}

fn room_entry(room: &RoomName, socket: Address) -> Vec<u8> {
    let rest = [room.name.as_bytes(), b"\0", socket.written().as_bytes()].concat();
    entry("r", &room.namespace, &rest)
}

/// A waiting message: whether it is binary, and its payload.
fn peer_message_bytes(frame: &Frame) -> Vec<u8> {
    let mut bytes = vec![u8::from(frame.is_binary())];
    bytes.extend_from_slice(frame.payload());
    bytes
}

impl Context {
    fn realm(&self, realm: RealmId) -> &str {
        self.realms.get(usize::from(realm)).map_or("", String::as_str)
    }

    /// The commands of a call, one or more. Except for listings, all are of one partition. Records and messages are written in
    /// `format`.
    pub(super) fn commands(&self, call: &Call, format: Format) -> Vec<Cmd> {
        let one = |invocation: Invocation| vec![invocation.command()];
        let Self { keys, scripts, .. } = self;
        match call {
            Call::Claim { owner, at, realm, id, token, other_token, full } => {
                let realm = self.realm(*realm);
                let claim = self.claim(&scripts.claim, *owner, realm, id);
                let claim = claim.key(keys.takeovers(realm, id)).arg(claim_head(*owner, *at)).arg(&**token);
                let claim = claim.switch(*full).number(MAX_TAKEOVERS);
                one(match other_token {
                    Some(other) => claim.arg(&**other),
                    None => claim,
                })
            }
            Call::Reclaim { owner, at, realm, id, token, rank } => {
                let realm = self.realm(*realm);
                let mut claim = holder_bytes(Holder { owner: *owner, at: *at });
                claim.push(match rank {
                    ClaimRank::Granted => 0,
                    ClaimRank::Expired => 1,
                    ClaimRank::Offline => 2,
                });
                claim.extend_from_slice(token.as_bytes());
                one(self.claim(&scripts.reclaim, *owner, realm, id).arg(claim))
            }
            Call::Release { owner, realm, id, generation } => {
                let realm = self.realm(*realm);
                let partition = partition::of_peer(realm, id);
                one(Invocation::of(&scripts.release)
                    .key(keys.claims(partition, realm))
                    .arg(keys.base(partition))
                    .arg(&**id)
                    .arg(entry("c", realm, id.as_bytes()))
                    .arg(generation.to_be_bytes())
                    .arg(owner.tag.0.to_be_bytes()))
            }
            Call::Admit { owner, claims, limit } => {
                one(self.nodes(&scripts.admit).arg(owner_bytes(*owner)).number(claims).number(limit))
            }
            Call::CountTakeover { realm, id } => one(Invocation::of(&scripts.count_takeover)
                .key(keys.takeovers(self.realm(*realm), id))
                .number(TAKEOVERS_COUNT.as_millis())),
            Call::DeliverOrQueue { peer_message, token, forced } => {
                let realm = self.realm(peer_message.realm);
                let partition = partition::of_peer(realm, &peer_message.dst);
                one(Invocation::of(&scripts.deliver)
                    .key(keys.claims(partition, realm))
                    .key(keys.queue(realm, &peer_message.dst))
                    .key(keys.waits(realm, &peer_message.dst))
                    .key(keys.numbers(partition))
                    .arg(&*peer_message.dst)
                    .switch(*forced)
                    .arg(&*peer_message.src)
                    .arg(peer_message_bytes(&peer_message.frame))
                    .arg(&**token)
                    .number(2 * self.expire_timeout_ms)
                    .switch(peer_message.kind.is_queued())
                    .switch(peer_message.kind == Kind::Candidate)
                    .number(queue::MAX_MESSAGES)
                    .number(queue::MAX_BYTES)
                    .number(queue::MAX_SENDER_MESSAGES)
                    .number(queue::MAX_SENDER_BYTES))
            }
            Call::Expire { realm, src, dst, number } => {
                let realm = self.realm(*realm);
                one(Invocation::of(&scripts.expire)
                    .key(keys.queue(realm, dst))
                    .key(keys.waits(realm, dst))
                    .arg(&**src)
                    .number(number))
            }
            Call::FindPeer { realm, id, .. } => {
                let realm = self.realm(*realm);
                let mut get = cmd("HGET");
                get.arg(&keys.claims(partition::of_peer(realm, id), realm)[..]).arg(&**id);
                vec![get]
            }
            Call::Peers { realm } => {
                let list = |partition| {
                    let mut list = cmd("HKEYS");
                    list.arg(&keys.claims(partition as u8, self.realm(*realm))[..]);
                    list
                };
                (0..PARTITIONS).map(list).collect()
            }
            Call::Put { owner, room, record, snapshot, most } => {
                // 0 stands for any number: a room that nobody may be in is not asked for.
                one(self.put(*owner, room, record, None, *snapshot, format).number(most.unwrap_or(0)))
            }
            Call::Rehome { owner, from, room, record } => one(self
                .put(*owner, room, record, Some(*from), SnapshotRequest::None(None), format)
                .number(0)),
            Call::Remove { owner, room, socket } => one(Invocation::of(&scripts.remove)
                .key(keys.room(room))
                .arg(keys.base(partition::of_room(room)))
                .arg(self.publish)
                .arg(keys.room_channel(room))
                .arg(&*socket.written())
                .arg(room_entry(room, *socket))
                .arg(owner.tag.0.to_be_bytes())
                .arg(wire::change_head(format))),
            Call::Records { room } => {
                let mut all = cmd("HGETALL");
                all.arg(&keys.room(room)[..]);
                vec![all]
            }
            Call::PutUsers { owner, partition, puts, removes } => {
                let put = puts.iter().map(|(namespace, _, _)| namespace);
                let mut namespaces: Vec<_> = put.chain(removes.iter().map(|(gone, _)| gone)).collect();
                namespaces.sort_unstable();
                namespaces.dedup();
                let mut users = Invocation::of(&scripts.users)
                    .key(keys.index(*partition, *owner))
                    .key(keys.owners(*partition));
                for namespace in namespaces {
                    users =
                        users.key(keys.users(*partition, namespace)).key(keys.order(*partition, namespace));
                }
                users = users.arg(keys.base(*partition)).arg(owner_bytes(*owner)).number(puts.len());
                for (namespace, socket, profile) in puts {
                    users = users.arg(&**namespace).arg(socket.as_bytes()).arg(&**profile);
                }
                for (namespace, socket) in removes {
                    users = users.arg(&**namespace).arg(socket.as_bytes());
                }
                one(users)
            }
            Call::CountConnection { owner, list, connection, most } => {
                let partition = partition::of_user(list.name(), *connection);
                one(Invocation::of(&scripts.count)
                    .key(keys.users(partition, list.name()))
                    .key(keys.order(partition, list.name()))
                    .key(keys.index(partition, *owner))
                    .key(keys.owners(partition))
                    .arg(keys.base(partition))
                    .arg(owner_bytes(*owner))
                    .arg(connection.as_bytes())
                    .arg(entry("u", list.name(), connection.as_bytes()))
                    .number(most))
            }
            Call::Users { .. } => Vec::new(),
            Call::FindUser { namespace, socket } => {
                let mut get = cmd("HGET");
                let users = keys.users(partition::of_user(namespace, *socket), namespace);
                get.arg(&users[..]).arg(&socket.as_bytes()[..]);
                vec![get]
            }
            Call::Heartbeat { owner, joins, node, counters, reaps } => {
                let send_heartbeat = self
                    .nodes(&scripts.heartbeat)
                    .arg(owner_bytes(*owner))
                    .switch(*joins)
                    .arg(wire::encode_node_info(node))
                    .number(counters.claims)
                    .switch(*reaps)
                    .number(LEASE.as_millis())
                    .number(REAPING.as_millis())
                    .number(REMEMBERED.as_millis())
                    .number(AT_ONCE)
                    .number(SWEEP.as_millis())
                    .number(REWRITE_GRACE.as_millis());
                let mut info = cmd("INFO");
                info.arg("server");
                vec![send_heartbeat.command(), info]
            }
            Call::Nodes => {
                let mut all = cmd("HVALS");
                all.arg(&keys.nodes("i")[..]);
                vec![all]
            }
            Call::Flush => vec![cmd("PING")],
            Call::Leave { owner } => one(self.nodes(&scripts.leave).arg(owner_bytes(*owner))),
            Call::Reap { owner, partition } => one(Invocation::of(&scripts.reap)
                .key(keys.index(*partition, *owner))
                .key(keys.owners(*partition))
                .key(keys.notices(*partition, *owner))
                .arg(keys.base(*partition))
                .arg(self.publish)
                .arg(owner_bytes(*owner))
                .number(REAP)
                .arg(wire::change_head(format))),
            Call::Notices { owner, realm, id } => {
                let notices = self.keys.notices(partition::of_peer(self.realm(*realm), id), *owner);
                let mut list = cmd("SMEMBERS");
                list.arg(&notices[..]);
                vec![list]
            }
            Call::Acknowledge(TakeoverNotice { by, realm, id, old }) => {
                let realm = self.realm(*realm);
                let notices = self.keys.notices(partition::of_peer(realm, id), *by);
                let mut remove = cmd("SREM");
                let entry = [realm.as_bytes(), b"\0", id.as_bytes(), &holder_bytes(*old)].concat();
                remove.arg(&notices[..]).arg(entry);
                vec![remove]
            }
            Call::Owners => {
                let list = |partition| {
                    let mut list = cmd("SMEMBERS");
                    list.arg(&keys.owners(partition as u8)[..]);
                    list
                };
                (0..PARTITIONS).map(list).collect()
            }
            Call::MarkDead { by, owners } => {
                let mark_dead = self.nodes(&scripts.mark_dead).arg(owner_bytes(*by));
                one(owners.iter().fold(mark_dead, |mark_dead, owner| mark_dead.arg(owner_bytes(*owner))))
            }
            Call::SendDirect { from, to, message } => {
                vec![self.publish(
                    &keys.node_channel(*to),
                    &wire::encode_direct(format, &self.realms, *from, message),
                )]
            }
        }
    }

    fn claim(&self, script: &redis::Script, owner: Owner, realm: &str, id: &str) -> Invocation {
        let partition = partition::of_peer(realm, id);
        Invocation::of(script)
            .key(self.keys.claims(partition, realm))
            .key(self.keys.index(partition, owner))
            .key(self.keys.owners(partition))
            .key(self.keys.notices(partition, owner))
            .key(self.keys.queue(realm, id))
            .key(self.keys.waits(realm, id))
            .arg(self.keys.base(partition))
            .arg(id)
            .arg(entry("c", realm, id.as_bytes()))
    }

    fn put(
        &self,
        owner: Owner,
        room: &RoomName,
        record: &Record,
        from: Option<NodeTag>,
        snapshot: SnapshotRequest,
        format: Format,
    ) -> Invocation {
        let partition = partition::of_room(room);
        let known = snapshot.known().unwrap_or_default();
        Invocation::of(&self.scripts.put)
            .key(self.keys.room(room))
            .key(self.keys.index(partition, owner))
            .key(self.keys.owners(partition))
            .arg(self.keys.base(partition))
            .arg(self.publish)
            .arg(self.keys.room_channel(room))
            .arg(&*record.socket.written())
            .arg(room_entry(room, record.socket))
            .arg(owner_bytes(owner))
            .arg(wire::encode_record(format, record))
            .arg(from.map(|tag| tag.0.to_be_bytes().to_vec()).unwrap_or_default())
            .switch(matches!(snapshot, SnapshotRequest::Since(_)))
            .number(known.epoch)
            .number(known.version)
            .arg(wire::change_head(format))
    }

    fn nodes(&self, script: &redis::Script) -> Invocation {
        let keys = ["l", "i", "k", "s", "v", "b", "o", "w", "a"].map(|what| self.keys.nodes(what));
        keys.iter().fold(Invocation::of(script), |invocation, key| invocation.key(key))
    }

    /// A broadcast to a channel; its payload is copied once, into the command.
    pub(super) fn publish_broadcast(&self, channel: &[u8], broadcast: wire::Broadcast<'_>) -> Cmd {
        let mut publish = Cmd::with_capacity(3, 64 + channel.len() + broadcast.payload.len());
        publish.arg(self.publish).arg(channel).arg(broadcast);
        publish
    }

    /// A message to a channel.
    pub(super) fn publish(&self, channel: &[u8], message: &[u8]) -> Cmd {
        let mut publish = cmd(self.publish);
        publish.arg(channel).arg(message);
        publish
    }

    /// Counts the users of one partition.
    pub(super) fn count_users(&self, namespace: &str, partition: u8) -> Cmd {
        let mut count = cmd("ZCARD");
        count.arg(&self.keys.order(partition, namespace)[..]);
        count
    }

    /// A page of the users of one partition, behind `after`.
    pub(super) fn page(&self, namespace: &str, partition: u8, after: Option<Address>, length: usize) -> Cmd {
        let from = match after {
            Some(after) => [b"(", &after.as_bytes()[..]].concat(),
            None => b"-".to_vec(),
        };
        Invocation::of(&self.scripts.page)
            .key(self.keys.users(partition, namespace))
            .key(self.keys.order(partition, namespace))
            .arg(from)
            .number(length)
            .command()
    }
}
