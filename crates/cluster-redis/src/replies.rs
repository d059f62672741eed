//! Redis' answers as replies. They are not trusted: another program may write into the same Redis.

use std::{collections::BTreeSet, sync::Arc};

use redis::Value;
use signalbox_cluster::{
    address::{Address, Owner},
    command::{Holder, PeerAt, RealmId},
    record::Record,
    store::{Call, HeartbeatReply, Reply, RoomVersion, TakeoverNotice},
};
use signalbox_websocket::Frame;
use subtle::ConstantTimeEq as _;

use super::{calls::Context, keys::read_owner, wire};

/// Length of the part of a claim that names its holder.
const HOLDER: usize = 25;

/// Reads the first 25 bytes of a claim.
fn read_holder(claim: &[u8]) -> Option<Holder> {
    let at = PeerAt {
        shard: *claim.get(12)?,
        key: u32::from_be_bytes(claim.get(13..17)?.try_into().ok()?),
        generation: u64::from_be_bytes(claim.get(17..25)?.try_into().ok()?),
    };
    Some(Holder { owner: read_owner(claim)?, at })
}

/// Reads a waiting message: the length of its sender's id, the id, whether it is binary, the payload.
fn read_peer_message(bytes: &[u8]) -> Option<Frame> {
    let src = usize::from(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?));
    let (is_binary, payload) = bytes.get(2 + src..)?.split_first()?;
    match std::str::from_utf8(payload) {
        Ok(text) if *is_binary == 0 => Some(Frame::text(text)),
        _ => Some(Frame::binary(payload)),
    }
}

impl Context {
    /// Reads a takeover notice as `reap.lua` returns it: realm, a zero, id, old holder.
    fn read_notice(&self, by: Owner, notice: &[u8]) -> Option<TakeoverNotice> {
        let (name, old) = notice.split_at_checked(notice.len().checked_sub(HOLDER)?)?;
        let (realm, id) = std::str::from_utf8(name).ok()?.split_once('\0')?;
        let realm = self.realms.iter().position(|known| known == realm)? as RealmId;
        Some(TakeoverNotice { by, realm, id: id.into(), old: read_holder(old)? })
    }

