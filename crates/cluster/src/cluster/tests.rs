use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;
use signalbox_peerserver::Kind;
use signalbox_websocket::Frame;

use super::*;
use crate::{
    Address, EventArgs, MemberEvent, NodeTag, Record,
    command::{Change, Claimed, Refused, Ticket},
};

/// Mailboxes that are read by hand.
#[derive(Default)]
struct Mailboxes {
    deliveries: Mutex<Vec<(ShardId, Delivery)>>,
    full: Mutex<Vec<ShardId>>,
}

impl DeliverySink for Mailboxes {
    fn deliver(&self, shard: ShardId, delivery: Delivery) {
        self.deliveries.lock().push((shard, delivery));
    }
    fn offer(&self, shard: ShardId, delivery: Delivery) -> bool {
        let full = self.full.lock().contains(&shard);
        if !full {
            self.deliver(shard, delivery);
        }
        !full
    }
    fn is_congested(&self, shard: ShardId) -> bool {
        self.full.lock().contains(&shard)
    }
    fn deliver_broadcast(&self, _: crate::BusDelivery) {}
    fn deliver_node_message(&self, _: crate::Owner, _: bytes::Bytes) {}
}

struct Harness {
    cluster: Cluster,
    mailboxes: Arc<Mailboxes>,
    now: Instant,
    ticket: Ticket,
}

impl Harness {
    fn new(limit: Option<usize>) -> Self {
        let mailboxes = Arc::new(Mailboxes::default());
        let config = Config {
            realms: vec!["peerjs".into()],
            concurrent_limit: limit,
            room_members: None,
            presence_limit: None,
            expire_timeout: Duration::from_secs(5),
        };
        Self {
            cluster: Cluster::standalone(&config, mailboxes.clone()),
            mailboxes,
            now: Instant::now(),
            ticket: 0,
        }
    }

    fn deliveries(&self) -> Vec<(ShardId, Delivery)> {
        std::mem::take(&mut *self.mailboxes.deliveries.lock())
    }

    fn submit(&mut self, command: Command) -> Vec<(ShardId, Delivery)> {
        self.cluster.submit(self.now, command);
        self.deliveries()
    }

    /// Claims an id; the generation, if it was granted, and everything that was told.
    fn claim(&mut self, key: u32, id: &str, token: &str) -> (Option<u64>, Vec<(ShardId, Delivery)>) {
        self.ticket += 1;
        let at = PeerAt { shard: 0, key, generation: 0 };
        let deliveries = self.submit(Command::Claim {
            at,
            ticket: self.ticket,
            realm: 0,
            id: id.into(),
            token: token.into(),
        });
        let generation = deliveries.iter().find_map(|(_, delivery)| match delivery {
            Delivery::Claimed { claimed: Claimed::Granted { generation, .. }, .. } => Some(*generation),
            _ => None,
        });
        (generation, deliveries)
    }

    fn send(
        &mut self,
        from: (u32, u64),
        src: &str,
        dst: &str,
        text: &str,
    ) -> (SendOutcome, Vec<(ShardId, Delivery)>) {
        let peer_message = PeerMessage {
            from: PeerAt { shard: 0, key: from.0, generation: from.1 },
            realm: 0,
            kind: Kind::Offer,
            src: src.into(),
            dst: dst.into(),
            frame: Frame::text(text),
            hops: 0,
            sender: None,
            trace: None,
        };
        (self.cluster.send(self.now, 0, peer_message), self.deliveries())
    }
}

fn text(frame: &Frame) -> String {
    String::from_utf8(frame.payload().to_vec()).unwrap()
}

#[test]
fn an_id_has_one_holder() {
    let mut cluster = Harness::new(None);
    assert!(cluster.claim(1, "a", "t").0.is_some());
    let (granted, deliveries) = cluster.claim(2, "a", "other");
    assert_eq!(granted, None);
    assert!(matches!(deliveries[..], [(0, Delivery::Claimed { claimed: Claimed::Taken, .. })]));
}

#[test]
fn the_same_token_takes_over_and_fences_the_old_connection() {
    let mut cluster = Harness::new(Some(1));
    let old = cluster.claim(1, "a", "t").0.unwrap();
    let (new, deliveries) = cluster.claim(2, "a", "t");
    assert!(new.unwrap() > old, "generations only grow");
    assert!(matches!(deliveries[0].1, Delivery::Superseded(PeerAt { key: 1, .. })));
    assert_eq!(cluster.send((1, old), "a", "a", "late").0, SendOutcome::Fenced);
    cluster.submit(Command::Release { realm: 0, id: "a".into(), generation: old });
    assert!(cluster.cluster.is_held(Instant::now(), 0, "a"), "the old connection's close releases nothing");
    cluster.submit(Command::Release { realm: 0, id: "a".into(), generation: new.unwrap() });
    assert!(!cluster.cluster.is_held(Instant::now(), 0, "a"));
}

