//! Single handlers, each with the tables that its signature names and nothing else of a shard.

use super::{
    super::{
        acks, closing, engineio,
        engineio::Opening,
        fanout,
        step::Step,
        tables::{Probes, Rooms, Sequences, Sessions, Timer, acks_elsewhere::AckElsewhere},
        transfer::table::Transfers,
        upgrades,
    },
    *,
};
use crate::routing::{Audience, Broadcast, Location};
use signalbox_cluster::RoomName;
use signalbox_socketio::Message;
use tokio::sync::oneshot::error::TryRecvError;

fn step() -> Step {
    let context = Parts::new(1, Config::default()).contexts.remove(0);
    Step::new(Instant::now(), context)
}

fn open_conn() -> Rc<Conn> {
    let conn = Conn::pending();
    conn.connect(Box::new(NoStream));
    conn
}

fn anybody() -> Opening {
    Opening { principal: None, handshake: Default::default(), slot: None }
}

#[test]
fn a_probe_tells_the_sessions_owner_once_and_is_closed_when_its_time_is_over() {
    let mut step = step();
    let mut probes = Probes::new(step.context.node, step.context.id);
    let conn = open_conn();
    let elsewhere = NodeTag(2);
    let connection = upgrades::open_probe(&mut step, &mut probes, &conn, Address::random(elsewhere, 0));
    for _ in 0..2 {
        upgrades::probe_message(&mut step, &mut probes, connection.key, Input::Text("2probe"));
    }
    assert_eq!(texts(&conn), ["3probe", "3probe"]);
    let effects = step.effects.take(Vec::new());
    let [Effect::Relay { to, request: Request::Probed { .. } }] = &effects[..] else {
        panic!("one word to the owner")
    };
    assert_eq!(to.node, elsewhere);

    // A timer of an earlier probe with the same key changes nothing.
    upgrades::probe_timed_out(&mut step, &mut probes, connection.key, connection.number + 1);
    assert!(step.effects.is_empty() && probes.len() == 1);
    upgrades::probe_timed_out(&mut step, &mut probes, connection.key, connection.number);
    let effects = step.effects.take(Vec::new());
    assert!(matches!(&effects[..], [Effect::Relay { request: Request::AbandonUpgrade { .. }, .. }]));
    assert!(probes.len() == 0 && !conn.is_open());
}

#[test]
fn a_session_past_its_deadline_is_gone_and_one_before_it_is_not() {
    let mut step = step();
    let (mut sessions, mut rooms) = (Sessions::default(), Rooms::default());
    let mut transfers = Transfers::default();
    let (sid, _) = engineio::open_polling(&mut step, &mut sessions, anybody());
    let key = sessions.find(sid).expect("a session");
    let number = sessions[key].local.number;
    step.now += Duration::from_secs(25);
    let due = step.now;
    engineio::session_timer(&mut step, &mut sessions, &mut rooms, &mut transfers, (key, number), due);
    step.now += Duration::from_secs(19);
    assert!(!closing::expire(&mut step, &mut sessions, &mut rooms, &mut transfers, key), "its pong may come");
    step.now += Duration::from_secs(2);
    assert!(closing::expire(&mut step, &mut sessions, &mut rooms, &mut transfers, key));
    assert!(sessions.find(sid).is_none());
}

#[test]
fn a_broadcast_reaches_the_members_of_its_room_but_those_excluded() {
    let mut step = step();
    let (mut sessions, mut rooms) = (Sessions::default(), Rooms::default());
    let mut transfers = Transfers::default();
    let mut sequences = Sequences::new(step.context.location(), 1);
    let room = RoomName { namespace: "/".into(), name: "red".into() };
    let (room_key, _) = rooms.open(&room);
    let conns = [open_conn(), open_conn(), open_conn()];
    let mut sockets = Vec::new();
    for conn in &conns {
        engineio::open_websocket(&mut step, &mut sessions, conn, anybody());
        texts(conn);
        let Role::Session(session) = conn.role.get() else { panic!("it has a session") };
        sockets.push((step.new_address(), session));
    }
    let [member, excluded, outsider] = &conns;
    let members = &mut rooms.get_mut(room_key).expect("the room").members;
    members.extend([sockets[0], sockets[1]]);

    let (origin, sequence) = sequences.next();
    let except = vec![sockets[1].0];
    let to = Audience { namespace: room.namespace, rooms: vec![room.name], except, except_rooms: Vec::new() };
    let message = Message::event("/", None, "hello", &[], &[]);
    let broadcast = Broadcast {
        to: Arc::new(to),
        message,
        volatile: false,
        origin,
        sequence,
        published: None,
        trace: None,
    };
    fanout::deliver_broadcast(
        &mut step,
        &mut sessions,
        &mut rooms,
        &mut transfers,
        &mut sequences,
        &broadcast,
    );
    assert_eq!(texts(member), ["42[\"hello\"]"]);
    assert!(texts(excluded).is_empty() && texts(outsider).is_empty());
}

#[test]
fn nobody_waits_for_the_answer_of_a_client_whose_node_is_gone() {
    let mut step = step();
    let mut transfers = Transfers::default();
    acks::node_is_gone(&mut step, &transfers.acks);
    assert_eq!(step.timers.pop_due(step.now + Duration::from_secs(60)), None, "nobody waits for anything");
    // One is on a node that is not there, the other one on another shard of this node.
    let answers = [NodeTag(2), step.context.node].map(|node| {
        let socket = Address::random(step.context.node, 0);
        let (reply, answer) = Reply::channel();
        transfers.forwarding.insert(socket, Location { node, shard: 0 });
        transfers.acks.insert(socket, AckElsewhere { id: 1, asked: step.now, reply });
        answer
    });
    acks::node_is_gone(&mut step, &transfers.acks);
    assert_eq!(step.timers.pop_due(step.now + Duration::from_secs(2)), None, "it may be back");
    step.now += Duration::from_secs(3);
    assert!(matches!(step.timers.pop_due(step.now), Some((_, Timer::AcksOfGone))));
    acks::sweep(&mut step, &mut transfers);
    // Whoever waits is told by the end of the reply.
    let [gone, here] = answers.map(|mut answer| answer.try_recv().err());
    assert_eq!((gone, here), (Some(TryRecvError::Closed), Some(TryRecvError::Empty)));
    assert_eq!(transfers.acks.len(), 1);
    assert_eq!(step.context.metrics.acks_lost.with_label_values(&["disconnected"]).get(), 1);
}
