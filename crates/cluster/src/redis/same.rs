//! The scripts do what the model does: any calls in any order are answered alike.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use signalbox_peerserver::Kind;
use signalbox_websocket::Frame;

use super::{
    calls::Context, commands::Commands, keys::Keys, scripts::Scripts, source::Source, tests::Server,
};
use crate::{
    Address, Config, NodeInfo, NodeTag, Owner, PeerAt, Record, RoomName,
    command::{Holder, Letter},
    model::Model,
    partition,
    store::{Call, Counters, Loss, Reply, Stamp, Standing, Wants},
};

/// Each with a store of its own.
const ROUNDS: u64 = 150;
/// How many calls a round has, few or many: what is forgotten early is often made good later. They take less time than a lease.
const CALLS: std::ops::Range<usize> = 5..120;

/// A number that each side has chosen for itself: the model's, Redis'.
type Both = [u64; 2];

/// What the two sides have said so far; later calls refer to it.
struct Said {
    rng: StdRng,
    generations: Vec<Both>,
    stamps: Vec<[Stamp; 2]>,
    waits: Vec<(Arc<str>, Arc<str>, Both)>,
    losses: Vec<[Loss; 2]>,
    owners: Vec<Owner>,
}

impl Said {
    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.rng.random_range(0..of.len())].clone()
    }

    fn owner(&mut self) -> Owner {
        Owner { tag: NodeTag(self.pick(&[1, 2, 3])), epoch: self.pick(&[1, 2]) }
    }

    fn id(&mut self) -> Arc<str> {
        self.pick(&["ann", "bob", "c\0d"]).into()
    }

    fn token(&mut self) -> Arc<str> {
        self.pick(&["one", "two"]).into()
    }

    fn room(&mut self) -> RoomName {
        RoomName { namespace: "/".into(), name: self.pick(&["red", "g\0reen"]).into() }
    }

    fn socket(&mut self) -> Address {
        Address::from_bytes([self.pick(&[0, 1]), 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, self.pick(&[3, 4])])
    }

    fn record(&mut self) -> Arc<Record> {
        let (socket, profile) = (self.socket(), self.pick(&["{}", "{\"a\":1}"]).into());
        Arc::new(Record { socket, profile, joined: None, updated: None, left: None })
    }

    fn at(&mut self) -> [PeerAt; 2] {
        let key = self.pick(&[7, 8]);
        let index = self.rng.random_range(0..self.generations.len());
        self.generations[index].map(|generation| PeerAt { shard: 0, key, generation })
    }

    fn node(&mut self, owner: Owner) -> Arc<NodeInfo> {
        let name = self.pick(&["a", "b"]).to_owned();
        Arc::new(NodeInfo { owner, name, link: None, is_draining: false })
    }

    /// A call, as each side is to be asked.
    fn call(&mut self) -> [Call; 2] {
        let (owner, realm, id, token, room) = (self.owner(), 0, self.id(), self.token(), self.room());
        let (record, at, full) = (self.record(), self.at(), self.rng.random_bool(0.1));
        let both = |make: &dyn Fn(usize) -> Call| [make(0), make(1)];
        match self.rng.random_range(0..20) {
            0..=3 => both(&|side| Call::Claim {
                owner,
                at: PeerAt { generation: 0, ..at[side] },
                realm,
                id: id.clone(),
                token: token.clone(),
                full,
            }),
            4 | 5 => {
                let standing = self.pick(&[Standing::Granted, Standing::Lapsed, Standing::Alone]);
                both(&|side| Call::Reclaim {
                    owner,
                    at: at[side],
                    realm,
                    id: id.clone(),
                    token: token.clone(),
                    standing,
                })
            }
            6 => {
                both(&|side| Call::Release { owner, realm, id: id.clone(), generation: at[side].generation })
            }
            7 => {
                let (src, forced) = (self.id(), self.rng.random_bool(0.3));
                let kind = self.pick(&[Kind::Offer, Kind::Expire]);
                let letter = |side: usize| Letter {
                    from: at[side],
                    realm,
                    kind,
                    src: src.clone(),
                    dst: id.clone(),
                    frame: Frame::text("hello"),
                    hops: 0,
                    sender: None,
                };
                both(&|side| Call::DeliverOrQueue { letter: letter(side), token: token.clone(), forced })
            }
            8 if !self.waits.is_empty() => {
                let index = self.rng.random_range(0..self.waits.len());
                let (src, dst, number) = self.waits[index].clone();
                both(&|side| Call::Expire { realm, src: src.clone(), dst: dst.clone(), number: number[side] })
            }
            9..=11 => {
                let known = self.stamps.last().copied();
                let wants = self.pick(&[0, 1, 2]);
                both(&|side| Call::Put {
                    owner,
                    room: room.clone(),
                    record: record.clone(),
                    wants: match wants {
                        0 => Wants::Nothing,
                        1 => Wants::Since(None),
                        _ => Wants::Since(known.map(|known| known[side])),
                    },
                })
            }
            12 => both(&|_| Call::Remove { owner, room: room.clone(), socket: record.socket }),
            13 => {
                let from = self.owner().tag;
                both(&|_| Call::Rehome { owner, from, room: room.clone(), record: record.clone() })
            }
            14 => {
                let partition = partition::of_user(record.socket);
                let gone = Address::from_bytes({
                    let mut bytes = *self.socket().as_bytes();
                    bytes[0] = partition;
                    bytes
                });
                let user = ("/".into(), record.socket, record.profile.clone());
                let removes = if full { vec![("/".into(), gone)] } else { Vec::new() };
                // Whoever is put and removed at once is nobody's business.
                let puts = if full && gone == record.socket { Vec::new() } else { vec![user] };
                both(&|_| Call::PutUsers { owner, partition, puts: puts.clone(), removes: removes.clone() })
            }
            15 if !self.losses.is_empty() => {
                let index = self.rng.random_range(0..self.losses.len());
                self.losses[index].clone().map(Call::Settle)
            }
            16 => {
                let node = self.node(owner);
                let (joins, reaps) = (self.rng.random_bool(0.5), self.rng.random_bool(0.5));
                let counters = Counters { claims: 0 };
                both(&|_| Call::Heartbeat { owner, joins, node: node.clone(), counters, reaps })
            }
            17 if full => both(&|_| Call::Leave { owner }),
            17 => {
                let (by, owners) = (self.owner(), self.owners.clone());
                both(&|_| Call::Bury { by, owners: owners.clone() })
            }
            18 => {
                let of_id = partition::of_peer("peerjs", &id);
                let of_room = partition::of_room(&room);
                let partition = self.pick(&[of_id, of_room, partition::of_user(record.socket)]);
                both(&|_| Call::Reap { owner, partition })
            }
            _ => both(&|_| Call::FindPeer { realm, id: id.clone(), token: token.clone() }),
        }
    }

    /// What both have answered; what they have chosen for themselves is compared by when it was seen first.
    fn take(&mut self, call: &Call, [model, redis]: [Reply; 2]) {
        let what = format!("{call:?}: the model says {model:?}, Redis {redis:?}");
        match (call, model, redis) {
            (
                Call::Claim { owner, realm, id, .. },
                Reply::Granted { generation: a, superseded: one, waiting: first },
                Reply::Granted { generation: b, superseded: other, waiting: second },
            ) => {
                assert_eq!(first, second, "{what}");
                self.generations.push([a, b]);
                self.superseded(*owner, *realm, id, [one, other], &what);
            }
            (
                Call::Reclaim { owner, realm, id, .. },
                Reply::Kept { superseded: one, waiting: first },
                Reply::Kept { superseded: other, waiting: second },
            ) => {
                assert_eq!(first, second, "{what}");
                self.superseded(*owner, *realm, id, [one, other], &what);
            }
            (_, Reply::Holder(one, _), Reply::Holder(other, _))
            | (_, Reply::Peer(Some(one)), Reply::Peer(Some(other))) => {
                self.same_holder([one, other], &what);
            }
            (
                _,
                Reply::Queued { letter, opened: one, kept: first },
                Reply::Queued { opened: other, kept: second, .. },
            ) => {
                assert_eq!((one.is_some(), first), (other.is_some(), second), "{what}");
                if let Some((a, b)) = one.zip(other) {
                    self.waits.push((letter.src, letter.dst, [a, b]));
                }
            }
            (_, Reply::Put { stamp: a, records: one }, Reply::Put { stamp: b, records: other }) => {
                assert_eq!((a.version, one), (b.version, other), "{what}");
                self.stamps.push([a, b]);
            }
            (_, Reply::Reaped(mut one), Reply::Reaped(mut other)) => {
                for losses in [&mut one, &mut other] {
                    losses.sort_by_key(|loss| (loss.id.clone(), loss.old.at.generation, loss.old.owner));
                    losses.dedup();
                }
                assert_eq!(one.len(), other.len(), "{what}");
                for (one, other) in one.into_iter().zip(other) {
                    assert_eq!((one.by, &one.id), (other.by, &other.id), "{what}");
                    self.same_holder([one.old, other.old], &what);
                }
            }
            (_, Reply::Heartbeat(one), Reply::Heartbeat(mut other)) => {
                other.run_id = one.run_id.clone();
                other.expired.sort_unstable();
                assert_eq!(one, other, "{what}");
            }
            (_, one, other) => assert_eq!(format!("{one:?}"), format!("{other:?}"), "{what}"),
        }
    }

    fn superseded(
        &mut self,
        by: Owner,
        realm: u16,
        id: &Arc<str>,
        [one, other]: [Option<Holder>; 2],
        what: &str,
    ) {
        assert_eq!(one.is_some(), other.is_some(), "{what}");
        if let Some((one, other)) = one.zip(other) {
            self.same_holder([one, other], what);
            self.losses.push([one, other].map(|old| Loss { by, realm, id: id.clone(), old }));
        }
    }

    fn same_holder(&self, [one, other]: [Holder; 2], what: &str) {
        assert_eq!((one.owner, one.at.key), (other.owner, other.at.key), "{what}");
        let pair = [one.at.generation, other.at.generation];
        assert!(self.generations.contains(&pair), "{what}");
    }
}

