use super::*;
use crate::payload::decode;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

struct Client {
    now: Instant,
    config: Config,
    session: Session,
}

impl Client {
    fn on(transport: Transport) -> Self {
        let (now, config) = (Instant::now(), Config::default());
        let mut client = Self { now, session: Session::open(now, transport, &config), config };
        if transport == Transport::Polling {
            assert_eq!(client.session.send(Frame::text("0{}")), None);
            assert_eq!(client.session.reply().as_deref(), Some("0{}"));
        }
        client
    }

    fn after(&mut self, time: Duration) -> TickOutput {
        self.now += time;
        self.session.tick(self.now, &self.config)
    }

    fn post(&mut self, body: &str) {
        self.session.begin_post().unwrap();
        for packet in decode(body) {
            match packet {
                Ok(packet) => {
                    self.session.receive(self.now, &self.config, packet);
                }
                Err(_) => {
                    self.session.receive_invalid();
                    break;
                }
            }
        }
        self.session.end_post();
    }

    fn get(&mut self) -> Option<String> {
        self.session.poll().unwrap();
        self.session.reply()
    }
}

#[test]
fn what_a_refused_poll_would_have_carried_waits_for_the_next_one() {
    let mut client = Client::on(Transport::Polling);
    assert!(!client.session.refuse_poll());
    client.session.send(Frame::text("4a"));
    client.session.send(Frame::text("4b").shared(()));
    assert_eq!((client.session.buffered_packets(), client.session.buffered_shared()), (2, 4));
    client.session.poll().unwrap();
    assert!(client.session.refuse_poll());
    assert_eq!(client.session.reply(), None);
    assert_eq!(client.get().as_deref(), Some("4a\x1e4b"));
    assert_eq!((client.session.buffered_packets(), client.session.buffered_shared()), (0, 0));
}

#[test]
fn packets_wait_for_the_next_poll_and_leave_together() {
    let mut client = Client::on(Transport::Polling);
    client.session.send(Frame::text("4a"));
    client.session.send(Frame::binary(&[1]));
    assert_eq!(client.get().as_deref(), Some("4a\x1ebAQ=="));
    assert_eq!(client.get(), None);
    client.session.send(Frame::text("4b"));
    assert_eq!(client.session.reply().as_deref(), Some("4b"));
    assert_eq!(client.session.buffered(), 0);
}

#[test]
fn heartbeat_goes_out_after_the_interval_and_counts_from_the_pong() {
    let mut client = Client::on(Transport::WebSocket);
    assert_eq!(client.after(24_999 * MS), TickOutput::default());
    assert_eq!(client.after(MS).write, Some(Frame::text("2")));
    client.now += 5_000 * MS;
    client.session.receive(client.now, &client.config, Packet::Pong(""));
    assert_eq!(client.session.deadline(), Some(client.now + 25_000 * MS));
}

#[test]
fn an_unanswered_heartbeat_ends_the_session() {
    let mut client = Client::on(Transport::WebSocket);
    client.after(25_000 * MS);
    client.after(19_999 * MS);
    assert_eq!(client.session.closed(), None);
    client.after(MS);
    assert_eq!(client.session.closed(), Some(CloseReason::PingTimeout));
    assert_eq!(client.session.deadline(), None);
}

#[test]
fn a_pong_is_awaited_from_when_its_ping_was_due() {
    // The timer was a moment late.
    let mut client = Client::on(Transport::WebSocket);
    assert!(client.after(25_050 * MS).write.is_some());
    client.session.expire(client.now + 19_949 * MS);
    assert_eq!(client.session.closed(), None);
    client.session.expire(client.now + 19_950 * MS);
    assert_eq!(client.session.closed(), Some(CloseReason::PingTimeout));
    // The whole process was: its clients have their time all the same.
    let mut client = Client::on(Transport::WebSocket);
    assert!(client.after(60_000 * MS).write.is_some());
    client.session.expire(client.now + 19_999 * MS);
    assert_eq!(client.session.closed(), None);
}

#[test]
fn a_session_whose_ping_is_still_to_leave_has_not_expired() {
    let mut client = Client::on(Transport::Polling);
    client.session.expire(client.now + 100_000 * MS);
    assert_eq!(client.session.closed(), None);
    client.session.close(client.now, &client.config);
    client.session.expire(client.now + 29_999 * MS);
    assert_eq!(client.session.closed(), None);
    client.session.expire(client.now + 30_000 * MS);
    assert_eq!(client.session.closed(), Some(CloseReason::ForcedClose));
}

