use std::collections::BTreeMap;

use super::graph::Graph;
use super::rules::{Ban, Rules};
use super::source::parse_crate;
use super::{render, unexpected_circles};

/// The graph of a crate with these files.
fn graph(files: &[(&str, &str)]) -> Graph {
    let files: BTreeMap<String, String> =
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Graph::new(parse_crate("crates/x/src", &files).unwrap())
}

const RULES: Rules = Rules {
    directory: "crates/x",
    floors: &[&["config", "policy"], &["routing"], &["shard"], &["edge"], &["node", "drain"]],
    same_floor: &[("node", "drain")],
    bans: &[Ban {
        module: "shard",
        except: "shard::runtime",
        paths: &["tokio", "actix_*", "redis", "std::net"],
        types: &["NodeShared"],
    }],
    file_by_file: &["shard"],
};

const NOTHING: [&str; 0] = [];

fn violations(files: &[(&str, &str)]) -> Vec<String> {
    RULES.violations(&graph(files))
}

#[test]
fn an_import_from_a_floor_above_is_fine_and_one_from_below_is_not() {
    let files = [
        ("lib.rs", "mod config; mod shard; mod edge; pub use edge::Server;"),
        ("config.rs", "pub struct Config;"),
        ("shard/mod.rs", "mod fanout;"),
        ("shard/fanout.rs", "use crate::config::Config;\n\nuse crate::{config, edge::polling};"),
        ("edge/mod.rs", "pub mod polling; use crate::shard; pub struct Server;"),
        ("edge/polling.rs", ""),
    ];
    let expected = "crates/x/src/shard/fanout.rs:3: shard must not import edge (edge::polling)";
    assert_eq!(violations(&files), [expected]);
}

#[test]
fn a_path_in_the_code_is_an_import_wherever_it_stands() {
    let of_shard = |text| {
        let root = "mod shard { mod fanout; } mod edge { pub fn polls() {} pub struct Poll; }";
        violations(&[("lib.rs", root), ("shard/fanout.rs", text)])
    };
    let expected = ["crates/x/src/shard/fanout.rs:1: shard must not import edge (edge)"];
    assert_eq!(of_shard("fn f() { crate::edge::polls() }"), expected);
    assert_eq!(of_shard("struct S { poll: Vec<Option<super::super::edge::Poll>> }"), expected);
    assert_eq!(of_shard("fn f() { println!(\"{}\", [crate::edge::polls()]) }"), expected);
    assert_eq!(of_shard("impl From<crate::edge::Poll> for u8 {}"), expected);
    assert_eq!(of_shard("fn f() { use crate::edge; edge::polls() }"), expected);
    assert_eq!(of_shard("pub(in crate::shard) struct S; /* crate::edge */"), NOTHING);
}

