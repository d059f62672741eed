//! Listening to what happens in the cluster: while somebody listens here, every other node is asked for what happens there, again and
//! again. A question waits at its node until there is something to tell, for a second at most. So nothing is sent to a node that does not
//! take it, a node that does not answer is known, and one whose buffer is not read in time knows how much was missed.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use signalbox_admin::{Partial, PartialReason, events::EventFilter};
use signalbox_cluster::NodeTag;
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{Peering, inquiries::Nodes};
use crate::{
    events::{EventHub, EventListener, OwnEvents, Progress, Reports},
    protocol::inquiry::{Answer, NodeEvents, Question},
};

/// How long a question for events waits at another node.
const WAIT: Duration = Duration::from_secs(1);
/// How long a node that has not answered is left alone: at first, since it may have come this very moment, and then twice as long each time.
const RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_millis(500);
/// How often it is looked whether somebody listens still, and which nodes there are.
const LOOK: Duration = Duration::from_secs(1);
/// How long a listener waits for other nodes to tell. Who does not by then is named in what it gets.
const ATTACH: Duration = Duration::from_secs(3);

impl Peering {
    /// Listens. What happens from now on, at every node that answers, will be told.
    pub(crate) async fn listen(self: &Arc<Self>, filter: EventFilter, after: Option<&str>) -> EventListener {
        let listener = EventListener::new(&self.events, filter, after);
        self.record_events();
        let _ = timeout(ATTACH, self.events.asked(&self.others())).await;
        listener
    }

    /// Has events recorded, if somebody wants them and nobody does it yet: on a thread of its own, which ends when nobody listens any more.
    fn record_events(self: &Arc<Self>) {
        let Some(reports) = self.events.take_reports() else { return };
        let (hub, peering) = (self.events.clone(), Arc::downgrade(self));
        let run = move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else {
                return;
            };
            runtime.block_on(record(&hub, &peering, reports));
        };
        // Without a thread there are no events; those who listen hear that they are connected, and nothing more.
        let _ = std::thread::Builder::new().name("events".to_owned()).spawn(run);
    }

    /// Another node asks what has happened here.
    pub(super) async fn events_here(self: &Arc<Self>, after: Option<Progress>, wait: Duration) -> Answer {
        let told = self.events.clone();
        let answer = async {
            // The first question begins the recording.
            let first = told.own_events(after, Duration::ZERO).await;
            self.record_events();
            match first.events.is_empty() && after.is_some() {
                true => told.own_events(after, wait).await,
                false => first,
            }
        };
        let OwnEvents { progress, missed, events } = answer.await;
        Answer::Events(vec![NodeEvents { run: progress.run, next: progress.next, missed, events }])
    }
}

async fn record(hub: &Arc<EventHub>, peering: &Weak<Peering>, mut reports: Reports) {
    let mut collectors: HashMap<NodeTag, JoinHandle<()>> = HashMap::new();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = hub.record(&mut reports) => continue,
            () = hub.nodes_changed() => {}
            _ = looks.tick() => {}
        }
        let Some(of_node) = peering.upgrade() else { return };
        let Some(kept) = hub.goes_on(reports) else { return };
        reports = kept;
        if !hub.wants_others() {
            collectors.drain().for_each(|(_, collector)| collector.abort());
            continue;
        }
        let others = of_node.others();
        let new = hub.set_sources(&others);
        collectors.retain(|node, collector| {
            let stays = others.contains(node) && !new.contains(node);
            if !stays {
                collector.abort();
            }
            stays
        });
        for node in new {
            collectors.insert(node, tokio::spawn(collect(hub.clone(), peering.clone(), node)));
        }
    }
}

/// Asks one node again and again.
async fn collect(hub: Arc<EventHub>, peering: Weak<Peering>, node: NodeTag) {
    let (mut after, mut retry) = (None, RETRY);
    loop {
        let Some(of_node) = peering.upgrade() else { return };
        let question = Question::Events { after, wait: after.map_or(0, |_| WAIT.as_millis() as u64) };
        let (answer, partial) = of_node.inquire(question, Nodes::One(node)).await;
        drop(of_node);
        let told = match answer {
            Answer::Events(told) => told.into_iter().next(),
            _ => None,
        };
        match (told, partial.into_iter().next()) {
            (Some(NodeEvents { run, next, missed, events }), _) => {
                let progress = Progress { run, next };
                after = Some((run, next));
                retry = RETRY;
                hub.collected(node, OwnEvents { progress, missed, events });
            }
            (None, Some(Partial { name, reason, .. })) => {
                hub.missing(node, &name, reason_name(reason));
                sleep(retry).await;
                retry = (2 * retry).min(LONGEST_RETRY);
            }
            // It is not known any more.
            (None, None) => sleep(LONGEST_RETRY).await,
        }
    }
}

fn reason_name(reason: PartialReason) -> &'static str {
    match reason {
        PartialReason::Timeout => "timeout",
        PartialReason::Unreachable => "unreachable",
        PartialReason::Format => "format",
        PartialReason::Busy | PartialReason::TooMany | PartialReason::TooLarge => "busy",
    }
}
