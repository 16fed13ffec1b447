//! What one proxy subscribed to, was sent, and said of it: xDS as a state machine without IO.
//!
//! Owns: subscriptions, what the client holds, which responses are unanswered, and what to send next.
//! In:   [`Session::request`] for each request, [`Session::offer`] for each new configuration.
//! Out:  [`Session::next`], until it has nothing to say.
//!
//! - Make before break: clusters, endpoints, listeners, routes; only when those were answered does anything go away that
//!   they may still point at. What a client rejected keeps what its old configuration points at.
//! - What a client holds is not sent again until its content changes, rejected or not, unless the client asks for it.
//! - A changed cluster is followed by its endpoints, asked or not: Envoy waits for them, and in delta does not ask.
//! - A name that does not exist is answered in delta; in state-of-the-world its absence is the answer.
//! - A slow client is not sent every revision, but the newest when it is ready.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use types::Revision;

use crate::compile::{Encoded, ProxyConfig, ResourceType, Resources};

/// Unanswered responses of one type, after which sending waits for an answer.
const UNANSWERED_MAX: usize = 32;
/// Most bytes of resources in one delta response; gRPC clients commonly take 4 MB a message.
const RESPONSE_BYTES_MAX: usize = 2 << 20;
/// The name that stands for every resource of a type.
const WILDCARD: &str = "*";

/// Which of xDS's two protocols a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Delta,
    StateOfTheWorld,
}

/// A request, in what both protocols have in common.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) nonce: String,
    /// Why the response with that nonce was rejected.
    pub(super) error: Option<String>,
    pub(super) names: Names,
}

/// What a request says of its subscription.
#[derive(Clone, Debug)]
pub(super) enum Names {
    /// All that is subscribed to from now on.
    All(Vec<String>),
    /// What changes. `held`: names and versions that the client kept from an earlier stream.
    Change { subscribe: Vec<String>, unsubscribe: Vec<String>, held: Vec<(String, String)> },
}

impl Default for Names {
    fn default() -> Self {
        Self::Change { subscribe: Vec::new(), unsubscribe: Vec::new(), held: Vec::new() }
    }
}

/// A response to send.
#[derive(Clone, Debug)]
pub(super) struct Response {
    pub(super) of: ResourceType,
    pub(super) nonce: String,
    /// The revision of the configuration that it brings the client closer to.
    pub(super) revision: Revision,
    pub(super) resources: Vec<Arc<Encoded>>,
    pub(super) removed: Vec<String>,
}

/// How far one type of resource has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) sent: Option<Revision>,
    pub(crate) acknowledged: Option<Revision>,
    /// The last answer was a rejection: of which revision, and why.
    pub(crate) rejected: Option<(Revision, String)>,
}

/// What the client has under a name, or may come to have. `None`: something from an earlier stream or subscription, which
/// is not what there is now.
type Held = Option<Arc<Encoded>>;

#[derive(Debug, Default)]
struct Subscription {
    /// Whether a request for the type has come at all.
    is_open: bool,
    wildcard: bool,
    names: BTreeSet<String>,
    held: BTreeMap<String, Held>,
    /// Names to send even though the client holds their content.
    owed: BTreeSet<String>,
    /// Names that the client was told do not exist.
    told_missing: BTreeSet<String>,
    /// The client waits for an answer, be it empty.
    owes_answer: bool,
    unanswered: VecDeque<(String, Revision)>,
    progress: Progress,
    /// What was compared last and found to need nothing.
    settled: Option<Resources>,
}

/// One stream's state.
#[derive(Debug)]
pub(super) struct Session {
    protocol: Protocol,
    config: Arc<ProxyConfig>,
    subscriptions: BTreeMap<ResourceType, Subscription>,
    nonces: u64,
}

impl Session {
    pub(super) fn new(protocol: Protocol, config: Arc<ProxyConfig>) -> Self {
        let subscriptions = ResourceType::ALL.map(|of| (of, Subscription::default())).into();
        Self { protocol, config, subscriptions, nonces: 0 }
    }

