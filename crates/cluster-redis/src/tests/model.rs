//! Any calls, made in Redis and in the model: the answers are the same, and so is what is published, and what is there in the
//! end.
//!
//! Numbers that come from a clock (generations, epochs of rooms) and numbers of waits differ; that they differ alike is checked,
//! and then those of Redis are taken for the model's. Time passes in the model as in Redis: what Redis keeps of it is set back.

mod any;
mod driver;
mod names;
mod numbers;
mod steps;

use std::{cell::RefCell, collections::BTreeMap};

use proptest::{prelude::*, test_runner::TestRunner};
use redis::cmd;

use self::{
    driver::{Redis, millis},
    numbers::Numbers,
    steps::{Given, Step, Wait},
};
use super::*;
use signalbox_cluster::{
    RealmId,
    command::Holder,
    envelope::Format,
    model::Model,
    partition,
    store::{Call, Reply, RoomDelta, TakeoverNotice},
};

type Checked<T = ()> = Result<T, TestCaseError>;

/// Cases in the normal lane; `PROPTEST_CASES` raises it.
const CASES: u32 = 60;
/// Counts claims, records and users, and what stands in the indexes of owners: one for each. And the users in order.
const COUNT: &str = "local all, indexed, users, ordered = 0, 0, 0, 0 \
    for _, key in ipairs(redis.call('KEYS', '*')) do \
        local kind = string.match(key, '}:(%a):') \
        if kind == 'c' then all = all + redis.call('HLEN', key) \
        elseif kind == 'r' then all = all + redis.call('HLEN', key) - 2 \
        elseif kind == 'u' then all = all + redis.call('HLEN', key) users = users + redis.call('HLEN', key) \
        elseif kind == 'z' then ordered = ordered + redis.call('ZCARD', key) \
        elseif kind == 'i' then indexed = indexed + redis.call('SCARD', key) end \
    end return {all, indexed, users, ordered}";
/// Leaves queues as nodes of the previous version write them.
const FORGET_SHARES: &str = "for _, key in ipairs(redis.call('KEYS', '*}:w:*')) do \
    redis.call('HDEL', key, 'candidates') \
    for _, field in ipairs(redis.call('HKEYS', key)) do \
        if string.sub(field, 1, 1) == 'x' then redis.call('HDEL', key, field) end end end";

#[test]
fn redis_does_what_the_model_does() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let redis = RefCell::new(runtime.block_on(Redis::connect(&server)));
    let mut config = ProptestConfig { source_file: Some(file!()), ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    let check = |format, steps: &[Step]| {
        let mut redis = redis.borrow_mut();
        redis.format = format;
        runtime.block_on(async { World::new(&mut redis).await?.run(steps).await })
    };
    for (format, steps) in
        Format::ALL.into_iter().flat_map(|format| any::found().into_iter().map(move |steps| (format, steps)))
    {
        check(format, &steps).unwrap();
    }
    let cases = (prop::sample::select(Format::ALL.to_vec()), any::steps());
    let outcome = TestRunner::new(config).run(&cases, |(format, steps)| check(format, &steps));
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn redis_goes_on_with_the_queues_of_nodes_of_the_previous_version() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut redis = Redis::connect(&server).await;
        let mut world = World::new(&mut redis).await.unwrap();
        let (earlier, later) = any::about_a_queue();
        for step in &earlier {
            let (ours, theirs) = (step.calls(&world.given, 0), step.calls(&world.given, 1));
            world.both(0, ours, theirs).await.unwrap();
        }
        let mut forget = cmd("EVAL");
        forget.arg(FORGET_SHARES).arg(0);
        world.redis.send(vec![forget]).await.unwrap();
        world.run(&later).await.unwrap();
    });
}

fn config() -> Config {
    Config {
        realms: names::REALMS.map(str::to_owned).to_vec(),
        concurrent_limit: None,
        room_members: None,
        presence_limit: None,
        expire_timeout: names::PATIENCE,
    }
}

