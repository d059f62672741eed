//! Many at once: what they cost, and what they must not do to the node.

use std::thread;

use signalbox_cluster::envelope::Format;

use super::*;

/// A number of INFO.
fn info(server: &Server, field: &str) -> u64 {
    let answer = server.ask(&format!("INFO {}", if field.starts_with("total") { "stats" } else { "all" }));
    let line = answer.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("{field} in {answer}"))
}

/// How often the members of a sorted set were counted.
fn zcards(server: &Server) -> u64 {
    let answer = server.ask("INFO commandstats");
    let calls = answer.lines().find_map(|line| line.strip_prefix("cmdstat_zcard:calls=")?.split(',').next());
    calls.and_then(|calls| calls.parse().ok()).unwrap_or_else(|| panic!("zcard in {answer}"))
}

/// How long the lease of the only node has been without a renewal, in milliseconds, by Redis' clock.
fn lease_age(server: &Server) -> i64 {
    let script = "local t = redis.call('TIME') \
        local lease = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] \
        return t[1] * 1000 + math.floor(t[2] / 1000) + 6000 - lease";
    let leases = Keys::new("test").nodes("l");
    let answer = server.ask(&format!("EVAL \"{script}\" 1 {}", String::from_utf8_lossy(&leases)));
    let number = answer.lines().next().and_then(|line| line.strip_prefix(':'));
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
}

#[test]
fn thousands_who_ask_for_the_users_never_make_the_node_degraded() {
    const USERS: u64 = 2_500;
    const ROUNDS: u64 = 3;
    let server = Server::start();
    let node = Node::start(&server, 1);
    for _ in 0..USERS {
        let socket = Address::random(node.tag, 0);
        node.submit(Command::Connected { namespace: "/".into(), socket });
    }
    let mut oldest = 0;
    for round in 0..ROUNDS {
        for user in 0..USERS {
            let (ticket, namespace) = (round * USERS + user + 1, "/".into());
            node.submit(Command::Users { shard: 0, ticket, namespace, after: None });
        }
        oldest = oldest.max(lease_age(&server));
        assert_eq!(node.cluster.status(), Status::Online);
    }
    let mut answers = 0;
    while answers < USERS * ROUNDS {
        let count = |delivery: &Delivery| match delivery {
            Delivery::Users { users, more, .. } => Some((users.len(), *more)),
            Delivery::Refused { .. } => panic!("refused"),
            _ => None,
        };
        assert_eq!(node.delivery(count), (1_000, true));
        answers += 1;
        oldest = oldest.max(if answers % 500 == 0 { lease_age(&server) } else { 0 });
        assert_eq!(node.cluster.status(), Status::Online);
    }
    assert!(oldest < 2_000, "a heartbeat came {oldest} ms after the one before");
    // Asked for all the time, a page is read with each tick: a read counts the users of 256 partitions.
    let (before, began) = (zcards(&server), Instant::now());
    for number in 0..200 {
        let (ticket, namespace) = (ROUNDS * USERS + number + 1, "/".into());
        node.submit(Command::Users { shard: 0, ticket, namespace, after: None });
        cluster::wait(Duration::from_millis(3));
    }
    let (ticks, counts) = (began.elapsed().as_millis() as u64 / 100, zcards(&server) - before);
    assert!(counts <= (ticks + 3) * 256, "{counts} counts in {ticks} ticks");
}

#[test]
fn a_page_of_users_reads_no_more_than_it_takes() {
    let server = Server::start();
    let node = Node::start(&server, 1);
    let list = |ticket| {
        node.submit(Command::Users { shard: 0, ticket, namespace: "/".into(), after: None });
        node.delivery(|delivery| match delivery {
            Delivery::Users { users, more, .. } => Some((users.len(), *more)),
            _ => None,
        })
    };
    for _ in 0..3 {
        let socket = Address::random(node.tag, 0);
        node.submit(Command::Connected { namespace: "/".into(), socket });
    }
    assert_eq!(list(1), (3, false));
    let pages = |server: &Server| {
        let stats = server.ask("INFO commandstats");
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_zrangebylex:calls="));
        calls.and_then(|calls| calls.split(',').next()?.parse::<u64>().ok()).unwrap_or_default()
    };
    let before = pages(&server);
    assert_eq!(list(2), (3, false));
    assert!(pages(&server) - before <= 3, "empty partitions are skipped");
}

#[test]
fn a_store_that_is_slow_for_a_while_is_not_lost() {
    let server = Server::start();
    let node = Node::start(&server, 1);
    let (first, _) = node.join(&room(), 1);
    // For two seconds nothing is answered, and a heartbeat is given up; the next one is confirmed before the lease runs out.
    server.signal("-STOP");
    let stopped = Instant::now();
    let others = thread::scope(|scope| {
        let joined = scope.spawn(|| node.join(&room(), 2).1);
        until(|| (stopped.elapsed() >= Duration::from_secs(2)).then_some(()));
        assert!(!joined.is_finished());
        server.signal("-CONT");
        joined.join().unwrap()
    });
    assert_eq!(others, [first]);
    let began = Instant::now();
    until(|| {
        assert_eq!(node.cluster.status(), Status::Online);
        (began.elapsed() >= Duration::from_secs(2)).then_some(())
    });
    until(|| node.cluster.nodes().get(&node.tag).map(|node| assert_eq!(node.owner.epoch, 1)));
}

