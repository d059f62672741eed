//! How long nodes are waited for by a request that asks them more than once: as long as by one that asks once.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use signalbox_admin::PartialReason;
use signalbox_node::{
    Node,
    admin::{Answers, Question},
};

/// The time that a request has for its questions, one after the other.
pub(super) struct Patience {
    until: Instant,
    /// Questions to come.
    questions: usize,
    /// The ids of nodes that did not answer one in time: they are asked the next ones, too, but not waited for.
    unheard: BTreeSet<String>,
}

impl Patience {
    /// So many questions have until then; what they wait for beside the nodes' own time comes on top.
    pub(super) fn new(until: Instant, questions: usize) -> Self {
        Self { until, questions, unheard: BTreeSet::new() }
    }

    /// Puts the next question, which itself takes up to `wait`. It has half of the time that is left, and the last one all of it: whenever a
    /// node falls silent, there is time for the others to answer what comes behind.
    pub(super) async fn ask(&mut self, node: &Node, question: Question, wait: Duration) -> Answers {
        let began = Instant::now();
        let until = self.next_until(began);
        let answers = node.ask_cluster_without(until, question, &self.unheard).await;
        let silent = answers.partial.iter().filter(|missing| missing.reason == PartialReason::Timeout);
        self.unheard.extend(silent.map(|missing| missing.node.clone()));
        self.until += began.elapsed().min(wait);
        answers
    }

    fn next_until(&mut self, now: Instant) -> Instant {
        self.questions = self.questions.saturating_sub(1);
        let left = self.until.saturating_duration_since(now);
        now + if self.questions == 0 { left } else { left / 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_has_half_of_what_is_left_and_the_last_one_the_rest() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut patience = Patience::new(now + 2 * second, 3);
        assert_eq!(patience.next_until(now), now + second);
        assert_eq!(patience.next_until(now + second), now + second + second / 2);
        assert_eq!(patience.next_until(now + second), now + 2 * second);
        assert_eq!(patience.next_until(now + 3 * second), now + 3 * second);
        assert_eq!(Patience::new(now + second, 1).next_until(now), now + second);
    }
}
