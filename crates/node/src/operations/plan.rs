//! Who sends clients away, and how many: a plain calculation over what the nodes have.

use std::time::{Duration, Instant};

/// How long a client that was sent away may take to be back, as a rule: socket.io-client waits half a second to one and a half.
pub(super) const BACK_AFTER: Duration = Duration::from_secs(3);
/// A node may stay off the mean by this part of it in the end: a twelfth. Clients come and go meanwhile, so it is less than a tenth.
const TOLERANCE: u64 = 12;
/// Of the rate, so many seconds' worth at once at most.
const MOST_AT_ONCE: f64 = 1.5;

/// For how long nobody may be sent away before a rebalance is given up.
const MOST_IDLE: Duration = Duration::from_secs(300);
/// Most of the time between two steps that counts as waiting: in what is more, the node was without Redis.
const MOST_OF_A_STEP: Duration = Duration::from_secs(5);

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// How many clients each node is to send away, in the order of the nodes.
    pub(super) shed: Vec<u64>,
    /// How many are too many where they are, those included.
    pub(super) left: u64,
    /// Whether the nodes have as many clients as each other, as far as that matters.
    pub(super) is_level: bool,
}

/// The fullest nodes come down to the mean. `away`: clients that may be on their way from one node to another, and count as present: the
/// mean is rather too high than too low, and nobody is sent away for whom there is a place. `budget`: how many may be sent away now.
///
/// A load balancer does not place every client as it should: one that looks at connections counts those of clients that are just arriving.
/// So a node may be off the mean by a twelfth, and by one client in any case; else the last few would be sent round and round.
pub(super) fn plan(clients: &[u64], away: u64, budget: u64) -> Plan {
    let nodes = clients.len().max(1) as u64;
    let all = clients.iter().sum::<u64>() + away;
    // The mean is hardly ever a whole number: `off` is how far a node is from it, times the number of nodes.
    let is_near = |off: u64| off <= nodes || off * TOLERANCE <= all;
    let is_level = clients.iter().all(|clients| is_near((clients * nodes).abs_diff(all)));

    let (mean, rest) = (all / nodes, all % nodes);
    // What does not divide evenly is with the fullest.
    let mut by_size: Vec<usize> = (0..clients.len()).collect();
    by_size.sort_by_key(|at| std::cmp::Reverse(clients[*at]));
    let mut above = vec![0; clients.len()];
    for (place, at) in (0_u64..).zip(by_size) {
        above[at] = clients[at].saturating_sub(mean + u64::from(place < rest));
    }
    let left = above.iter().sum();
    let mut shed = vec![0; clients.len()];
    for _ in 0..budget.min(left) {
        // The fullest of them has its turn.
        let fullest = (0..clients.len()).filter(|at| shed[*at] < above[*at]);
        let Some(fullest) = fullest.max_by_key(|at| clients[*at] - shed[*at]) else { break };
        shed[fullest] += 1;
    }
    Plan { shed, left, is_level }
}

/// How many clients may be sent away, and how many have been lately.
#[derive(Debug)]
pub(super) struct Pace {
    due: f64,
    last: Instant,
    /// When so many were sent away.
    recent: Vec<(Instant, u64)>,
}

impl Pace {
    /// One that begins.
    pub(super) fn new(now: Instant) -> Self {
        Self { due: 0.0, last: now, recent: Vec::new() }
    }

    /// One that goes on where another node was: what that has sent away last may be under way.
    pub(super) fn resumed(now: Instant, rate: u32) -> Self {
        Self { recent: vec![(now, u64::from(rate) * BACK_AFTER.as_secs())], ..Self::new(now) }
    }

    /// How many may be sent away by now.
    pub(super) fn budget(&mut self, now: Instant, rate: u32) -> u64 {
        let passed = now.saturating_duration_since(self.last).as_secs_f64();
        self.last = now;
        let most = (f64::from(rate) * MOST_AT_ONCE).max(1.0);
        self.due = (self.due + passed * f64::from(rate)).min(most);
        self.due as u64
    }

    /// So many were sent away.
    pub(super) fn sent_away(&mut self, now: Instant, count: u64) {
        self.due = (self.due - count as f64).max(0.0);
        if count > 0 {
            self.recent.push((now, count));
        }
    }

    /// How many may be on their way.
    pub(super) fn away(&mut self, now: Instant) -> u64 {
        self.recent.retain(|(at, _)| now.saturating_duration_since(*at) < BACK_AFTER);
        self.recent.iter().map(|(_, count)| count).sum()
    }
}

/// For how long nobody has been sent away.
#[derive(Debug)]
pub(super) struct Idle {
    since: Instant,
    time: Duration,
}

