//! The rules of a file, and which of them is for an event.

use std::sync::Arc;

use ahash::AHashMap;

use crate::{
    BUILTIN, Cost,
    action::On,
    builtin::{self, are_builtin},
    example::Example,
    facts::Facts,
    hook::HookName,
    parse::{self, Found},
    problem::Problem,
    rule::Rule,
    run::{Run, holds},
    state::{Event, State},
    template::{Known, Scope},
};

/// What occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// A client has sent an event.
    Event,
    /// A client has connected to a namespace.
    Connection,
    /// A client is about to be gone.
    Disconnecting,
    /// A PeerServer id was claimed.
    Claim,
    /// A PeerServer id was released.
    Release,
}

/// The rules for an event.
#[derive(Debug, Default)]
struct EventRules {
    /// Which, in their order.
    indices: Vec<usize>,
    /// They are those of the built-in vocabulary, and no others.
    are_builtin: bool,
}

/// Whether anything happens on each trigger.
#[derive(Debug, Default)]
struct Triggers {
    connection: bool,
    disconnecting: bool,
    claim: bool,
    release: bool,
}

/// The rules of a file.
#[derive(Debug, Default)]
pub struct RuleSet {
    rules: Vec<Arc<Rule>>,
    /// Which rules are for an event, in their order.
    by_event: AHashMap<String, EventRules>,
    triggers: Triggers,
    examples: Vec<Example>,
    /// Whether rules send to subjects: then their sockets have to be found.
    names_subjects: bool,
    hooks: Vec<HookName>,
    text: Arc<str>,
}

impl RuleSet {
    /// Reads a file.
    ///
    /// # Errors
    /// All that is wrong with it, the first 20 at most.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let parsed = parse::parse(text)?;
        let mut rules = parsed.rules;
        if parsed.includes_builtin {
            rules.extend(parse::parse(BUILTIN)?.rules);
        }
        let mut by_event: AHashMap<String, EventRules> = AHashMap::new();
        let mut triggers = Triggers::default();
        for (index, rule) in rules.iter().enumerate() {
            match &rule.on {
                On::Event(name) => by_event.entry(name.clone()).or_default().indices.push(index),
                On::Connection => triggers.connection = true,
                On::Disconnecting => triggers.disconnecting = true,
                On::Claim => triggers.claim = true,
                On::Release => triggers.release = true,
            }
        }
        for (event, of_event) in &mut by_event {
            of_event.are_builtin = are_builtin(event, of_event.indices.iter().map(|index| &rules[*index]));
        }
        let Found { names_subjects, hooks } = parsed.found;
        let rules = rules.into_iter().map(Arc::new).collect();
        Ok(Self {
            rules,
            by_event,
            triggers,
            examples: parsed.examples,
            names_subjects,
            hooks,
            text: text.into(),
        })
    }

    /// The built-in vocabulary.
    pub fn builtin() -> Self {
        // A test reads it.
        Self::parse(BUILTIN).unwrap_or_default()
    }

    /// Whether the text is that of the built-in vocabulary.
    pub fn has_builtin_text(&self) -> bool {
        *self.text == *BUILTIN
    }

    /// Whether the rules for an event are those of the built-in vocabulary and no others: whoever runs them may do by code of its own
    /// what [`begin`](Self::begin) and [`Run`] would have it do.
    pub fn is_builtin(&self, event: &str, namespace: &str) -> bool {
        namespace == builtin::NAMESPACE && self.by_event.get(event).is_some_and(|rules| rules.are_builtin)
    }

    /// Whether clients may connect to this namespace: a rule is for it.
    pub fn serves(&self, namespace: &str) -> bool {
        self.rules.iter().any(|rule| {
            !matches!(rule.on, On::Claim | On::Release)
                && rule.namespaces.iter().any(|pattern| pattern.matches(namespace))
        })
    }

    /// Whether anything happens on this trigger at all.
    pub fn is_for(&self, trigger: Trigger) -> bool {
        match trigger {
            Trigger::Event => !self.by_event.is_empty(),
            Trigger::Connection => self.triggers.connection,
            Trigger::Disconnecting => self.triggers.disconnecting,
            Trigger::Claim => self.triggers.claim,
            Trigger::Release => self.triggers.release,
        }
    }

    /// Whether the sockets of a subject must be found: then each joins the [`subject_room`](crate::subject_room).
    pub fn names_subjects(&self) -> bool {
        self.names_subjects
    }

    /// What is wrong if these are all the hooks that there are.
    pub fn unknown_hooks(&self, known: &[&str]) -> Vec<Problem> {
        let unknown = self.hooks.iter().filter(|hook| !known.contains(&&*hook.name));
        unknown.map(|hook| hook.problem(known)).collect()
    }

    /// The namespaces that rules for claims and releases send to, which are no patterns.
    pub fn namespaces_of(&self, trigger: Trigger) -> Vec<&str> {
        let rules = self.rules.iter().filter(|rule| is_on(&rule.on, trigger));
        let mut names: Vec<&str> =
            rules.flat_map(|rule| rule.namespaces.iter().map(|pattern| &*pattern.0)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Begins what is to happen: the first rule for it whose conditions hold. `None` where there is none; the event is given back then.
    pub fn begin(&self, trigger: Trigger, event: Event, facts: &dyn Facts) -> Result<Run, Box<Event>> {
        let namespace = facts.namespace();
        let is_for = |rule: &&Arc<Rule>| rule.namespaces.iter().any(|pattern| pattern.matches(&namespace));
        let mut state = State::new(event);
        let found = if trigger == Trigger::Event {
            let indices = self.by_event.get(&state.event.name).map_or(&[][..], |rules| &rules.indices);
            let rules = indices.iter().filter_map(|index| self.rules.get(*index)).filter(is_for);
            find(rules, &state, facts)
        } else {
            let rules = self.rules.iter().filter(|rule| is_on(&rule.on, trigger)).filter(is_for);
            find(rules, &state, facts)
        };
        match found {
            Some(rule) => Ok(Run::new(rule, state)),
            None => Err(Box::new(std::mem::take(&mut state.event))),
        }
    }

    /// The file.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What each rule can cost, and the line where it stands.
    pub fn costs(&self) -> Vec<(usize, Cost)> {
        self.rules.iter().map(|rule| (rule.line, rule.cost)).collect()
    }

    /// The examples in the file.
    pub fn examples(&self) -> &[Example] {
        &self.examples
    }
}

fn find<'a>(
    mut rules: impl Iterator<Item = &'a Arc<Rule>>,
    state: &State,
    facts: &dyn Facts,
) -> Option<Arc<Rule>> {
    let known = Known { facts, state, scope: Scope::default() };
    rules.find(|rule| holds(&rule.when, known)).cloned()
}

fn is_on(on: &On, trigger: Trigger) -> bool {
    match on {
        On::Event(_) => trigger == Trigger::Event,
        On::Connection => trigger == Trigger::Connection,
        On::Disconnecting => trigger == Trigger::Disconnecting,
        On::Claim => trigger == Trigger::Claim,
        On::Release => trigger == Trigger::Release,
    }
}