/// Both stores.
struct World<'a> {
    redis: &'a mut Redis,
    model: Model,
    /// What Redis' clock showed when the model's began, in ms.
    began: (Instant, u64),
    /// What has passed beside that.
    passed: u64,
    given: Given,
    generations: Numbers,
    epochs: Numbers,
    /// By partition.
    waits: BTreeMap<u8, Numbers>,
}

impl<'a> World<'a> {
    async fn new(redis: &'a mut Redis) -> Checked<Self> {
        // A case that failed may have left something to be heard.
        redis.published().await?;
        let values = redis.send(vec![cmd("FLUSHALL"), cmd("TIME")]).await?;
        let time = values.last().and_then(millis).unwrap_or_default();
        let began = Instant::now();
        let mut generations = Numbers::default();
        for other in names::EARLY.chain(names::LATE) {
            generations.learn(other, other)?;
        }
        Ok(Self {
            redis,
            model: Model::new(&config(), began, time * 1_000),
            began: (began, time),
            passed: 0,
            given: Given::default(),
            generations,
            epochs: Numbers::default(),
            waits: BTreeMap::new(),
        })
    }

    async fn run(mut self, steps: &[Step]) -> Checked {
        for step in steps {
            let (ours, theirs) = (step.calls(&self.given, 0), step.calls(&self.given, 1));
            self.both(step.passes(), ours, theirs).await?;
        }
        self.refresh().await?;
        self.count().await?;
        self.clear().await
    }

    /// Makes the same calls in both stores.
    async fn both(&mut self, passes: u64, ours: Vec<Call>, theirs: Vec<Call>) -> Checked {
        let any_order = ours.iter().all(|call| matches!(call, Call::Reap { .. }));
        let answers = self.redis.ask(passes, theirs).await?;
        self.passed += passes;
        let theirs = self.redis.published().await?;
        let mut published = Vec::new();
        let mut replies = Vec::new();
        for (call, (time, reply)) in ours.into_iter().zip(answers) {
            let now = self.began.0 + Duration::from_millis(time - self.began.1 + self.passed);
            let claim = claim_of(&call);
            let (ours, deltas) = self.model.execute(call, now);
            published.extend(deltas);
            replies.push((claim, ours, reply));
        }
        self.same_changes(published, theirs, any_order)?;
        for (claim, ours, theirs) in replies {
            self.same_reply(claim, ours, theirs)?;
        }
        Ok(())
    }

    async fn asked(&mut self, calls: impl Fn() -> Vec<Call>) -> Checked {
        self.both(0, calls(), calls()).await
    }

    /// What is published of one reaping may come in any order.
    fn same_changes(&mut self, ours: Vec<RoomDelta>, theirs: Vec<RoomDelta>, any_order: bool) -> Checked {
        prop_assert_eq!(ours.len(), theirs.len(), "ours {:?}, theirs {:?}", ours, theirs);
        if !any_order {
            for (ours, theirs) in ours.iter().zip(&theirs) {
                self.epochs.learn(ours.room_version.epoch, theirs.room_version.epoch)?;
            }
        }
        let parts = |deltas: Vec<RoomDelta>, epoch: &dyn Fn(u64) -> u64| {
            let room_version = |delta: &RoomDelta| {
                (delta.room.clone(), epoch(delta.room_version.epoch), delta.room_version.version)
            };
            let mut room_versions: Vec<_> = deltas.iter().map(room_version).collect();
            let mut changes: Vec<_> =
                deltas.iter().map(|delta| format!("{:?} {:?}", delta.room, delta.change)).collect();
            if any_order {
                room_versions.sort_unstable();
                changes.sort_unstable();
            }
            (room_versions, changes)
        };
        let epochs = &self.epochs;
        prop_assert_eq!(parts(ours, &|epoch| epoch), parts(theirs, &|epoch| epochs.ours(epoch)));
        Ok(())
    }