    /// The configuration that the client is being brought to.
    pub(super) fn config(&self) -> &Arc<ProxyConfig> {
        &self.config
    }

    /// Replaces the configuration that the client is being brought to.
    pub(super) fn offer(&mut self, config: Arc<ProxyConfig>) {
        self.config = config;
    }

    /// How far each type that was asked for has come.
    pub(super) fn progress(&self) -> impl Iterator<Item = (ResourceType, &Progress)> {
        let open = self.subscriptions.iter().filter(|(_, subscription)| subscription.is_open);
        open.map(|(of, subscription)| (*of, &subscription.progress))
    }

    /// Takes in a request.
    pub(super) fn request(&mut self, of: ResourceType, request: Request) {
        let resources = self.config.of(of);
        let subscription = self.subscriptions.get_mut(&of).expect("every type has its state");
        subscription.answered(&request);
        let first = !std::mem::replace(&mut subscription.is_open, true);
        match request.names {
            Names::All(names) => subscription.replace(first, of, names),
            Names::Change { subscribe, unsubscribe, held } => {
                subscription.change(first, of, subscribe, &unsubscribe);
                if first {
                    subscription.resume(held, resources);
                }
            }
        }
    }

    /// What to send now, if anything.
    pub(super) fn next(&mut self) -> Option<Response> {
        let ends = [ResourceType::Cluster, ResourceType::Endpoints];
        if let Some(response) = ends.into_iter().find_map(|of| self.additions(of)) {
            return Some(response);
        }
        // A client that lags behind with these is not told of what would point at them.
        if ends.iter().any(|of| self.subscriptions[of].lags()) {
            return None;
        }
        let pointers = [ResourceType::Listener, ResourceType::Route];
        let additions = pointers.into_iter().find_map(|of| self.additions(of));
        let response = additions.or_else(|| ResourceType::ALL.into_iter().rev().find_map(|of| self.removals(of)));
        if response.is_none() {
            self.settle();
        }
        response
    }

    fn subscription(&mut self, of: ResourceType) -> &mut Subscription {
        self.subscriptions.get_mut(&of).expect("every type has its state")
    }

    fn additions(&mut self, of: ResourceType) -> Option<Response> {
        let config = self.config.clone();
        let (protocol, resources) = (self.protocol, config.of(of));
        let subscription = self.subscription(of);
        if !subscription.may_send() || subscription.is_settled(resources) {
            return None;
        }
        let mut changed = subscription.changed(resources);
        let missing = if protocol == Protocol::Delta { subscription.missing(resources) } else { Vec::new() };
        if changed.is_empty() && missing.is_empty() && !subscription.owes_answer {
            return None;
        }
        if protocol == Protocol::Delta {
            limit(&mut changed);
        }
        subscription.hold(&changed);
        subscription.told_missing.extend(missing.iter().cloned());
        if of == ResourceType::Cluster {
            self.owe_endpoints(&changed);
        }
        let subscription = self.subscription(of);
        // A full answer deletes what it leaves out: what is to go stays in until it may.
        let resources = if protocol == Protocol::StateOfTheWorld && of.is_wildcard() {
            subscription.held.values().flatten().cloned().collect()
        } else {
            changed
        };
        Some(self.response(of, resources, missing))
    }

    /// Envoy keeps a changed cluster warming until its endpoints come again.
    fn owe_endpoints(&mut self, clusters: &[Arc<Encoded>]) {
        let config = self.config.clone();
        let endpoints = config.of(ResourceType::Endpoints);
        let subscription = self.subscription(ResourceType::Endpoints);
        let waiting = clusters.iter().filter(|cluster| subscription.names.contains(&cluster.name));
        let waiting: Vec<_> = waiting.filter(|cluster| endpoints.get(&cluster.name).is_some()).collect();
        subscription.owed.extend(waiting.into_iter().map(|cluster| cluster.name.clone()));
    }

