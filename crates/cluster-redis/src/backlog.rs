//! Commands that wait for their batch: in their order, but for broadcasts, which wait behind nothing that concerns another room.
//!
//! A script costs Redis as much as many broadcasts. Where many clients join one room, what is said in others would wait behind all of
//! their scripts; so it goes first. Whoever is in a room sees its changes and broadcasts in the order in which they were asked for. What
//! concerns no room, such as a question whether all is done, goes behind everything before it.

use std::collections::VecDeque;

use ahash::AHashMap;
use signalbox_cluster::RoomName;

/// What a batch may cost at most. Another batch begins only when it has been answered.
const BATCH: usize = 512;

/// A command, as far as it matters when it goes.
pub(super) trait Queued {
    /// The room in whose channel something is said by it.
    fn room(&self) -> Option<&RoomName>;
    /// Whether it is a broadcast.
    fn is_broadcast(&self) -> bool;
    /// What it costs; a broadcast 1.
    fn cost(&self) -> usize;
}

/// Commands that wait.
#[derive(Debug)]
pub(super) struct Backlog<T> {
    /// All that goes in its order, each with how many of those that go ahead have to be gone before it.
    ordered: VecDeque<(u64, T)>,
    /// Broadcasts that go before it.
    ahead: VecDeque<T>,
    /// How many broadcasts have come to go ahead, and how many of them are gone.
    came_ahead: u64,
    gone_ahead: u64,
    by_room: AHashMap<RoomName, Waiting>,
}

/// How many commands concern a room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Waiting {
    ordered: usize,
    ahead: usize,
}

