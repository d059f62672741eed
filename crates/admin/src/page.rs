//! Lists. A list is in the order of its keys, and a cursor is the key of the last entry that was given out: so what stays while a list is
//! read page by page is listed once, whatever comes and goes meanwhile.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// In the order of their keys.
    pub items: Vec<T>,
    /// Where the next page begins: the parameter `after` of the request for it. Absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The nodes whose part is missing.
    pub partial: Vec<Partial>,
}

/// A node that has not answered: its part is missing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Partial {
    /// The node's id.
    pub node: String,
    /// The node's name.
    pub name: String,
    /// Why.
    pub reason: PartialReason,
}

/// Why a node has not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PartialReason {
    /// It did not answer in time.
    Timeout,
    /// It cannot be reached, or the connection to it broke.
    Unreachable,
    /// It is of a version that does not know the question.
    Format,
    /// It is too far behind to answer.
    Busy,
    /// More of its sockets are meant than one request may be for: 10,000.
    TooMany,
    /// Its answer has more bytes than nodes send each other.
    TooLarge,
}

/// The place of an entry in a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor(pub String, pub String);

impl Cursor {
    /// As a parameter of a URL has it.
    pub fn encode(&self) -> String {
        // Two texts always serialize.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(text: &str) -> Option<Self> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }
}

/// Most bytes of profiles on a page. A page has at least one entry.
pub const MAX_PROFILES: usize = 1 << 20;

/// An entry of a list that several shards and nodes have parts of.
pub trait Row {
    /// Its place in the list.
    fn cursor(&self) -> Cursor;
    /// Another part has the same entry: what both say of it.
    fn join(&mut self, _other: Self)
    where
        Self: Sized,
    {
    }
    /// The bytes of its profile, where it has one: what else it has is small.
    fn bytes(&self) -> usize {
        0
    }
}

/// Leaves out the entries that are too much for a page by the bytes of their profiles. Returns whether there were any.
pub fn cut<T: Row>(rows: &mut Vec<T>) -> bool {
    let mut bytes = 0;
    let fit = rows.iter().take_while(|row| {
        bytes += row.bytes();
        bytes <= MAX_PROFILES
    });
    let kept = fit.count().max(1);
    let is_cut = rows.len() > kept;
    rows.truncate(kept);
    is_cut
}

/// Joins parts of a list, each of which has its first entries and says whether it has more. Returns whether there is more.
///
/// Entries that come behind the last one of a part that has more are left for the next page, since that part may have something of them.
pub fn join_parts<T: Row>(parts: Vec<(Vec<T>, bool)>, limit: usize) -> (Vec<T>, bool) {
    let last_of_many = |(rows, has_more): &(Vec<T>, bool)| rows.last().filter(|_| *has_more).map(Row::cursor);
    let horizon = parts.iter().filter_map(last_of_many).min();
    let mut joined: BTreeMap<Cursor, T> = BTreeMap::new();
    for row in parts.into_iter().flat_map(|(rows, _)| rows) {
        let cursor = row.cursor();
        if horizon.as_ref().is_some_and(|horizon| cursor > *horizon) {
            continue;
        }
        match joined.get_mut(&cursor) {
            Some(known) => known.join(row),
            None => drop(joined.insert(cursor, row)),
        }
    }
    let has_more = horizon.is_some() || joined.len() > limit;
    let mut rows = joined.into_values().take(limit).collect();
    let is_cut = cut(&mut rows);
    (rows, has_more || is_cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Member, Profile, Room};

    fn room(name: &str, members: u64) -> Room {
        Room { namespace: "/".to_owned(), name: name.to_owned(), members }
    }

    #[test]
    fn a_cursor_is_read_back_and_nonsense_is_none() {
        let cursor = Cursor("/ä".to_owned(), "a/b?c".to_owned());
        assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        for nonsense in ["", "x", "e30", "W10", "WzEsMl0"] {
            assert_eq!(Cursor::decode(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn an_entry_that_a_part_may_still_have_waits_for_the_next_page() {
        let parts = vec![
            (vec![room("a", 1), room("b", 1)], true),
            (vec![room("b", 2), room("d", 1)], false),
            (vec![room("c", 4)], false),
        ];
        let (rooms, has_more) = join_parts(parts, 3);
        assert_eq!((rooms, has_more), (vec![room("a", 1), room("b", 3)], true));
        let (rooms, has_more) = join_parts(vec![(vec![room("c", 1)], false), (vec![room("c", 1)], false)], 1);
        assert_eq!((rooms, has_more), (vec![room("c", 2)], false));
    }

    #[test]
    fn a_page_ends_where_its_profiles_are_too_much_and_goes_on_behind() {
        let profile = Profile::of(&format!("\"{}\"", "x".repeat(MAX_PROFILES / 3)));
        let member = |id: usize| Member {
            id: id.to_string(),
            node: "n".to_owned(),
            subject: None,
            profile: profile.clone(),
        };
        let ids = |rows: &[Member]| rows.iter().map(|row| row.id.clone()).collect::<String>();
        // What a node has cut says that it has more, however few are left.
        let parts = || vec![((0..2).map(member).collect(), true), ((2..5).map(member).collect(), false)];
        let (rows, has_more) = join_parts(parts(), 10);
        assert_eq!((ids(&rows).as_str(), has_more), ("01", true));
        let (rows, has_more) = join_parts(vec![((2..5).map(member).collect(), false)], 10);
        assert_eq!((ids(&rows).as_str(), has_more), ("23", true));
        let huge = Profile::of(&format!("\"{}\"", "x".repeat(2 * MAX_PROFILES)));
        let mut one = vec![Member { profile: huge, ..member(7) }, member(8)];
        assert!(cut(&mut one));
        assert_eq!(ids(&one), "7");
    }

    #[test]
    fn pages_of_any_size_list_everything_once() {
        let shards: Vec<Vec<Room>> = (0..3)
            .map(|shard| {
                (0..40).filter(|n| n % (shard + 1) == 0).map(|n| room(&format!("{n:02}"), 1)).collect()
            })
            .collect();
        for limit in 1..50 {
            let (mut listed, mut after) = (Vec::new(), None);
            loop {
                let part = |rooms: &Vec<Room>| {
                    let behind =
                        rooms.iter().filter(|room| after.as_ref().is_none_or(|after| room.cursor() > *after));
                    let all: Vec<Room> = behind.cloned().collect();
                    let has_more = all.len() > limit;
                    (all.into_iter().take(limit).collect(), has_more)
                };
                let (rooms, has_more) = join_parts(shards.iter().map(part).collect(), limit);
                after = rooms.last().map(Row::cursor).or(after);
                listed.extend(rooms);
                if !has_more {
                    break;
                }
            }
            let names: Vec<String> = listed.iter().map(|room| room.name.clone()).collect();
            assert_eq!(names, (0..40).map(|n| format!("{n:02}")).collect::<Vec<_>>(), "{limit}");
            assert_eq!(listed[6].members, 3);
        }
    }
}
