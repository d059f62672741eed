//! Who must hear which message, and who did: one bit each, so that loss and duplicates are exact.

/// The clients that are to hear a message: a run of consecutive ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hearers {
    pub(crate) first: usize,
    pub(crate) members: usize,
    /// One of them that must not: the sender.
    pub(crate) except: Option<usize>,
}

impl Hearers {
    /// Just this client.
    pub(crate) fn one(client: usize) -> Self {
        Self { first: client, members: 1, except: None }
    }

    /// How many are to hear it.
    pub(crate) fn count(&self) -> u64 {
        (self.members - usize::from(self.except.is_some())) as u64
    }
}

/// What hearing a message meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    First,
    Again,
    /// By somebody it was not for.
    Wrongly,
}

/// All messages of a phase.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The hearers of each message, and where their bits begin.
    messages: Vec<(Hearers, usize)>,
    bits: Vec<u64>,
    used: usize,
}

impl Ledger {
    /// Enters a message; gives back its number.
    pub(crate) fn enter(&mut self, hearers: Hearers) -> u32 {
        let number = self.messages.len();
        self.messages.push((hearers, self.used));
        self.used += hearers.members;
        self.bits.resize(self.used.div_ceil(64), 0);
        number as u32
    }

    /// A client heard a message.
    pub(crate) fn hear(&mut self, message: u32, client: usize) -> Heard {
        let Some((hearers, first_bit)) = self.messages.get(message as usize) else { return Heard::Wrongly };
        let index = client.wrapping_sub(hearers.first);
        if index >= hearers.members || hearers.except == Some(client) {
            return Heard::Wrongly;
        }
        let bit = first_bit + index;
        let word = &mut self.bits[bit / 64];
        let before = *word;
        *word |= 1 << (bit % 64);
        if *word == before { Heard::Again } else { Heard::First }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hearer_of_each_message_counts_once() {
        let mut ledger = Ledger::default();
        let rooms = [Hearers { first: 0, members: 100, except: Some(3) }, Hearers::one(100)];
        let messages = rooms.map(|room| ledger.enter(room));
        for (message, room) in messages.into_iter().zip(rooms) {
            let first = (0..200).filter(|client| ledger.hear(message, *client) == Heard::First).count();
            assert_eq!(first as u64, room.count());
        }
        assert_eq!(ledger.hear(0, 5), Heard::Again);
        assert_eq!(ledger.hear(0, 3), Heard::Wrongly);
        assert_eq!(ledger.hear(0, 100), Heard::Wrongly);
        assert_eq!(ledger.hear(1, 99), Heard::Wrongly);
        assert_eq!(ledger.hear(2, 0), Heard::Wrongly);
    }
}