/// The whole state, in order.
fn state(ask: &mut dyn FnMut(Call) -> Reply) -> String {
    let mut all = String::new();
    let rooms = ["red", "g\0reen"].map(|name| RoomName { namespace: "/".into(), name: name.into() });
    for room in rooms {
        if let Reply::Records { stamp, records } = ask(Call::Records { room }) {
            all += &format!("{:?} {records:?}\n", stamp.map(|stamp| stamp.version));
        }
    }
    if let Reply::Peers(mut ids) = ask(Call::Peers { realm: 0 }) {
        ids.sort_unstable();
        all += &format!("{ids:?}\n");
    }
    if let Reply::Nodes(mut nodes) = ask(Call::Nodes) {
        nodes.sort_unstable_by_key(|node| node.owner);
        all += &format!("{nodes:?}\n");
    }
    for (first, last) in [(0, 3), (0, 4), (1, 3), (1, 4)] {
        let socket = Address::from_bytes([first, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        all += &format!("{:?}\n", ask(Call::FindUser { namespace: "/".into(), socket }));
    }
    all
}

#[test]
fn the_scripts_do_what_the_model_does() {
    let server = Server::start();
    let config = Config {
        realms: vec!["peerjs".into()],
        concurrent_limit: None,
        expire_timeout: Duration::from_secs(60),
    };
    let context = Arc::new(Context {
        keys: Keys::new("test"),
        scripts: Scripts::new(),
        realms: config.realms.clone(),
        patience: config.expire_timeout.as_millis(),
        publish: "PUBLISH",
    });
    let source = Arc::new(Source::new(&server.url()).unwrap());
    let mut commands = Commands::new(source, context.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut redis = |call: Call| {
        let values = runtime.block_on(commands.send(context.commands(&call))).unwrap();
        let is_refused = |value: &redis::Value| matches!(value, redis::Value::ServerError(_));
        assert!(!values.iter().any(is_refused), "{call:?}: {values:?}");
        context.reply(call, values)
    };
    for seed in 0..ROUNDS {
        server.ask("FLUSHALL");
        let now = Instant::now();
        let mut model = Model::new(&config, now, 1_000);
        let mut said = Said {
            rng: StdRng::seed_from_u64(seed),
            // Two that were granted without the store.
            generations: vec![[5, 5], [6, 6]],
            stamps: Vec::new(),
            waits: Vec::new(),
            losses: Vec::new(),
            owners: Vec::new(),
        };
        for _ in 0..said.rng.random_range(CALLS) {
            let [one, other] = said.call();
            let asked = said_as(&one);
            let replies = [model.execute(one, now).0, redis(other)];
            said.take(&asked, replies);
            let Reply::Owners(owners) = model.execute(Call::Owners, now).0 else { panic!("owners") };
            said.owners = owners;
        }
        let of_model = state(&mut |call| model.execute(call, now).0);
        assert_eq!(state(&mut redis), of_model, "seed {seed}");
        let Reply::Owners(listed) = redis(Call::Owners) else { panic!("owners") };
        // There may be some that have nothing any more.
        assert!(said.owners.iter().all(|owner| listed.contains(owner)), "{:?} in {listed:?}", said.owners);
    }
}

/// What of a call is looked at with its answer.
fn said_as(call: &Call) -> Call {
    match call {
        Call::Claim { owner, at, realm, id, token, full } => Call::Claim {
            owner: *owner,
            at: *at,
            realm: *realm,
            id: id.clone(),
            token: token.clone(),
            full: *full,
        },
        Call::Reclaim { owner, at, realm, id, token, standing } => Call::Reclaim {
            owner: *owner,
            at: *at,
            realm: *realm,
            id: id.clone(),
            token: token.clone(),
            standing: *standing,
        },
        _ => Call::Nodes,
    }
}
