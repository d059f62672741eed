//! A Redis Cluster: every partition's keys and channels are on the master that owns its slot.
//!
//! - `url`: where it is looked for.
//! - `table`: which master owns which slot, put together from what its nodes say.
//! - `masters`: the table that is believed at present, connections to the nodes, and who they are.
//! - `marks`: by which it shows that a master was flushed.
//! - `router`: commands, each to the master of its slot, in the order of their partition.
//! - `hub`: the channels that are to be heard, each at the master of its slot; `ear`: the connection to one of them.
//!
//! A master that does not own a slot (any more) refuses what is asked of it, and says so without having done anything: the table
//! is made anew, and it is asked again of the one that does. What nobody answered is never asked again.

mod ear;
mod hub;
mod marks;
mod masters;
mod router;
mod table;
mod url;

pub(super) use self::{
    hub::hear,
    masters::Masters,
    router::Router,
    url::{Address, Url},
};