    /// The reply to a call. Answers that cannot be read count as absent.
    pub(super) fn reply(&self, call: Call, values: Vec<Value>) -> Reply {
        let mut values = values.into_iter();
        let mut first = || values.next().unwrap_or(Value::Nil);
        match call {
            Call::Claim { .. } => granted(list(first())).unwrap_or(Reply::Taken),
            Call::Reclaim { .. } => kept(list(first())),
            Call::DeliverOrQueue { peer_message, .. } => {
                let mut parts = list(first()).into_iter();
                let kind = text(parts.next());
                match kind.as_deref() {
                    Some("holder") => {
                        match parts.next().and_then(bytes).and_then(|claim| read_holder(&claim)) {
                            Some(holder) => Reply::Holder(holder, peer_message),
                            None => Reply::Failed { may_have_run: false },
                        }
                    }
                    Some("queued") => {
                        let opened = text(parts.next()).and_then(|number| number.parse().ok());
                        let is_kept = matches!(parts.next(), Some(Value::Int(1)));
                        let displaced = match parts.next() {
                            Some(Value::Int(displaced)) => displaced.max(0) as usize,
                            _ => 0,
                        };
                        Reply::Queued { peer_message, opened, is_kept, displaced }
                    }
                    _ => Reply::Dropped,
                }
            }
            Call::Expire { .. } => Reply::Expired { token: text(Some(first())).map(Into::into) },
            Call::Admit { .. } => Reply::Admitted(matches!(first(), Value::Int(1))),
            Call::CountConnection { .. } => match first() {
                Value::Int(counted) => Reply::Counted(counted == 1),
                _ => Reply::Failed { may_have_run: true },
            },
            Call::FindPeer { token, .. } => {
                let claim = bytes(first()).filter(|claim| {
                    claim.get(26..).is_some_and(|known| known.ct_eq(token.as_bytes()).into())
                });
                Reply::Peer(claim.and_then(|claim| read_holder(&claim)))
            }
            Call::Peers { .. } => {
                let ids = std::iter::once(first()).chain(values).flat_map(list);
                Reply::Peers(ids.filter_map(|id| text(Some(id)).map(Into::into)).collect())
            }
            Call::Put { .. } => {
                let parts = list(first());
                if parts.len() == 1 {
                    return Reply::RoomFull;
                }
                let mut parts = parts.into_iter();
                let mut number = || text(parts.next())?.parse::<u64>().ok();
                let room_version =
                    number().zip(number()).map(|(epoch, version)| RoomVersion { epoch, version });
                let count = number().unwrap_or_default() as usize;
                let records = parts.next().map(|all| records(list(all)).1);
                match room_version {
                    Some(room_version) => Reply::Put { room_version, records, count },
                    None => Reply::Failed { may_have_run: true },
                }
            }
            Call::Records { .. } => {
                let (room_version, records) = records(list(first()));
                Reply::Records { room_version, records }
            }
            Call::FindUser { .. } => {
                Reply::User(bytes(first()).and_then(|user| read_owner(&user)).map(|owner| owner.tag))
            }
            Call::Heartbeat { .. } => {
                let send_heartbeat = list(first());
                match heartbeat_reply(send_heartbeat, text(values.next())) {
                    Some(pulse) => Reply::Heartbeat(pulse),
                    None => Reply::Failed { may_have_run: true },
                }
            }
            Call::Nodes => {
                let nodes = list(first()).into_iter().filter_map(bytes);
                Reply::Nodes(nodes.filter_map(|node| wire::decode_node_info(&node)).collect())
            }
            Call::Reap { owner, .. } => {
                let notices = list(first()).into_iter().nth(1).map(list).unwrap_or_default().into_iter();
                let notices = notices.filter_map(bytes).filter_map(|notice| self.read_notice(owner, &notice));
                Reply::Reaped(notices.collect())
            }
            Call::Notices { owner, realm, id } => {
                let notices = list(first()).into_iter().filter_map(bytes);
                let notices = notices.filter_map(|notice| self.read_notice(owner, &notice));
                Reply::Reaped(notices.filter(|notice| notice.realm == realm && notice.id == id).collect())
            }
            Call::Owners => {
                let owners = std::iter::once(first()).chain(values).flat_map(list).filter_map(bytes);
                let owners: BTreeSet<_> = owners.filter_map(|owner| read_owner(&owner)).collect();
                Reply::Owners(owners.into_iter().collect())
            }
            Call::SendDirect { .. } => match first() {
                Value::Int(heard) => Reply::Receivers(heard.max(0) as u64),
                // It is not known whether anybody received it.
                Value::Nil => Reply::Receivers(1),
                _ => Reply::Receivers(0),
            },
            Call::Release { .. }
            | Call::CountTakeover { .. }
            | Call::Rehome { .. }
            | Call::Remove { .. }
            | Call::PutUsers { .. }
            | Call::Users { .. }
            | Call::Leave { .. }
            | Call::Flush
            | Call::Acknowledge(_)
            | Call::MarkDead { .. } => Reply::Done,
        }
    }
}

/// How many records a call that reaps has removed, and how many it has left to the next one.
pub(super) fn reaped(values: &[Value]) -> (u64, u64) {
    let Some(Value::Array(parts)) = values.first() else { return (0, 0) };
    let number = |at: usize| match parts.get(at) {
        Some(Value::Int(number)) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    };
    (number(2), number(0))
}

pub(super) fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) | Value::Set(values) => values,
        Value::Map(pairs) => pairs.into_iter().flat_map(|(key, value)| [key, value]).collect(),
        _ => Vec::new(),
    }
}

pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        Value::VerbatimString { text, .. } => Some(text.into_bytes()),
        _ => None,
    }
}

