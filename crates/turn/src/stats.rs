//! What coturn says in Redis of its allocations (`redis-statsdb`): names of channels, and the texts in them.
//!
//! Source: coturn, `turndb/schema.stats.redis`. Channels are `turn/realm/<realm>/user/<user>/allocation/<id>/<kind>`.

use crate::{credential::user_of, subject::UserPart};

/// What became of an allocation of one of our users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocationEvent {
    /// Whose it is.
    pub user: UserPart,
    /// Which one: the user name and the server's number for it.
    pub allocation: String,
    /// What.
    pub what: What,
}

/// What became of an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It is there, for so many seconds.
    Open {
        /// Seconds.
        lifetime: u64,
    },
    /// It has ended.
    Deleted,
    /// It has relayed, since the last time this was said.
    Traffic(Traffic),
    /// It has ended, and had relayed this altogether.
    Total(Traffic),
}

/// Bytes between a client and the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the client.
    pub received: u64,
    /// To the client.
    pub sent: u64,
}

/// The pattern of all channels of a realm.
pub fn pattern(realm: &str) -> String {
    format!("turn/realm/{realm}/user/*/allocation/*")
}

/// Reads what was published. `None`: it is none of ours, or says nothing of interest.
pub fn read(realm: &str, channel: &str, text: &str) -> Option<AllocationEvent> {
    let rest = channel.strip_prefix("turn/realm/")?.strip_prefix(realm)?.strip_prefix("/user/")?;
    let (username, rest) = rest.split_once("/allocation/")?;
    let (id, kind) = rest.split_once('/')?;
    let user = user_of(username)?;
    let what = match kind {
        "status" if text == "deleted" => What::Deleted,
        "status" => What::Open { lifetime: number(text, "lifetime=")? },
        "traffic" => What::Traffic(traffic(text)?),
        "total_traffic" => What::Total(traffic(text)?),
        // The same bytes once more, on their way to and from the peer.
        _ => return None,
    };
    Some(AllocationEvent { user, allocation: format!("{username}/{id}"), what })
}

fn traffic(text: &str) -> Option<Traffic> {
    Some(Traffic { received: number(text, "rcvb=")?, sent: number(text, "sentb=")? })
}

/// The number after a name, up to the next comma.
fn number(text: &str, name: &str) -> Option<u64> {
    let mut fields = text.split([' ', ',']).filter_map(|field| field.strip_prefix(name));
    fields.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_coturn_says_is_read() {
        let at = |kind: &str| {
            format!(
                "turn/realm/signalbox/user/1795902581:abcdefghijklmnopqrst/allocation/001000000000000001/{kind}"
            )
        };
        for (kind, text, expected) in [
            (
                "status",
                "new lifetime=777, type=TCP, local=127.0.0.1:13479",
                Some(What::Open { lifetime: 777 }),
            ),
            ("status", "refreshed lifetime=600, type=UDP", Some(What::Open { lifetime: 600 })),
            ("status", "deleted", Some(What::Deleted)),
            (
                "traffic",
                "rcvp=3, rcvb=324, sentp=3, sentb=300",
                Some(What::Traffic(Traffic { received: 324, sent: 300 })),
            ),
            (
                "total_traffic",
                "rcvp=3, rcvb=324, sentp=3, sentb=300",
                Some(What::Total(Traffic { received: 324, sent: 300 })),
            ),
            ("traffic/peer", "rcvp=3, rcvb=324, sentp=3, sentb=300", None),
            ("status", "new", None),
            ("traffic", "rcvb=many", None),
        ] {
            let read = read("signalbox", &at(kind), text);
            assert_eq!(read.as_ref().map(|event| event.what), expected, "{kind}: {text}");
            if let Some(event) = read {
                assert_eq!(event.user.as_str(), "abcdefghijklmnopqrst");
                assert_eq!(event.allocation, "1795902581:abcdefghijklmnopqrst/001000000000000001");
            }
        }
        assert_eq!(read("other", &at("status"), "deleted"), None);
        assert_eq!(read("signalbox", "turn/realm/signalbox/user/alice/allocation/1/status", "deleted"), None);
        assert_eq!(read("signalbox", "__XXX__", "__YYY__"), None);
    }
}
