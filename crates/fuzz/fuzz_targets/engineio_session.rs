//! Any sequence of events at any times, against a session that is ticked when it wants to be: no message is lost, doubled or
//! reordered while it is open, every GET is answered, a silent client is gone in time, and what is over stays over.

#![no_main]

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use signalbox_engineio::{
    CloseReason, Config, Packet, Session, Transport,
    payload::{self, SEPARATOR},
};
use signalbox_websocket::Frame;

#[derive(Arbitrary, Debug)]
struct Input {
    starts_on_websocket: bool,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Wait { ms: u16 },
    Send { is_binary: bool },
    Poll,
    PollLost,
    BeginPost,
    EndPost,
    TransportLost,
    Receive(Received),
    ReceiveInvalid,
    Close,
    BeginUpgrade,
    Probed,
    AbandonUpgrade,
    CompleteUpgrade,
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum Received {
    Open,
    Close,
    Ping,
    Pong,
    Message,
    Binary,
    Upgrade,
    Noop,
}

/// What the session must agree with.
struct Model {
    session: Session,
    config: Config,
    now: Instant,
    transport: Transport,
    /// Messages that wait for a poll, each a number.
    waiting: VecDeque<u32>,
    sent: u32,
    has_poll: bool,
    last_heard: Instant,
    over: Option<CloseReason>,
}

fuzz_target!(|input: Input| {
    let config = Config {
        ping_interval: Duration::from_millis(2500),
        ping_timeout: Duration::from_millis(2000),
        upgrade_timeout: Duration::from_millis(1000),
        close_timeout: Duration::from_millis(3000),
        ..Config::default()
    };
    let transport = if input.starts_on_websocket { Transport::WebSocket } else { Transport::Polling };
    let now = Instant::now();
    let session = Session::open(now, transport, &config);
    let mut model = Model {
        session,
        config,
        now,
        transport,
        waiting: VecDeque::new(),
        sent: 0,
        // The handshake is the first GET.
        has_poll: transport == Transport::Polling,
        last_heard: now,
        over: None,
    };
    for step in input.steps {
        model.take(step);
        model.check();
    }
});

impl Model {
    fn take(&mut self, step: Step) {
        match step {
            Step::Wait { ms } => return self.wait(self.now + Duration::from_millis(ms.into())),
            Step::Send { is_binary } => self.send(is_binary),
            Step::Poll => {
                let polls = self.transport == Transport::Polling;
                let had_poll = self.has_poll;
                match self.session.poll() {
                    Ok(()) => {
                        assert!(polls && !had_poll);
                        self.has_poll = true;
                    }
                    Err(_) => assert!(!polls || (had_poll && self.session.closed().is_some())),
                }
            }
            Step::PollLost => {
                self.session.poll_lost();
                self.has_poll &= self.transport != Transport::Polling;
            }
            Step::BeginPost => drop(self.session.begin_post()),
            Step::EndPost => self.session.end_post(),
            Step::TransportLost => self.session.transport_lost(CloseReason::TransportError),
            Step::Receive(received) => self.receive(received),
            Step::ReceiveInvalid => {
                let was_open = self.session.is_open();
                self.session.receive_invalid();
                assert!(!was_open || self.session.closed() == Some(CloseReason::ParseError));
            }
            Step::Close => {
                self.session.close(self.now, &self.config);
                assert!(!self.session.is_open());
            }
            Step::BeginUpgrade => {
                let may = self.session.is_open()
                    && self.transport == Transport::Polling
                    && !self.session.is_upgrading();
                assert_eq!(self.session.begin_upgrade(self.now, &self.config), may);
            }
            Step::Probed => self.session.probe_received(self.now),
            Step::AbandonUpgrade => self.session.abandon_upgrade(),
            Step::CompleteUpgrade => self.complete_upgrade(),
        }
        self.answer();
    }

    fn send(&mut self, is_binary: bool) {
        let was_open = self.session.is_open();
        let frame = match is_binary {
            true => Frame::binary(&self.sent.to_be_bytes()),
            false => Frame::text(&format!("4{}", self.sent)),
        };
        let written = self.session.send(frame.clone());
        match self.transport {
            Transport::WebSocket => assert_eq!(written, was_open.then_some(frame)),
            Transport::Polling => assert_eq!(written, None),
        }
        if was_open && self.transport == Transport::Polling {
            self.waiting.push_back(self.sent);
        }
        self.sent += 1;
    }

