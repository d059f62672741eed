//! Any order of messages, expiries and purges: the queue stays within its bounds, keeps the order, and each sender is told at
//! most once for each wait, and always when its messages were dropped.

#![no_main]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use signalbox_peerserver::queue::{MAX_BYTES, MAX_MESSAGES, Queue, Queued};
use signalbox_websocket::Frame;

const TTL: Duration = Duration::from_secs(5);

#[derive(Arbitrary, Debug)]
enum Step {
    /// So many messages of this length.
    Push {
        src: u8,
        count: u8,
        len: u32,
    },
    Expire {
        number: u64,
    },
    Purge,
    Wait {
        ms: u16,
    },
}

/// A wait as the queue should keep it.
struct Wait {
    src: u8,
    number: u64,
    since: Instant,
}

fuzz_target!(|steps: Vec<Step>| {
    let mut now = Instant::now();
    let mut queue = Queue::default();
    let mut waits: Vec<Wait> = Vec::new();
    let mut messages: Vec<(u8, Frame)> = Vec::new();
    let mut next = 0;
    for step in steps {
        match step {
            Step::Wait { ms } => now += Duration::from_millis(ms.into()),
            Step::Push { src, count, len } => {
                let src = src % 4;
                let name: Arc<str> = src.to_string().into();
                for _ in 0..count {
                    next += 1;
                    // Each frame differs, so that an exchanged order shows.
                    let mut payload = next.to_be_bytes().to_vec();
                    payload.resize(8 + len as usize % (MAX_BYTES / 8), 0);
                    let frame = Frame::binary(&payload);
                    let opens = !waits.iter().any(|wait| wait.src == src);
                    let bytes: usize = messages.iter().map(|(_, frame)| frame.len()).sum();
                    let fits = messages.len() < MAX_MESSAGES && bytes + frame.len() <= MAX_BYTES;
                    let expected = match (opens, fits) {
                        (true, true) => Queued::First(next),
                        (true, false) => Queued::FirstFull(next),
                        (false, true) => Queued::More,
                        (false, false) => Queued::Full,
                    };
                    assert_eq!(queue.push(&name, frame.clone(), next, now, TTL), expected);
                    if opens {
                        waits.push(Wait { src, number: next, since: now });
                    }
                    if fits {
                        messages.push((src, frame));
                    }
                }
            }
            Step::Expire { number } => {
                let number = number % (next + 1);
                let open = waits.iter().position(|wait| wait.number == number).map(|at| waits.remove(at));
                assert_eq!(queue.expire(number), open.is_some());
                messages.retain(|(src, _)| open.as_ref().is_none_or(|wait| wait.src != *src));
            }
            Step::Purge => {
                queue.purge(now);
                waits.retain(|wait| now < wait.since + 2 * TTL);
                messages.retain(|(src, _)| waits.iter().any(|wait| wait.src == *src));
            }
        }
        assert_eq!((queue.len(), queue.is_empty()), (messages.len(), waits.is_empty()));
        assert!(queue.len() <= MAX_MESSAGES);
    }
    let kept: Vec<Frame> = queue.take().collect();
    assert!(kept.iter().map(Frame::len).sum::<usize>() <= MAX_BYTES);
    assert!(kept.iter().eq(messages.iter().map(|(_, frame)| frame)), "the order was lost");
});
