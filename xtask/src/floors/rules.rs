//! What holds for the modules of a crate.

use super::graph::Graph;

/// The crates with a circle that is not undone yet.
pub(super) const CIRCLES_FOR_NOW: &[&str] = &[];

/// What one crate has to keep to, beside having no circle.
pub(super) struct Rules {
    /// The crate's directory.
    pub(super) directory: &'static str,
    /// Its modules, floor by floor. A module may import those of the floors above its own in this list.
    pub(super) floors: &'static [&'static [&'static str]],
    /// Which module may import which other one of its own floor.
    pub(super) same_floor: &'static [(&'static str, &'static str)],
    pub(super) bans: &'static [Ban],
    /// Modules inside which circles are looked for file by file. Elsewhere a module's own file and its children may import each
    /// other, as where a type is in the one and parts of what it does are in the others. An empty path stands for the crate.
    pub(super) file_by_file: &'static [&'static str],
}

/// What the code of a module must not name.
pub(super) struct Ban {
    /// The module; what is below it counts too.
    pub(super) module: &'static str,
    /// The module inside it that is free to.
    pub(super) except: &'static str,
    /// How a path must not begin. A `*` at the end stands for the rest of a name.
    pub(super) paths: &'static [&'static str],
    /// Types that must not be named, wherever they come from.
    pub(super) types: &'static [&'static str],
}

pub(super) const NODE: Rules = Rules {
    directory: "crates/node",
    floors: &[
        &["panics", "client_log"],
        &["config", "policy", "ledger", "lifecycle", "rates", "events", "operation_store"],
        // How much may be done.
        &["limits"],
        // Location, audience, broadcast ids, version vectors.
        &["routing"],
        // What nodes say to each other: bus messages, node messages, link requests, session transfer.
        &["protocol"],
        // Namespaces, actions, `Socket` and `To` over a trait.
        &["app"],
        // Connections, which tell their events through a trait.
        &["transport"],
        // A session as a value; what is local to a shard.
        &["session"],
        // Mailbox, event loop, tables, and what is done with a packet.
        &["shard"],
        // Relayed requests, the bus, the link.
        &["peering"],
        // What the worker threads share.
        &["shared"],
        // Long operations of operators.
        &["operations"],
        // HTTP and upgrades.
        &["edge"],
        // Composition only.
        &["node", "drain", "admin"],
    ],
    same_floor: &[("drain", "node"), ("admin", "node")],
    bans: &[Ban {
        module: "shard",
        except: "shard::runtime",
        paths: &["tokio", "actix_*", "redis", "std::net"],
        types: &["NodeShared"],
    }],
    file_by_file: &[""],
};

impl Rules {
    /// One sentence for each import and each name that must not be.
    pub(super) fn violations(&self, graph: &Graph) -> Vec<String> {
        let mut found = self.unplaced(graph);
        found.extend(self.wrong_imports(graph));
        found.extend(self.bans.iter().flat_map(|ban| ban.violations(graph)));
        found
    }

    /// Where the module stands in the list.
    pub(super) fn floor(&self, module: &str) -> Option<usize> {
        self.floors.iter().position(|floor| floor.contains(&module))
    }

    /// Whether the own code of a module counts where circles are looked for among those inside it.
    pub(super) fn is_file_by_file(&self, module: &[String]) -> bool {
        let module = module.join("::");
        self.file_by_file.iter().any(|parent| parent.is_empty() || is_within(&module, parent))
    }

    fn unplaced(&self, graph: &Graph) -> Vec<String> {
        let sentence = |module: &super::source::Module| match module.path.as_slice() {
            [name] if self.floor(name).is_none() => {
                Some(format!("{}: {name} is on no floor of xtask/src/floors/rules.rs", module.file))
            }
            _ => None,
        };
        graph.modules.iter().filter_map(sentence).collect()
    }

    fn wrong_imports(&self, graph: &Graph) -> Vec<String> {
        let mut found = Vec::new();
        for import in &graph.imports {
            let (Some(from), Some(to)) = (graph.top(import.from), graph.top(import.to)) else { continue };
            let (Some(floor), Some(other)) = (self.floor(from), self.floor(to)) else { continue };
            if from != to && (other > floor || other == floor && !self.same_floor.contains(&(from, to))) {
                let place = graph.place(import);
                found.push(format!("{place}: {from} must not import {to} ({})", graph.name(import.to)));
            }
        }
        found
    }
}

impl Ban {
    fn violations(&self, graph: &Graph) -> Vec<String> {
        let mut found = Vec::new();
        let place = |module: usize, line: usize| {
            format!("{}:{line}", graph.modules.get(module).map_or("", |module| &module.file))
        };
        for external in &graph.external {
            let banned = self.paths.iter().find(|banned| begins(&external.path, banned));
            if let (true, Some(banned)) = (self.covers(&graph.name(external.from)), banned) {
                let named = external.path.join("::");
                let place = place(external.from, external.line);
                found.push(format!("{place}: {} must not name {banned} ({named})", self.module));
            }
        }
        for (number, module) in graph.modules.iter().enumerate() {
            for mention in &module.mentions {
                let banned = self.types.iter().find(|banned| mention.path.iter().any(|name| name == *banned));
                if let (true, Some(banned)) = (self.covers(&graph.name(number)), banned) {
                    let named = mention.path.join("::");
                    let place = place(number, mention.line);
                    found.push(format!("{place}: {} must not name {banned} ({named})", self.module));
                }
            }
        }
        found.dedup();
        found
    }

    fn covers(&self, module: &str) -> bool {
        is_within(module, self.module) && !is_within(module, self.except)
    }
}

fn is_within(module: &str, parent: &str) -> bool {
    module.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn begins(path: &[String], banned: &str) -> bool {
    let banned: Vec<&str> = banned.split("::").collect();
    path.len() >= banned.len()
        && banned.iter().zip(path).all(|(banned, name)| match banned.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == banned,
        })
}
