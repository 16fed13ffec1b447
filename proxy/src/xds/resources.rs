//! What was accepted, as it was received.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;
use proto::google::protobuf::Any;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::config::Kind;

/// Accepted resources by kind and name. A clone shares; the lock is never held for long, and never by a request.
#[derive(Clone)]
pub(crate) struct Resources {
    held: Arc<Mutex<BTreeMap<Kind, BTreeMap<String, Held>>>>,
    changed: watch::Sender<()>,
}

struct Held {
    version: String,
    any: Any,
}

/// One resource: kind, name, version and content.
pub(crate) type Saved = (Kind, String, String, Any);

impl Default for Resources {
    fn default() -> Self {
        Self { held: Arc::default(), changed: watch::Sender::new(()) }
    }
}

impl Resources {
    pub(crate) fn holds(&self, kind: Kind, name: &str, any: &Any) -> bool {
        self.held.lock().get(&kind).and_then(|held| held.get(name)).is_some_and(|held| held.any == *any)
    }

    /// Whether anything of this kind was accepted.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.held.lock().get(&kind).is_some_and(|held| !held.is_empty())
    }

    pub(crate) fn insert(&self, kind: Kind, name: &str, version: &str, any: Any) {
        let held = Held { version: version.to_owned(), any };
        self.held.lock().entry(kind).or_default().insert(name.to_owned(), held);
    }

    pub(crate) fn remove(&self, kind: Kind, name: &str) {
        if let Some(held) = self.held.lock().get_mut(&kind) {
            held.remove(name);
        }
    }

    /// Names and versions, as a reconnecting client tells them.
    pub(crate) fn versions(&self, kind: Kind) -> HashMap<String, String> {
        let held = self.held.lock();
        let held = held.get(&kind).into_iter().flatten();
        held.map(|(name, held)| (name.clone(), held.version.clone())).collect()
    }

    /// Everything, for the disk.
    pub(crate) fn all(&self) -> Vec<Saved> {
        let held = self.held.lock();
        let rows = held.iter().flat_map(|(kind, held)| held.iter().map(|(name, held)| (*kind, name, held)));
        rows.map(|(kind, name, held)| (kind, name.clone(), held.version.clone(), held.any.clone())).collect()
    }

    /// Names and versions by type, for people.
    pub(crate) fn summary(&self) -> Value {
        let mut summary = serde_json::Map::new();
        for kind in Kind::ALL {
            let versions: BTreeMap<_, _> = self.versions(kind).into_iter().collect();
            summary.insert(kind.type_url().to_owned(), json!(versions));
        }
        Value::Object(summary)
    }

    pub(crate) fn mark_changed(&self) {
        self.changed.send_replace(());
    }

    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