fn text(value: Option<Value>) -> Option<String> {
    String::from_utf8(value.and_then(bytes)?).ok()
}

fn peer_messages(value: Option<Value>) -> Vec<Frame> {
    let peer_messages = value.map(list).unwrap_or_default().into_iter();
    peer_messages.filter_map(bytes).filter_map(|peer_message| read_peer_message(&peer_message)).collect()
}

fn granted(parts: Vec<Value>) -> Option<Reply> {
    let mut parts = parts.into_iter();
    match text(parts.next())?.as_str() {
        "granted" => {
            let generation = u64::from_be_bytes(bytes(parts.next()?)?.try_into().ok()?);
            let superseded = parts.next().and_then(bytes).and_then(|claim| read_holder(&claim));
            Some(Reply::Granted { generation, superseded, waiting: peer_messages(parts.next()) })
        }
        "full" => Some(Reply::LimitReached),
        _ => None,
    }
}

fn kept(parts: Vec<Value>) -> Reply {
    let mut parts = parts.into_iter();
    if text(parts.next()).as_deref() != Some("kept") {
        return Reply::Taken;
    }
    let superseded = parts.next().and_then(bytes).and_then(|claim| read_holder(&claim));
    Reply::Kept { superseded, waiting: peer_messages(parts.next()) }
}

/// A room as HGETALL gives it.
fn records(parts: Vec<Value>) -> (Option<RoomVersion>, Vec<Arc<Record>>) {
    let (mut epoch, mut version, mut records) = (None, None, Vec::new());
    let mut parts = parts.into_iter();
    while let (Some(field), Some(value)) = (parts.next(), parts.next()) {
        match (bytes(field).as_deref(), value) {
            (Some(b"#e"), value) => epoch = text(Some(value)).and_then(|epoch| epoch.parse().ok()),
            (Some(b"#v"), value) => version = text(Some(value)).and_then(|version| version.parse().ok()),
            (Some(_), value) => {
                let record = bytes(value).and_then(|value| wire::decode_record(value.get(12..)?));
                records.extend(record.map(Arc::new));
            }
            _ => {}
        }
    }
    // Every node lists them in the same order.
    records.sort_unstable_by_key(|record| record.socket);
    (epoch.zip(version).map(|(epoch, version)| RoomVersion { epoch, version }), records)
}

/// Users as `page.lua` gives them.
pub(super) fn users(value: Value) -> Vec<(Address, Arc<str>)> {
    let mut parts = list(value).into_iter();
    let sockets = parts.next().map(list).unwrap_or_default();
    let users = parts.next().map(list).unwrap_or_default();
    let read = |(socket, user): (Value, Value)| {
        let socket = Address::from_bytes(bytes(socket)?.try_into().ok()?);
        let profile = String::from_utf8(bytes(user)?.get(12..)?.to_vec()).ok()?;
        Some((socket, profile.into()))
    };
    sockets.into_iter().zip(users).filter_map(read).collect()
}

fn heartbeat_reply(parts: Vec<Value>, info: Option<String>) -> Option<HeartbeatReply> {
    let mut parts = parts.into_iter();
    let Some(Value::Int(renewed)) = parts.next() else { return None };
    let membership = text(parts.next())?.parse().ok()?;
    let claims: i64 = text(parts.next())?.parse().ok()?;
    let expired = parts.next().map(list).unwrap_or_default().into_iter().filter_map(bytes);
    let expired = expired.filter_map(|owner| read_owner(&owner)).collect();
    let sweeps = matches!(parts.next(), Some(Value::Int(1)));
    let is_whole = matches!(parts.next(), Some(Value::Int(1)));
    let info = info.unwrap_or_default();
    let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default();
    Some(HeartbeatReply {
        renewed: renewed == 1,
        run_id: run_id.into(),
        membership,
        claims: claims.max(0) as u64,
        expired,
        is_whole,
        sweeps,
    })
}
