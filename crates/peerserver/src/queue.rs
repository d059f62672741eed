//! Messages for an id that nobody holds yet.

use std::{collections::VecDeque, sync::Arc, time::Duration, time::Instant};

use signalbox_websocket::Frame;

/// Most messages one id's queue holds.
pub const MAX_MESSAGES: usize = 256;
/// Most bytes one id's queue holds; of a message its payload counts.
pub const MAX_BYTES: usize = 1 << 20;

/// The queue of one id. A sender's first message opens a *wait*. When the wait ends and the id is still absent, the sender's messages
/// are dropped and the sender gets one EXPIRE, however many messages there were.
#[derive(Debug, Default)]
pub struct Queue {
    messages: VecDeque<(Arc<str>, Frame)>,
    bytes: usize,
    waits: Vec<Wait>,
}

#[derive(Debug)]
struct Wait {
    src: Arc<str>,
    /// The sender's token, by which it is known again.
    token: Arc<str>,
    number: u64,
    /// When the wait is dropped even if nobody ends it, because the sender is gone: later than its regular end.
    until: Instant,
}

/// The outcome of [`Queue::push`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queued {
    /// It waits, and opened this sender's wait: expire it with this number when its time is over.
    First(u64),
    /// It waits with earlier ones.
    More,
    /// The queue is full. The sender still gets its EXPIRE, unless the id appears.
    Full,
    /// The queue is full, and it opened this sender's wait all the same.
    FirstFull(u64),
}

impl Queue {
    /// Appends a message of `src`, who holds `token`. `number` is to be fresh; it names the wait if one opens. `ttl` is how long a
    /// wait lasts. `room` is how many bytes are left for all queues together.
    pub fn push(
        &mut self,
        (src, token): (&Arc<str>, &Arc<str>),
        frame: Frame,
        number: u64,
        (now, ttl): (Instant, Duration),
        room: usize,
    ) -> Queued {
        let opens = !self.waits.iter().any(|wait| wait.src == *src);
        if opens {
            self.waits.push(Wait { src: src.clone(), token: token.clone(), number, until: now + 2 * ttl });
        }
        let fits = self.messages.len() < MAX_MESSAGES
            && self.bytes + frame.payload().len() <= MAX_BYTES
            && frame.payload().len() <= room;
        if fits {
            self.bytes += frame.payload().len();
            self.messages.push_back((src.clone(), frame));
        }
        match (opens, fits) {
            (true, true) => Queued::First(number),
            (false, true) => Queued::More,
            (false, false) => Queued::Full,
            (true, false) => Queued::FirstFull(number),
        }
    }

    /// Ends the wait `number` and drops its sender's messages. Returns the sender's token if the wait was open: then its sender must
    /// get an EXPIRE.
    pub fn expire(&mut self, number: u64) -> Option<Arc<str>> {
        let index = self.waits.iter().position(|wait| wait.number == number)?;
        let Wait { src, token, .. } = self.waits.swap_remove(index);
        self.messages.retain(|(sender, _)| *sender != src);
        self.bytes = self.messages.iter().map(|(_, frame)| frame.payload().len()).sum();
        Some(token)
    }

    /// Drops waits that nobody has ended.
    pub fn purge(&mut self, now: Instant) {
        while let Some(wait) = self.waits.iter().find(|wait| wait.until <= now) {
            let number = wait.number;
            self.expire(number);
        }
    }

    /// All messages, in order: the id was claimed.
    pub fn take(self) -> impl Iterator<Item = Frame> {
        self.messages.into_iter().map(|(_, frame)| frame)
    }

    /// Whether no sender waits.
    pub fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    /// Bytes of the payloads of all messages.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.messages.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(5);

    fn token() -> Arc<str> {
        "t".into()
    }

    #[test]
    fn a_sender_is_told_once_and_others_keep_waiting() {
        let now = Instant::now();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut queue = Queue::default();
        assert_eq!(queue.push((&a, &token()), Frame::text("1"), 1, (now, TTL), usize::MAX), Queued::First(1));
        assert_eq!(queue.push((&a, &token()), Frame::text("2"), 2, (now, TTL), usize::MAX), Queued::More);
        assert_eq!(queue.push((&b, &token()), Frame::text("3"), 3, (now, TTL), usize::MAX), Queued::First(3));
        assert_eq!(queue.expire(1), Some(token()));
        assert_eq!(queue.expire(1), None);
        assert_eq!(queue.expire(2), None);
        assert_eq!(queue.take().collect::<Vec<_>>(), [Frame::text("3")]);
    }

    #[test]
    fn a_full_queue_keeps_what_it_has_and_still_tells_the_sender() {
        let now = Instant::now();
        let src: Arc<str> = "a".into();
        let other: Arc<str> = "b".into();
        let mut queue = Queue::default();
        for number in 0..MAX_MESSAGES as u64 {
            queue.push((&src, &token()), Frame::text("x"), number, (now, TTL), usize::MAX);
        }
        assert_eq!(queue.push((&src, &token()), Frame::text("x"), 998, (now, TTL), usize::MAX), Queued::Full);
        assert_eq!(
            queue.push((&other, &token()), Frame::text("x"), 999, (now, TTL), usize::MAX),
            Queued::FirstFull(999)
        );
        assert_eq!(queue.len(), MAX_MESSAGES);
        assert!(queue.expire(999).is_some());

        let mut queue = Queue::default();
        queue.push((&src, &token()), Frame::text(&"x".repeat(MAX_BYTES - 100)), 1, (now, TTL), usize::MAX);
        assert_eq!(
            queue.push((&src, &token()), Frame::text(&"x".repeat(200)), 2, (now, TTL), usize::MAX),
            Queued::Full
        );
    }

    #[test]
    fn waits_of_senders_that_went_away_are_purged() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.push((&"a".into(), &token()), Frame::text("1"), 1, (now, TTL), usize::MAX);
        queue.purge(now + TTL);
        assert!(!queue.is_empty());
        queue.purge(now + 2 * TTL);
        assert!(queue.is_empty());
        assert_eq!(queue.len(), 0);
    }
}