impl<T: Queued> Backlog<T> {
    pub(super) fn new() -> Self {
        Self {
            ordered: VecDeque::new(),
            ahead: VecDeque::new(),
            came_ahead: 0,
            gone_ahead: 0,
            by_room: AHashMap::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ordered.is_empty() && self.ahead.is_empty()
    }

    /// Takes what was asked for, and gives back the next batch in its place.
    pub(super) fn next_batch(&mut self, commands: &mut Vec<T>) {
        // Mostly nothing waits, and all of it goes at once.
        if self.is_empty() && commands.iter().map(T::cost).sum::<usize>() <= BATCH {
            return;
        }
        commands.drain(..).for_each(|command| self.push(command));
        // Broadcasts that never end leave room for the rest.
        let mut left = BATCH;
        self.take_ahead(&mut left, BATCH / 2, commands);
        self.take_ordered(&mut left, commands);
        self.take_ahead(&mut left, 0, commands);
        if self.is_empty() {
            self.ordered.shrink_to(BATCH);
            self.ahead.shrink_to(BATCH);
            self.by_room.shrink_to(BATCH);
        }
    }

    /// Takes everything, to give it up.
    pub(super) fn take_all(&mut self, commands: &mut Vec<T>) {
        commands.extend(self.ahead.drain(..));
        commands.extend(self.ordered.drain(..).map(|(_, command)| command));
        *self = Self::new();
    }

    fn push(&mut self, command: T) {
        let is_broadcast = command.is_broadcast();
        let waiting = command.room().map(|room| self.by_room.entry(room.clone()).or_default());
        match waiting {
            Some(waiting) if is_broadcast && waiting.ordered == 0 => {
                waiting.ahead += 1;
                self.came_ahead += 1;
                self.ahead.push_back(command);
            }
            Some(waiting) => {
                waiting.ordered += 1;
                self.ordered.push_back((0, command));
            }
            None => self.ordered.push_back((self.came_ahead, command)),
        }
    }

    /// Takes broadcasts that go before the rest, until so much is left.
    fn take_ahead(&mut self, left: &mut usize, leave: usize, batch: &mut Vec<T>) {
        while *left > leave
            && let Some(command) = self.ahead.pop_front()
        {
            *left -= command.cost().min(*left);
            self.gone_ahead += 1;
            self.taken(&command, |waiting| waiting.ahead -= 1);
            batch.push(command);
        }
    }

    fn take_ordered(&mut self, left: &mut usize, batch: &mut Vec<T>) {
        while *left > 0
            && let Some((behind, command)) = self.ordered.front()
        {
            // Broadcasts that came before it have to be gone: all of them, or those to its room.
            let is_behind = |room: &RoomName| self.by_room.get(room).is_some_and(|it| it.ahead > 0);
            if *behind > self.gone_ahead || command.room().is_some_and(is_behind) {
                return;
            }
            let Some((_, command)) = self.ordered.pop_front() else { return };
            *left -= command.cost().min(*left);
            self.taken(&command, |waiting| waiting.ordered -= 1);
            batch.push(command);
        }
    }

    /// A command waits no longer.
    fn taken(&mut self, command: &T, count: impl FnOnce(&mut Waiting)) {
        let Some(room) = command.room() else { return };
        let Some(waiting) = self.by_room.get_mut(room) else { return };
        count(waiting);
        if *waiting == Waiting::default() {
            self.by_room.remove(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Command {
        number: usize,
        room: Option<RoomName>,
        is_broadcast: bool,
    }

    impl Queued for Command {
        fn room(&self) -> Option<&RoomName> {
            self.room.as_ref()
        }
        fn is_broadcast(&self) -> bool {
            self.is_broadcast
        }
        fn cost(&self) -> usize {
            if self.is_broadcast { 1 } else { 4 }
        }
    }

    fn command(number: usize, room: Option<u8>, is_broadcast: bool) -> Command {
        let room = room.map(|room| RoomName { namespace: "/".into(), name: room.to_string().into() });
        Command { number, room, is_broadcast }
    }

    fn numbers(batch: &[Command]) -> Vec<usize> {
        batch.iter().map(|command| command.number).collect()
    }

    #[test]
    fn what_fits_goes_in_its_order() {
        let mut batch: Vec<_> = (0..50).map(|n| command(n, Some(1), n % 2 == 0)).collect();
        let asked = batch.clone();
        let mut backlog = Backlog::new();
        backlog.next_batch(&mut batch);
        assert_eq!(batch, asked);
        assert!(backlog.is_empty());
    }

    #[test]
    fn what_is_said_elsewhere_does_not_wait_for_a_crowd() {
        let mut backlog = Backlog::new();
        let mut batch: Vec<_> = (0..1000).map(|n| command(n, Some(1), false)).collect();
        // Said in another room, in the crowd's, and to all.
        batch.extend([command(1000, Some(2), true), command(1001, Some(1), true), command(1002, None, true)]);
        backlog.next_batch(&mut batch);
        assert_eq!(numbers(&batch), [&[1000][..], &(0..128).collect::<Vec<_>>()].concat());
        let mut sent = 128;
        while !backlog.is_empty() {
            batch = vec![command(2000 + sent, Some(2), true)];
            backlog.next_batch(&mut batch);
            assert_eq!(batch[0].number, 2000 + sent, "it is in the next batch");
            sent += batch.len() - 1;
        }
        assert_eq!(numbers(&batch[batch.len() - 2..]), [1001, 1002], "the rest is in its order");
    }

    #[test]
    fn broadcasts_without_end_leave_room_for_the_rest() {
        let mut backlog = Backlog::new();
        let mut batch = vec![command(0, Some(1), false); 100];
        let mut calls = 0;
        for _ in 0..4 {
            batch.extend((0..2000).map(|n| command(n, Some(2), true)));
            backlog.next_batch(&mut batch);
            assert!(batch.iter().map(Command::cost).sum::<usize>() <= BATCH + 4);
            calls += batch.drain(..).filter(|command| !command.is_broadcast).count();
        }
        assert_eq!(calls, 100);
    }

    proptest! {
        /// Nothing is lost, what concerns a room keeps its order, and so do all that are no broadcasts to a room.
        #[test]
        fn order_is_kept_where_it_matters(
            commands in prop::collection::vec((prop::option::of(0_u8..3), any::<bool>()), 0..800),
            steps in prop::collection::vec(1_usize..400, 1..20),
        ) {
            let commands: Vec<_> =
                commands.into_iter().enumerate().map(|(n, (room, is))| command(n, room, is)).collect();
            let (mut asked, mut backlog, mut sent) = (&commands[..], Backlog::new(), Vec::new());
            let mut steps = steps.into_iter().cycle();
            while !asked.is_empty() || !backlog.is_empty() {
                let (now, later) = asked.split_at(steps.next().unwrap_or(1).min(asked.len()));
                asked = later;
                let mut batch = now.to_vec();
                backlog.next_batch(&mut batch);
                prop_assert!(!batch.is_empty() || now.is_empty());
                sent.extend(batch);
            }
            prop_assert_eq!(sent.len(), commands.len());
            prop_assert!(backlog.by_room.is_empty());
            let kept: [&dyn Fn(&Command) -> bool; 4] = [
                &|it| it.room.as_ref().is_some_and(|room| &*room.name == "0"),
                &|it| it.room.as_ref().is_some_and(|room| &*room.name == "1"),
                &|it| it.room.as_ref().is_some_and(|room| &*room.name == "2"),
                &|it| !it.is_broadcast || it.room.is_none(),
            ];
            for (at, it) in sent.iter().enumerate().filter(|(_, it)| it.room.is_none()) {
                let late = sent[at..].iter().find(|later| later.number < it.number);
                prop_assert_eq!(late, None, "behind what concerns no room");
            }
            for kept in kept {
                let of = |all: &[Command]| numbers(&all.iter().filter(|it| kept(it)).cloned().collect::<Vec<_>>());
                prop_assert_eq!(of(&sent), of(&commands));
            }
        }
    }
}
