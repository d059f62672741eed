//! What goes over the node link: requests for sessions of the other node.

use serde::{Deserialize, Serialize};
use signalbox_cluster::Address;

use crate::message::RequestRefused;

/// Asked of the node that has a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Asked<'a> {
    /// Is there such a session?
    Exists { sid: Address },
    /// A GET. When it has to wait, [`Told::Accepted`] comes at once.
    Poll { sid: Address, number: u64 },
    /// A POST begins.
    BeginPost { sid: Address, number: u64 },
    /// A POST was read. [`Told::Accepted`] comes at once, the answer when its packets were applied.
    Post {
        sid: Address,
        number: u64,
        #[serde(borrow)]
        body: &'a [u8],
    },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answered {
    /// There is such a session, or not.
    Exists(bool),
    /// The body of a GET.
    Body(String),
    /// The POST may be read.
    Begun,
    /// The packets of the POST were applied.
    Applied,
    /// No.
    Refused(RequestRefused),
}

/// Told without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Told {
    /// The GET or POST with this number was taken; its answer may take a while.
    Accepted { number: u64 },
    /// The GET was given up.
    PollLost { sid: Address, number: u64 },
    /// The POST broke off, or was refused.
    PostLost { sid: Address, number: u64 },
}