    fn same_reply(
        &mut self,
        claim: Option<(Owner, RealmId, Arc<str>)>,
        ours: Reply,
        theirs: Reply,
    ) -> Checked {
        let notice = claim.zip(superseded(&ours)).zip(superseded(&theirs));
        if let Some((((by, realm, id), ours), theirs)) =
            notice.filter(|(((by, ..), old), _)| old.owner.tag != by.tag)
        {
            let notice = |old| TakeoverNotice { by, realm, id: id.clone(), old };
            self.given.notices.push([notice(ours), notice(theirs)]);
        }
        match (&ours, &theirs) {
            (Reply::Granted { generation: a, .. }, Reply::Granted { generation: b, .. }) => {
                self.generations.learn(*a, *b)?;
                self.given.generations.push([*a, *b]);
            }
            (Reply::Put { room_version: a, .. }, Reply::Put { room_version: b, .. }) => {
                self.epochs.learn(a.epoch, b.epoch)?;
                self.given.room_versions.push([*a, *b]);
            }
            (Reply::Queued { peer_message, opened: Some(a), .. }, Reply::Queued { opened: Some(b), .. }) => {
                let (realm, src, dst) =
                    (peer_message.realm, peer_message.src.clone(), peer_message.dst.clone());
                let partition = partition::of_peer(names::REALMS[usize::from(realm)], &dst);
                self.waits.entry(partition).or_default().learn(*a, *b)?;
                self.given.waits.push(Wait { realm, src, dst, number: [*a, *b] });
            }
            _ => {}
        }
        let theirs = self.translated(theirs);
        prop_assert_eq!(readable(ours), readable(theirs));
        Ok(())
    }

    /// An answer of Redis with the model's numbers.
    fn translated(&self, mut reply: Reply) -> Reply {
        let holder = |holder: &mut Holder| holder.at.generation = self.generations.ours(holder.at.generation);
        match &mut reply {
            Reply::Granted { generation, superseded, .. } => {
                *generation = self.generations.ours(*generation);
                superseded.iter_mut().for_each(holder);
            }
            Reply::Kept { superseded, .. } => superseded.iter_mut().for_each(holder),
            Reply::Holder(of, _) => holder(of),
            Reply::Reaped(notices) => notices.iter_mut().map(|notice| &mut notice.old).for_each(holder),
            Reply::Peer(found) => found.iter_mut().for_each(holder),
            Reply::Put { room_version, .. } => room_version.epoch = self.epochs.ours(room_version.epoch),
            Reply::Records { room_version: Some(room_version), .. } => {
                room_version.epoch = self.epochs.ours(room_version.epoch)
            }
            _ => {}
        }
        reply
    }

    /// Everything that can be read.
    async fn refresh(&mut self) -> Checked {
        self.asked(|| {
            let realms = (0..names::REALMS.len() as RealmId).map(|realm| Call::Peers { realm });
            let holders = names::peers().flat_map(|(realm, id)| {
                names::tokens().map(move |token| Call::FindPeer { realm, id: id.clone(), token })
            });
            let rooms = names::rooms().into_iter().map(|room| Call::Records { room });
            let notices = names::owners()
                .into_iter()
                .flat_map(|owner| names::peers().map(move |(realm, id)| Call::Notices { owner, realm, id }));
            let pages = names::namespaces().flat_map(|namespace| {
                let from = move |after| Call::Users { namespace: namespace.clone(), after };
                [None, names::sockets().pop()].map(from)
            });
            let lists = names::lists().map(|list| list.name().clone());
            let users = names::namespaces().chain(lists).flat_map(|namespace| {
                let of = move |socket| Call::FindUser { namespace: namespace.clone(), socket };
                names::sockets().into_iter().map(of)
            });
            realms
                .chain(holders)
                .chain(notices)
                .chain(rooms)
                .chain(pages)
                .chain(users)
                .chain([Call::Nodes])
                .collect()
        })
        .await
    }

