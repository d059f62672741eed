//! Namespaces and their handlers.

use std::{future::Future, pin::Pin, sync::Arc};

use ahash::AHashMap;
use signalbox_rules::RuleSet;
use signalbox_socketio::args::is_reserved;

use super::{
    action::Action,
    hooks::Hooks,
    socket::{Event, Socket},
};

use crate::panics::{Panicked, guarded};

type BoxFuture<T> = Pin<Box<dyn Future<Output = T>>>;
pub(crate) type EventHandler = Arc<dyn Fn(Socket, Event) -> BoxFuture<()> + Send + Sync>;
pub(crate) type ConnectHandler = Arc<dyn Fn(Socket, Option<String>) -> BoxFuture<()> + Send + Sync>;
pub(crate) type DisconnectHandler = Arc<dyn Fn(Socket, String) -> BoxFuture<()> + Send + Sync>;
pub(crate) type Middleware =
    Arc<dyn Fn(Socket, Option<String>) -> BoxFuture<Result<(), ConnectRefused>> + Send + Sync>;

/// A refusal by a middleware; the client receives it as CONNECT_ERROR.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConnectRefused {
    /// `err.message` at the client.
    pub message: String,
    /// `err.data` at the client: JSON.
    pub data: Option<String>,
}

/// What happens with an event.
#[derive(Clone)]
pub(crate) enum Handler {
    Action(Action),
    Call(EventHandler),
}

enum Matcher {
    Named(Arc<str>),
    Matching(Box<dyn Fn(&str) -> bool + Send + Sync>),
}

/// A namespace, or all namespaces whose names match. Handlers are complete before the first client connects, so none of a
/// client's events can come too early.
pub struct Namespace {
    matcher: Matcher,
    pub(crate) middlewares: Vec<Middleware>,
    pub(crate) on_connect: Vec<ConnectHandler>,
    pub(crate) on_disconnect: Vec<DisconnectHandler>,
    events: AHashMap<String, Handler>,
    any: Option<Handler>,
    /// Rules come before its handlers, and decide which names there are.
    pub(crate) is_ruled: bool,
}

impl Namespace {
    fn with(matcher: Matcher) -> Self {
        Self {
            matcher,
            middlewares: Vec::new(),
            on_connect: Vec::new(),
            on_disconnect: Vec::new(),
            events: AHashMap::new(),
            any: None,
            is_ruled: false,
        }
    }

    /// Every namespace that the rules of the application name ([`App::rules`]). Handlers are for the events that no rule is for.
    pub fn ruled() -> Self {
        Self { is_ruled: true, ..Self::matching(|_| true) }
    }

    /// The namespace of this name, which begins with a slash.
    pub fn named(name: &str) -> Self {
        Self::with(Matcher::Named(name.into()))
    }

    /// Every namespace whose name `matches`. A name exists while somebody is connected to it, and leaves nothing behind.
    pub fn matching(matches: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self::with(Matcher::Matching(Box::new(matches)))
    }

    /// Asks before a client is connected, with the CONNECT payload (JSON). Middlewares run in order; the first refusal ends it.
    #[must_use]
    pub fn middleware<F, R>(mut self, middleware: F) -> Self
    where
        F: Fn(Socket, Option<String>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), ConnectRefused>> + 'static,
    {
        self.middlewares.push(Arc::new(move |socket, auth| Box::pin(middleware(socket, auth))));
        self
    }

    /// Runs when a client has connected, with the CONNECT payload (JSON).
    #[must_use]
    pub fn on_connect<F, R>(mut self, handler: F) -> Self
    where
        F: Fn(Socket, Option<String>) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + 'static,
    {
        self.on_connect.push(Arc::new(move |socket, auth| Box::pin(handler(socket, auth))));
        self
    }

    /// Runs when a client has gone, with the reason as Socket.IO names it. The socket is in no room any more.
    #[must_use]
    pub fn on_disconnect<F, R>(mut self, handler: F) -> Self
    where
        F: Fn(Socket, String) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + 'static,
    {
        self.on_disconnect.push(Arc::new(move |socket, reason| Box::pin(handler(socket, reason))));
        self
    }