impl Idle {
    /// It begins now.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, time: Duration::ZERO }
    }

    /// Another step in which nobody is sent away; whether there are too many of them.
    pub(super) fn is_too_long(&mut self, now: Instant) -> bool {
        self.time += now.saturating_duration_since(self.since).min(MOST_OF_A_STEP);
        self.since = now;
        self.time >= MOST_IDLE
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_fullest_come_down_to_the_mean_and_no_further() {
        assert_eq!(plan(&[100, 100, 100, 0], 0, 1_000).shed, [25, 25, 25, 0]);
        // The fullest first, and no more than may be.
        assert_eq!(plan(&[100, 60, 0], 0, 10), Plan { shed: vec![10, 0, 0], left: 53, is_level: false });
        // Those on their way count as present.
        assert_eq!(plan(&[80, 80, 80, 0], 60, 1_000).shed, [5, 5, 5, 0]);
        // What does not divide evenly stays where it is.
        assert_eq!(plan(&[10, 10, 10, 1], 0, 9).shed, [2, 2, 2, 0]);
        assert_eq!(plan(&[], 0, 9), Plan { shed: Vec::new(), left: 0, is_level: true });
        assert_eq!(plan(&[7], 0, 9), Plan { shed: vec![0], left: 0, is_level: true });
    }

    #[test]
    fn what_waits_for_five_minutes_waits_for_ever_and_an_outage_of_redis_is_no_waiting() {
        let began = Instant::now();
        let mut idle = Idle::new(began);
        let at = |seconds| began + Duration::from_secs(seconds);
        assert!((1..300).all(|second| !idle.is_too_long(at(second))) && idle.is_too_long(at(300)));
        let mut idle = Idle::new(began);
        assert!(!idle.is_too_long(at(3_600)) && !idle.is_too_long(at(3_800)) && idle.time < MOST_IDLE);
    }

    #[test]
    fn a_twelfth_more_or_less_is_level_and_so_is_one_client() {
        let is_level = |clients: &[u64]| plan(clients, 0, 9).is_level;
        assert!(is_level(&[16, 16, 14, 14]) && !is_level(&[17, 15, 14, 14]) && !is_level(&[16, 16, 15, 13]));
        assert!(
            is_level(&[108, 108, 92, 92]) && !is_level(&[109, 97, 97, 97]) && !is_level(&[103, 103, 103, 91])
        );
        assert!(is_level(&[1, 1, 1, 0]) && is_level(&[0, 0]) && !is_level(&[3, 3, 3, 0]));
    }

    #[test]
    fn the_pace_is_the_rate_whenever_somebody_looks() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut sent = 0;
        for step in 1..=100_u32 {
            let now = start + step * Duration::from_millis(130);
            let budget = pace.budget(now, 7);
            pace.sent_away(now, budget);
            sent += budget;
            assert!(sent as f64 <= 7.0 * f64::from(step) * 0.13 + 1.0, "{step}: {sent}");
        }
        assert!(sent >= 90, "{sent}");
        // What was not done in time is not done all at once.
        assert_eq!(pace.budget(start + Duration::from_secs(600), 7), 10);
        assert!(pace.away(start + Duration::from_secs(13)) > 0);
        assert_eq!(pace.away(start + Duration::from_secs(60)), 0);
    }

    /// Where clients go that were sent away.
    #[derive(Debug, Clone, Copy)]
    enum Balancer {
        /// To the node with the fewest.
        Fewest,
        /// The same, but each is counted twice while it arrives, and the next one goes elsewhere.
        CountsArrivals,
        /// To one after the other.
        Turns,
    }

    proptest! {
        #[test]
        fn it_ends_level_wherever_clients_go(
            before in prop::collection::vec(0_u64..400, 2..9),
            rate in 1_u64..200,
            balancer in prop_oneof![Just(Balancer::Fewest), Just(Balancer::CountsArrivals), Just(Balancer::Turns)],
        ) {
            let mut clients = before.clone();
            let total: u64 = clients.iter().sum();
            let (mut sent, mut turn) = (0, 0);
            let is_level = (0..20_000).any(|_| {
                let plan = plan(&clients, 0, rate);
                if plan.is_level {
                    return true;
                }
                assert!(plan.shed.iter().sum::<u64>() > 0, "{clients:?}");
                for (node, shed) in clients.iter_mut().zip(&plan.shed) {
                    *node -= shed;
                }
                let mut arriving = vec![0; clients.len()];
                for _ in 0..plan.shed.iter().sum() {
                    sent += 1;
                    turn += 1;
                    let fewest = (0..clients.len()).min_by_key(|at| clients[*at] + arriving[*at]);
                    let place = match balancer {
                        Balancer::Turns => turn % clients.len(),
                        Balancer::Fewest | Balancer::CountsArrivals => fewest.unwrap(),
                    };
                    clients[place] += 1;
                    if matches!(balancer, Balancer::CountsArrivals) {
                        arriving[place] = 1;
                    }
                }
                false
            });
            if matches!(balancer, Balancer::Turns) {
                // With few clients, some come back to where they were for ever. Whoever runs it gives up then.
                return Ok(());
            }
            prop_assert!(is_level, "{clients:?}");
            prop_assert!(sent <= total, "{sent} of {total}");
            let mean = total as f64 / clients.len() as f64;
            for count in &clients {
                prop_assert!((*count as f64 - mean).abs() <= (mean / 12.0).max(1.0), "{clients:?}");
            }
        }
    }
}
