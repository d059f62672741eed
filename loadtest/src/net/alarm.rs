//! Waking up on time: a poll alone sleeps in whole milliseconds, which is as long as what is to be measured.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Result;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// A timer of the kernel that makes the poll return.
pub(super) struct Alarm {
    timer: OwnedFd,
    armed: Option<Instant>,
}

impl Alarm {
    pub(super) fn new(registry: &Registry, token: Token) -> Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { timer, armed: None })
    }

    /// Rings at `due`, and at no other time. It never has to be read: arming resets it, and the poll reports edges.
    pub(super) fn arm(&mut self, due: Instant, now: Instant) -> Result<()> {
        if self.armed == Some(due) {
            return Ok(());
        }
        // Zero would disarm it.
        let wait = due.saturating_duration_since(now).max(Duration::from_nanos(1));
        let spec = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: wait.subsec_nanos().into() },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec)?;
        self.armed = Some(due);
        Ok(())
    }

    /// It rang: the same time may be armed again.
    pub(super) fn rang(&mut self) {
        self.armed = None;
    }
}
