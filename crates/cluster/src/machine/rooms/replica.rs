//! The replica of one room: its members as this node's clients were told of them, and what waits for it.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
    time::Instant,
};

use super::super::{Join, Output, Outputs};
use crate::{
    address::{Address, ShardId},
    command::{Change, Delivery, Ticket},
    record::{Record, RoomName},
    route::Route,
    store::{RoomDelta, RoomVersion},
};

/// Members in one page.
const PAGE: usize = 1000;

/// The state of the subscription of a room's channel.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subscription {
    #[default]
    Inactive,
    Requested,
    Active,
}

#[derive(Debug, Default)]
pub(super) struct Replica {
    pub(super) route: Arc<Route>,
    pub(super) subscription: Subscription,
    /// `None` until the first snapshot.
    pub(super) state: Option<RoomState>,
    /// Changes that arrived before the first snapshot. The snapshot includes some of them: the bus may be faster than the store's
    /// reply.
    pub(super) early: Vec<RoomDelta>,
    /// The last change that the shards were told.
    pub(super) last_change: u128,
    /// A join, or a call of its own, fetches the records; others wait for them.
    pub(super) is_fetching: bool,
    /// Joins whose records are put, and that wait until the replica has the version at which that was done.
    pub(super) answers: Vec<(Join, RoomVersion, Instant)>,
    /// Joins that wait for the subscription, and since when.
    pub(super) joins: Vec<Join>,
    pub(super) waits_since: Option<Instant>,
    /// Session transfers that wait for the subscription and a snapshot.
    pub(super) transfer_subscriptions: Vec<TransferSubscription>,
    /// While the replica is compared with the records: the changes that arrive meanwhile, to be applied after.
    pub(super) comparing: Option<Vec<RoomDelta>>,
    /// Compare once more after that: changes may have been missed since the records were read.
    pub(super) compares_again: bool,
    /// When the records are read again to find out which missing members are gone for good.
    pub(super) recheck_at: Option<Instant>,
    pub(super) unused_since: Option<Instant>,
}

/// A session transfer that waits until a room is subscribed, and its replica has at least this version.
#[derive(Debug, Clone, Copy)]
pub(super) struct TransferSubscription {
    pub(super) shard: ShardId,
    pub(super) ticket: Ticket,
    pub(super) room_version: RoomVersion,
    pub(super) since: Instant,
}

#[derive(Debug)]
pub(super) struct RoomState {
    pub(super) room_version: RoomVersion,
    pub(super) records: BTreeMap<Address, Arc<Record>>,
    /// The records as they were told last, while they are the same.
    pub(super) listed: Option<Arc<[Arc<Record>]>>,
    /// The first page of them as it was told last, and in which tick: of more members than a page has.
    first_page: Option<(u64, Arc<[Arc<Record>]>)>,
}

/// Members of a room in the order of their addresses, how many there are in all, and whether some come behind these.
#[derive(Debug)]
pub(in crate::machine) struct MembersPage {
    pub(in crate::machine) members: Arc<[Arc<Record>]>,
    pub(in crate::machine) count: usize,
    pub(in crate::machine) more: bool,
}

/// The same of records that are no replica's.
pub(in crate::machine) fn page_of(
    records: Vec<Arc<Record>>,
    after: Option<Address>,
    limit: usize,
) -> MembersPage {
    RoomState::new(RoomVersion::default(), records).page(after, limit, 0)
}

impl RoomState {
    pub(super) fn new(room_version: RoomVersion, records: impl IntoIterator<Item = Arc<Record>>) -> Self {
        let records = records.into_iter().map(|record| (record.socket, record)).collect();
        Self { room_version, records, listed: None, first_page: None }
    }

    /// All members where there are no more than the limit, unless it is asked for those behind one of them; else a page. Where there are
    /// more than a page has, everybody who asks in one tick gets the same first one: of a crowd that comes and goes it would have to be
    /// collected for each. `tick` 0: there are no ticks.
    pub(super) fn page(&mut self, after: Option<Address>, limit: usize, tick: u64) -> MembersPage {
        let count = self.records.len();
        if after.is_none() && count <= limit {
            return MembersPage { members: self.members(), count, more: false };
        }
        let is_first = after.is_none() && count > PAGE && tick > 0;
        if let Some((_, members)) = self.first_page.as_ref().filter(|(of, _)| is_first && *of == tick) {
            return MembersPage { members: members.clone(), count, more: true };
        }
        let mut rest = self.records.range((after.map_or(Unbounded, Excluded), Unbounded));
        let members: Arc<[_]> = rest.by_ref().take(PAGE).map(|(_, record)| record.clone()).collect();
        self.first_page = is_first.then(|| (tick, members.clone()));
        MembersPage { members, count, more: rest.next().is_some() }
    }

