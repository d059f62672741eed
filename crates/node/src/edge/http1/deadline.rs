//! How long heads and bodies may take.

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::requests::Unfinished;
use crate::transport::{Alarm, Pace, Progress};

/// How long whoever answers has to say that a body is overdue.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How slow a connection may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How long a head may take.
    pub(super) head_timeout: Duration,
    pub(super) body_pace: Pace,
}

/// What has had its time.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    Head,
    Body,
    /// The answer to a request whose body was overdue.
    Answer,
}

/// The deadline of what a connection is in the midst of sending.
#[derive(Debug)]
pub(super) struct Deadline {
    limits: Limits,
    current: Option<(Unfinished, Progress)>,
    /// It was overdue, and is to be answered until then.
    answer_until: Option<Instant>,
    alarm: Alarm,
}

impl Deadline {
    /// The first head is waited for from now on.
    pub(super) fn new(limits: Limits) -> Self {
        let mut deadline = Self { limits, current: None, answer_until: None, alarm: Alarm::default() };
        deadline.received(0, Some(Unfinished::Head(0)));
        deadline
    }

    fn pace(&self, unfinished: Unfinished) -> Pace {
        match unfinished {
            // No rate gives a head more time.
            Unfinished::Head(_) => Pace { timeout: self.limits.head_timeout, min_rate: usize::MAX },
            Unfinished::Body(_) => self.limits.body_pace,
        }
    }

    /// So many bytes have arrived, with which the connection is here.
    pub(super) fn received(&mut self, bytes: usize, unfinished: Option<Unfinished>) {
        self.current = unfinished.map(|unfinished| {
            let (now, pace) = (Instant::now(), self.pace(unfinished));
            match self.current {
                Some((current, mut progress)) if current == unfinished => {
                    progress.advance(now, bytes, &pace);
                    (current, progress)
                }
                _ => (unfinished, Progress::begin(now, &pace)),
            }
        });
    }

    /// What is unfinished has all its time again: it did not go on because the node did not read it.
    pub(super) fn restart(&mut self) {
        if let Some((unfinished, _)) = self.current {
            self.current = Some((unfinished, Progress::begin(Instant::now(), &self.pace(unfinished))));
        }
    }

    /// Waits until something has had its time.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Overdue> {
        if let Some(until) = self.answer_until {
            return if self.alarm.poll(until, cx) { Poll::Ready(Overdue::Answer) } else { Poll::Pending };
        }
        let Some((unfinished, progress)) = &self.current else { return Poll::Pending };
        if !self.alarm.poll(progress.until(), cx) {
            return Poll::Pending;
        }
        Poll::Ready(match unfinished {
            Unfinished::Head(_) => Overdue::Head,
            Unfinished::Body(_) => {
                let until = Instant::now() + ANSWER_TIMEOUT;
                self.answer_until = Some(until);
                // The task is to be woken then.
                let _ = self.alarm.poll(until, cx);
                Overdue::Body
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Waker};

    use super::*;

    #[tokio::test]
    async fn a_body_that_was_not_read_has_all_its_time_again() {
        let timeout = Duration::from_millis(200);
        let limits = Limits { head_timeout: timeout, body_pace: Pace { timeout, min_rate: 1_000 } };
        let mut deadline = Deadline::new(limits);
        deadline.received(10, Some(Unfinished::Body(1)));
        let began = Instant::now();
        tokio::time::sleep(timeout).await;
        deadline.restart();
        assert_eq!(deadline.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending);
        assert_eq!(poll_fn(|cx| deadline.poll(cx)).await, Overdue::Body);
        assert!(began.elapsed() >= 2 * timeout);
    }
}
