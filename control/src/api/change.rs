//! Changing the configuration: validate what would result, then store it if nothing moved meanwhile.

use std::sync::Arc;

use client::{Client, ClientError, Compare, Comparison, Op, Txn};
use proto::mesh::change::Action;
use types::{KeyRange, Revision};

use super::wire;
use crate::{
    mesh::{Snapshot, Stored},
    model::{Id, KEY_PREFIX, Kind, Parsed, Problem},
    source,
    validate::{Verdict, validate},
};

/// How often a change is validated anew because something moved, before the caller is told to try again.
const ATTEMPTS: usize = 16;
/// The kinds that speak of each other. While none of them changes, neither do the references between them.
const GUARDED: [Kind; 5] =
    [Kind::Service, Kind::ServiceEntry, Kind::VirtualService, Kind::DestinationRule, Kind::Gateway];

/// One thing to do.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Put(Box<Parsed>),
    Delete(Id),
}

impl Change {
    fn id(&self) -> &Id {
        match self {
            Self::Put(parsed) => &parsed.resource.id,
            Self::Delete(id) => id,
        }
    }
}

/// What came of a change.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// `None` when nothing was stored.
    pub(super) revision: Option<Revision>,
    pub(super) changes: Vec<proto::mesh::Change>,
    pub(super) problems: Vec<Problem>,
}

/// Changes the configuration, one transaction at a time.
#[derive(Clone, Debug)]
pub(super) struct Editor {
    client: Client,
    /// Most comparisons, and most operations, that the store takes in one transaction.
    txn_ops_max: usize,
}

impl Editor {
    pub(super) fn new(client: Client, txn_ops_max: usize) -> Self {
        Self { client, txn_ops_max }
    }

    /// Does all of `changes` or nothing. `dry_run`: says what would come of it.
    pub(super) async fn change(&self, changes: Vec<Change>, dry_run: bool) -> Result<Outcome, ClientError> {
        for _ in 0..ATTEMPTS {
            let before = source::load(&self.client).await?;
            let plan = match Plan::make(&changes, &before) {
                Ok(plan) => plan,
                Err(problems) => return Ok(Outcome { problems, ..Outcome::default() }),
            };
            if let Some(problem) = plan.too_large(self.txn_ops_max) {
                return Ok(Outcome { problems: vec![problem], ..Outcome::default() });
            }
            if dry_run || plan.ops.is_empty() {
                return Ok(Outcome { changes: plan.report(None), ..Outcome::default() });
            }
            let response = self.client.txn(plan.txn()).await?;
            if response.succeeded {
                let revision = Some(response.revision);
                return Ok(Outcome { revision, changes: plan.report(revision), problems: Vec::new() });
            }
        }
        let text = "the configuration kept changing meanwhile, try again".to_owned();
        Err(ClientError::Refused { code: client::Code::Aborted, text })
    }
}

/// A change that is valid at a revision, and what must not have changed since.
struct Plan<'a> {
    conditions: Vec<Comparison>,
    ops: Vec<Op>,
    actions: Vec<(&'a Id, Action, Option<Arc<Stored>>)>,
}

