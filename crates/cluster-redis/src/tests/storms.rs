//! After an outage every node writes everything again, and compares its rooms: how long that takes, and what it must not do to the lease.

use std::collections::BTreeMap;

use signalbox_cluster::{ClusterEvent, model::LEASE};

use super::*;

/// Keys in Redis, without those that come and go with heartbeats.
fn keys(server: &Server) -> usize {
    until(|| server.ask("DBSIZE").lines().next()?.strip_prefix(':')?.parse().ok())
}

/// Members of all rooms in Redis; `None` if it takes Redis too long to count them.
fn members(server: &Server) -> Option<u64> {
    let script = "local sum = 0 \
        for _, key in ipairs(redis.call('KEYS', 'test:*:r:*')) do sum = sum + redis.call('HLEN', key) - 2 end \
        return sum";
    let answer = server.ask(&format!("EVAL \"{script}\" 0"));
    answer.lines().next()?.strip_prefix(':')?.parse().ok()
}

/// Has a node join so many rooms with so many members each.
fn fill(node: &Node, rooms: usize, members: usize) {
    let mut asked = 0;
    for room in 0..rooms {
        let room = RoomName { namespace: "/".into(), name: format!("room {room}").into() };
        node.cluster.route(&room).add(0);
        for _ in 0..members {
            let socket = Address::random(node.tag, 0);
            let event = |name: &str| {
                let args = EventArgs::new("1", "{}");
                Some(MemberEvent { event: name.into(), args, attachments: Vec::new() })
            };
            let record = Record {
                socket,
                profile: "{}".into(),
                joined: event("joined"),
                updated: None,
                left: event("left"),
            };
            node.submit(Command::Connected { namespace: "/".into(), socket });
            asked += 1;
            let (ticket, record) = (asked as u64, record.into());
            let join =
                Command::Join { shard: 0, ticket, room: room.clone(), record, list: false, most: None };
            node.submit(join);
            // As shards do, which read no further while too much of theirs is under way.
            if asked % 1_000 == 0 {
                joined(node, 1_000);
            }
        }
    }
    joined(node, asked % 1_000);
}

/// Waits for so many joins to be answered, and forgets everything else that was delivered.
fn joined(node: &Node, count: usize) {
    let mut left = count;
    let began = Instant::now();
    while left > 0 {
        let deliveries = std::mem::take(&mut *node.mailboxes.deliveries.lock());
        left -= deliveries.iter().filter(|it| matches!(it, Delivery::Joined { .. })).count();
        assert!(began.elapsed() < Duration::from_secs(120), "{left} of {count} joins are not answered");
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How long a node took to write everything again, if it has.
fn rewritten(node: &Node) -> Option<Duration> {
    let events = node.mailboxes.events.lock();
    events.iter().find_map(|event| match event {
        ClusterEvent::Rewritten { took, .. } => Some(*took),
        _ => None,
    })
}

/// Two nodes with members in the same rooms lose their Redis with everything in it. Both write everything again, and are online
/// throughout from the moment on in which it is back. Returns how long that took.
fn everything_is_written_again(rooms: usize, members_each: usize) -> Duration {
    let mut server = Server::start();
    let nodes = [Node::start(&server, 1), Node::start(&server, 2)];
    nodes.iter().for_each(|node| fill(node, rooms, members_each));
    let total = (nodes.len() * rooms * members_each) as u64;
    until(|| (members(&server)? == total).then_some(()));
    let before = keys(&server);

    server.stop();
    nodes.iter().for_each(|node| node.wait_until(Status::Degraded));
    nodes.iter().for_each(|node| node.mailboxes.events.lock().clear());
    server.restart();
    let began = Instant::now();
    nodes.iter().for_each(|node| node.wait_until(Status::Online));
    while nodes.iter().any(|node| rewritten(node).is_none()) {
        for node in &nodes {
            node.mailboxes.deliveries.lock().clear();
        }
        assert!(began.elapsed() < Duration::from_secs(300), "{} of {before} keys", keys(&server));
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(Duration::from_millis(50));
    }
    let took = began.elapsed();
    until(|| (members(&server)? == total).then_some(()));
    assert!(keys(&server) + 8 >= before, "{} of {before} keys", keys(&server));
    // A second one, if it came, comes with the next heartbeats.
    #[allow(clippy::disallowed_methods)]
    std::thread::sleep(Duration::from_secs(2));
    let mut events: BTreeMap<&str, usize> = BTreeMap::new();
    for node in &nodes {
        assert_eq!(node.cluster.status(), Status::Online);
        for event in node.mailboxes.events.lock().iter() {
            *events.entry(event.name()).or_default() += 1;
            assert!(!matches!(event, ClusterEvent::Degraded(_)), "{event:?} after {took:?}");
        }
    }
    #[allow(clippy::print_stderr, reason = "the figure is what the soak lane is for")]
    {
        let each = nodes.each_ref().map(rewritten);
        eprintln!(
            "{rooms} rooms, {members_each} members of each node: written again in {took:?}, by each in {each:?}; {events:?}"
        );
    }
    took
}

#[test]
fn after_an_outage_everything_is_written_again_within_a_lease() {
    assert!(everything_is_written_again(2_000, 2) < LEASE);
}

#[test]
#[ignore = "takes minutes: cargo xtask soak"]
fn soak_fifty_thousand_shared_rooms_are_written_again_without_losing_the_lease() {
    let took = everything_is_written_again(50_000, 2);
    // The lane's build is optimized; how long another one takes says nothing.
    if !cfg!(debug_assertions) {
        assert!(took < LEASE, "{took:?}");
    }
}
