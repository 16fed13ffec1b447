//! All configuration at one revision.

use std::{collections::BTreeMap, sync::Arc};

use types::Revision;

use crate::model::{Id, Kind, Resource, Typed};

/// A resource as the store holds it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) resource: Resource,
    /// When it was created; it stays the same over updates, and says which resource is the older.
    pub(crate) created: Revision,
    pub(crate) modified: Revision,
}

impl Stored {
    pub(crate) fn id(&self) -> &Id {
        &self.resource.id
    }

    /// Orders by age, and what is of one age by name and namespace.
    pub(crate) fn age(&self) -> (Revision, &str, &str) {
        (self.created, &self.resource.id.name, &self.resource.id.namespace)
    }
}

type OfKind = BTreeMap<Id, Arc<Stored>>;

/// All configuration at `revision`. Clones share what they have in common.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) revision: Revision,
    kinds: BTreeMap<Kind, Arc<OfKind>>,
}

impl Snapshot {
    /// A mesh without configuration.
    pub(crate) fn empty(revision: Revision) -> Self {
        Self { revision, kinds: Kind::all().map(|kind| (kind, Arc::default())).collect() }
    }

    pub(crate) fn put(&mut self, stored: Arc<Stored>) {
        let of_kind = self.kinds.entry(stored.id().kind).or_default();
        Arc::make_mut(of_kind).insert(stored.id().clone(), stored);
    }

    pub(crate) fn remove(&mut self, id: &Id) {
        let Some(of_kind) = self.kinds.get_mut(&id.kind) else { return };
        if of_kind.contains_key(id) {
            Arc::make_mut(of_kind).remove(id);
        }
    }

    pub(crate) fn get(&self, id: &Id) -> Option<&Arc<Stored>> {
        self.kinds.get(&id.kind)?.get(id)
    }

    /// All resources, ordered by kind, namespace and name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Stored>> {
        self.kinds.values().flat_map(|of_kind| of_kind.values())
    }

    /// All resources of one kind, ordered by namespace and name.
    pub(crate) fn all<T: Typed + 'static>(&self) -> impl Iterator<Item = (&Arc<Stored>, &T)> {
        let of_kind = self.kinds.get(&T::KIND).into_iter().flat_map(|of_kind| of_kind.values());
        of_kind.filter_map(|stored| T::of(&stored.resource.spec).map(|spec| (stored, spec)))
    }

    /// All resources of one kind, the oldest first.
    pub(crate) fn oldest_first<T: Typed + 'static>(&self) -> Vec<(&Arc<Stored>, &T)> {
        let mut all: Vec<_> = self.all::<T>().collect();
        all.sort_by(|(left, _), (right, _)| left.age().cmp(&right.age()));
        all
    }

    /// Whether nothing of these kinds differs from `other`. Cheap: it compares what they share, not what it says.
    pub(crate) fn shares(&self, other: &Self, kinds: &[Kind]) -> bool {
        kinds.iter().all(|kind| match (self.kinds.get(kind), other.kinds.get(kind)) {
            (Some(left), Some(right)) => Arc::ptr_eq(left, right),
            _ => false,
        })
    }
}
