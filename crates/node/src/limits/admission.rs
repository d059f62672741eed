//! Whether the node takes new clients: not while what it has takes too much of the memory that there is.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// What a client costs beside what is counted for it: its session and its connection, with the kernel's part of it.
const CLIENT: usize = 8 * 1024;
/// How often the process is asked how much memory it has.
const LOOK: Duration = Duration::from_millis(250);
/// Parts of the limit, in percent: from the upper one on the node is full, below the lower one it is not any more.
const HIGH: usize = 80;
const LOW: usize = 70;
/// The same of connections: the last tenth is not for everybody.
const HIGH_CONNECTIONS: usize = 90;
const LOW_CONNECTIONS: usize = 80;

/// Judges by what is counted for clients, or what the process takes, whichever is more.
#[derive(Debug)]
pub(crate) struct Admission {
    memory: Option<usize>,
    connections: usize,
    is_full: AtomicBool,
    is_crowded: AtomicBool,
    began: Instant,
    /// What the process took when it was asked last, and when that was, in milliseconds.
    resident: AtomicUsize,
    asked_at: AtomicU64,
}

impl Admission {
    /// `memory`: bytes that there are; `connections`: how many there may be.
    pub(crate) fn new(memory: Option<usize>, connections: usize) -> Self {
        Self {
            memory,
            connections,
            is_full: AtomicBool::new(false),
            is_crowded: AtomicBool::new(false),
            began: Instant::now(),
            resident: AtomicUsize::new(0),
            asked_at: AtomicU64::new(0),
        }
    }

    /// Whether clients take too much memory for more to come, `held` bytes being counted for so many connections.
    pub(crate) fn is_full(&self, now: Instant, held: usize, connections: usize) -> bool {
        let Some(limit) = self.memory else { return false };
        let counted = held.saturating_add(connections.saturating_mul(CLIENT));
        hysteresis(&self.is_full, counted.max(self.resident(now)), limit, HIGH, LOW)
    }

    /// Whether hardly more connections may be opened: a balancer had better send clients elsewhere.
    pub(crate) fn is_crowded(&self, connections: usize) -> bool {
        hysteresis(&self.is_crowded, connections, self.connections, HIGH_CONNECTIONS, LOW_CONNECTIONS)
    }

    fn resident(&self, now: Instant) -> usize {
        let now = now.saturating_duration_since(self.began).as_millis() as u64 + 1;
        let asked_at = self.asked_at.load(Relaxed);
        let is_due = asked_at == 0 || now >= asked_at + LOOK.as_millis() as u64;
        if is_due && self.asked_at.compare_exchange(asked_at, now, Relaxed, Relaxed).is_ok() {
            self.resident.store(resident_bytes(), Relaxed);
        }
        self.resident.load(Relaxed)
    }
}

/// Whether `amount` is beyond the upper mark, or was and has not come below the lower one since.
fn hysteresis(was_over: &AtomicBool, amount: usize, limit: usize, high: usize, low: usize) -> bool {
    let part = |percent: usize| (limit as u128 * percent as u128 / 100) as usize;
    let mark = if was_over.load(Relaxed) { part(low) } else { part(high) };
    let is_over = amount >= mark;
    was_over.store(is_over, Relaxed);
    is_over
}

/// Memory that the process takes; 0 where the system does not tell.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok());
    kibibytes.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_full_stays_full_until_there_is_room_again() {
        let limit = 1 << 40;
        let admission = Admission::new(Some(limit), 1000);
        let percent = |percent: usize| admission.is_full(Instant::now(), limit / 100 * percent, 0);
        assert_eq!([79, 81, 75, 71, 69, 75, 79].map(percent), [false, true, true, true, false, false, false]);
        let connections = [899, 900, 850, 800, 799, 899].map(|open| admission.is_crowded(open));
        assert_eq!(connections, [false, true, true, true, false, false]);
    }

    #[test]
    fn what_the_process_takes_counts_and_without_a_limit_nothing_does() {
        let now = Instant::now();
        assert!(Admission::new(Some(1), 1).is_full(now, 0, 0) == cfg!(target_os = "linux"));
        assert!(!Admission::new(None, 1).is_full(now, usize::MAX, usize::MAX));
        assert!(Admission::new(Some(1 << 40), 1).is_full(now, 0, 1 << 30));
    }
}