    fn removals(&mut self, of: ResourceType) -> Option<Response> {
        let config = self.config.clone();
        let (protocol, resources) = (self.protocol, config.of(of));
        let is_pointed_at = matches!(of, ResourceType::Cluster | ResourceType::Endpoints);
        if is_pointed_at && !self.pointers_are_settled() {
            return None;
        }
        let subscription = self.subscription(of);
        if !subscription.may_send() || subscription.is_settled(resources) {
            return None;
        }
        let leaving: Vec<_> = subscription.held.keys().filter(|name| resources.get(name).is_none()).cloned().collect();
        if leaving.is_empty() {
            return None;
        }
        for name in &leaving {
            subscription.held.remove(name);
            subscription.told_missing.insert(name.clone());
        }
        match protocol {
            Protocol::Delta => Some(self.response(of, Vec::new(), leaving)),
            Protocol::StateOfTheWorld if of.is_wildcard() => {
                let resources = subscription.held.values().flatten().cloned().collect();
                Some(self.response(of, resources, Vec::new()))
            }
            // Absence deletes nothing here: what points at it is gone, and that is all a client needs to know.
            Protocol::StateOfTheWorld => None,
        }
    }

    /// Whether all listeners and routes that were sent are in force.
    fn pointers_are_settled(&self) -> bool {
        [ResourceType::Listener, ResourceType::Route].iter().all(|of| {
            let subscription = &self.subscriptions[of];
            subscription.unanswered.is_empty() && subscription.progress.rejected.is_none()
        })
    }

    fn response(&mut self, of: ResourceType, resources: Vec<Arc<Encoded>>, removed: Vec<String>) -> Response {
        self.nonces += 1;
        let (nonce, revision) = (self.nonces.to_string(), self.config.revision);
        let subscription = self.subscription(of);
        subscription.owes_answer = false;
        subscription.settled = None;
        subscription.unanswered.push_back((nonce.clone(), revision));
        subscription.progress.sent = Some(revision);
        Response { of, nonce, revision, resources, removed }
    }

    /// Nothing is left to send: whoever has answered everything is in step with the newest revision.
    fn settle(&mut self) {
        let config = self.config.clone();
        for (of, subscription) in &mut self.subscriptions {
            let resources = config.of(*of);
            let holds_more = subscription.held.keys().any(|name| resources.get(name).is_none());
            if !subscription.is_open || !subscription.may_send() || holds_more {
                continue;
            }
            subscription.settled = Some(resources.clone());
            if subscription.unanswered.is_empty() && subscription.progress.rejected.is_none() {
                subscription.progress.sent = Some(config.revision);
                subscription.progress.acknowledged = Some(config.revision);
            }
        }
    }
}

/// Cuts what is to be sent to the size of a message; the rest follows in the next.
fn limit(resources: &mut Vec<Arc<Encoded>>) {
    let mut bytes = 0;
    let fits = resources.iter().take_while(|resource| {
        bytes += resource.body.value.len();
        bytes <= RESPONSE_BYTES_MAX
    });
    let fits = fits.count().max(1);
    resources.truncate(fits);
}

impl Subscription {
    fn may_send(&self) -> bool {
        self.is_open && !self.lags()
    }

    fn lags(&self) -> bool {
        self.unanswered.len() >= UNANSWERED_MAX
    }

    fn is_settled(&self, resources: &Resources) -> bool {
        let same = self.settled.as_ref().is_some_and(|settled| settled.is_same(resources));
        same && self.owed.is_empty() && !self.owes_answer
    }

    /// Reads the answer to a response. An unknown or outdated nonce answers nothing.
    fn answered(&mut self, request: &Request) {
        let Some(at) = self.unanswered.iter().position(|(nonce, _)| *nonce == request.nonce) else { return };
        // An answer also stands for those before it, which clients need not have answered one by one.
        let Some((_, revision)) = self.unanswered.drain(..=at).next_back() else { return };
        self.progress.rejected = request.error.clone().map(|reason| (revision, reason));
        if request.error.is_none() {
            self.progress.acknowledged = Some(revision);
        }
    }

