//! An example in a rules file: what clients send, and what they get.

use serde_json::{Map, Value};

/// An example.
#[derive(Debug, Clone)]
pub struct Example {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) steps: Vec<ExampleStep>,
}

#[derive(Debug, Clone)]
pub(crate) struct ExampleStep {
    pub(crate) line: usize,
    /// What hooks answer in it, by their names.
    pub(crate) answers: Map<String, Value>,
    pub(crate) played: Played,
}

/// What happens in a step. A client is named; its name is its socket's id, too.
#[derive(Debug, Clone)]
pub(crate) enum Played {
    Connect {
        from: String,
        namespace: String,
        auth: Option<Value>,
        subject: Option<String>,
    },
    /// A client sends an event. With `ack`, it wants this answer.
    Emit {
        from: String,
        namespace: String,
        event: Vec<Value>,
        ack: Option<Value>,
    },
    /// A client gets this, before anything else.
    Expect {
        to: String,
        event: Vec<Value>,
    },
    Disconnect {
        from: String,
    },
    Peer {
        id: String,
        is_claim: bool,
    },
}
