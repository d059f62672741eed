//! Which lanes are this node's, and what is done with each. It has no clock and no network of its own.

use std::time::{Duration, Instant};

use super::{message::Message, queue::LANES};

/// A lane's lease counts for this much less than was asked for: the answer took a while, and clocks differ.
const MARGIN: Duration = Duration::from_secs(1);

/// The lanes.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: [Lane; LANES],
    /// Whose turn it is: a lane in which much waits is not to keep the others waiting.
    turn: usize,
}

#[derive(Debug, Default)]
struct Lane {
    /// Until when it is this node's.
    until: Option<Instant>,
    work: Work,
}

#[derive(Debug, Default)]
enum Work {
    /// What waits in it is not known.
    #[default]
    Idle,
    /// This is to be sent next, or again.
    Next(Message),
    /// It is being sent.
    Sending,
}

impl Lane {
    fn is_own(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

impl Lanes {
    /// A lease was asked for at this time, for all lanes; this is what came of it.
    pub(super) fn leased(&mut self, asked: Instant, time: Duration, are_own: &[bool]) {
        for (lane, is_own) in self.lanes.iter_mut().zip(are_own) {
            lane.until = is_own.then(|| asked + time.saturating_sub(MARGIN));
            if !is_own && !matches!(lane.work, Work::Sending) {
                // Another node may have sent it meanwhile.
                lane.work = Work::Idle;
            }
        }
    }

    /// Those that are this node's and of which it is not known what waits in them.
    pub(super) fn to_read(&self, now: Instant) -> Vec<usize> {
        let is_idle = |lane: &Lane| lane.is_own(now) && matches!(lane.work, Work::Idle);
        (0..LANES).filter(|lane| is_idle(&self.lanes[*lane])).collect()
    }

    /// This waits in a lane.
    pub(super) fn found(&mut self, lane: usize, message: Message) {
        self.lanes[lane].work = Work::Next(message);
    }

    /// Something to send, of a lane that is this node's until that is over.
    pub(super) fn begin(&mut self, now: Instant, takes: Duration) -> Option<(usize, Message)> {
        let is_ready = |lane: &Lane| lane.is_own(now + takes) && matches!(lane.work, Work::Next(_));
        let number =
            (0..LANES).map(|lane| (self.turn + lane) % LANES).find(|lane| is_ready(&self.lanes[*lane]))?;
        self.turn = (number + 1) % LANES;
        match std::mem::replace(&mut self.lanes[number].work, Work::Sending) {
            Work::Next(message) => Some((number, message)),
            other => {
                self.lanes[number].work = other;
                None
            }
        }
    }

    /// It was sent, or is to be sent again.
    pub(super) fn done(&mut self, lane: usize, again: Option<Message>) {
        self.lanes[lane].work = again.map_or(Work::Idle, Work::Next);
    }

    /// Whether nothing is sent, or is known to wait.
    pub(super) fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| matches!(lane.work, Work::Idle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str) -> Message {
        Message { id: id.to_owned(), body: Vec::new(), entries: Vec::new() }
    }

    #[test]
    fn a_lane_sends_one_thing_at_a_time_and_only_while_it_is_ours_for_long_enough() {
        let (now, time) = (Instant::now(), Duration::from_secs(10));
        let mut lanes = Lanes::default();
        assert!(lanes.to_read(now).is_empty());
        let mut own = [false; LANES];
        own[2] = true;
        lanes.leased(now, time, &own);
        assert_eq!(lanes.to_read(now), [2]);
        lanes.found(2, message("a"));
        assert!(lanes.to_read(now).is_empty());
        let long = Duration::from_secs(5);
        assert!(lanes.begin(now + Duration::from_secs(5), long).is_none());
        assert_eq!(lanes.begin(now, long), Some((2, message("a"))));
        assert!(lanes.begin(now, long).is_none() && lanes.to_read(now).is_empty());
        lanes.done(2, Some(message("a")));
        assert_eq!(lanes.begin(now, long), Some((2, message("a"))));
        lanes.done(2, None);
        assert_eq!(lanes.to_read(now), [2]);
        assert!(lanes.to_read(now + time).is_empty());
    }

    #[test]
    fn lanes_have_their_turns() {
        let (now, time) = (Instant::now(), Duration::from_secs(10));
        let mut lanes = Lanes::default();
        lanes.leased(now, time, &[true; LANES]);
        (0..LANES).for_each(|lane| lanes.found(lane, message("a")));
        let mut begun = Vec::new();
        for _ in 0..2 * LANES {
            let (lane, message) = lanes.begin(now, Duration::ZERO).unwrap();
            begun.push(lane);
            lanes.done(lane, Some(message));
        }
        assert_eq!(begun, (0..LANES).chain(0..LANES).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_read_of_a_lane_that_is_lost_is_forgotten() {
        let (now, time) = (Instant::now(), Duration::from_secs(10));
        let mut lanes = Lanes::default();
        lanes.leased(now, time, &[true; LANES]);
        lanes.found(0, message("a"));
        lanes.leased(now, time, &[false; LANES]);
        lanes.leased(now, time, &[true; LANES]);
        assert!(lanes.to_read(now).contains(&0) && lanes.is_idle());
    }
}