#[test]
fn the_limit_counts_held_ids_and_takeovers_are_exempt() {
    let mut cluster = Harness::new(Some(2));
    cluster.claim(1, "a", "t");
    let b = cluster.claim(2, "b", "t").0.unwrap();
    assert!(matches!(
        cluster.claim(3, "c", "t").1[..],
        [(0, Delivery::Claimed { claimed: Claimed::LimitReached, .. })]
    ));
    assert!(cluster.claim(4, "a", "t").0.is_some());
    cluster.submit(Command::Release { realm: 0, id: "b".into(), generation: b });
    assert!(cluster.claim(5, "c", "t").0.is_some());
}

#[test]
fn what_waits_is_delivered_in_order_with_the_claim_or_expires_once() {
    let mut cluster = Harness::new(None);
    let a = (1, cluster.claim(1, "a", "t").0.unwrap());
    let (_, deliveries) = cluster.send(a, "a", "b", "1");
    let number = match &deliveries[..] {
        [(0, Delivery::Waiting { number, .. })] => *number,
        other => panic!("{other:?}"),
    };
    assert!(cluster.send(a, "a", "b", "2").1.is_empty(), "one wait for each sender");
    let deliveries = cluster.claim(2, "b", "t").1;
    match &deliveries[..] {
        [(0, Delivery::Claimed { claimed: Claimed::Granted { waiting, .. }, .. })] => {
            assert_eq!(waiting.iter().map(text).collect::<Vec<_>>(), ["1", "2"]);
        }
        other => panic!("{other:?}"),
    }
    let expire = Command::Expire { realm: 0, src: "a".into(), dst: "b".into(), number };
    assert!(cluster.submit(expire).is_empty(), "delivered, so never expired");

    let (_, deliveries) = cluster.send(a, "a", "c", "1");
    let number = match &deliveries[..] {
        [(0, Delivery::Waiting { number, .. })] => *number,
        other => panic!("{other:?}"),
    };
    for expected in [1, 0] {
        let deliveries =
            cluster.submit(Command::Expire { realm: 0, src: "a".into(), dst: "c".into(), number });
        assert_eq!(deliveries.len(), expected);
        for (_, delivery) in deliveries {
            match delivery {
                Delivery::PeerMessage { to, peer_message } => {
                    assert_eq!(to.key, 1);
                    assert_eq!(text(&peer_message.frame), r#"{"type":"EXPIRE","src":"c","dst":"a"}"#);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let deliveries = cluster.claim(3, "c", "t").1;
    assert!(
        matches!(&deliveries[..], [(0, Delivery::Claimed { claimed: Claimed::Granted { waiting, .. }, .. })] if waiting.is_empty()),
        "expired, so never delivered"
    );
}

fn record(socket: Address, profile: &str) -> Record {
    let emission = |event: &str| {
        Some(MemberEvent {
            event: event.into(),
            args: EventArgs::new(profile, profile),
            attachments: Vec::new(),
        })
    };
    Record {
        socket,
        profile: profile.into(),
        joined: emission("joined"),
        updated: emission("updated"),
        left: emission("left"),
    }
}

#[test]
fn a_join_is_refused_while_a_shard_that_must_hear_of_it_is_too_far_behind() {
    let mut cluster = Harness::new(None);
    let room = RoomName { namespace: "/".into(), name: "r".into() };
    let route = cluster.cluster.route(&room);
    route.add(1);
    cluster.mailboxes.full.lock().push(1);
    let socket = Address::random(NodeTag(1), 0);
    let join = |ticket| Command::Join {
        shard: 0,
        ticket,
        room: room.clone(),
        record: record(socket, "{}").into(),
        most: None,
        list: true,
    };
    let deliveries = cluster.submit(join(1));
    assert!(matches!(deliveries[..], [(0, Delivery::Refused { ticket: 1, .. })]));
    cluster.mailboxes.full.lock().clear();
    assert!(matches!(
        cluster.submit(join(2))[..],
        [(1, Delivery::RoomChanged { .. }), ..] | [(0, Delivery::Joined { .. })]
    ));
}

#[test]
fn a_join_may_have_a_limit_of_its_own_and_is_told_how_many_there_are() {
    let mut cluster = Harness::new(None);
    let room = RoomName { namespace: "/".into(), name: "r".into() };
    let (one, other) = (Address::random(NodeTag(1), 0), Address::random(NodeTag(1), 0));
    let mut join = |socket, profile: &str, most| {
        let record = record(socket, profile).into();
        let command = Command::Join { shard: 0, ticket: 1, room: room.clone(), record, list: false, most };
        let answer = cluster.submit(command).into_iter().find_map(|(_, delivery)| match delivery {
            Delivery::Joined { count, .. } => Some(Ok(count)),
            Delivery::Refused { why, .. } => Some(Err(why)),
            _ => None,
        });
        answer.expect("an answer")
    };
    assert_eq!(join(one, "{}", Some(1)), Ok(1));
    assert_eq!(join(other, "{}", Some(1)), Err(Refused::RoomFull));
    assert_eq!(join(one, "{\"new\":1}", Some(1)), Ok(1));
    assert_eq!(join(other, "{}", None), Ok(2));
}

#[test]
fn a_room_that_nobody_is_in_costs_nothing() {
    let mut cluster = Harness::new(None);
    let room = RoomName { namespace: "/".into(), name: "r".into() };
    let route = cluster.cluster.route(&room);
    route.add(0);
    let socket = Address::random(NodeTag(1), 0);
    cluster.submit(Command::Join {
        shard: 0,
        ticket: 1,
        room: room.clone(),
        record: record(socket, "{}").into(),
        most: None,
        list: false,
    });
    cluster.submit(Command::Leave { room: room.clone(), socket });
    cluster.cluster.release_route(Instant::now(), &room, route, 0);
    assert!(cluster.cluster.find_route(&room).is_none());
}

#[derive(Debug, Clone)]
enum Step {
    Join(usize, usize, u8),
    Leave(usize, usize),
    Claim(usize, usize, usize),
    Release(usize),
    Send(usize, usize),
    Expire(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..6usize, 0..3usize, any::<u8>())
            .prop_map(|(socket, room, profile)| Step::Join(socket, room, profile)),
        (0..6usize, 0..3usize).prop_map(|(socket, room)| Step::Leave(socket, room)),
        (0..8usize, 0..3usize, 0..2usize).prop_map(|(key, id, token)| Step::Claim(key, id, token)),
        (0..8usize).prop_map(Step::Release),
        (0..8usize, 0..3usize).prop_map(|(key, dst)| Step::Send(key, dst)),
        (0..20usize).prop_map(Step::Expire),
    ]
}

proptest! {
    /// In whatever order things happen: an id has one holder, a message is delivered or expires but never both and never twice,
    /// and a view made of nothing but answers and changes is the truth.
    #[test]
    fn the_promises_hold_in_any_order(steps in proptest::collection::vec(step(), 0..120)) {
        let mut cluster = Harness::new(Some(2));
        let rooms: Vec<RoomName> = (0..3).map(|n| RoomName { namespace: "/".into(), name: format!("r{n}").into() }).collect();
        let routes: Vec<_> = rooms.iter().map(|room| cluster.cluster.route(room)).collect();
        // Sockets 0-2 live on shard 0, 3-5 on shard 1.
        let sockets: Vec<Address> = (0..6).map(|n| Address::random(NodeTag(1), n / 3)).collect();
        let mut truth: HashMap<(usize, usize), String> = HashMap::new();
        let mut views: HashMap<(ShardId, usize), HashMap<Address, String>> = HashMap::new();
        let mut versions: HashMap<(ShardId, usize), u128> = HashMap::new();
        let mut ticket_room: HashMap<Ticket, (usize, usize, String)> = HashMap::new();
        // Claims by key: (id, token, generation).
        let mut held: HashMap<usize, (usize, u64)> = HashMap::new();
        let mut peer_messages = 0;
        let mut delivered: HashMap<String, usize> = HashMap::new();
        let mut waits: Vec<(Arc<str>, Arc<str>, u64)> = Vec::new();
        let mut waiting_peer_messages: HashMap<(String, String), Vec<String>> = HashMap::new();

        for step in steps {
            match step {
                Step::Join(socket, room, profile) => {
                    let shard = (socket / 3) as ShardId;
                    routes[room].add(shard);
                    cluster.ticket += 1;
                    let profile = format!("{{\"n\":{profile}}}");
                    ticket_room.insert(cluster.ticket, (room, socket, profile.clone()));
                    let record = record(sockets[socket], &profile).into();
                    let join = Command::Join { shard, ticket: cluster.ticket, room: rooms[room].clone(), record, list: true, most: None };
                    truth.insert((room, socket), profile);
                    cluster.cluster.submit(cluster.now, join);
                }
                Step::Leave(socket, room) => {
                    truth.remove(&(room, socket));
                    cluster.cluster.submit(cluster.now, Command::Leave { room: rooms[room].clone(), socket: sockets[socket] });
                }
                Step::Claim(key, id, token) if !held.contains_key(&key) => {
                    let (granted, deliveries) = cluster.claim(key as u32, &format!("p{id}"), &format!("t{token}"));
                    for (_, delivery) in deliveries {
                        match delivery {
                            Delivery::Superseded(old) => { held.remove(&(old.key as usize)); }
                            Delivery::Claimed { claimed: Claimed::Granted { waiting, .. }, .. } => {
                                for frame in waiting {
                                    *delivered.entry(text(&frame)).or_default() += 1;
                                }
                                waiting_peer_messages.retain(|(_, dst), _| *dst != format!("p{id}"));
                            }
                            _ => {}
                        }
                    }
                    if let Some(generation) = granted {
                        prop_assert!(held.values().all(|(other, _)| *other != id), "two holders of p{}", id);
                        held.insert(key, (id, generation));
                        prop_assert!(held.len() <= 2, "over the limit");
                    }
                }
                Step::Claim(..) => {}
                Step::Release(key) => if let Some((id, generation)) = held.remove(&key) {
                    cluster.cluster.submit(cluster.now, Command::Release { realm: 0, id: format!("p{id}").into(), generation });
                },
                Step::Send(key, dst) => if let Some((id, generation)) = held.get(&key).copied() {
                    peer_messages += 1;
                    let (src, dst, body) = (format!("p{id}"), format!("p{dst}"), format!("peer_message {peer_messages}"));
                    let (sent, deliveries) = cluster.send((key as u32, generation), &src, &dst, &body);
                    prop_assert!(matches!(sent, SendOutcome::Taken | SendOutcome::Waits));
                    let mut arrived = false;
                    for (_, delivery) in deliveries {
                        match delivery {
                            Delivery::PeerMessage { peer_message, .. } => { arrived = true; *delivered.entry(text(&peer_message.frame)).or_default() += 1; }
                            Delivery::Waiting { src, dst, number, .. } => waits.push((src, dst, number)),
                            _ => {}
                        }
                    }
                    if !arrived {
                        waiting_peer_messages.entry((src, dst)).or_default().push(body);
                    }
                },
                Step::Expire(index) => if index < waits.len() {
                    let (src, dst, number) = waits.swap_remove(index);
                    let key = (src.to_string(), dst.to_string());
                    let lost = waiting_peer_messages.get(&key).cloned().unwrap_or_default();
                    cluster.cluster.submit(cluster.now, Command::Expire { realm: 0, src: src.clone(), dst, number });
                    let deliveries = cluster.deliveries().into_iter().filter(|(_, delivery)| matches!(delivery, Delivery::PeerMessage { .. })).count();
                    prop_assert!(deliveries <= 1);
                    if deliveries == 1 {
                        prop_assert!(!lost.is_empty(), "expired, though nothing waited");
                        waiting_peer_messages.remove(&key);
                        for peer_message in lost {
                            prop_assert_eq!(delivered.insert(peer_message, 1), None, "expired and delivered");
                        }
                    } else if !waits.iter().any(|(s, d, _)| *s == src && **d == *key.1) {
                        // The sender is gone: what it left was dropped.
                        waiting_peer_messages.remove(&key);
                    }
                },
            }
            for (shard, delivery) in cluster.deliveries() {
                match delivery {
                    Delivery::Joined { ticket, change_id: version, members, .. } => {
                        let (room, socket, profile) = ticket_room.remove(&ticket).unwrap();
                        let mut view: HashMap<Address, String> = members.iter().map(|record| (record.socket, record.profile.to_string())).collect();
                        view.insert(sockets[socket], profile);
                        views.insert((shard, room), view);
                        versions.insert((shard, room), version);
                    }
                    Delivery::RoomChanged { room, change_id: version, change, .. } => {
                        let room = rooms.iter().position(|name| *name == room).unwrap();
                        let known = versions.entry((shard, room)).or_insert(version - 1);
                        if version <= *known { continue; }
                        *known = version;
                        let view = views.entry((shard, room)).or_default();
                        match change {
                            Change::Joined(record) => prop_assert!(view.insert(record.socket, record.profile.to_string()).is_none()),
                            Change::Updated(record) => prop_assert!(view.insert(record.socket, record.profile.to_string()).is_some()),
                            Change::Left(record) => prop_assert!(view.remove(&record.socket).is_some()),
                        }
                    }
                    _ => {}
                }
            }
            for ((_, room), view) in &views {
                let expected: HashMap<Address, String> = truth.iter()
                    .filter(|((in_room, _), _)| in_room == room)
                    .map(|((_, socket), profile)| (sockets[*socket], profile.clone())).collect();
                prop_assert_eq!(view, &expected);
            }
            prop_assert!(delivered.values().all(|count| *count == 1), "delivered twice");
        }
    }
}
