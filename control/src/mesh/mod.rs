//! The mesh at one revision, indexed for those who ask: which hosts there are, who serves them, which rules apply.
//!
//! - Everything here is a pure function of a [`Snapshot`]; nothing reads a clock or depends on map order.
//! - What conflicts is decided by age: the older resource wins, then the lesser name, then the lesser namespace.

mod catalog;
mod host;
mod rules;
mod snapshot;

pub(crate) use catalog::{Catalog, Host, Port, Protocol, Resolution, Source, Target};
pub(crate) use host::{DOMAIN, MESH, ROOT_NAMESPACE, covers, full_name, gateway_id, more_specific, selects, visible};
pub(crate) use rules::Rules;
pub(crate) use snapshot::{Snapshot, Stored};
