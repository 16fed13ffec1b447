//! What is refused before it reaches the log.
//!
//! Owns: the rules of shape that a request must keep whatever the store holds.
//!
//! - Apply relies on one of them, that no transaction can write a key twice, and so checks that one itself as well.
//! - The check walks as deep as a request may nest, which is bounded, and takes no more than the request's own size.

use std::collections::BTreeSet;

use bytes::Bytes;
use types::KeyRange;

use crate::{Command, Compare, Limits, Op, Put, Range, ReadOnlyTxn, Refusal, Txn};

/// How deep transactions nest at most, whatever [`Limits::txn_ops_max`] leaves: decoders recurse.
pub(crate) const TXN_DEPTH_MAX: usize = 64;

/// Refuses what etcd refuses of a command before it is replicated.
///
/// # Errors
/// The [`Refusal`] of the first rule that is broken. A size in bytes is checked by [`Limits::size`].
pub fn validate(command: &Command, limits: &Limits) -> Result<(), Refusal> {
    match command {
        Command::Put(put) => key(&put.key),
        Command::DeleteRange(delete) => key(delete.keys.start()),
        Command::Txn(txn) => {
            shape(txn, limits.txn_ops_max, TXN_DEPTH_MAX)?;
            no_double_write(txn)
        }
        Command::Compact(_)
        | Command::LeaseGrant(_)
        | Command::LeaseRevoke(_)
        | Command::LeaseCheckpoint(_)
        | Command::Alarm(_)
        | Command::Settle
        | Command::Auth(_) => Ok(()),
    }
}

/// Refuses what etcd refuses of a read.
///
/// # Errors
/// [`Refusal::KeyNotProvided`].
pub fn validate_range(range: &Range) -> Result<(), Refusal> {
    key(range.keys.start())
}

/// Refuses what etcd refuses of a transaction that only reads.
///
/// # Errors
/// The [`Refusal`] of the first rule that is broken.
pub fn validate_read_only(txn: &ReadOnlyTxn, limits: &Limits) -> Result<(), Refusal> {
    within(limits.txn_ops_max, [txn.compares.len(), txn.success.len(), txn.failure.len()])?;
    compares(&txn.compares)?;
    txn.success.iter().chain(&txn.failure).try_for_each(validate_range)
}

fn key(key: &Bytes) -> Result<(), Refusal> {
    if key.is_empty() { Err(Refusal::KeyNotProvided) } else { Ok(()) }
}

fn compares(compares: &[Compare]) -> Result<(), Refusal> {
    compares.iter().try_for_each(|compare| key(compare.keys.start()))
}

/// Takes the longest of a transaction's lists from its budget, and returns what is left.
fn within(budget: usize, lists: [usize; 3]) -> Result<usize, Refusal> {
    budget.checked_sub(lists.into_iter().max().unwrap_or(0)).ok_or(Refusal::TooManyOps)
}

/// Checks keys, and that every level keeps within what the levels above it left.
fn shape(txn: &Txn, budget: usize, depth: usize) -> Result<(), Refusal> {
    let left = within(budget, [txn.compares.len(), txn.success.len(), txn.failure.len()])?;
    let depth = depth.checked_sub(1).ok_or(Refusal::TooManyOps)?;
    compares(&txn.compares)?;
    txn.success.iter().chain(&txn.failure).try_for_each(|op| match op {
        Op::Range(range) => validate_range(range),
        Op::Put(put) => key(&put.key),
        Op::DeleteRange(delete) => key(delete.keys.start()),
        Op::Txn(txn) => shape(txn, left, depth),
    })
}

/// Refuses a transaction that may write a key twice, whichever branches run.
///
/// Two puts of a key clash, and so do a put and a delete, in whatever order and however deep; two deletes do not,
/// and neither do the two branches of one transaction. (etcd overlooks some clashes, and suffers from it later.)
///
/// # Errors
/// [`Refusal::DuplicateKey`].
pub(crate) fn no_double_write(txn: &Txn) -> Result<(), Refusal> {
    branches(txn).map(drop)
}

/// The keys that operations may write.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Vec<&'a KeyRange>,
}

/// What either branch may write; only one of them will, so they do not clash with each other.
fn branches(txn: &Txn) -> Result<Writes<'_>, Refusal> {
    let mut either = branch(&txn.success)?;
    either.add(branch(&txn.failure)?);
    Ok(either)
}

fn branch(ops: &[Op]) -> Result<Writes<'_>, Refusal> {
    let mut all = Writes::default();
    for op in ops {
        let writes = match op {
            Op::Range(_) => continue,
            Op::Put(Put { key, .. }) => Writes { puts: [&key[..]].into(), ..Writes::default() },
            Op::DeleteRange(delete) => Writes { deletes: vec![&delete.keys], ..Writes::default() },
            Op::Txn(txn) => branches(txn)?,
        };
        if all.clashes(&writes) {
            return Err(Refusal::DuplicateKey);
        }
        all.add(writes);
    }
    Ok(all)
}

impl Writes<'_> {
    fn clashes(&self, other: &Self) -> bool {
        other.puts.iter().any(|key| self.puts.contains(key)) || self.deletes_a_put(other) || other.deletes_a_put(self)
    }

    fn deletes_a_put(&self, other: &Self) -> bool {
        self.deletes.iter().any(|keys| {
            let mut from = other.puts.range(&keys.start()[..]..);
            from.next().is_some_and(|key| keys.contains(key))
        })
    }

    fn add(&mut self, other: Self) {
        self.puts.extend(other.puts);
        self.deletes.extend(other.deletes);
    }
}
