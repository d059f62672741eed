//! What clients' events do, as data. A rules file says it; this crate reads the file, says what is wrong with it, and turns each
//! event into actions. It has no socket, no clock and no thread: whoever has them executes the actions.
//!
//! In the order in which a rule passes through them:
//!
//! - [`RuleSet`]: the rules of a file, and which of them is for an event. Start here.
//! - `parse`: the file, with a line, a column and a remedy for each mistake ([`Problem`]).
//! - [`Event`], `state`: what is known when a rule runs.
//! - `template`, `value`: values that are made from what is known when an event comes.
//! - `condition`: what is tested in `when` and `require`.
//! - `action`, `rule`: what a rule does, compiled.
//! - `output`, `perform`: what is to be done ([`Step`]), and how an action becomes that.
//! - `call`: what a server of the application's own is asked, and may answer; `hook`: its name.
//! - [`Cost`]: what a rule can cost at most, known before it runs.
//! - [`Run`]: a rule under way: it asks [`Facts`] and gives [`Step`]s. It can be set aside while something is asked of the cluster.
//! - [`Example`], [`examples`]: the examples in a file, played on this machine without a socket.
//!
//! The built-in vocabulary is such a file too, [`BUILTIN`]. Its events may be done by code of whoever runs the rules, which does the same
//! in less time ([`RuleSet::is_builtin`]).

mod action;
mod builtin;
mod call;
mod condition;
mod cost;
mod example;
pub mod examples;
mod facts;
mod hook;
mod output;
mod parse;
mod perform;
mod problem;
mod rule;
mod run;
mod set;
mod state;
mod template;
mod value;

pub use builtin::BUILTIN;
pub use call::{BadAnswer, CallAnswer, MAX_ANSWER};
pub use cost::Cost;
pub use example::Example;
pub use facts::{Facts, Grant, JoinedRoom, Nobody};
pub use output::{EventOut, Join, Output, Refusal, Step, To};
pub use problem::Problem;
pub use run::{Answer, Run};
pub use set::{RuleSet, Trigger};
pub use state::{Event, Member, MemberList};

/// Longest name of a room in bytes.
pub const MAX_ROOM_NAME: usize = 255;
/// Largest profile in bytes, unless a token grants another size; also largest list of arguments that a membership keeps for its events, attachments included.
pub const MAX_PROFILE: usize = 4096;
/// Largest total of what `set` keeps on one socket, in bytes: names and values.
pub const MAX_DATA: usize = 4096;
/// Most fields that `set` keeps on one socket.
pub const MAX_FIELDS: usize = 32;

/// Rooms whose names begin so are the crate's own: nobody joins them by name. `{subject}` and `{peer}` targets are such rooms.
pub const HIDDEN: char = '\u{1}';

/// The hidden room of the sockets of a subject.
pub fn subject_room(subject: &str) -> String {
    format!("{HIDDEN}subject:{subject}")
}

/// The hidden room of the socket that goes with a PeerServer id.
pub fn peer_room(id: &str) -> String {
    format!("{HIDDEN}peer:{id}")
}
