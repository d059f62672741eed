//! The transfer of a session to the shard of its WebSocket: another shard of the same node, or of another node.
//!
//! One state machine serves both. The *source* is the shard where the session lives, the *destination* the one where its WebSocket
//! was accepted. A broadcast reaches the source on several ways: from each shard of its node, and from other nodes through the
//! channel of each room and that of all. The destination subscribes to all of them, buffers what comes, and has a *marker* sent down
//! each way. Behind a marker, the source receives nothing that the destination does not receive as well. With all markers in, the
//! source sends the session with the last broadcast of each origin and the last change of each room that it was told; the
//! destination drops from its buffer what was told already and delivers the rest. So nothing is lost, doubled or reordered, and no
//! client notices.
//!
//! | state | side | waits for | goes on to |
//! |---|---|---|---|
//! | *quiescing* | source | the end of the session's requests and its POST | sends `Prepare`: *preparing* |
//! | *subscribing* | destination | its subscriptions; between nodes also a `ShardMarker` of each shard of its node | publishes a `RoomMarker` in each room, sends `Ready`: *buffering* |
//! | *preparing* | source | `Ready`; a marker on each way; between nodes also what the destination had received on the channel of all (1 s at most) | within a node sends `Session`: done; between nodes *flushing* |
//! | *flushing* | source | everything that the client has sent is published, and a `RoomMarker` behind it in each room | sends `Session`: *unconfirmed* |
//! | *buffering* | destination | `Session` | the session is here; between nodes *adopting* |
//! | *adopting* | destination | its records have this node as their owner | sends `Confirmed`: done |
//! | *catching up* | destination | between nodes: the source's `RoomMarker` in each room (1 s at most) | reads the WebSocket: done |
//! | *unconfirmed* | source | `Confirmed` | keeps a forwarding entry: done |
//!
//! | what fails | what happens |
//! |---|---|
//! | the WebSocket closes before the upgrade packet | the session goes on polling |
//! | the session ends | the source sends `Cancelled`; the destination drops its buffer and closes the WebSocket |
//! | the destination cannot subscribe, a room's changes were missed, or the destination is not ready within 5 s | the source closes the session: its client has left polling for a WebSocket that it cannot have, and connects again |
//! | the link is lost before `Confirmed` | the source asks, behind a `Cancelled`, until it has an answer or the destination no longer expects the session: it has it, or never will |
//! | the destination's node dies before `Confirmed` | the source removes the records that are still its own, so the others are told once |
//! | the source's node dies | the destination drops its buffer and closes the WebSocket; survivors reap the records |
//!
//! - [`message`]: what the two ends send each other.
//! - [`source`], [`destination`]: the two sides, without I/O.
//! - [`departed`]: sockets whose sessions have just gone, for operators' orders.
//! - [`table`]: the transfers of a shard.
//!
//! How a shard takes part stands in `shard/transfers`.

pub(in crate::shard) mod departed;
pub(in crate::shard) mod destination;
pub(crate) mod message;
pub(in crate::shard) mod path;
pub(in crate::shard) mod source;
pub(in crate::shard) mod table;
