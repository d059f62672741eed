//! Commands that wait for their batch: in their order, but for broadcasts, which wait behind nothing that concerns another room.
//!
//! A script costs Redis as much as many broadcasts. Where many clients join one room, what is said in others would wait behind all of
//! their scripts; so it goes first. Rooms take turns: where many things are said in one, the others do not wait behind them. Whoever is in
//! a room sees its changes and broadcasts in the order in which they were asked for. What concerns no room, such as a question whether
//! all is done, goes behind everything before it.
//!
//! Not even behind the batch that is under way: broadcasts to rooms that nothing of it concerns go beside it, over a connection of their
//! own. Large ones do not: they would take as long as a batch.

use std::collections::VecDeque;

use ahash::{AHashMap, AHashSet};
use signalbox_cluster::RoomName;

/// What a batch may cost at most. Another batch begins only when it has been answered.
const BATCH: usize = 512;
/// The same for broadcasts beside it, which others wait for only as long.
const BESIDE: usize = 128;
/// A broadcast that costs more does not go beside a batch.
const LARGE: usize = 16;
/// Rooms that are looked at for one whose broadcasts may go beside a batch.
const LOOKED_AT: usize = 64;

/// The rooms that a batch under way concerns.
pub(super) type Rooms = AHashSet<RoomName>;

/// A command, as far as it matters when it goes.
pub(super) trait Queued {
    /// The room in whose channel something is said by it.
    fn room(&self) -> Option<&RoomName>;
    /// Whether it is a broadcast.
    fn is_broadcast(&self) -> bool;
    /// What it costs; a small broadcast 1.
    fn cost(&self) -> usize;
}

/// Commands that wait.
#[derive(Debug)]
pub(super) struct Backlog<T> {
    /// All that goes in its order, each with how many of the broadcasts that go before it had come by then: they have to be gone.
    ordered: VecDeque<(u64, T)>,
    /// What concerns which room: commands that wait, and those beside a batch.
    by_room: AHashMap<RoomName, Waiting<T>>,
    /// Rooms with broadcasts that go ahead, in turns.
    turns: VecDeque<RoomName>,
    /// Which of these broadcasts are gone.
    gone: Gone,
    /// The numbers and rooms of those that are under way beside a batch.
    beside: Vec<(u64, RoomName)>,
}

/// What concerns a room.
#[derive(Debug)]
struct Waiting<T> {
    /// How many commands go in their order.
    ordered: usize,
    /// Broadcasts that go before those, with their numbers,
    ahead: VecDeque<(u64, T)>,
    /// and how many more are under way beside a batch.
    beside: usize,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { ordered: 0, ahead: VecDeque::new(), beside: 0 }
    }
}

/// Broadcasts that go ahead have numbers, and are gone in another order than they came in.
#[derive(Debug, Default)]
struct Gone {
    /// All before this one are gone,
    before: u64,
    /// and of those from it on, these.
    from_there: VecDeque<bool>,
}

impl Gone {
    /// Another one comes.
    fn comes(&mut self) -> u64 {
        self.from_there.push_back(false);
        self.came() - 1
    }

    /// How many have come.
    fn came(&self) -> u64 {
        self.before + self.from_there.len() as u64
    }

    fn goes(&mut self, number: u64) {
        if let Some(is_gone) = self.from_there.get_mut((number - self.before) as usize) {
            *is_gone = true;
        }
        while self.from_there.front() == Some(&true) {
            self.from_there.pop_front();
            self.before += 1;
        }
    }
}

