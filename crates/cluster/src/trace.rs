//! The trace that a message between nodes belongs to.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::envelope::{Metadata, MetadataKey};

/// What a message is traced by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageTrace {
    /// The `traceparent` of what its sender's node did for it.
    pub parent: Arc<str>,
    /// When it was sent, on this node's clock: its receiver's span begins then, so that a slow one is seen to be slow there as well.
    pub sent: Instant,
}

impl MessageTrace {
    /// As metadata. `now` and `micros_now` are the present: on this node's clock, and in microseconds since 1970.
    pub fn metadata(&self, now: Instant, micros_now: u64) -> Metadata {
        let sent_at = micros_now.saturating_sub(now.saturating_duration_since(self.sent).as_micros() as u64);
        Metadata::default()
            .with(MetadataKey::TraceContext, self.parent.as_bytes())
            .with(MetadataKey::SentAt, sent_at.to_be_bytes())
    }

    /// Reads what [`Self::metadata`] has made, on any node. Where the sender's clock is ahead of this one's, or says nothing, the message was
    /// sent now.
    pub fn read(metadata: &Metadata, now: Instant, micros_now: u64) -> Option<Self> {
        let parent = metadata.text(MetadataKey::TraceContext)?.into();
        let sent_at = metadata.get(MetadataKey::SentAt).and_then(|at| at.try_into().ok());
        let lag = sent_at.map_or(0, |at| micros_now.saturating_sub(u64::from_be_bytes(at)));
        Some(Self { parent, sent: now.checked_sub(Duration::from_micros(lag)).unwrap_or(now) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_was_sent_when_it_was_whatever_the_clocks_show() {
        let now = Instant::now() + Duration::from_secs(60);
        let sent = now - Duration::from_millis(300);
        let trace = MessageTrace { parent: "00-trace-span-01".into(), sent };
        let metadata = trace.metadata(now, 5_000_000);
        let read = |micros| MessageTrace::read(&metadata, now, micros).unwrap().sent;
        assert_eq!(MessageTrace::read(&metadata, now, 5_000_000), Some(trace));
        // It was another 100 ms on its way; or the clock of this machine is behind.
        assert_eq!(read(5_100_000), now - Duration::from_millis(400));
        assert_eq!(read(1_000_000), now);
        // An earlier version says nothing of the time.
        let bare = Metadata::default().with(MetadataKey::TraceContext, *b"00-trace-span-01");
        assert_eq!(MessageTrace::read(&bare, now, 5_000_000).unwrap().sent, now);
        assert_eq!(MessageTrace::read(&Metadata::default(), now, 5_000_000), None);
    }
}