    /// What an owner has is in its index, and nothing else is.
    async fn count(&mut self) -> Checked {
        let mut count = cmd("EVAL");
        count.arg(COUNT).arg(0);
        let counted = self.redis.send(vec![count]).await?.remove(0);
        let [all, indexed, users, ordered]: [u64; 4] = redis::from_redis_value(counted).unwrap_or_default();
        prop_assert_eq!((all, users), (indexed, ordered));
        // Whoever has something is listed, and perhaps somebody who had.
        let answer = self.redis.ask(0, vec![Call::Owners]).await?.pop();
        let ours = self.model.execute(Call::Owners, self.began.0).0;
        let (Reply::Owners(ours), Some((_, Reply::Owners(theirs)))) = (ours, answer) else {
            return Err(TestCaseError::fail("owners"));
        };
        prop_assert!(ours.iter().all(|owner| theirs.contains(owner)), "{:?} in {:?}", ours, theirs);
        Ok(())
    }

    /// Everything goes; what is left in Redis then is what nobody would ever remove.
    async fn clear(&mut self) -> Checked {
        for [ours, theirs] in std::mem::take(&mut self.given.notices) {
            self.both(0, vec![Call::Acknowledge(ours)], vec![Call::Acknowledge(theirs)]).await?;
        }
        let reap =
            |owner| names::partitions().into_iter().map(move |partition| Call::Reap { owner, partition });
        self.asked(|| names::owners().into_iter().flat_map(reap).collect()).await?;
        self.asked(|| names::owners().into_iter().map(|owner| Call::Leave { owner }).collect()).await?;
        self.refresh().await?;
        // What waits is shown to whoever claims the id.
        let (owner, at) = (names::owners()[0], PeerAt { shard: 0, key: 9, generation: 0 });
        let claim = |(realm, id)| Call::Claim {
            owner,
            at,
            realm,
            id,
            token: "".into(),
            other_token: None,
            full: false,
        };
        self.asked(|| names::peers().map(claim).collect()).await?;
        // The waits stay of senders of whom something was refused.
        for wait in 0..self.given.waits.len() {
            let end = Step::Expire { wait };
            let (ours, theirs) = (end.calls(&self.given, 0), end.calls(&self.given, 1));
            self.both(0, ours, theirs).await?;
        }
        prop_assert!(self.given.notices.is_empty());
        self.asked(|| reap(owner).collect()).await?;
        let mut all = cmd("KEYS");
        all.arg("*");
        let left = self.redis.send(vec![all]).await?.remove(0);
        let mut left: Vec<String> = redis::from_redis_value(left).unwrap_or_default();
        // Numbers that only grow, and what goes with time.
        let stays = ["}:n", ":nodes:v", ":nodes:s", ":nodes:w", ":nodes:a"];
        left.retain(|key| !key.contains("}:d:") && !stays.iter().any(|end| key.ends_with(end)));
        prop_assert!(left.is_empty(), "{:?} is left", left);
        Ok(())
    }
}

/// Who claims what, if a call does.
fn claim_of(call: &Call) -> Option<(Owner, RealmId, Arc<str>)> {
    match call {
        Call::Claim { owner, realm, id, .. } | Call::Reclaim { owner, realm, id, .. } => {
            Some((*owner, *realm, id.clone()))
        }
        _ => None,
    }
}

fn superseded(reply: &Reply) -> Option<Holder> {
    match reply {
        Reply::Granted { superseded, .. } | Reply::Kept { superseded, .. } => *superseded,
        _ => None,
    }
}

/// What is compared of an answer: what has no order is sorted, and numbers of waits have been compared already.
fn readable(mut reply: Reply) -> String {
    match &mut reply {
        Reply::Peers(ids) => ids.sort_unstable(),
        Reply::Reaped(notices) => notices.sort_unstable_by_key(|notice| format!("{notice:?}")),
        Reply::Nodes(nodes) => nodes.sort_unstable_by_key(|node| node.owner),
        Reply::Queued { opened: Some(number), .. } => *number = 0,
        Reply::Heartbeat(pulse) => {
            pulse.run_id = "".into();
            pulse.expired.sort_unstable();
        }
        _ => {}
    }
    format!("{reply:?}")
}