    /// The members, in the order of their addresses: collected once, however many ask before they change.
    fn members(&mut self) -> Arc<[Arc<Record>]> {
        let records = &self.records;
        self.listed.get_or_insert_with(|| records.values().cloned().collect()).clone()
    }

    pub(super) fn records_mut(&mut self) -> &mut BTreeMap<Address, Arc<Record>> {
        self.listed = None;
        // Those who have gone are not kept for its sake.
        if self.records.len() <= PAGE + 1 {
            self.first_page = None;
        }
        &mut self.records
    }
}

/// The id of the change that leads to a version. Every node that receives the change in order computes the same.
pub(super) fn change_id_of(room_version: RoomVersion) -> u128 {
    u128::from(room_version.epoch) << 64 | u128::from(room_version.version) << 16
}

/// The version of a change. Differences found in a snapshot have ids that follow that of its version.
pub(super) fn version_of(number: u128) -> RoomVersion {
    RoomVersion { epoch: (number >> 64) as u64, version: number as u64 >> 16 }
}

impl Replica {
    /// Applies a change, and tells it to the shards unless the replica had it already.
    pub(super) fn apply_change(&mut self, room: &RoomName, change: Change, out: &mut Outputs) {
        let Some(state) = self.state.as_mut() else { return };
        let change = match change {
            Change::Joined(record) | Change::Updated(record) => {
                match state.records_mut().insert(record.socket, record.clone()) {
                    Some(known) if *known == *record => return,
                    Some(_) => Change::Updated(record),
                    None => Change::Joined(record),
                }
            }
            Change::Left(record) => {
                if state.records_mut().remove(&record.socket).is_none() {
                    return;
                }
                Change::Left(record)
            }
        };
        let count = state.records.len();
        self.last_change = (self.last_change + 1).max(change_id_of(state.room_version));
        for shard in self.route.shards() {
            let changed = Delivery::RoomChanged {
                room: room.clone(),
                change_id: self.last_change,
                change: change.clone(),
                count,
            };
            out.push_back(Output::Deliver(shard, changed));
        }
    }

    /// Replaces the replica by a snapshot, and tells the shards what differs. Missing members for which `keeps` holds stay;
    /// returns whether there are any.
    pub(super) fn replace(
        &mut self,
        room: &RoomName,
        room_version: RoomVersion,
        records: Vec<Arc<Record>>,
        keeps: &dyn Fn(Address) -> bool,
        out: &mut Outputs,
    ) -> bool {
        let Some(state) = self.state.as_mut() else {
            self.state = Some(RoomState::new(room_version, records));
            self.last_change = self.last_change.max(change_id_of(room_version));
            return false;
        };
        state.room_version = room_version;
        let mut gone = state.records.clone();
        for record in &records {
            gone.remove(&record.socket);
        }
        let missing = gone.len();
        gone.retain(|socket, _| !keeps(*socket));
        let has_kept = gone.len() < missing;
        for change in gone.into_values().map(Change::Left).chain(records.into_iter().map(Change::Joined)) {
            self.apply_change(room, change, out);
        }
        has_kept
    }

    /// Changes may be missed from now on. A first snapshot that is on its way may be older than that: it is compared when it has
    /// arrived.
    pub(super) fn subscription_lost(&mut self) {
        self.subscription = Subscription::Requested;
        self.compares_again |= self.state.is_none();
    }

    /// The shards have been told every change that has arrived, and none was missed as far as is known.
    pub(super) fn is_current(&self) -> bool {
        self.subscription == Subscription::Active
            && self.state.is_some()
            && self.comparing.is_none()
            && self.recheck_at.is_none()
    }

    pub(super) fn is_unused(&self) -> bool {
        Arc::strong_count(&self.route) == 1
            && self.route.is_empty()
            && self.joins.is_empty()
            && self.answers.is_empty()
            && self.transfer_subscriptions.is_empty()
    }
}
