//! What a client asked and was answered.

use serde::{Deserialize, Serialize};

use super::recorder::Moment;

/// A key as it was at some revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct KeyValue {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
    /// 0 is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) lease: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Which keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Keys {
    One(String),
    Prefix(String),
    All,
}

impl Keys {
    pub(crate) fn contain(&self, key: &str) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Prefix(prefix) => key.starts_with(prefix.as_str()),
            Self::All => true,
        }
    }
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    Range {
        keys: Keys,
        /// The revision to read at; 0 is the present.
        revision: i64,
        /// Whether the member may answer from what it has.
        serializable: bool,
        /// Most keys to answer; 0 is all.
        limit: i64,
    },
    Put {
        key: String,
        /// No two puts of a history have the same value: by it an event is known to be of this put.
        value: String,
        lease: i64,
        /// Whether to answer what the key was before.
        prev: bool,
    },
    Delete {
        keys: Keys,
        prev: bool,
    },
    Txn {
        compares: Vec<Compare>,
        /// Done if all comparisons hold. No transactions within transactions, no reads at other revisions.
        success: Vec<Request>,
        failure: Vec<Request>,
    },
}

impl Request {
    /// The present state of `keys`, linearizable.
    pub(crate) fn read(keys: Keys) -> Self {
        Self::Range { keys, revision: 0, serializable: false, limit: 0 }
    }

    /// A put that asks what was there before.
    pub(crate) fn put(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: 0, prev: true }
    }

    /// Whether a member may answer it from what it has.
    pub(crate) fn is_serializable(&self) -> bool {
        matches!(self, Self::Range { serializable: true, .. })
    }
}

/// One condition of a transaction: equality.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Compare {
    pub(crate) key: String,
    pub(crate) target: Target,
}

/// What of a key is compared, and with what. A key that is not there has revisions and version 0, and no value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    Value(String),
    ModRevision(i64),
    Version(i64),
}

/// What a call was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Response {
    /// The header's.
    pub(crate) revision: i64,
    pub(crate) answer: Answer,
}

/// The answer to a request of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Range { kvs: Vec<KeyValue>, count: i64 },
    Put { prev: Option<KeyValue> },
    Delete { deleted: i64, prev: Vec<KeyValue> },
    Txn { succeeded: bool, answers: Vec<Answer> },
}

impl Answer {
    /// Whether it says that something was changed.
    pub(crate) fn is_change(&self) -> bool {
        match self {
            Self::Range { .. } => false,
            Self::Put { .. } => true,
            Self::Delete { deleted, .. } => *deleted > 0,
            Self::Txn { answers, .. } => answers.iter().any(Self::is_change),
        }
    }
}

/// What became of a call, as its client knows it. Errors are the client's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Answered(Response),
    /// It certainly did nothing, and never will.
    Failed(String),
    /// It may have been done, or be done still.
    Unknown(String),
}

/// One call of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Operation {
    /// Its place in the history.
    pub(crate) id: usize,
    pub(crate) client: u32,
    /// The member that was asked.
    pub(crate) endpoint: String,
    pub(crate) called: Moment,
    /// `None` for a call that was still open when the history ended.
    pub(crate) returned: Option<Moment>,
    pub(crate) request: Request,
    pub(crate) outcome: Outcome,
}

impl Operation {
    pub(crate) fn response(&self) -> Option<&Response> {
        match &self.outcome {
            Outcome::Answered(response) => Some(response),
            Outcome::Failed(_) | Outcome::Unknown(_) => None,
        }
    }

    /// The revision that it made, if it is known to have made one.
    pub(crate) fn changed(&self) -> Option<i64> {
        self.response().filter(|response| response.answer.is_change()).map(|response| response.revision)
    }

    /// One line for people.
    pub(crate) fn told(&self) -> String {
        let Self { id, client, endpoint, request, outcome, .. } = self;
        format!("operation {id} (client {client} at {endpoint}): {request:?} -> {outcome:?}")
    }
}
