//! All channels that are to be heard, each at the master that owns its slot.
//!
//! A slot may leave its master, and a master may die or be no master any more. What was heard there is then heard at the next
//! owner, and the cluster is told that it may have missed something in between. What comes from a server at which a channel is
//! not to be heard (any more) does not count: a replica hears what its master hears, and would say everything twice.

use std::{collections::hash_map::Entry, sync::Arc, time::Duration, time::Instant};

use ahash::{AHashMap, AHashSet};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::MissedTickBehavior,
};

use super::{
    super::{RESPONSE, backoff, calls::Context, hearing, keys, keys::Channel, subscriber::Wanted},
    ear::{Ask, Ear, Event},
    masters::Masters,
    table::Table,
};
use crate::{Cluster, address::NodeTag};

/// Changes of what is wanted that are taken at once.
const BATCH: usize = 500;
/// How often it is looked whether what was asked for has been answered.
const LOOK: Duration = Duration::from_millis(500);
/// The number of the hub among its ears: it tells itself when the nodes have been asked.
const HUB: u32 = 0;

/// How a channel is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nowhere.
    Lost,
    /// An ear was asked to hear it.
    Asked(u32, Instant),
    /// An ear hears it.
    Heard(u32),
}

/// Hears the bus until the node ends.
pub(in super::super) async fn hear(
    masters: Arc<Masters>,
    context: &Context,
    tag: NodeTag,
    cluster: &Cluster,
    mut wanted: UnboundedReceiver<Wanted>,
) {
    let (events, mut heard) = unbounded_channel();
    let mut table = masters.watch();
    let mut hub = Hub {
        masters,
        context,
        tag,
        cluster,
        channels: AHashMap::new(),
        unsettled: AHashSet::new(),
        ears: Vec::new(),
        last: HUB,
        events,
        is_looking: false,
        is_deaf: true,
        has_begun: false,
    };
    hub.want(Channel::Everywhere);
    hub.want(Channel::Node);
    hub.look(Duration::ZERO);
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            event = heard.recv() => match event {
                Some((HUB, _)) => hub.looked(),
                Some((ear, event)) => hub.event(ear, event),
                // The hub has a sender itself.
                None => return,
            },
            count = wanted.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    return;
                }
                for wanted in batch.drain(..) {
                    match wanted {
                        Wanted::Hear(room) => hub.want(Channel::Room(room)),
                        Wanted::Unhear(room) => hub.drop(&Channel::Room(room)),
                    }
                }
            }
            _ = table.changed() => {
                let table = table.borrow_and_update().clone();
                hub.follow(&table);
            }
            _ = looks.tick() => hub.give_up_waiting(),
        }
    }
}

struct Hub<'a> {
    masters: Arc<Masters>,
    context: &'a Context,
    tag: NodeTag,
    cluster: &'a Cluster,
    /// All channels that are to be heard.
    channels: AHashMap<Channel, State>,
    /// Those that are not.
    unsettled: AHashSet<Channel>,
    ears: Vec<Ear>,
    /// The number of the last ear.
    last: u32,
    events: UnboundedSender<(u32, Event)>,
    /// The nodes are being asked who owns what.
    is_looking: bool,
    /// What is told to this node, or to all, is not heard.
    is_deaf: bool,
    /// It was, once: rooms come after that, so that whoever has joined one hears everything.
    has_begun: bool,
}