#[test]
fn tests_may_import_what_they_like() {
    let files = [
        ("lib.rs", "mod shard; mod edge;"),
        (
            "shard.rs",
            "#[cfg(test)] use crate::edge;
            #[cfg(test)] mod tests { use crate::edge; use tokio::net; }
            #[cfg(test)] mod more;
            impl S { #[cfg(test)] fn f() { crate::edge::f() } }
            struct S { #[cfg(test)] seen: crate::edge::Seen }",
        ),
        ("edge.rs", ""),
    ];
    assert_eq!(violations(&files), NOTHING);
}

#[test]
fn what_is_passed_on_is_imported_from_where_it_is() {
    let files = [
        ("lib.rs", "mod config; mod shard; mod edge; pub use edge::Server; pub use config::*;"),
        ("config.rs", "pub use crate::routing::Nothing; pub struct Config;"),
        ("shard.rs", "use crate::Config;\nuse crate::Server;"),
        ("edge.rs", "mod server; pub use server::Server;"),
        ("edge/server.rs", "pub struct Server;"),
    ];
    let expected = "crates/x/src/shard.rs:2: shard must not import edge (edge::server)";
    // The module that passes it on counts as well, unless it is above.
    let also = "crates/x/src/shard.rs:2: shard must not import edge (edge)";
    assert_eq!(violations(&files), [also, expected]);
}

#[test]
fn modules_of_one_floor_import_each_other_only_where_the_table_says_so() {
    let files = [
        ("lib.rs", "mod config; mod policy; mod node; mod drain;"),
        ("config.rs", "use crate::policy::Policy;"),
        ("policy.rs", "pub struct Policy;"),
        ("node.rs", "use crate::drain::Drain;"),
        ("drain.rs", "pub struct Drain;"),
    ];
    let expected = "crates/x/src/config.rs:1: config must not import policy (policy)";
    assert_eq!(violations(&files), [expected]);
}

#[test]
fn a_module_on_no_floor_is_found() {
    let expected = "crates/x/src/new.rs: new is on no floor of xtask/src/floors/rules.rs";
    assert_eq!(violations(&[("lib.rs", "mod new;"), ("new.rs", "")]), [expected]);
}

#[test]
fn what_a_module_must_not_name_is_found_under_any_name() {
    let files = [
        ("lib.rs", "mod shard; mod edge;"),
        ("edge.rs", "use tokio::net::TcpStream;"),
        ("shard.rs", "mod fanout; mod runtime; use std::collections::BTreeMap;"),
        ("shard/runtime.rs", "use tokio::task; use crate::NodeShared;"),
        (
            "shard/fanout.rs",
            "use std::{collections, net::{IpAddr, SocketAddr as Address}};
            use tokio::sync as channels;
            fn f(node: &super::NodeShared) { channels::mpsc::channel(); actix_rt::spawn(g) }
            fn g(tokio: u8) -> u8 { info!(x = redis::cmd(), tokio); tokio }",
        ),
    ];
    let place = "crates/x/src/shard/fanout.rs";
    let expected = [
        format!("{place}:1: shard must not name std::net (std::net::IpAddr)"),
        format!("{place}:1: shard must not name std::net (std::net::SocketAddr)"),
        format!("{place}:2: shard must not name tokio (tokio::sync)"),
        format!("{place}:3: shard must not name tokio (tokio::sync::mpsc::channel)"),
        format!("{place}:3: shard must not name actix_* (actix_rt::spawn)"),
        format!("{place}:4: shard must not name redis (redis::cmd)"),
        format!("{place}:3: shard must not name NodeShared (super::NodeShared)"),
    ];
    assert_eq!(violations(&files), expected);
}

#[test]
fn a_circle_is_found_at_any_depth_with_its_shortest_way() {
    let files = [
        ("lib.rs", "mod shard; mod edge;"),
        ("edge.rs", "use crate::shard::a;"),
        ("shard/mod.rs", "mod a; mod b; mod c; mod d;"),
        ("shard/a.rs", "use super::b::B;"),
        ("shard/b.rs", "use super::c::C; pub struct B;"),
        ("shard/c.rs", "\nuse crate::shard::{a, b}; pub struct C;"),
        ("shard/d.rs", "use super::a;"),
    ];
    let expected = "modules import each other in a circle: shard::b -> shard::c -> shard::b \
        (crates/x/src/shard/b.rs:1, crates/x/src/shard/c.rs:2)";
    assert_eq!(graph(&files).circles(|_| true), [expected]);
}

#[test]
fn a_module_that_uses_its_children_must_not_be_used_by_them() {
    let files =
        |parent| [("lib.rs", "mod shard;"), ("shard.rs", parent), ("shard/a.rs", "use super::State;")];
    let circle = "modules import each other in a circle: shard -> shard::a -> shard \
        (crates/x/src/shard.rs:1, crates/x/src/shard/a.rs:1)";
    let uses = "mod a; pub struct State; fn run() { a::run() }";
    assert_eq!(graph(&files(uses)).circles(|_| true), [circle]);
    assert_eq!(graph(&files(uses)).circles(|parent| parent != ["shard"]), NOTHING);
    assert_eq!(graph(&files("mod a; pub struct State;")).circles(|_| true), NOTHING);
    assert_eq!(graph(&files("mod a; pub use a::X; pub use crate::State;")).circles(|_| true), NOTHING);
}

#[test]
fn circles_are_looked_for_file_by_file_where_the_table_says_so() {
    let path = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
    assert!(RULES.is_file_by_file(&path("shard")));
    assert!(RULES.is_file_by_file(&path("shard::transfer")));
    assert!(!RULES.is_file_by_file(&path("shards")));
    assert!(!RULES.is_file_by_file(&path("edge")));
    assert!(!RULES.is_file_by_file(&[]));
    let everywhere = Rules { file_by_file: &[""], ..RULES };
    assert!(everywhere.is_file_by_file(&path("edge")));
    assert!(everywhere.is_file_by_file(&[]));
}

#[test]
fn a_crate_with_a_circle_for_now_is_to_be_taken_off_the_list_when_it_has_none() {
    assert_eq!(unexpected_circles("crates/x", true, vec!["a".to_owned()]), NOTHING);
    assert_eq!(unexpected_circles("crates/x", false, vec!["a".to_owned()]), ["crates/x: a"]);
    assert_eq!(unexpected_circles("crates/x", false, Vec::new()), NOTHING);
    let expected =
        "crates/x has no circle any more: take it off CIRCLES_FOR_NOW in xtask/src/floors/rules.rs";
    assert_eq!(unexpected_circles("crates/x", true, Vec::new()), [expected]);
}

#[test]
fn the_page_shows_what_each_module_imports() {
    let files = [
        ("lib.rs", "mod config; mod shard; mod other;"),
        ("config.rs", ""),
        ("other.rs", ""),
        ("shard.rs", "mod a; mod b; use crate::config;"),
        ("shard/a.rs", ""),
        ("shard/b.rs", "use super::a::A;"),
    ];
    let page = render(&RULES, &graph(&files));
    let expected = [
        "1. config, policy\n   config: nothing\n   policy: not there\n",
        "3. shard\n   shard: config\n",
        "on no floor\n   other: nothing\n",
        "inside shard\n   a: nothing\n   b: a\n",
    ];
    for part in expected {
        assert!(page.contains(part), "{part:?} is not in {page}");
    }
}
