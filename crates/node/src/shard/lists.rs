//! Lists of members and users as JSON. A crowd asks for the same one many times, so the last of each is kept for a moment.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use signalbox_cluster::{Address, Record};
use signalbox_rules::{Member, MemberList};

use super::json::{json_string, spread};

/// Shorter lists are not kept,
const LEAST: usize = 100;
/// nor those with more bytes than this.
const MOST: usize = 1024 * 1024;
/// How long one is kept that nobody asks for.
const KEPT: Duration = Duration::from_secs(1);

type Members = Arc<[Arc<Record>]>;
type Users = Arc<[(Address, Arc<str>)]>;

/// The lists that were told last.
#[derive(Debug, Default)]
pub(super) struct Lists {
    members: Kept<Members>,
    users: Kept<Users>,
}

/// A list, and when it was told last.
#[derive(Debug)]
struct Kept<T>(Option<(Rendered<T>, Instant)>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(None)
    }
}

/// A list as the elements of a JSON array, with commas between them.
#[derive(Debug)]
struct Rendered<T> {
    of: T,
    json: String,
    /// Where each element ends.
    ends: Vec<usize>,
}

/// What is said of a room beside its members where there are many.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Crowd {
    /// How many they are, where they are more than are told of each other.
    count: Option<usize>,
    /// The last of this page, if there are more.
    next: Option<Address>,
}

impl Crowd {
    pub(super) fn of(limit: Option<usize>, count: usize, next: Option<&Arc<Record>>) -> Self {
        let is_large = limit.is_some_and(|limit| count > limit);
        Self { count: is_large.then_some(count), next: next.map(|last| last.socket) }
    }
}

impl Lists {
    /// `{ok:true, room, count?, members:[{id, ...profile}], next?}`, without one of the members. They are in the order of their addresses.
    pub(super) fn members<M>(
        &mut self,
        now: Instant,
        room: &str,
        members: &Members,
        (but, crowd): (Option<Address>, Crowd),
        tell: impl FnOnce(&[&str]) -> M,
    ) -> M {
        let count = crowd.count.map(|count| format!(",\"count\":{count}")).unwrap_or_default();
        let head = format!("{{\"ok\":true,\"room\":{}{count},\"members\":[", json_string(room));
        let tail = tail(crowd.next);
        let but = but.and_then(|but| members.binary_search_by_key(&but, |record| record.socket).ok());
        let render = || Rendered::new(members.clone(), members.iter().map(|it| (it.socket, &*it.profile)));
        self.members.tell(
            now,
            |kept| Arc::ptr_eq(kept, members),
            render,
            |list| {
                let (before, after) = list.without(but);
                tell(&[&head, before, after, &tail])
            },
        )
    }

    /// `{ok:true, users:[{id, ...profile}], next?}`
    pub(super) fn users<M>(
        &mut self,
        now: Instant,
        users: &Users,
        more: bool,
        tell: impl FnOnce(&[&str]) -> M,
    ) -> M {
        let tail = tail(users.last().filter(|_| more).map(|(last, _)| *last));
        let render =
            || Rendered::new(users.clone(), users.iter().map(|(socket, profile)| (*socket, &**profile)));
        self.users.tell(
            now,
            |kept| Arc::ptr_eq(kept, users),
            render,
            |list| tell(&["{\"ok\":true,\"users\":[", &list.json, &tail]),
        )
    }

    /// Lets go of what nobody asks for any more.
    pub(super) fn forget_unused(&mut self, now: Instant) {
        self.members.forget_unused(now);
        self.users.forget_unused(now);
    }
}

impl<T> Kept<T> {
    /// Has a list told: the one that is kept, if it is that one; else one that is made now, and kept instead if it is long.
    fn tell<M>(
        &mut self,
        now: Instant,
        is_it: impl Fn(&T) -> bool,
        render: impl FnOnce() -> Rendered<T>,
        tell: impl FnOnce(&Rendered<T>) -> M,
    ) -> M {
        if let Some((list, told)) = self.0.as_mut().filter(|(list, _)| is_it(&list.of)) {
            *told = now;
            return tell(list);
        }
        let list = render();
        let told = tell(&list);
        if list.ends.len() >= LEAST && list.json.len() <= MOST {
            self.0 = Some((list, now));
        }
        told
    }

    fn forget_unused(&mut self, now: Instant) {
        if self.0.as_ref().is_some_and(|(_, told)| *told + KEPT <= now) {
            self.0 = None;
        }
    }
}

fn tail(next: Option<Address>) -> String {
    match next {
        Some(next) => format!("],\"next\":\"{next}\"}}"),
        None => "]}".to_owned(),
    }
}