#[test]
fn times_of_any_length_are_kept() {
    let config = Config {
        ping_interval: Duration::MAX,
        ping_timeout: Duration::MAX,
        upgrade_timeout: Duration::MAX,
        close_timeout: Duration::MAX,
        ..Config::default()
    };
    let now = Instant::now();
    let mut session = Session::open(now, Transport::Polling, &config);
    assert!(session.begin_upgrade(now, &config));
    let due = session.deadline().unwrap();
    session.tick(due, &config);
    session.receive(due, &config, Packet::Message("x"));
    session.receive(due, &config, Packet::Pong(""));
    session.close(due, &config);
    assert!(session.deadline().unwrap() > due);
}

#[test]
fn other_traffic_postpones_the_pong_once() {
    let mut client = Client::on(Transport::WebSocket);
    client.after(25_000 * MS);
    for _ in 0..2 {
        client.after(10_000 * MS);
        client.session.receive(client.now, &client.config, Packet::Message("x"));
    }
    client.after(9_999 * MS);
    assert_eq!(client.session.closed(), None);
    client.after(MS);
    assert_eq!(client.session.closed(), Some(CloseReason::PingTimeout));
}

#[test]
fn a_second_get_ends_the_session_and_the_first_is_told() {
    let mut client = Client::on(Transport::Polling);
    assert_eq!(client.get(), None);
    assert_eq!(client.session.poll(), Err(Refused::Overlap));
    assert_eq!(client.session.closed(), Some(CloseReason::TransportError));
    assert_eq!(client.session.reply().as_deref(), Some("1"));
}

#[test]
fn a_second_post_ends_the_session() {
    let mut client = Client::on(Transport::Polling);
    client.session.begin_post().unwrap();
    assert_eq!(client.session.begin_post(), Err(Refused::Overlap));
    assert_eq!(client.session.closed(), Some(CloseReason::TransportError));
}

#[test]
fn a_lost_get_ends_the_session() {
    let mut client = Client::on(Transport::Polling);
    client.get();
    client.session.poll_lost();
    assert_eq!(client.session.closed(), Some(CloseReason::TransportError));
}

#[test]
fn a_client_that_closes_has_its_get_released_with_a_noop() {
    let mut client = Client::on(Transport::Polling);
    client.get();
    client.post("1");
    assert_eq!(client.session.closed(), Some(CloseReason::TransportClose));
    assert_eq!(client.session.reply().as_deref(), Some("6"));
}

#[test]
fn what_cannot_be_read_ends_the_session_and_the_pending_get_is_told() {
    for body in ["", "abc", "4ok\x1e7"] {
        let mut client = Client::on(Transport::Polling);
        client.get();
        client.post(body);
        assert_eq!(client.session.closed(), Some(CloseReason::ParseError), "{body:?}");
        assert_eq!(client.session.reply().as_deref(), Some("1"));
    }
}

#[test]
fn an_orderly_close_first_delivers_then_waits_for_the_next_get() {
    let mut client = Client::on(Transport::Polling);
    client.get();
    client.session.send(Frame::text("41"));
    client.session.close(client.now, &client.config);
    assert_eq!(client.session.reply().as_deref(), Some("41"));
    assert_eq!(client.session.closed(), None);
    assert_eq!(client.get().as_deref(), Some("6\x1e1"));
    assert_eq!(client.session.closed(), Some(CloseReason::ForcedClose));
}

#[test]
fn an_orderly_close_is_told_at_once_to_a_waiting_get() {
    let mut client = Client::on(Transport::Polling);
    client.get();
    client.session.close(client.now, &client.config);
    assert_eq!(client.session.reply().as_deref(), Some("1"));
    assert_eq!(client.session.closed(), Some(CloseReason::ForcedClose));
}

#[test]
fn an_orderly_close_gives_up_after_its_grace() {
    let mut client = Client::on(Transport::Polling);
    client.session.close(client.now, &client.config);
    assert_eq!(client.session.send(Frame::text("4late")), None);
    client.after(29_999 * MS);
    assert_eq!(client.session.closed(), None);
    client.after(MS);
    assert_eq!(client.session.closed(), Some(CloseReason::ForcedClose));
}

#[test]
fn a_client_may_not_ping() {
    for packet in [Packet::Ping(""), Packet::Ping("probe")] {
        let mut client = Client::on(Transport::WebSocket);
        client.session.receive(client.now, &client.config, packet);
        assert_eq!(client.session.closed(), Some(CloseReason::TransportError));
    }
}

#[test]
fn packets_that_mean_nothing_are_ignored() {
    let mut client = Client::on(Transport::WebSocket);
    for packet in [Packet::Open, Packet::Upgrade, Packet::Noop, Packet::Pong("unasked")] {
        assert_eq!(client.session.receive(client.now, &client.config, packet), Received::Nothing);
    }
    assert!(client.session.is_open());
}

