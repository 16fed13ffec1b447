//! What a client watched and was told.

use serde::{Deserialize, Serialize};

use super::{
    operation::{KeyValue, Keys},
    recorder::Moment,
};

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) revision: i64,
    pub(crate) change: Change,
    /// What the key was before, if it was asked for and told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) prev: Option<KeyValue>,
}

/// What became of the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    Put(KeyValue),
    Delete(String),
}

impl Event {
    pub(crate) fn key(&self) -> &str {
        match &self.change {
            Change::Put(kv) => &kv.key,
            Change::Delete(key) => key,
        }
    }
}

/// Which events are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Filter {
    NoPut,
    NoDelete,
}

/// What is asked to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watched {
    pub(crate) keys: Keys,
    /// The first revision to tell of; 0 is the one after the present.
    pub(crate) start: i64,
    pub(crate) prev: bool,
    pub(crate) filter: Option<Filter>,
}

impl Watched {
    /// Every change from the first on, with what was before.
    pub(crate) fn everything() -> Self {
        Self { keys: Keys::All, start: 1, prev: true, filter: None }
    }

    /// Whether an event is asked for.
    pub(crate) fn wants(&self, event: &Event) -> bool {
        let filtered = match (&event.change, self.filter) {
            (Change::Put(_), Some(Filter::NoPut)) | (Change::Delete(_), Some(Filter::NoDelete)) => true,
            (Change::Put(_) | Change::Delete(_), _) => false,
        };
        self.keys.contain(event.key()) && !filtered
    }
}

/// One response; the fragments of one are put together first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// The watch is there, at the header's revision.
    Created {
        revision: i64,
    },
    Events {
        revision: i64,
        events: Vec<Event>,
    },
    /// Everything up to this revision has been told.
    Progress {
        revision: i64,
    },
    /// It ended by the server's word.
    Ended {
        reason: String,
    },
}

impl Told {
    /// The header's revision.
    pub(crate) fn revision(&self) -> Option<i64> {
        match self {
            Self::Created { revision } | Self::Events { revision, .. } | Self::Progress { revision } => Some(*revision),
            Self::Ended { .. } => None,
        }
    }
}

/// One watch on one stream of one member. A client that resumes elsewhere opens another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watch {
    /// Its place in the history.
    pub(crate) id: usize,
    pub(crate) client: u32,
    pub(crate) endpoint: String,
    pub(crate) opened: Moment,
    pub(crate) watched: Watched,
    /// In the order in which it came.
    pub(crate) told: Vec<(Moment, Told)>,
}

impl Watch {
    /// Everything that it was told, in the order in which it came.
    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.told.iter().flat_map(|(_, told)| match told {
            Told::Events { events, .. } => events.as_slice(),
            Told::Created { .. } | Told::Progress { .. } | Told::Ended { .. } => &[],
        })
    }

    /// The first revision that it owes its client, once that is known.
    pub(crate) fn first(&self) -> Option<i64> {
        if self.watched.start > 0 {
            return Some(self.watched.start);
        }
        self.told.iter().find_map(|(_, told)| match told {
            Told::Created { revision } => Some(revision + 1),
            _ => None,
        })
    }

    /// Names it to people.
    pub(crate) fn name(&self) -> String {
        let Self { id, client, endpoint, watched, .. } = self;
        format!("watch {id} (client {client} at {endpoint}, {watched:?})")
    }
}
