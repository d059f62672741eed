//! A node on Redis, as far as its cluster goes.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use signalbox_cluster::{
    Address, Cluster, Config, EventArgs, MemberEvent, NodeInfo, NodeTag, Owner, PeerAt, PeerMessage, Record,
    RoomName, Status,
    command::{Change, Claimed, Command, Delivery},
};
use signalbox_node_link::Handler;
use signalbox_peerserver::Kind;
use signalbox_telemetry::Metrics;
use signalbox_test_support::Mailboxes;
use signalbox_websocket::Frame;

use super::server::{Server, until};
use crate::{
    Connected, LinkHandle, Operations, RevocationList, Revoker, RulesHolder, RulesStore, Settings,
    StoredRevocation, VersionedRules, connect,
};

/// The rules that a node has.
#[derive(Default)]
pub(super) struct HeldRules(pub(super) Mutex<VersionedRules>);

impl RulesHolder for HeldRules {
    fn latest(&self) -> VersionedRules {
        self.0.lock().clone()
    }
    fn take(&self, rules: VersionedRules) {
        *self.0.lock() = rules;
    }
}

/// What a node knows to be revoked.
#[derive(Default)]
pub(super) struct Revoked {
    pub(super) list: Mutex<HashMap<String, Option<u64>>>,
    pub(super) is_current: AtomicBool,
}

impl RevocationList for Revoked {
    fn all(&self) -> Vec<StoredRevocation> {
        let list = self.list.lock();
        let stored = |(what, until): (&String, &Option<u64>)| StoredRevocation {
            what: what.clone(),
            until: *until,
            cutoff: None,
        };
        list.iter().map(stored).collect()
    }
    fn add(&self, revocations: Vec<StoredRevocation>) {
        self.list.lock().extend(revocations.into_iter().map(|it| (it.what, it.until)));
    }
    fn set_current(&self, is_current: bool) {
        self.is_current.store(is_current, Ordering::Release);
    }
}

/// Answers with what it was asked.
struct Echo;

impl Handler for Echo {
    fn request(&self, _: NodeTag, _: u8, body: Bytes, responder: signalbox_node_link::Responder) {
        responder.send(body);
    }
    fn notice(&self, _: NodeTag, _: u8, _: Bytes) {}
}

pub(super) struct Node {
    pub(super) cluster: Arc<Cluster>,
    pub(super) link: LinkHandle,
    pub(super) mailboxes: Arc<Mailboxes>,
    pub(super) revoker: Revoker,
    pub(super) operations: Operations,
    pub(super) revoked: Arc<Revoked>,
    pub(super) rules: RulesStore,
    pub(super) rules_held: Arc<HeldRules>,
    pub(super) tag: NodeTag,
}

impl Node {
    pub(super) fn start(server: &Server, tag: u32) -> Self {
        Self::at(&server.url(), tag)
    }

    pub(super) fn at(url: &str, tag: u32) -> Self {
        Self::of(url, "test", tag)
    }

    /// One of those with the same prefix.
    pub(super) fn of(url: &str, prefix: &str, tag: u32) -> Self {
        let tag = NodeTag(tag);
        let mailboxes = Arc::new(Mailboxes::default());
        let config = Config {
            realms: vec!["peerjs".into()],
            concurrent_limit: None,
            room_members: None,
            presence_limit: None,
            expire_timeout: Duration::from_secs(1),
        };
        let revoked = Arc::<Revoked>::default();
        let rules_held = Arc::<HeldRules>::default();
        let settings = Settings {
            url: url.to_owned(),
            authorities: None,
            prefix: prefix.into(),
            listen: None,
            secret: None,
            on_secret: None,
            revocations: Some(revoked.clone()),
            rules: Some(rules_held.clone()),
            tls: None,
            largest: 0,
        };
        let owner = Owner { tag, epoch: 0 };
        let info = NodeInfo::new(owner, tag.to_string());
        let Connected { cluster, link, revoker, rules, operations, .. } =
            connect(&config, &settings, info, mailboxes.clone(), Arc::new(Echo), Metrics::new()).unwrap();
        let node = Self { cluster, link, mailboxes, revoker, operations, revoked, rules, rules_held, tag };
        node.wait_until(Status::Online);
        node
    }

