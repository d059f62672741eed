//! Where it waits to be sent.

use std::{
    collections::VecDeque,
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use signalbox_cluster_redis::{HOOK_LANES, HookEntry, HookQueue, HookQueueAway, RedisAccess, WaitingHook};
use signalbox_node::Metrics;

use crate::config::webhooks::WebhookSettings;

/// The lanes, by their numbers.
pub(super) const LANES: usize = HOOK_LANES;

/// What waits, in lanes. What concerns one client is in one lane, and in order there.
#[derive(Debug)]
pub(super) enum Queue {
    /// Shared by the nodes of a cluster.
    Redis(Box<HookQueue>),
    /// This node's own.
    Memory(Memory),
}

/// What waits in memory.
#[derive(Debug)]
pub(super) struct Memory {
    lanes: Box<[Mutex<Lane>; LANES]>,
    most: usize,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<WaitingHook>,
    last: (u64, u64),
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Queue {
    pub(super) fn in_redis(
        access: &RedisAccess,
        prefix: &str,
        settings: &WebhookSettings,
        metrics: Metrics,
    ) -> Self {
        let most = settings.webhook_buffer.div_ceil(LANES);
        Self::Redis(Box::new(HookQueue::new(access, prefix, metrics, most)))
    }

    pub(super) fn in_memory(settings: &WebhookSettings) -> Self {
        Self::Memory(Memory { lanes: Default::default(), most: settings.webhook_buffer.div_ceil(LANES) })
    }

    /// Whether it is lost with the node.
    pub(super) fn is_in_memory(&self) -> bool {
        matches!(self, Self::Memory(_))
    }

    /// Appends entries to a lane; returns how many were taken, from the first on.
    pub(super) async fn append(&self, lane: usize, entries: &[HookEntry]) -> Result<usize, HookQueueAway> {
        match self {
            Self::Redis(queue) => queue.append(lane, entries).await,
            Self::Memory(memory) => Ok(memory.append(lane, entries)),
        }
    }

    /// What waits first in each of these lanes.
    pub(super) async fn read(
        &self,
        lanes: &[usize],
        most: usize,
    ) -> Result<Vec<Vec<WaitingHook>>, HookQueueAway> {
        match self {
            Self::Redis(queue) => queue.read(lanes, most).await,
            Self::Memory(memory) => {
                let read =
                    |lane: &usize| locked(&memory.lanes[*lane]).waiting.iter().take(most).cloned().collect();
                Ok(lanes.iter().map(read).collect())
            }
        }
    }

    /// Removes what was sent from a lane.
    pub(super) async fn remove(&self, lane: usize, ids: &[String]) -> Result<(), HookQueueAway> {
        match self {
            Self::Redis(queue) => queue.remove(lane, ids).await,
            Self::Memory(memory) => {
                locked(&memory.lanes[lane]).waiting.retain(|hook| !ids.contains(&hook.id));
                Ok(())
            }
        }
    }

    /// Takes lanes, or keeps them, for so long; which of them are this node's.
    pub(super) async fn lease(
        &self,
        lanes: &[usize],
        owner: &str,
        time: Duration,
    ) -> Result<Vec<bool>, HookQueueAway> {
        match self {
            Self::Redis(queue) => queue.lease(lanes, owner, time).await,
            Self::Memory(_) => Ok(vec![true; lanes.len()]),
        }
    }

    /// How many wait, and since when the oldest of them, in milliseconds since 1970.
    pub(super) async fn waiting(&self) -> Result<(u64, Option<u64>), HookQueueAway> {
        match self {
            Self::Redis(queue) => queue.waiting().await,
            Self::Memory(memory) => {
                let lanes = memory.lanes.iter().map(|lane| {
                    let lane = locked(lane);
                    let since =
                        lane.waiting.front().and_then(|first| first.id.split_once('-')?.0.parse().ok());
                    (lane.waiting.len() as u64, since)
                });
                Ok(lanes.fold((0, None), |(count, since), (more, other)| {
                    (count + more, [since, other].into_iter().flatten().min())
                }))
            }
        }
    }
}

impl Memory {
    fn append(&self, lane: usize, entries: &[HookEntry]) -> usize {
        let lane = &mut *locked(&self.lanes[lane]);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let room = self.most.saturating_sub(lane.waiting.len());
        let taken = &entries[..entries.len().min(room)];
        for HookEntry { text, .. } in taken {
            let (at, number) = lane.last;
            lane.last = if now > at { (now, 0) } else { (at, number + 1) };
            let id = format!("{}-{}", lane.last.0, lane.last.1);
            lane.waiting.push_back(WaitingHook { id, text: text.clone() });
        }
        taken.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_keeps_the_order_of_a_lane_and_is_bounded() {
        let queue = Queue::Memory(Memory { lanes: Default::default(), most: 3 });
        let entry = |text: &str| HookEntry { text: text.to_owned(), node: None };
        assert_eq!(queue.append(2, &["a", "b", "c", "d"].map(entry)).await, Ok(3));
        let read = queue.read(&[2, 3], 2).await.unwrap();
        let texts: Vec<&str> = read[0].iter().map(|hook| hook.text.as_str()).collect();
        assert_eq!((texts, read[1].len()), (vec!["a", "b"], 0));
        let ids: Vec<String> = read[0].iter().map(|hook| hook.id.clone()).collect();
        queue.remove(2, &ids).await.unwrap();
        assert_eq!(queue.waiting().await.unwrap().0, 1);
        assert_eq!(queue.append(2, &[entry("d")]).await, Ok(1));
    }
}
