//! The mesh's configuration as people write it and as the store keeps it.
//!
//! Owns: the kinds, their published fields, reading them from YAML or JSON, and their canonical JSON.
//!
//! - Every published field is known: it is either in a struct here or in the table of `unsupported`. Nothing is ignored.
//! - Canonical JSON of equal resources is equal, byte for byte; what was read from it is what was written.
//! - Outside text never panics; what is wrong with it becomes a [`Problem`] with source, line and field.

mod decode;
mod field;
mod kind;
mod node;
mod parse;
mod problem;
mod resource;
mod unsupported;

pub(crate) mod destination_rule;
pub(crate) mod gateway;
pub(crate) mod peer_authentication;
pub(crate) mod service;
pub(crate) mod service_entry;
pub(crate) mod virtual_service;

pub(crate) use field::{GoDuration, Percent, StringMatch};
pub(crate) use kind::{Kind, KindFilter};
pub(crate) use parse::{Origin, Parsed, SourceText, parse};
pub(crate) use problem::{Problem, closest};
pub(crate) use resource::{Id, KEY_PREFIX, Resource, Spec, Typed};

#[cfg(test)]
mod tests;