impl Hub<'_> {
    fn want(&mut self, channel: Channel) {
        match self.channels.entry(channel.clone()) {
            Entry::Occupied(known) => {
                if let (State::Heard(_), Channel::Room(room)) = (known.get(), &channel) {
                    self.cluster.subscribed(Instant::now(), room);
                }
            }
            Entry::Vacant(place) => {
                place.insert(State::Lost);
                self.unsettled.insert(channel.clone());
                self.ask(&channel);
            }
        }
    }

    fn drop(&mut self, channel: &Channel) {
        self.unsettled.remove(channel);
        if let Some(State::Asked(ear, _) | State::Heard(ear)) = self.channels.remove(channel) {
            self.unhear(ear, channel);
        }
    }

    fn unhear(&self, ear: u32, channel: &Channel) {
        if let Some(ear) = self.ears.iter().find(|known| known.number == ear) {
            ear.ask(Ask::Unhear(self.context.keys.channel(channel, self.tag)));
        }
    }

    /// Asks the owner of a channel's slot, if there is one.
    fn ask(&mut self, channel: &Channel) {
        if matches!(channel, Channel::Room(_)) && !self.has_begun {
            return;
        }
        let name = self.context.keys.channel(channel, self.tag);
        let table = self.masters.table();
        let Some(master) = table.owner(keys::slot(&name)) else {
            self.look(backoff());
            return;
        };
        let index = match self.ears.iter().position(|ear| ear.address == master.address) {
            Some(index) => index,
            None => {
                self.last += 1;
                let (masters, address) = (self.masters.clone(), master.address.clone());
                self.ears.push(Ear::open(self.last, masters, address, self.events.clone()));
                self.ears.len() - 1
            }
        };
        let ear = &self.ears[index];
        ear.ask(Ask::Hear(name));
        self.channels.insert(channel.clone(), State::Asked(ear.number, Instant::now()));
    }

    /// Asks the nodes who owns what, and then once more for what is not heard.
    fn look(&mut self, pause: Duration) {
        if std::mem::replace(&mut self.is_looking, true) {
            return;
        }
        let (masters, events) = (self.masters.clone(), self.events.clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            masters.refresh(Instant::now()).await;
            // Any event will do.
            let _ = events.send((HUB, Event::Dead));
        });
    }

    fn looked(&mut self) {
        self.is_looking = false;
        self.ask_lost();
    }

    fn ask_lost(&mut self) {
        let lost: Vec<Channel> =
            self.unsettled.iter().filter(|channel| self.is_lost(channel)).cloned().collect();
        for channel in lost {
            self.ask(&channel);
        }
    }

    fn is_lost(&self, channel: &Channel) -> bool {
        self.channels.get(channel) == Some(&State::Lost)
    }

    /// What was asked long ago was not heard by anybody: it is asked again.
    fn give_up_waiting(&mut self) {
        let mut is_late = false;
        for channel in &self.unsettled {
            if let Some(state @ State::Asked(..)) = self.channels.get_mut(channel)
                && let State::Asked(_, since) = *state
                && since.elapsed() >= RESPONSE
            {
                *state = State::Lost;
                is_late = true;
            }
        }
        if is_late {
            self.look(backoff());
        }
    }

    fn event(&mut self, ear: u32, event: Event) {
        match event {
            Event::Heard(name) => self.heard(ear, &name),
            Event::Unheard(name) => {
                // Not one that was asked anew: it is answered after this.
                if let Some(channel) = self.context.keys.read_channel(&name)
                    && self.channels.get(&channel) == Some(&State::Heard(ear))
                {
                    self.lose(channel);
                    self.look(Duration::ZERO);
                }
            }
            Event::Refused(name) => {
                if let Some(channel) = self.context.keys.read_channel(&name)
                    && let Some(state @ State::Asked(..)) = self.channels.get_mut(&channel)
                    && matches!(*state, State::Asked(asked, _) if asked == ear)
                {
                    *state = State::Lost;
                    self.look(backoff());
                }
            }
            Event::Message(name, payload) => {
                let Some(channel) = self.context.keys.read_channel(&name) else { return };
                if let Some(State::Asked(of, _) | State::Heard(of)) = self.channels.get(&channel)
                    && *of == ear
                {
                    hearing::heard(self.context, self.cluster, channel, &payload.into());
                }
            }
            Event::Dead => self.ear_is_dead(ear),
        }
    }

    fn heard(&mut self, ear: u32, name: &[u8]) {
        let Some(channel) = self.context.keys.read_channel(name) else { return };
        let Some(state) = self.channels.get_mut(&channel) else { return };
        if !matches!(*state, State::Asked(asked, _) if asked == ear) {
            return;
        }
        *state = State::Heard(ear);
        self.unsettled.remove(&channel);
        match &channel {
            Channel::Room(room) => self.cluster.subscribed(Instant::now(), room),
            Channel::Everywhere | Channel::Node => {
                let fixed = [Channel::Everywhere, Channel::Node];
                if self.is_deaf && fixed.iter().all(|fixed| !self.unsettled.contains(fixed)) {
                    self.is_deaf = false;
                    self.cluster.bus_back(Instant::now());
                    if !std::mem::replace(&mut self.has_begun, true) {
                        self.ask_lost();
                    }
                }
            }
        }
    }

    /// What is said in a channel is not heard any more.
    fn lose(&mut self, channel: Channel) {
        match &channel {
            Channel::Room(room) => self.cluster.unheard(Some(room)),
            Channel::Everywhere | Channel::Node => {
                self.is_deaf = true;
                self.cluster.bus_lost();
            }
        }
        self.channels.insert(channel.clone(), State::Lost);
        self.unsettled.insert(channel);
    }

    fn ear_is_dead(&mut self, ear: u32) {
        let Some(index) = self.ears.iter().position(|known| known.number == ear) else { return };
        let address = self.ears.swap_remove(index).address;
        tracing::debug!(master = %address, "it is not heard any more");
        let (mut lost, mut asked) = (Vec::new(), Vec::new());
        for (channel, state) in &self.channels {
            match state {
                State::Heard(at) if *at == ear => lost.push(channel.clone()),
                State::Asked(at, _) if *at == ear => asked.push(channel.clone()),
                _ => {}
            }
        }
        for channel in lost {
            self.lose(channel);
        }
        for channel in asked {
            self.channels.insert(channel, State::Lost);
        }
        self.look(backoff());
    }

    /// The table has changed: what another master owns now is heard there.
    fn follow(&mut self, table: &Table) {
        let ears: AHashMap<u32, &_> = self.ears.iter().map(|ear| (ear.number, &ear.address)).collect();
        let mut moved = Vec::new();
        for (channel, state) in &self.channels {
            let (State::Asked(ear, _) | State::Heard(ear)) = *state else { continue };
            let name = self.context.keys.channel(channel, self.tag);
            let owner = table.owner(keys::slot(&name)).map(|owner| &owner.address);
            // Without an owner there is nowhere else to hear it.
            if owner.is_some() && owner != ears.get(&ear).copied() {
                moved.push((channel.clone(), *state, ear));
            }
        }
        for (channel, state, ear) in moved {
            self.unhear(ear, &channel);
            if let State::Heard(_) = state {
                self.lose(channel.clone());
            }
            self.ask(&channel);
        }
        let in_use: AHashSet<u32> = self
            .channels
            .values()
            .filter_map(|state| match state {
                State::Asked(ear, _) | State::Heard(ear) => Some(*ear),
                State::Lost => None,
            })
            .collect();
        self.ears.retain(|ear| in_use.contains(&ear.number));
    }
}
