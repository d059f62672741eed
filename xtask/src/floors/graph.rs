//! Which module of a crate imports which, and where that goes round in a circle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::source::{Mention, Module};

/// How many names may stand for each other before a path is given up.
const MAX_ALIASES: usize = 16;

/// The modules of a crate with their imports.
pub(super) struct Graph {
    /// The crate's root is the first.
    pub(super) modules: Vec<Module>,
    pub(super) imports: Vec<Import>,
    /// Paths that lead out of the crate.
    pub(super) external: Vec<External>,
}

/// That one module names something of another. The numbers are places in `Graph::modules`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Import {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) line: usize,
}

/// That a module names something outside the crate.
#[derive(Debug)]
pub(super) struct External {
    pub(super) from: usize,
    /// As it is from outside: names that stand for others are resolved.
    pub(super) path: Vec<String>,
    pub(super) line: usize,
}

enum Target {
    /// The module that has it, and the modules that only pass it on.
    Module {
        module: usize,
        through: Vec<usize>,
    },
    External(Vec<String>),
}

/// A directory of modules, where each is taken together with what is below it. `None` is the parent's own file.
type Level = BTreeMap<Option<String>, BTreeMap<Option<String>, Import>>;

impl Graph {
    pub(super) fn new(modules: Vec<Module>) -> Self {
        let mut graph = Self { modules, imports: Vec::new(), external: Vec::new() };
        let by_path: BTreeMap<Vec<String>, usize> =
            graph.modules.iter().enumerate().map(|(number, module)| (module.path.clone(), number)).collect();
        let resolver = Resolver { modules: &graph.modules, by_path };
        let mut seen = BTreeSet::new();
        let (mut imports, mut external) = (Vec::new(), Vec::new());
        for (from, module) in graph.modules.iter().enumerate() {
            for mention in &module.mentions {
                match resolver.resolve(from, &mention.path, 0) {
                    Target::External(path) if path.len() > 1 || mention.is_import => {
                        external.push(External { from, path, line: mention.line });
                    }
                    Target::External(_) => {}
                    Target::Module { module: to, through } => {
                        for to in resolver.imported_by(from, mention, to, &through) {
                            if seen.insert((from, to)) {
                                imports.push(Import { from, to, line: mention.line });
                            }
                        }
                    }
                }
            }
        }
        graph.imports = imports;
        graph.external = external;
        graph
    }

    /// A module's path from the crate's root.
    pub(super) fn name(&self, module: usize) -> String {
        self.modules.get(module).map_or_else(String::new, |module| module.path.join("::"))
    }

    /// The module at the top of the crate that this one belongs to; `None` for the root itself.
    pub(super) fn top(&self, module: usize) -> Option<&str> {
        self.modules.get(module)?.path.first().map(String::as_str)
    }

    /// Where an import stands: file and line.
    pub(super) fn place(&self, import: &Import) -> String {
        let file = self.modules.get(import.from).map_or("", |module| &module.file);
        format!("{file}:{}", import.line)
    }

    /// The imports between the modules that this one declares, and between them and the module's own code.
    pub(super) fn level(&self, parent: &[String]) -> Level {
        let mut level = Level::new();
        for import in &self.imports {
            let (Some(from), Some(to)) = (self.below(parent, import.from), self.below(parent, import.to))
            else {
                continue;
            };
            if from != to {
                level.entry(from).or_default().entry(to).or_insert(*import);
            }
        }
        level
    }

    /// The part of the level that the module belongs to, if it belongs to the level.
    fn below(&self, parent: &[String], module: usize) -> Option<Option<String>> {
        Some(self.modules.get(module)?.path.strip_prefix(parent)?.first().cloned())
    }

    /// A shortest circle for each group of modules that import each other: a sentence. Whether a parent's own code counts as
    /// one of its modules is asked with the parent's path.
    pub(super) fn circles(&self, parent_counts: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut found = Vec::new();
        for parent in self.modules.iter().filter(|module| !module.children.is_empty()) {
            let mut level = self.level(&parent.path);
            if !parent_counts(&parent.path) {
                level.remove(&None);
            }
            let mut reported: BTreeSet<&Option<String>> = BTreeSet::new();
            for start in level.keys() {
                let Some(_) = shortest_circle(&level, start) else { continue };
                if reported.contains(start) {
                    continue;
                }
                let group: BTreeSet<_> = reachable(&level, start)
                    .into_iter()
                    .filter(|other| reachable(&level, other).contains(start))
                    .collect();
                let shortest =
                    group.iter().filter_map(|module| shortest_circle(&level, module)).min_by_key(Vec::len);
                found.extend(shortest.map(|circle| self.circle_sentence(&parent.path, &circle)));
                reported.extend(group);
            }
        }
        found
    }

