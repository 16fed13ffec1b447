//! What a configuration must satisfy before it is stored.
//!
//! - Each resource is checked by itself, then the state that would result as a whole.
//! - Only what a change breaks is held against it: a reference that dangled before does not block the next change.
//! - A state that passes compiles to configuration that Envoy accepts.

mod check;
mod edge;
mod entries;
mod references;
mod routes;
mod rule;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    mesh::Snapshot,
    model::{Id, Origin, Parsed, Problem, Resource, Spec},
};

/// Something wrong with a resource, not yet placed in a source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Issue {
    id: Id,
    field: String,
    message: String,
    suggestion: String,
}

impl Issue {
    /// What is wrong, whatever might be written instead.
    fn what(&self) -> (&Id, &str, &str) {
        (&self.id, &self.field, &self.message)
    }
}

/// The outcome of checking a state.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) problems: Vec<Problem>,
    /// Resources that the changed ones lean on: while these stay as they are, the verdict holds.
    pub(crate) leans_on: BTreeSet<Id>,
}

/// Checks `changed`, read from sources, and the state `after` it against the state `before` it.
pub(crate) fn validate(changed: &[Parsed], before: &Snapshot, after: &Snapshot) -> Verdict {
    let origins: BTreeMap<&Id, &Origin> = changed.iter().map(|parsed| (&parsed.resource.id, &parsed.origin)).collect();
    let mut issues: Vec<Issue> = changed.iter().flat_map(|parsed| resource(&parsed.resource)).collect();
    let (was, will) = (references::check(before), references::check(after));
    let earlier: BTreeSet<_> = was.issues.iter().map(Issue::what).collect();
    issues.extend(
        will.issues.into_iter().filter(|issue| origins.contains_key(&issue.id) || !earlier.contains(&issue.what())),
    );
    let leans_on = will.used.into_iter().filter(|(id, _)| origins.contains_key(id)).map(|(_, used)| used).collect();
    let problems = issues.into_iter().map(|issue| place(issue, &origins)).collect();
    Verdict { problems, leans_on }
}

/// Checks a workload that registers itself.
pub(crate) fn validate_workload(workload: &Resource) -> Vec<Problem> {
    resource(workload).into_iter().map(|issue| place(issue, &BTreeMap::new())).collect()
}

fn resource(resource: &Resource) -> Vec<Issue> {
    let mut check = check::Check::new(&resource.id);
    check.metadata(resource);
    match &resource.spec {
        Spec::Service(spec) => entries::service(&mut check, spec),
        Spec::ServiceEntry(spec) => entries::service_entry(&mut check, spec),
        Spec::WorkloadEntry(spec) => entries::workload_entry(&mut check, spec),
        Spec::VirtualService(spec) => routes::virtual_service(&mut check, spec),
        Spec::DestinationRule(spec) => rule::destination_rule(&mut check, spec),
        Spec::Gateway(spec) => edge::gateway(&mut check, spec),
        Spec::PeerAuthentication(spec) => edge::peer_authentication(&mut check, &resource.id, spec),
    }
    check.issues
}

fn place(issue: Issue, origins: &BTreeMap<&Id, &Origin>) -> Problem {
    let Issue { id, field, message, suggestion } = issue;
    match origins.get(&id) {
        Some(origin) => origin.problem(&id, &field, message, suggestion),
        None => Problem { field, message, suggestion, resource: id.to_string(), ..Problem::default() },
    }
}

#[cfg(test)]
mod tests;
