//! A bounded buffer of events, in their order. Whoever reads says how far it has come, so nobody who is slow keeps anything.

use std::{collections::VecDeque, sync::Arc};

use signalbox_admin::events::Event;

/// Most events that are kept.
const MOST: usize = 16_384;
/// Most bytes of them.
const MOST_BYTES: usize = 8 << 20;

/// The last events, numbered without a gap.
#[derive(Debug, Default)]
pub(super) struct Ring {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// The number of the next event.
    next: u64,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) events: Vec<Arc<Event>>,
    /// The number of the first of them, or of the next one.
    pub(super) first: u64,
    /// Events before it that are not kept any more.
    pub(super) missed: u64,
}

impl Ring {
    pub(super) fn push(&mut self, event: Arc<Event>) {
        self.bytes += event.size();
        self.events.push_back(event);
        self.next += 1;
        while self.events.len() > MOST || self.bytes > MOST_BYTES {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.size();
        }
    }

    /// The number of the next event.
    pub(super) fn end(&self) -> u64 {
        self.next
    }

    /// The number of the oldest event that is kept.
    pub(super) fn start(&self) -> u64 {
        self.next - self.events.len() as u64
    }

    /// At most `most` events from this number on.
    pub(super) fn from(&self, number: u64, most: usize) -> Part {
        let first = number.clamp(self.start(), self.next);
        let skipped = (first - self.start()) as usize;
        let events = self.events.iter().skip(skipped).take(most).cloned().collect();
        Part { events, first, missed: first.saturating_sub(number) }
    }
}

#[cfg(test)]
mod tests {
    use signalbox_admin::events::EventKind;

    use super::*;

    fn event(count: u64) -> Arc<Event> {
        Arc::new(Event { count: Some(count), ..Event::of(EventKind::Join) })
    }

    #[test]
    fn a_reader_gets_what_is_new_and_is_told_what_is_gone() {
        let mut ring = Ring::default();
        (0..MOST as u64 + 10).for_each(|count| ring.push(event(count)));
        assert_eq!((ring.start(), ring.end()), (10, MOST as u64 + 10));
        let part = ring.from(4, 3);
        assert_eq!((part.first, part.missed), (10, 6));
        assert_eq!(
            part.events.iter().map(|event| event.count).collect::<Vec<_>>(),
            [Some(10), Some(11), Some(12)]
        );
        assert_eq!(ring.from(ring.end(), 5), Part { events: Vec::new(), first: ring.end(), missed: 0 });
        // A number of the future is nobody's.
        assert_eq!(ring.from(u64::MAX, 5).events, Vec::new());
    }

    #[test]
    fn long_events_are_bounded_by_their_bytes() {
        let mut ring = Ring::default();
        let long: Arc<str> = "x".repeat(10_000).into();
        for _ in 0..2_000 {
            ring.push(Arc::new(Event { room: Some(long.clone()), ..Event::of(EventKind::Join) }));
        }
        assert!(ring.bytes <= MOST_BYTES && ring.end() - ring.start() < 900);
        assert_eq!(ring.bytes, ring.events.iter().map(|event| event.size()).sum::<usize>());
    }
}