    /// Runs for every event of this name. A handler that panics ends its client's connection. A handler begins in the order its events came; what it awaits, later events do not
    /// wait for.
    #[must_use]
    pub fn on<F, R>(mut self, event: &str, handler: F) -> Self
    where
        F: Fn(Socket, Event) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + 'static,
    {
        let call: EventHandler = Arc::new(move |socket, event| Box::pin(handler(socket, event)));
        self.events.insert(event.to_owned(), Handler::Call(call));
        self
    }

    /// Runs for every event that nothing else is for. Without it, such an event is answered with `unknown-event`.
    #[must_use]
    pub fn on_any<F, R>(mut self, handler: F) -> Self
    where
        F: Fn(Socket, Event) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + 'static,
    {
        self.any = Some(Handler::Call(Arc::new(move |socket, event| Box::pin(handler(socket, event)))));
        self
    }

    /// Does `action` for every event of this name.
    ///
    /// # Panics
    /// The action sends an event whose name is reserved, see [`AckError::Reserved`](super::AckError::Reserved).
    #[must_use]
    pub fn act(mut self, event: &str, action: Action) -> Self {
        for sent in action.events() {
            assert!(!is_reserved(sent), "{event} would send {sent}, whose name is reserved");
        }
        self.events.insert(event.to_owned(), Handler::Action(action));
        self
    }

    /// Whether it has a name of its own, which no client has made up.
    pub(crate) fn is_named(&self) -> bool {
        matches!(self.matcher, Matcher::Named(_))
    }

    /// Whether there is something for events of this name in particular.
    pub(crate) fn knows(&self, event: &str) -> bool {
        self.events.contains_key(event)
    }

    pub(crate) fn handler(&self, event: &str) -> Option<&Handler> {
        self.events.get(event).or(self.any.as_ref())
    }
}

impl std::fmt::Debug for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Namespace").field("events", &self.events.keys()).finish_non_exhaustive()
    }
}

/// An application: its namespaces. It is complete before the node starts and never changes.
#[derive(Debug, Default)]
pub struct App {
    named: AHashMap<Arc<str>, Arc<Namespace>>,
    matching: Vec<Arc<Namespace>>,
    /// The rules with which the node starts; [`Node::set_rules`](crate::Node::set_rules) and
    /// [`Node::put_rules`](crate::Node::put_rules) replace them.
    pub(crate) rules: Option<Arc<RuleSet>>,
    pub(crate) hooks: Option<Arc<dyn Hooks>>,
}

impl App {
    /// An application without namespaces.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a namespace. Names go before patterns, patterns in the order they were added.
    #[must_use]
    pub fn namespace(mut self, namespace: Namespace) -> Self {
        match &namespace.matcher {
            Matcher::Named(name) => {
                self.named.insert(name.clone(), Arc::new(namespace));
            }
            Matcher::Matching(_) => self.matching.push(Arc::new(namespace)),
        }
        self
    }

    /// Has the events of [`Namespace::ruled`] served by these rules.
    #[must_use]
    pub fn rules(mut self, rules: Arc<RuleSet>) -> Self {
        self.rules = Some(rules);
        self
    }

    /// Whom rules ask that `call`. Without it nobody answers them.
    #[must_use]
    pub fn hooks(mut self, hooks: Arc<dyn Hooks>) -> Self {
        self.hooks = Some(hooks);
        self
    }

    /// The namespace of that name, if there is one.
    ///
    /// # Errors
    /// A matcher panicked.
    pub(crate) fn find(&self, name: &str) -> Result<Option<Arc<Namespace>>, Panicked> {
        if let Some(namespace) = self.named.get(name) {
            return Ok(Some(namespace.clone()));
        }
        for namespace in &self.matching {
            if let Matcher::Matching(matches) = &namespace.matcher
                && guarded(|| matches(name))?
            {
                return Ok(Some(namespace.clone()));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "reserved")]
    fn an_action_cannot_send_an_event_whose_name_is_reserved() {
        let _ = Namespace::named("/").act("x", Action::SendTo { event: "disconnect".into() });
    }

    #[test]
    fn names_go_before_patterns() {
        let app = App::new()
            .namespace(Namespace::matching(|name| name.starts_with("/a")).act("x", Action::Users))
            .namespace(Namespace::named("/ab"));
        assert!(app.find("/ab").unwrap().unwrap().handler("x").is_none());
        assert!(app.find("/ac").unwrap().unwrap().handler("x").is_some());
        assert!(app.find("/b").unwrap().is_none());
    }
}