impl<'a> Plan<'a> {
    fn make(changes: &'a [Change], before: &Snapshot) -> Result<Self, Vec<Problem>> {
        let missing = changes.iter().filter_map(|change| absent(change, before));
        let missing: Vec<_> = missing.collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let after = result(changes, before);
        let parsed: Vec<Parsed> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Put(parsed) => Some(Parsed::clone(parsed)),
                Change::Delete(_) => None,
            })
            .collect();
        let Verdict { problems, leans_on } = validate(&parsed, before, &after);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut plan = Self { conditions: Vec::new(), ops: Vec::new(), actions: Vec::new() };
        for change in changes {
            plan.add(change, before);
        }
        let is_touched = |id: &Id| changes.iter().any(|change| change.id() == id);
        let leaned = leans_on.iter().filter(|id| !is_touched(id));
        plan.conditions
            .extend(leaned.filter_map(|id| before.get(id)).map(|stored| unchanged(stored.id(), Some(stored))));
        plan.conditions.extend(GUARDED.map(|kind| no_newer(kind, before.revision)));
        Ok(plan)
    }

    fn add(&mut self, change: &'a Change, before: &Snapshot) {
        let id = change.id();
        let stored = before.get(id);
        let action = match (change, stored) {
            (Change::Put(parsed), Some(stored)) if stored.resource == parsed.resource => Action::Unchanged,
            (Change::Put(_), Some(_)) => Action::Updated,
            (Change::Put(_), None) => Action::Created,
            (Change::Delete(_), _) => Action::Deleted,
        };
        self.conditions.push(unchanged(id, stored));
        match (change, action) {
            (_, Action::Unchanged) => {}
            (Change::Put(parsed), _) => self.ops.push(Op::put(id.key(), parsed.resource.to_json())),
            (Change::Delete(_), _) => self.ops.push(Op::delete(id.key())),
        }
        self.actions.push((id, action, stored.cloned()));
    }

    fn too_large(&self, max: usize) -> Option<Problem> {
        let size = self.conditions.len().max(self.ops.len());
        (size > max).then(|| Problem {
            message: format!("this takes {size} operations in one transaction, and the store's limit is {max}"),
            suggestion: "raise --max-txn-ops, or apply fewer resources at once".to_owned(),
            ..Problem::default()
        })
    }

    fn txn(&self) -> Txn {
        let txn = self.conditions.iter().cloned().fold(Txn::new(), Txn::when);
        self.ops.iter().cloned().fold(txn, Txn::then)
    }

    fn report(&self, revision: Option<Revision>) -> Vec<proto::mesh::Change> {
        let report = self.actions.iter().map(|(id, action, stored)| {
            let now = revision.map_or(0, Revision::get);
            let created = stored.as_ref().map_or(now, |stored| stored.created.get());
            let modified = stored.as_ref().map_or(now, |stored| stored.modified.get());
            let modified = if *action == Action::Unchanged { modified } else { now };
            proto::mesh::Change { action: (*action).into(), resource: Some(wire::named(id, created, modified)) }
        });
        report.collect()
    }
}

fn absent(change: &Change, before: &Snapshot) -> Option<Problem> {
    let Change::Delete(id) = change else { return None };
    before.get(id).is_none().then(|| {
        let names = before.iter().filter(|stored| stored.id().kind == id.kind && stored.id().namespace == id.namespace);
        let names: Vec<_> = names.map(|stored| stored.id().name.as_str()).collect();
        let meant = crate::model::closest(&id.name, names);
        Problem {
            message: format!("there is no {id}"),
            suggestion: meant.map(|meant| format!("did you mean {meant:?}?")).unwrap_or_default(),
            resource: id.to_string(),
            ..Problem::default()
        }
    })
}

/// The configuration that would result.
fn result(changes: &[Change], before: &Snapshot) -> Snapshot {
    let mut after = before.clone();
    after.revision = before.revision.next();
    for change in changes {
        match change {
            Change::Put(parsed) => {
                let created = before.get(&parsed.resource.id).map_or(after.revision, |stored| stored.created);
                let stored = Stored { resource: parsed.resource.clone(), created, modified: after.revision };
                after.put(Arc::new(stored));
            }
            Change::Delete(id) => after.remove(id),
        }
    }
    after
}

fn unchanged(id: &Id, stored: Option<&Arc<Stored>>) -> Comparison {
    Compare::mod_revision(id.key()).equal(stored.map_or(0, |stored| stored.modified.get()))
}

/// Nothing of this kind was created or changed after `revision`. What was deleted shows on the keys themselves.
fn no_newer(kind: Kind, revision: Revision) -> Comparison {
    let prefix = format!("{KEY_PREFIX}{}/{}/", kind.key_group(), kind.name());
    Compare::mod_revision(prefix.clone()).less(revision.next().get()).over(KeyRange::prefix(prefix))
}