#[test]
fn what_waited_for_a_store_that_was_given_up_has_failed_and_what_comes_later_is_done() {
    const JOINS: u64 = 400;
    let server = Server::start();
    let node = Node::start(&server, 1);
    node.join(&room(), 1);
    server.signal("-STOP");
    // It stops a moment later.
    cluster::wait(Duration::from_millis(50));
    // More than a batch, for one room: most of it waits behind the first.
    for ticket in 100..100 + JOINS {
        let socket = Address::random(node.tag, 0);
        let record = Record { socket, profile: "{}".into(), joined: None, updated: None, left: None };
        let (room, record) = (room(), record.into());
        node.submit(Command::Join { shard: 0, ticket, room, record, list: false, most: None });
    }
    node.wait_until(Status::Degraded);
    server.signal("-CONT");
    node.wait_until(Status::Online);
    let (socket, others) = node.join(&room(), 2);
    assert!(!others.contains(&socket));
    let two = Node::start(&server, 2);
    assert!(two.join(&room(), 3).1.contains(&socket), "what is written is there for others");
}

#[test]
fn calls_whose_connection_is_killed_are_made_again_without_a_new_epoch() {
    let server = Server::start();
    let (one, two) = (Node::start(&server, 1), Node::start(&server, 2));
    let (first, _) = one.join(&room(), 1);
    assert!(one.claim(1, "a", "t").is_some());
    let keys = || server.ask("CLIENT KILL TYPE normal SKIPME yes");
    for round in 0..20 {
        // Everything that is under way breaks, the heartbeat's connection too.
        let kill = keys();
        assert!(kill.contains(':'), "{kill}");
        let (socket, others) = two.join(&room(), 10 + round);
        assert!(others.contains(&first));
        while one.change() != ("joined", socket) {}
        two.submit(Command::Leave { room: room(), socket });
        while one.change() != ("left", socket) {}
        assert!(two.claim(100 + round as u32, &format!("id{round}"), "t").is_some());
        assert_eq!((one.cluster.status(), two.cluster.status()), (Status::Online, Status::Online));
    }
    assert_eq!(two.claim(200, "a", "other"), None);
    for node in [&one, &two] {
        let nodes = node.cluster.nodes();
        assert!(nodes.values().all(|node| node.owner.epoch == 1), "{nodes:?}");
    }
}

/// Bytes that Redis has sent for `count` joins of one room, half of them on each of two nodes; profiles have 1 KB.
fn sent_for_joins(count: u64) -> u64 {
    let server = Server::start();
    let nodes = [Node::start(&server, 1), Node::start(&server, 2)];
    until(|| nodes.iter().all(|node| node.cluster.write_format() == Format::V2).then_some(()));
    let before = info(&server, "total_net_output_bytes");
    let profile = format!("{{\"name\":\"{}\"}}", "x".repeat(1_000));
    let args = format!("{{\"id\":\"x\",\"room\":\"r\",{}}}", &profile[1..profile.len() - 1]);
    let event = |name: &str| {
        let args = EventArgs::new(&args, &profile);
        Some(MemberEvent { event: name.into(), args, attachments: Vec::new() })
    };
    for number in 0..count {
        let node = &nodes[(number % 2) as usize];
        node.cluster.route(&room()).add(0);
        let record = Record {
            socket: Address::random(node.tag, 0),
            profile: profile.as_str().into(),
            joined: event("joined"),
            updated: event("updated"),
            left: event("left"),
        };
        node.submit(Command::Join {
            shard: 0,
            ticket: number,
            room: room(),
            record: record.into(),
            list: true,
            most: None,
        });
    }
    for number in 0..count {
        let members = nodes[(number % 2) as usize].delivery(|delivery| match delivery {
            Delivery::Joined { ticket, members, .. } if *ticket == number => Some(members.len()),
            _ => None,
        });
        assert!(members as u64 > number / 2, "a join is answered with all who joined before it on its node");
    }
    for node in &nodes {
        node.submit(Command::Members { shard: 0, ticket: 9_999, room: room(), after: None });
        until(|| {
            node.submit(Command::Members { shard: 0, ticket: 9_999, room: room(), after: None });
            let members = node.delivery(|delivery| match delivery {
                Delivery::Members { members, .. } => Some(members.len() as u64),
                _ => None,
            });
            (members == count).then_some(())
        });
        assert_eq!(node.cluster.status(), Status::Online);
    }
    info(&server, "total_net_output_bytes") - before
}

#[test]
fn a_join_costs_what_a_join_costs() {
    let (some, twice) = (sent_for_joins(300), sent_for_joins(600));
    assert!(twice / 600 <= some / 300 * 13 / 10, "{some} bytes for 300 joins, {twice} for 600");
    // A change to each of two nodes, and a reply.
    assert!(twice / 600 < 4_000, "{} bytes for a join", twice / 600);
}