impl<T> Rendered<T> {
    fn new<'a>(of: T, elements: impl Iterator<Item = (Address, &'a str)>) -> Self {
        let (mut json, mut ends) = (String::new(), Vec::new());
        for (socket, profile) in elements {
            json.push_str(if ends.is_empty() { "" } else { "," });
            let (comma, rest) = spread(profile);
            json.extend(["{\"id\":\"", &socket.written(), "\"", comma, rest, "}"]);
            ends.push(json.len());
        }
        Self { of, json, ends }
    }

    /// The elements before and behind one of them, and no comma too many.
    fn without(&self, index: Option<usize>) -> (&str, &str) {
        let Some(index) = index else { return (&self.json, "") };
        let end = self.ends[index];
        match index.checked_sub(1) {
            Some(before) => (&self.json[..self.ends[before]], &self.json[end..]),
            None => ("", self.json.get(end + 1..).unwrap_or_default()),
        }
    }
}

/// A member as a rule knows it.
fn member(record: &Record) -> Member {
    Member { id: record.socket.to_string(), profile: record.profile.clone() }
}

/// The members as a rule knows them.
pub(super) fn member_list(members: &[Arc<Record>], count: usize, crowd: Crowd) -> MemberList {
    MemberList {
        members: members.iter().map(|record| member(record)).collect(),
        count: u32::try_from(count).unwrap_or(u32::MAX),
        is_large: crowd.count.is_some(),
        next: crowd.next.map(|next| next.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use signalbox_cluster::NodeTag;

    use super::*;

    fn members(count: usize) -> Members {
        let record = |index| {
            let socket = Address::random(NodeTag(1), 0);
            let profile = format!("{{\"name\":\"é{index}\"}}").into();
            Arc::new(Record { socket, profile, joined: None, updated: None, left: None })
        };
        let mut members: Vec<_> = (0..count).map(record).collect();
        members.sort_unstable_by_key(|record| record.socket);
        members.into()
    }

    fn told(lists: &mut Lists, members: &Members, but: Option<usize>, crowd: Crowd) -> Value {
        let mut told = String::new();
        let but = but.map(|index| members[index].socket);
        lists.members(Instant::now(), "r", members, (but, crowd), |parts| told = parts.concat());
        serde_json::from_str(&told).expect("JSON")
    }

    fn ids(value: &Value) -> Vec<&str> {
        value.as_array().expect("a list").iter().map(|it| it["id"].as_str().expect("an id")).collect()
    }

    #[test]
    fn members_are_listed_without_the_one_that_asks_however_often() {
        let mut lists = Lists::default();
        for count in [0, 1, 2, 3, LEAST + 1] {
            let members = members(count);
            let all: Vec<_> = members.iter().map(|it| it.socket.to_string()).collect();
            for but in (0..count).map(Some).chain([None]) {
                let others: Vec<_> =
                    (0..count).filter(|index| Some(*index) != but).map(|index| &all[index]).collect();
                let value = told(&mut lists, &members, but, Crowd::default());
                assert_eq!(ids(&value["members"]), others);
                assert_eq!((&value["ok"], &value["room"]), (&json!(true), &json!("r")));
                assert!(value.get("count").is_none() && value.get("next").is_none());
            }
            assert_eq!(lists.members.0.is_some(), count > LEAST, "short lists are not kept");
        }
        let kept = lists.members.0.as_ref().map(|(list, _)| list.of.len());
        told(&mut lists, &members(2), None, Crowd::default());
        assert_eq!(
            lists.members.0.as_ref().map(|(list, _)| list.of.len()),
            kept,
            "nor do they take another's place"
        );
        let others = members(LEAST);
        let crowd = Crowd::of(Some(3), 500, others.last());
        let value = told(&mut lists, &others, None, crowd);
        assert_eq!(ids(&value["members"]).len(), LEAST, "another list takes its place");
        assert_eq!(value["members"][7]["name"].as_str().map(|name| name.starts_with('é')), Some(true));
        assert_eq!(value["count"], 500);
        assert_eq!(value["next"], others[LEAST - 1].socket.to_string());
        lists.forget_unused(Instant::now());
        assert!(lists.members.0.is_some());
        lists.forget_unused(Instant::now() + KEPT);
        assert!(lists.members.0.is_none());
    }

    #[test]
    fn users_are_listed_with_the_page_behind_them() {
        let socket = Address::random(NodeTag(1), 0);
        let users: Users = [(socket, "{}".into()), (socket, r#"{"name":"é"}"#.into())].into();
        for more in [true, false] {
            let mut told = String::new();
            Lists::default().users(Instant::now(), &users, more, |parts| told = parts.concat());
            let value: Value = serde_json::from_str(&told).expect("JSON");
            assert_eq!(value.get("next").and_then(Value::as_str), more.then_some(&*socket.to_string()));
            assert_eq!(value["users"][1]["name"], "é");
        }
    }
}