    /// State of the world: the names are all that is subscribed to. None at all means everything, until some were given.
    fn replace(&mut self, first: bool, of: ResourceType, names: Vec<String>) {
        let was_named = !self.names.is_empty();
        let legacy = names.is_empty() && of.is_wildcard() && (first || (self.wildcard && !was_named));
        let wildcard = legacy || names.iter().any(|name| name == WILDCARD);
        let names: BTreeSet<_> = names.into_iter().filter(|name| name != WILDCARD).collect();
        self.owed.extend(names.difference(&self.names).cloned());
        if (wildcard && !self.wildcard) || names != self.names {
            self.settled = None;
        }
        self.owes_answer |= first && wildcard;
        (self.wildcard, self.names) = (wildcard, names);
        self.drop_unsubscribed();
    }

    fn change(&mut self, first: bool, of: ResourceType, subscribe: Vec<String>, unsubscribe: &[String]) {
        let legacy = first && of.is_wildcard() && subscribe.is_empty() && unsubscribe.is_empty();
        if !subscribe.is_empty() || !unsubscribe.is_empty() || legacy {
            self.settled = None;
        }
        for name in subscribe {
            if name == WILDCARD {
                self.owes_answer = true;
                self.wildcard = true;
            } else {
                self.told_missing.remove(&name);
                self.owed.insert(name.clone());
                self.names.insert(name);
            }
        }
        if legacy {
            self.wildcard = true;
            self.owes_answer = true;
        }
        for name in unsubscribe {
            if name == WILDCARD {
                self.wildcard = false;
            } else {
                self.names.remove(name);
            }
        }
        self.drop_unsubscribed();
    }

    fn drop_unsubscribed(&mut self) {
        let (names, wildcard) = (&self.names, self.wildcard);
        self.owed.retain(|name| names.contains(name));
        self.told_missing.retain(|name| names.contains(name));
        if !wildcard {
            // What is on its way is held by a client that wants it again when it comes.
            let may_come = !self.unanswered.is_empty();
            self.held.retain(|name, held| {
                let is_wanted = names.contains(name);
                if !is_wanted {
                    *held = None;
                }
                is_wanted || may_come
            });
        }
    }

    /// A client that comes back says what it has: what is still so is not sent again, what is gone is removed, what changed
    /// is sent, or removed if it goes before.
    fn resume(&mut self, held: Vec<(String, String)>, resources: &Resources) {
        for (name, version) in held {
            let same = resources.get(&name).filter(|resource| resource.version.names(&version)).cloned();
            if same.is_some() {
                self.owed.remove(&name);
            }
            self.held.insert(name, same);
        }
    }

    /// What exists, is subscribed to, and is not what the client holds.
    fn changed(&self, resources: &Resources) -> Vec<Arc<Encoded>> {
        let differs = |resource: &&Arc<Encoded>| {
            let same = |held: &Arc<Encoded>| held.version.is_same_content(resource.version);
            let holds = self.held.get(&resource.name).and_then(Option::as_ref).is_some_and(same);
            !holds || self.owed.contains(&resource.name)
        };
        if self.wildcard {
            return resources.iter().filter(differs).cloned().collect();
        }
        self.names.iter().filter_map(|name| resources.get(name)).filter(differs).cloned().collect()
    }

    /// Names that were asked for, do not exist, and never did for this client.
    fn missing(&self, resources: &Resources) -> Vec<String> {
        let is_missing = |name: &&String| {
            resources.get(name).is_none() && !self.told_missing.contains(*name) && !self.held.contains_key(*name)
        };
        self.names.iter().filter(is_missing).cloned().collect()
    }

    fn hold(&mut self, resources: &[Arc<Encoded>]) {
        for resource in resources {
            self.owed.remove(&resource.name);
            self.told_missing.remove(&resource.name);
            self.held.insert(resource.name.clone(), Some(resource.clone()));
        }
        let (names, held) = (&self.names, &self.held);
        self.owed.retain(|name| names.contains(name) && held.contains_key(name));
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
