//! Any order of messages, expiries and purges: the queue stays within its bounds, keeps the order, and each sender is told at
//! most once for each wait, and always when its messages were dropped.

#![no_main]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use signalbox_peerserver::{
    Kind,
    queue::{MAX_BYTES, MAX_MESSAGES, MAX_SENDER_BYTES, Queue},
};
use signalbox_websocket::Frame;

const TTL: Duration = Duration::from_secs(5);

#[derive(Arbitrary, Debug)]
enum Step {
    /// So many messages of this length, and room for so many bytes in all queues together.
    Push {
        src: u8,
        is_candidate: bool,
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
    // Everything that was kept, whether or not it is there still.
    let mut kept: Vec<Frame> = Vec::new();
    let mut next = 0_u64;
    for step in steps {
        match step {
            Step::Wait { ms } => now += Duration::from_millis(ms.into()),
            Step::Push { src, is_candidate, token, count, len, room } => {
                let src: Arc<str> = (src % 4).to_string().into();
                let token: Arc<str> = (token % 2).to_string().into();
                let room = room.map_or(usize::MAX, usize::from);
                let kind = if is_candidate { Kind::Candidate } else { Kind::Offer };
                for _ in 0..count {
                    next += 1;
                    // Each frame differs, so that an exchanged order shows.
                    let mut payload = next.to_be_bytes().to_vec();
                    payload.resize(8 + usize::from(len) % 16_384, 0);
                    let frame = Frame::binary(&payload);
                    let opens = !waits.iter().any(|wait| wait.src == src);
                    let before = queue.len();
                    let pushed = queue.push((&src, &token), kind, frame.clone(), next, (now, TTL), room);
                    assert_eq!(pushed.opened, opens.then_some(next));
                    assert_eq!(queue.len(), before + usize::from(pushed.is_kept) - pushed.displaced);
                    assert!(!is_candidate || pushed.displaced == 0);
                    if opens {
                        waits.push(Wait { src: src.clone(), token: token.clone(), number: next, since: now });
                    }
                    if pushed.is_kept {
                        kept.push(frame);
                    }
                }
            }
            Step::Expire { number } => {
                let number = u64::from(number) % (next + 1);
                let open = waits.iter().position(|wait| wait.number == number).map(|at| waits.remove(at));
                assert_eq!(queue.expire(number), open.map(|wait| wait.token));
            }
            Step::Purge => {
                queue.purge(now);
                waits.retain(|wait| now < wait.since + 2 * TTL);
            }
        }
        assert_eq!(queue.is_empty(), waits.is_empty());
        assert!(queue.len() <= MAX_MESSAGES && queue.bytes() <= MAX_BYTES);
        assert!(queue.bytes() <= waits.len() * MAX_SENDER_BYTES);
    }
    let mut kept = kept.into_iter();
    assert!(queue.take().all(|frame| kept.any(|earlier| earlier == frame)), "the order was lost");
    assert_eq!((queue.len(), queue.bytes()), (0, 0));
});