    fn circle_sentence(&self, parent: &[String], circle: &[(Option<String>, Import)]) -> String {
        let name = |part: &Option<String>| {
            let path: Vec<&str> = parent.iter().chain(part).map(String::as_str).collect();
            if path.is_empty() { "the crate's root".to_owned() } else { path.join("::") }
        };
        let names: Vec<String> = circle.iter().chain(circle.first()).map(|(part, _)| name(part)).collect();
        let places: Vec<String> = circle.iter().map(|(_, import)| self.place(import)).collect();
        format!("modules import each other in a circle: {} ({})", names.join(" -> "), places.join(", "))
    }
}

/// Everything that the part reaches over one import or more.
fn reachable<'a>(level: &'a Level, start: &Option<String>) -> BTreeSet<&'a Option<String>> {
    let mut seen = BTreeSet::new();
    let mut waiting = vec![start];
    while let Some(part) = waiting.pop() {
        for next in level.get(part).into_iter().flat_map(BTreeMap::keys) {
            if seen.insert(next) {
                waiting.push(next);
            }
        }
    }
    seen
}

/// The shortest way from the part back to itself, as the parts with the import that leads on from each.
fn shortest_circle(level: &Level, start: &Option<String>) -> Option<Vec<(Option<String>, Import)>> {
    let mut ways = VecDeque::from([(start, Vec::new())]);
    let mut seen = BTreeSet::new();
    while let Some((part, way)) = ways.pop_front() {
        for (next, import) in level.get(part).into_iter().flatten() {
            let way: Vec<_> = way.iter().cloned().chain([(part.clone(), *import)]).collect();
            if next == start {
                return Some(way);
            }
            if seen.insert(next) {
                ways.push_back((next, way));
            }
        }
    }
    None
}

struct Resolver<'a> {
    modules: &'a [Module],
    by_path: BTreeMap<Vec<String>, usize>,
}

impl Resolver<'_> {
    /// The modules that a mention makes its module depend on.
    fn imported_by(&self, from: usize, mention: &Mention, to: usize, through: &[usize]) -> Vec<usize> {
        let path = |module: usize| self.modules[module].path.as_slice();
        // A parent that passes on what its children define does not use it.
        if mention.is_reexport && path(to).starts_with(path(from)) {
            return Vec::new();
        }
        // Nor does a child depend on its parent for what that only passes on.
        let through = through.iter().copied().filter(|module| !path(from).starts_with(path(*module)));
        through.chain([to]).filter(|module| *module != from).collect()
    }

    /// What a path in a module leads to.
    fn resolve(&self, from: usize, path: &[String], aliases: usize) -> Target {
        let module = &self.modules[from];
        let external = || Target::External(path.to_vec());
        let Some((first, rest)) = path.split_first() else { return self.found(from) };
        match first.as_str() {
            "crate" => return self.descend(0, rest, aliases),
            "self" | "super" => return self.descend(from, path, aliases),
            _ => {}
        }
        if module.children.contains(first) || module.items.contains(first) {
            return self.descend(from, path, aliases);
        }
        if let Some(meaning) = module.imported.get(first)
            && meaning.as_slice() != path
            && meaning.first() != Some(first)
            && aliases < MAX_ALIASES
        {
            return self.resolve(from, &[meaning, rest].concat(), aliases + 1);
        }
        external()
    }

    /// Follows a path from a module downwards, or upwards over `super`.
    fn descend(&self, module: usize, path: &[String], aliases: usize) -> Target {
        let here = &self.modules[module];
        let Some((first, rest)) = path.split_first() else { return self.found(module) };
        if first == "self" {
            return self.descend(module, rest, aliases);
        }
        let mut next = here.path.clone();
        if first == "super" {
            next.pop();
        } else {
            next.push(first.clone());
        }
        if let Some(next) = self.by_path.get(&next) {
            return self.descend(*next, rest, aliases);
        }
        if here.items.contains(first) || aliases >= MAX_ALIASES {
            return self.found(module);
        }
        if let Some(meaning) = here.imported.get(first) {
            return self.pass(module, &[meaning, rest].concat(), aliases);
        }
        for glob in &here.globs {
            if let Target::Module { module: source, .. } = self.resolve(module, glob, aliases + 1)
                && source != module
                && self.has(source, first)
            {
                return self.pass(module, &[glob, path].concat(), aliases);
            }
        }
        self.found(module)
    }

    /// Goes on with what a name in the module stands for.
    fn pass(&self, module: usize, path: &[String], aliases: usize) -> Target {
        match self.resolve(module, path, aliases + 1) {
            Target::Module { module: to, mut through } => {
                through.push(module);
                Target::Module { module: to, through }
            }
            external @ Target::External(_) => external,
        }
    }

    fn has(&self, module: usize, name: &str) -> bool {
        let module = &self.modules[module];
        module.items.contains(name) || module.children.contains(name) || module.imported.contains_key(name)
    }

    fn found(&self, module: usize) -> Target {
        Target::Module { module, through: Vec::new() }
    }
}