#[test]
fn an_upgrade_releases_polls_and_takes_over_what_was_buffered() {
    let mut client = Client::on(Transport::Polling);
    assert!(client.session.begin_upgrade(client.now, &client.config));
    assert!(!client.session.begin_upgrade(client.now, &client.config), "one at a time");
    assert_eq!(client.get(), None);
    client.session.probe_received(client.now);
    client.after(99 * MS);
    assert_eq!(client.session.reply(), None);
    client.after(MS);
    assert_eq!(client.session.reply().as_deref(), Some("6"));
    client.session.send(Frame::text("4late"));
    assert_eq!(client.session.complete_upgrade(), Some(VecDeque::from([Frame::text("4late")])));
    assert_eq!(client.session.transport(), Transport::WebSocket);
    assert_eq!(client.session.poll(), Err(Refused::NotPolling));
    assert_eq!(client.session.begin_post(), Err(Refused::NotPolling));
    assert!(!client.session.begin_upgrade(client.now, &client.config), "once upgraded, never again");
    assert_eq!(client.session.send(Frame::text("4x")), Some(Frame::text("4x")));
}

#[test]
fn a_session_that_is_over_cannot_be_upgraded() {
    let mut client = Client::on(Transport::Polling);
    client.session.send(Frame::text("4x"));
    client.session.begin_upgrade(client.now, &client.config);
    client.session.close(client.now, &client.config);
    assert_eq!(client.get().as_deref(), Some("4x"));
    assert_eq!(client.get().as_deref(), Some("6\x1e1"));
    assert!(!client.session.is_upgrading());
    assert_eq!(client.session.complete_upgrade(), None);
}

#[test]
fn an_upgrade_that_takes_too_long_leaves_the_session_polling() {
    let mut client = Client::on(Transport::Polling);
    client.session.begin_upgrade(client.now, &client.config);
    assert!(!client.after(9_999 * MS).abandon_upgrade);
    assert!(client.after(MS).abandon_upgrade);
    assert!(client.session.is_open());
    assert!(client.session.begin_upgrade(client.now, &client.config));
}

#[derive(Debug, Clone)]
enum Step {
    Get,
    Lost,
    Post(String),
    BeginPost,
    Send,
    Close,
    BeginUpgrade,
    Probed,
    Complete,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Get),
        Just(Step::Lost),
        "[0-7bA=\x1e]{0,6}".prop_map(Step::Post),
        Just(Step::BeginPost),
        Just(Step::Send),
        Just(Step::Close),
        Just(Step::BeginUpgrade),
        Just(Step::Probed),
        Just(Step::Complete),
        (0u64..31_000).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Whatever happens in whatever order: no panic, a pending GET of a session that is over has a reply, the deadline is
    /// never left behind, and what was accepted before the close is not lost while the session is open.
    #[test]
    fn any_order_of_events_keeps_the_rules(steps in proptest::collection::vec(step(), 0..60)) {
        let mut client = Client::on(Transport::Polling);
        for step in steps {
            match step {
                Step::Get => { let _ = client.session.poll(); }
                Step::Lost => client.session.poll_lost(),
                Step::Post(body) => if client.session.begin_post().is_ok() {
                    for packet in decode(&body) {
                        match packet {
                            Ok(packet) => { client.session.receive(client.now, &client.config, packet); }
                            Err(_) => { client.session.receive_invalid(); break; }
                        }
                    }
                    client.session.end_post();
                },
                Step::BeginPost => { let _ = client.session.begin_post(); }
                Step::Send => { client.session.send(Frame::text("4x")); }
                Step::Close => client.session.close(client.now, &client.config),
                Step::BeginUpgrade => { client.session.begin_upgrade(client.now, &client.config); }
                Step::Probed => client.session.probe_received(client.now),
                Step::Complete => { client.session.complete_upgrade(); }
                Step::Pass(ms) => { client.after(Duration::from_millis(ms)); }
            }
            let buffered: usize = client.session.buffer.iter().map(Frame::len).sum();
            prop_assert_eq!(buffered, client.session.buffered());
            if client.session.closed().is_some() {
                prop_assert_eq!(client.session.deadline(), None);
                if client.session.poll {
                    prop_assert!(client.session.reply().is_some());
                }
                prop_assert_eq!(client.session.reply(), None);
            } else {
                client.session.tick(client.now, &client.config);
                if let Some(deadline) = client.session.deadline() {
                    prop_assert!(deadline > client.now);
                }
            }
        }
    }
}