impl<T: Queued> Backlog<T> {
    pub(super) fn new() -> Self {
        Self {
            ordered: VecDeque::new(),
            by_room: AHashMap::new(),
            turns: VecDeque::new(),
            gone: Gone::default(),
            beside: Vec::new(),
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.ordered.is_empty() && self.turns.is_empty()
    }

    /// The rooms that a batch concerns.
    pub(super) fn rooms_of(batch: &[T]) -> Rooms {
        batch.iter().filter_map(T::room).cloned().collect()
    }

    /// Takes what was asked for while a batch is under way.
    pub(super) fn wait(&mut self, commands: &mut Vec<T>) {
        commands.drain(..).for_each(|command| self.push(command));
    }

    /// Takes broadcasts that may go beside a batch which concerns these rooms. Nothing until those that went before have been answered.
    pub(super) fn take_beside(&mut self, under_way: &Rooms) -> Vec<T> {
        let (mut taken, mut left, mut looked_at) = (Vec::new(), BESIDE, 0);
        if self.has_beside() {
            return taken;
        }
        while left > 0
            && looked_at < self.turns.len().min(LOOKED_AT)
            && let Some(room) = self.turns.front()
        {
            let next = self.by_room.get(room).and_then(|waiting| waiting.ahead.front());
            if under_way.contains(room) || next.is_some_and(|(_, command)| command.cost() > LARGE) {
                looked_at += 1;
                self.turns.rotate_left(1);
            } else if let Some((number, command)) = self.next_ahead() {
                looked_at = 0;
                left -= command.cost().min(left);
                if let Some(room) = command.room() {
                    self.beside.push((number, room.clone()));
                    self.by_room.entry(room.clone()).or_default().beside += 1;
                }
                taken.push(command);
            }
        }
        taken
    }

    /// Whether broadcasts are under way beside a batch.
    pub(super) fn has_beside(&self) -> bool {
        !self.beside.is_empty()
    }

    /// Those have been answered.
    pub(super) fn answered_beside(&mut self) {
        for (number, room) in std::mem::take(&mut self.beside) {
            self.gone.goes(number);
            self.done(&room, |waiting| waiting.beside -= 1);
        }
    }

    /// Takes what was asked for, and gives back the next batch in its place.
    pub(super) fn next_batch(&mut self, commands: &mut Vec<T>) {
        // Mostly nothing waits, and all of it goes at once.
        if self.is_empty() && !self.has_beside() && commands.iter().map(T::cost).sum::<usize>() <= BATCH {
            return;
        }
        self.wait(commands);
        // Broadcasts that never end leave room for the rest.
        let mut left = BATCH;
        self.take_ahead(&mut left, BATCH / 2, commands);
        self.take_ordered(&mut left, commands);
        self.take_ahead(&mut left, 0, commands);
        if self.is_empty() {
            self.ordered.shrink_to(BATCH);
            self.turns.shrink_to(BATCH);
            self.by_room.shrink_to(BATCH);
            self.gone.from_there.shrink_to(BATCH);
        }
    }

    /// Takes everything that waits, to give it up. What is under way beside a batch is forgotten.
    pub(super) fn take_all(&mut self, commands: &mut Vec<T>) {
        while let Some((_, command)) = self.next_ahead() {
            commands.push(command);
        }
        commands.extend(self.ordered.drain(..).map(|(_, command)| command));
        *self = Self::new();
    }

    fn push(&mut self, command: T) {
        let Some(room) = command.room() else {
            self.ordered.push_back((self.gone.came(), command));
            return;
        };
        let waiting = match self.by_room.get_mut(room) {
            Some(waiting) => waiting,
            None => self.by_room.entry(room.clone()).or_default(),
        };
        if !command.is_broadcast() || waiting.ordered > 0 {
            waiting.ordered += 1;
            self.ordered.push_back((0, command));
            return;
        }
        if waiting.ahead.is_empty() {
            self.turns.push_back(room.clone());
        }
        waiting.ahead.push_back((self.gone.comes(), command));
    }

    /// The next broadcast of the room whose turn it is, with its number.
    fn next_ahead(&mut self) -> Option<(u64, T)> {
        let room = self.turns.pop_front()?;
        let waiting = self.by_room.get_mut(&room)?;
        let next = waiting.ahead.pop_front();
        if !waiting.ahead.is_empty() {
            self.turns.push_back(room);
        }
        next
    }

    /// Takes broadcasts that go before the rest, until so much is left.
    fn take_ahead(&mut self, left: &mut usize, leave: usize, batch: &mut Vec<T>) {
        while *left > leave
            && !self.has_beside()
            && let Some((number, command)) = self.next_ahead()
        {
            *left -= command.cost().min(*left);
            self.gone.goes(number);
            self.taken(&command, |_| ());
            batch.push(command);
        }
    }

    fn take_ordered(&mut self, left: &mut usize, batch: &mut Vec<T>) {
        while *left > 0
            && let Some((behind, command)) = self.ordered.front()
        {
            // Broadcasts that came before it have to be gone: all of them, or those to its room.
            let is_behind = |room: &RoomName| {
                self.by_room.get(room).is_some_and(|it| !it.ahead.is_empty() || it.beside > 0)
            };
            if *behind > self.gone.before || command.room().is_some_and(is_behind) {
                return;
            }
            let Some((_, command)) = self.ordered.pop_front() else { return };
            *left -= command.cost().min(*left);
            self.taken(&command, |waiting| waiting.ordered -= 1);
            batch.push(command);
        }
    }

    /// A command waits no longer.
    fn taken(&mut self, command: &T, count: impl FnOnce(&mut Waiting<T>)) {
        if let Some(room) = command.room() {
            self.done(room, count);
        }
    }

    fn done(&mut self, room: &RoomName, count: impl FnOnce(&mut Waiting<T>)) {
        let Some(waiting) = self.by_room.get_mut(room) else { return };
        count(waiting);
        if waiting.ordered == 0 && waiting.ahead.is_empty() && waiting.beside == 0 {
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
        cost: usize,
    }

    impl Queued for Command {
        fn room(&self) -> Option<&RoomName> {
            self.room.as_ref()
        }
        fn is_broadcast(&self) -> bool {
            self.is_broadcast
        }
        fn cost(&self) -> usize {
            self.cost
        }
    }

    fn command(number: usize, room: Option<u8>, is_broadcast: bool) -> Command {
        let room = room.map(|room| RoomName { namespace: "/".into(), name: room.to_string().into() });
        Command { number, room, is_broadcast, cost: if is_broadcast { 1 } else { 4 } }
    }

    fn large(number: usize, room: u8) -> Command {
        Command { cost: 2 * LARGE, ..command(number, Some(room), true) }
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

    #[test]
    fn what_is_said_elsewhere_does_not_even_wait_for_the_batch_under_way() {
        let mut backlog = Backlog::new();
        let mut batch: Vec<_> = (0..100).map(|n| command(n, Some(1), false)).collect();
        backlog.next_batch(&mut batch);
        let under_way = Backlog::rooms_of(&batch);
        backlog.wait(&mut vec![
            command(100, Some(2), true),
            command(101, Some(1), true),
            command(102, Some(2), true),
        ]);
        // What is said in the crowd's room waits, and nothing else.
        assert_eq!(numbers(&backlog.take_beside(&under_way)), [100, 102]);
        assert!(backlog.take_beside(&under_way).is_empty());
        // The batch has been answered, and nothing overtakes what is still under way.
        let mut next = vec![command(103, Some(2), false), command(104, Some(3), false)];
        backlog.next_batch(&mut next);
        assert!(next.is_empty());
        backlog.answered_beside();
        backlog.next_batch(&mut next);
        assert_eq!(numbers(&next), [101, 103, 104]);
    }

    #[test]
    fn what_is_said_in_one_room_without_end_does_not_keep_others_waiting() {
        let mut backlog = Backlog::new();
        let mut batch: Vec<_> = (0..4000).map(|n| command(n, Some(1), true)).collect();
        batch.extend([
            command(4000, Some(2), true),
            command(4001, Some(3), true),
            command(4002, Some(2), true),
        ]);
        backlog.next_batch(&mut batch);
        let others =
            |batch: &[Command]| numbers(batch).into_iter().filter(|n| *n >= 4000).collect::<Vec<_>>();
        assert_eq!(others(&batch[..5]), [4000, 4001, 4002]);
        // What waits for no room in particular waits for all of it.
        backlog.wait(&mut vec![command(4003, None, false), command(4004, Some(2), true)]);
        let mut sent = batch.len();
        while !backlog.is_empty() {
            batch.clear();
            backlog.next_batch(&mut batch);
            sent += batch.len();
        }
        assert_eq!((sent, batch.last().map(|it| it.number)), (4005, Some(4003)));
    }

    #[test]
    fn a_large_broadcast_does_not_go_beside_a_batch_and_others_pass_it() {
        let mut backlog = Backlog::new();
        let under_way = Rooms::default();
        backlog.wait(&mut vec![large(0, 1), command(1, Some(2), true), command(2, Some(1), true)]);
        assert_eq!(numbers(&backlog.take_beside(&under_way)), [1]);
        backlog.answered_beside();
        assert!(backlog.take_beside(&under_way).is_empty());
        let mut batch = Vec::new();
        backlog.next_batch(&mut batch);
        assert_eq!(numbers(&batch), [0, 2]);
    }

    /// When a command was sent and answered.
    #[derive(Clone)]
    struct Span {
        command: Command,
        /// Its place in its batch.
        place: usize,
        began: usize,
        ended: usize,
    }

    proptest! {
        /// Nothing is lost, what concerns a room keeps its order, and so do all that are no broadcasts to a room: of two such, one was
        /// answered before the other was sent, or both were sent in their order over one connection.
        #[test]
        fn order_is_kept_where_it_matters(
            commands in prop::collection::vec((prop::option::of(0_u8..3), any::<bool>()), 0..800),
            steps in prop::collection::vec((0_u8..4, 1_usize..400), 1..40),
        ) {
            let commands: Vec<_> =
                commands.into_iter().enumerate().map(|(n, (room, is))| command(n, room, is)).collect();
            let (mut asked, mut backlog) = (&commands[..], Backlog::new());
            let (mut batch, mut beside): (Vec<Span>, Vec<Span>) = Default::default();
            let mut under_way = Rooms::default();
            let mut sent: Vec<Span> = Vec::new();
            let mut steps = steps.into_iter().chain((0..4).map(|what| (what, 400))).cycle();
            for now in 0.. {
                if asked.is_empty() && backlog.is_empty() && batch.is_empty() && beside.is_empty() {
                    break;
                }
                let (what, count) = steps.next().unwrap();
                let begin = |commands: Vec<Command>| -> Vec<Span> {
                    let all = commands.into_iter().enumerate();
                    all.map(|(place, command)| Span { command, place, began: now, ended: usize::MAX }).collect()
                };
                match what {
                    // The next batch begins, or what is asked for meanwhile waits.
                    0 => {
                        let (new, later) = asked.split_at(count.min(asked.len()));
                        asked = later;
                        let mut new = new.to_vec();
                        if !batch.is_empty() {
                            backlog.wait(&mut new);
                        } else {
                            let was_nothing = new.is_empty();
                            backlog.next_batch(&mut new);
                            prop_assert!(!new.is_empty() || was_nothing || backlog.has_beside());
                            under_way = Backlog::rooms_of(&new);
                            batch = begin(new);
                        }
                    }
                    1 => sent.extend(batch.drain(..).map(|it| Span { ended: now, ..it })),
                    2 if !batch.is_empty() => {
                        beside.extend(begin(backlog.take_beside(&under_way)));
                    }
                    _ => {
                        sent.extend(beside.drain(..).map(|it| Span { ended: now, ..it }));
                        backlog.answered_beside();
                    }
                }
            }
            prop_assert_eq!(sent.len(), commands.len());
            prop_assert!(backlog.by_room.is_empty() && !backlog.has_beside());
            sent.sort_by_key(|it| it.command.number);
            let goes_ahead = |it: &Command| it.is_broadcast && it.room.is_some();
            for (at, earlier) in sent.iter().enumerate() {
                for later in &sent[at + 1..] {
                    let (one, other) = (&earlier.command, &later.command);
                    let is_ordered = one.room.is_some() && one.room == other.room
                        || other.room.is_none()
                        || !(goes_ahead(one) || goes_ahead(other));
                    let is_kept = earlier.ended <= later.began
                        || earlier.began == later.began && earlier.place < later.place;
                    prop_assert!(!is_ordered || is_kept, "{} and {}", one.number, other.number);
                }
            }
        }
    }
}
