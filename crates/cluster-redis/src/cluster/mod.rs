//! A Redis Cluster: every partition's keys and channels are on the master that owns its slot.
//!
//! - `url`: where it is looked for.
//! - `slot_map`: which master owns which slot, merged from the views of the nodes.
//! - `topology`: the slot map in use, and connections to the nodes.
//! - `flush_detector`: finds out that a master was flushed.
//! - `subscription_manager`: the wanted channels, each subscribed at the master of its slot; `master_subscriber`: the connection
//!   to one of them.
//!
//! Commands are routed by `router`, one floor up. A master that does not own a slot (any more) refuses a command without
//! executing it: the slot map is refreshed, and the command goes to the owner. A command that got no answer is never sent again.

mod flush_detector;
mod master_subscriber;
mod slot_map;
mod subscription_manager;
mod topology;
mod url;

pub(super) use self::{
    flush_detector::FlushDetector,
    slot_map::SlotMap,
    subscription_manager::run,
    topology::Topology,
    url::{Address, Url},
};
