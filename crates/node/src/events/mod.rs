//! What happens on this node, for those who listen: the admin API's `GET events`, other nodes on behalf of theirs, and webhooks.
//!
//! Shards report to a bounded queue, and only while somebody wants to know: otherwise it costs them the look at one number. What does not
//! fit into the queue is dropped and counted, and those who listen are told. From the queue the events go into two bounded buffers:
//! this node's own, which other nodes ask for, and those of the whole cluster, which this node's listeners read at their own pace.
//!
//! - `hub`: what is wanted, and where it is recorded; `ring`: a bounded buffer.
//! - `listener`: one who reads it.
//! - `feed`: events for webhooks; `sink`: its end in the hub.

mod feed;
mod hub;
mod listener;
mod ring;
mod sink;

pub(crate) use self::hub::{EventHub, OwnEvents, Progress, Reports, shown};
pub use self::{
    feed::EventFeed,
    listener::{EventListener, FellBehind, ListenerGauge, Told},
};