    fn receive(&mut self, received: Received) {
        use signalbox_engineio::session::Received as Meaning;
        let packet = match received {
            Received::Open => Packet::Open,
            Received::Close => Packet::Close,
            Received::Ping => Packet::Ping("probe"),
            Received::Pong => Packet::Pong(""),
            Received::Message => Packet::Message("text"),
            Received::Binary => Packet::Binary(b"bytes".into()),
            Received::Upgrade => Packet::Upgrade,
            Received::Noop => Packet::Noop,
        };
        let was_open = self.session.is_open();
        if was_open {
            self.last_heard = self.now;
        }
        let meaning = self.session.receive(self.now, &self.config, packet);
        match (was_open, received) {
            (true, Received::Message) => assert_eq!(meaning, Meaning::Message("text")),
            (true, Received::Binary) => assert_eq!(meaning, Meaning::Binary(b"bytes".into())),
            _ => assert_eq!(meaning, Meaning::Nothing),
        }
        if was_open {
            let closes = matches!(received, Received::Close | Received::Ping);
            assert_eq!(self.session.closed().is_some(), closes);
        }
    }

    fn complete_upgrade(&mut self) {
        if !self.session.is_upgrading() {
            assert!(self.session.complete_upgrade().is_none());
            return;
        }
        if self.session.release_poll().is_some() {
            assert!(self.has_poll);
            self.has_poll = false;
        }
        assert!(!self.has_poll, "a GET was left without an answer");
        let flushed = self.session.complete_upgrade().expect("an upgrade was under way");
        self.transport = Transport::WebSocket;
        let expected: Vec<u32> = std::mem::take(&mut self.waiting).into();
        let flushed = payload::encode(flushed.iter());
        assert_eq!(numbers(&flushed), expected);
    }

    /// Answers the GET that is pending, if there is something to say.
    fn answer(&mut self) {
        let is_over = self.session.closed().is_some();
        if is_over {
            self.waiting.clear();
        }
        let Some(body) = self.session.reply() else {
            assert!(!(self.has_poll && is_over), "a GET is never answered");
            assert!(!self.has_poll || self.waiting.is_empty(), "messages are held back");
            return;
        };
        assert!(self.has_poll, "nobody asked");
        self.has_poll = false;
        if !is_over {
            let expected: Vec<u32> = std::mem::take(&mut self.waiting).into();
            assert_eq!(numbers(&body), expected);
        }
        assert!(!body.is_empty());
        assert_eq!(self.session.reply(), None);
    }

    /// Lets time pass, and ticks the session whenever it is due.
    fn wait(&mut self, until: Instant) {
        while let Some(deadline) = self.session.deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            let due = self.session.tick(self.now, &self.config);
            assert!(due.write.is_none() || self.transport == Transport::WebSocket);
            assert!(!due.abandon_upgrade || !self.session.is_upgrading());
            assert!(self.session.deadline().is_none_or(|next| next > self.now), "due for ever");
            self.answer();
        }
        self.now = until;
    }

    fn check(&mut self) {
        if let Some(reason) = self.over {
            assert_eq!(self.session.closed(), Some(reason), "the dead do not change");
        }
        self.over = self.session.closed();
        assert_eq!(self.session.transport(), self.transport);
        if self.over.is_some() {
            assert!(!self.session.is_open() && !self.session.is_upgrading());
            assert_eq!((self.session.deadline(), self.session.buffered()), (None, 0));
        }
        if self.transport == Transport::WebSocket {
            assert_eq!(self.session.buffered(), 0, "a WebSocket has a queue of its own");
        }
        if self.session.is_open() {
            let silence = self.now - self.last_heard;
            let longest = self.config.ping_interval + self.config.ping_timeout;
            assert!(silence < longest, "a client that is silent for {silence:?} is gone");
        }
    }
}

/// The messages in a payload; heartbeats and noops stand between them.
fn numbers(body: &str) -> Vec<u32> {
    let parts = body.split(SEPARATOR).filter(|part| !part.is_empty());
    let number = |part| match Packet::decode(part).expect("the session writes packets") {
        Packet::Message(text) => text.parse().ok(),
        Packet::Binary(bytes) => bytes.as_ref().try_into().ok().map(u32::from_be_bytes),
        _ => None,
    };
    parts.filter_map(number).collect()
}
