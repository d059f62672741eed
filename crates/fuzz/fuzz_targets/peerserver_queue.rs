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
    /// So many messages of this length, and room for so many bytes in all queues together.
    Push {
        src: u8,
        token: u8,
        count: u8,
        len: u16,
        room: Option<u16>,
    },
    Expire {
        number: u16,
    },
    Purge,
    Wait {
        ms: u16,
    },
}

/// A wait as the queue should keep it.
struct Wait {
    src: Arc<str>,
    token: Arc<str>,
    number: u64,
    since: Instant,
}

fuzz_target!(|steps: Vec<Step>| {
    let mut now = Instant::now();
    let mut queue = Queue::default();
    let mut waits: Vec<Wait> = Vec::new();
    let mut messages: Vec<(Arc<str>, Frame)> = Vec::new();
    let mut bytes = 0;
    let mut next = 0_u64;
    for step in steps {
        match step {
            Step::Wait { ms } => now += Duration::from_millis(ms.into()),
            Step::Push { src, token, count, len, room } => {
                let src: Arc<str> = (src % 4).to_string().into();
                let token: Arc<str> = (token % 2).to_string().into();
                let room = room.map_or(usize::MAX, usize::from);
                for _ in 0..count {
                    next += 1;
                    // Each frame differs, so that an exchanged order shows.
                    let mut payload = next.to_be_bytes().to_vec();
                    payload.resize(8 + usize::from(len) % 16_384, 0);
                    let frame = Frame::binary(&payload);
                    let opens = !waits.iter().any(|wait| wait.src == src);
                    let fits = messages.len() < MAX_MESSAGES
                        && bytes + frame.len() <= MAX_BYTES
                        && frame.len() <= room;
                    let expected = match (opens, fits) {
                        (true, true) => Queued::First(next),
                        (true, false) => Queued::FirstFull(next),
                        (false, true) => Queued::More,
                        (false, false) => Queued::Full,
                    };
                    assert_eq!(queue.push((&src, &token), frame.clone(), next, (now, TTL), room), expected);
                    if opens {
                        waits.push(Wait { src: src.clone(), token: token.clone(), number: next, since: now });
                    }
                    if fits {
                        bytes += frame.len();
                        messages.push((src.clone(), frame));
                    }
                }
            }
            Step::Expire { number } => {
                let number = u64::from(number) % (next + 1);
                let open = waits.iter().position(|wait| wait.number == number).map(|at| waits.remove(at));
                assert_eq!(queue.expire(number), open.as_ref().map(|wait| wait.token.clone()));
                messages.retain(|(src, _)| open.as_ref().is_none_or(|wait| wait.src != *src));
            }
            Step::Purge => {
                queue.purge(now);
                waits.retain(|wait| now < wait.since + 2 * TTL);
                messages.retain(|(src, _)| waits.iter().any(|wait| wait.src == *src));
            }
        }
        bytes = messages.iter().map(|(_, frame)| frame.len()).sum();
        assert_eq!((queue.len(), queue.bytes(), queue.is_empty()), (messages.len(), bytes, waits.is_empty()));
        assert!(queue.len() <= MAX_MESSAGES && queue.bytes() <= MAX_BYTES);
    }
    assert!(queue.take().eq(messages.into_iter().map(|(_, frame)| frame)), "the order was lost");
});