    pub(super) fn wait_until(&self, status: Status) {
        until(|| (self.cluster.status() == status).then_some(()));
    }

    pub(super) fn submit(&self, command: Command) {
        self.cluster.submit(Instant::now(), command);
    }

    /// Takes the first delivery out that fits.
    pub(super) fn delivery<T>(&self, fits: impl Fn(&Delivery) -> Option<T>) -> T {
        until(|| {
            let mut deliveries = self.mailboxes.deliveries.lock();
            let (index, found) =
                deliveries.iter().enumerate().find_map(|(index, delivery)| Some((index, fits(delivery)?)))?;
            deliveries.remove(index);
            Some(found)
        })
    }

    pub(super) fn claim(&self, key: u32, id: &str, token: &str) -> Option<u64> {
        let at = PeerAt { shard: 0, key, generation: 0 };
        let ticket = u64::from(key);
        self.submit(Command::Claim { at, ticket, realm: 0, id: id.into(), token: token.into() });
        self.delivery(|delivery| match delivery {
            Delivery::Claimed { ticket: of, claimed } if *of == ticket => Some(match claimed {
                Claimed::Granted { generation, .. } => Some(*generation),
                _ => None,
            }),
            _ => None,
        })
    }

    pub(super) fn send(&self, key: u32, generation: u64, src: &str, dst: &str, text: &str) {
        let peer_message = PeerMessage {
            from: PeerAt { shard: 0, key, generation },
            realm: 0,
            kind: Kind::Offer,
            src: src.into(),
            dst: dst.into(),
            frame: Frame::text(text),
            hops: 0,
            sender: None,
            trace: None,
        };
        self.cluster.send(Instant::now(), 0, peer_message);
    }

    pub(super) fn peer_message(&self) -> String {
        self.delivery(|delivery| match delivery {
            Delivery::PeerMessage { peer_message, .. } => {
                Some(String::from_utf8_lossy(peer_message.frame.payload()).into_owned())
            }
            _ => None,
        })
    }

    pub(super) fn join(&self, room: &RoomName, ticket: u64) -> (Address, Vec<Address>) {
        let socket = Address::random(self.tag, 0);
        self.cluster.route(room).add(0);
        let emission = |event: &str| {
            Some(MemberEvent {
                event: event.into(),
                args: EventArgs::new("1", "{}"),
                attachments: Vec::new(),
            })
        };
        let record = Record {
            socket,
            profile: "{}".into(),
            joined: emission("joined"),
            updated: None,
            left: emission("left"),
        };
        self.submit(Command::Connected { namespace: "/".into(), socket });
        self.submit(Command::Join {
            shard: 0,
            ticket,
            room: room.clone(),
            record: record.into(),
            list: true,
            most: None,
        });
        let members = self.delivery(|delivery| match delivery {
            Delivery::Joined { ticket: of, members, .. } if *of == ticket => {
                Some(members.iter().map(|member| member.socket).filter(|other| *other != socket).collect())
            }
            _ => None,
        });
        (socket, members)
    }

    pub(super) fn change(&self) -> (&'static str, Address) {
        self.delivery(|delivery| match delivery {
            Delivery::RoomChanged { change, .. } => Some(match change {
                Change::Joined(record) => ("joined", record.socket),
                Change::Updated(record) => ("updated", record.socket),
                Change::Left(record) => ("left", record.socket),
            }),
            _ => None,
        })
    }
}

pub(super) fn room() -> RoomName {
    RoomName { namespace: "/".into(), name: "r".into() }
}
