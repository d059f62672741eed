//! No place in the code logs more than so many lines a second: what clients cause in numbers fills no disk, and hides nothing else.

use std::{
    cell::Cell,
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tracing::{Event, Metadata, Subscriber, callsite::Identifier};
use tracing_subscriber::layer::{Context, Filter};

/// Lines of one place in the code within a second.
pub(super) const LINES: u32 = 100;
const WINDOW: Duration = Duration::from_secs(1);

/// Lines that were left out since they were last taken.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// How many were left out before the line that is about to be written.
    static NOTE: Cell<u64> = const { Cell::new(0) };
}

/// Takes the note for the line that is about to be written on this thread.
pub(super) fn take_note() -> Option<u64> {
    Some(NOTE.take()).filter(|left_out| *left_out > 0)
}

/// Log lines that were left out since this was called last.
pub fn take_lines_left_out() -> u64 {
    LEFT_OUT.swap(0, Ordering::Relaxed)
}

/// One place in the code.
#[derive(Debug)]
struct Site {
    began: Instant,
    lines: u32,
    left_out: u64,
}

impl Site {
    fn new(now: Instant) -> Self {
        Self { began: now, lines: 0, left_out: 0 }
    }

    /// Whether one more line is written; with how many were left out before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.began) >= WINDOW {
            (self.began, self.lines) = (now, 0);
        }
        if self.lines >= LINES {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// Counts the lines of each place. There are as many as the program has.
#[derive(Debug, Default)]
pub(super) struct RateLimit(Mutex<HashMap<Identifier, Site>>);

impl<S: Subscriber> Filter<S> for RateLimit {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let now = Instant::now();
        let admitted = {
            let mut sites = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            sites.entry(event.metadata().callsite()).or_insert_with(|| Site::new(now)).admit(now)
        };
        match admitted {
            Some(left_out) => NOTE.set(left_out),
            None => {
                LEFT_OUT.fetch_add(1, Ordering::Relaxed);
            }
        }
        admitted.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_logs_so_many_lines_a_second_and_says_what_it_left_out() {
        let now = Instant::now();
        let mut site = Site::new(now);
        let written = (0..3 * LINES).filter(|_| site.admit(now) == Some(0)).count();
        assert_eq!(written, LINES as usize);
        assert_eq!(site.admit(now + WINDOW), Some(u64::from(2 * LINES)));
        assert_eq!(site.admit(now + WINDOW), Some(0));
    }
}
