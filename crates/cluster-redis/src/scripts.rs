//! The scripts: each is one step that the model describes.
//!
//! While a Redis Cluster migrates a slot, a script fails as soon as it touches a key that has left already and was not named in
//! the call. So scripts touch keys that cannot be named (the index of a former owner) before they write anything, and those that
//! work through lists may be called again from the beginning.

use redis::{Cmd, Script, cmd};

/// The text of a script: its own file, behind the files of what it shares with others.
macro_rules! text {
    ($name:ident $(with $common:ident)*) => {
        concat!(
            $(include_str!(concat!("scripts/", stringify!($common), ".lua")),)*
            include_str!(concat!("scripts/", stringify!($name), ".lua"))
        )
    };
}

macro_rules! scripts {
    ($($name:ident $(with $common:ident)*),+) => {
        /// All scripts, ready to be called by their hashes.
        #[derive(Debug)]
        pub(super) struct Scripts {
            $(pub(super) $name: Script,)+
        }

        impl Scripts {
            pub(super) fn new() -> Self {
                Self { $($name: Script::new(text!($name $(with $common)*)),)+ }
            }

            /// The commands that load them all.
            pub(super) fn load(&self) -> Vec<Cmd> {
                [$(text!($name $(with $common)*),)+].into_iter()
                .map(|text| {
                    let mut load = cmd("SCRIPT");
                    load.arg("LOAD").arg(text);
                    load
                })
                .collect()
            }
        }
    };
}

scripts!(
    claim with take_queue,
    reclaim with take_queue,
    release,
    count,
    count_takeover,
    deliver,
    expire,
    put,
    remove,
    users,
    page,
    heartbeat,
    leave,
    reap,
    mark_dead,
    admit,
    revoke,
    revoked,
    time,
    hook_append,
    hook_lease,
    rules,
    put_rules,
    operation
);

/// A call of a script, keys first.
pub(super) struct Invocation {
    hash: String,
    keys: Vec<Vec<u8>>,
    args: Vec<Vec<u8>>,
}

impl Invocation {
    pub(super) fn of(script: &Script) -> Self {
        Self { hash: script.get_hash().to_owned(), keys: Vec::with_capacity(6), args: Vec::with_capacity(11) }
    }

    pub(super) fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.keys.push(key.as_ref().to_vec());
        self
    }

    pub(super) fn arg(mut self, arg: impl AsRef<[u8]>) -> Self {
        self.args.push(arg.as_ref().to_vec());
        self
    }

    pub(super) fn number(self, number: impl std::fmt::Display) -> Self {
        self.arg(number.to_string())
    }

    pub(super) fn switch(self, is_on: bool) -> Self {
        self.arg(if is_on { "1" } else { "0" })
    }

    pub(super) fn command(&self) -> Cmd {
        let mut command = cmd("EVALSHA");
        command.arg(&self.hash).arg(self.keys.len());
        for part in self.keys.iter().chain(&self.args) {
            command.arg(part.as_slice());
        }
        command
    }
}
