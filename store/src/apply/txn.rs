//! Transactions.
//!
//! Owns: which branches run, what is checked before they do, and their steps in order.
//!
//! - All compares, nested ones too, are decided against the state before the transaction.
//! - All that can be refused is refused before the first write.

use std::slice;

use bytes::Bytes;
use engine::Batch;
use types::KeyRange;

use super::{Store, write::Writing};
use crate::{
    Compare, CompareTarget, DeleteRange, Failure, Op, OpAnswer, Put, Range, StoreError, Txn, TxnAnswer,
    snapshot::{Snapshot, readable},
    validate,
};

/// The state before a transaction.
struct Before<'s> {
    store: &'s Store,
    /// Taken when the first range is compared.
    snapshot: Option<Snapshot<'s>>,
}

impl Before<'_> {
    fn holds(&mut self, compares: &[Compare]) -> Result<bool, StoreError> {
        for compare in compares {
            let holds = match &compare.keys {
                KeyRange::One(key) => self.holds_for(compare, key)?,
                KeyRange::Between(..) | KeyRange::AtLeast(_) => {
                    let snapshot = match &mut self.snapshot {
                        Some(snapshot) => snapshot,
                        None => self.snapshot.insert(self.store.snapshot(self.store.revision)?),
                    };
                    snapshot.holds(slice::from_ref(compare))?
                }
            };
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn holds_for(&self, compare: &Compare, key: &Bytes) -> Result<bool, StoreError> {
        let with_value = matches!(compare.target, CompareTarget::Value(_));
        Ok(match self.store.current(key, with_value)? {
            Some(current) => compare.holds_for(current.modified, current.meta, current.value.as_deref().unwrap_or(&[])),
            None => compare.holds_for_none(),
        })
    }
}

/// A transaction whose branch is chosen.
struct Chosen<'a> {
    succeeded: bool,
    steps: Vec<Step<'a>>,
}

enum Step<'a> {
    Range(&'a Range),
    Put(&'a Put),
    DeleteRange(&'a DeleteRange),
    Txn(Chosen<'a>),
}

impl Store {
    pub(super) fn txn(&mut self, batch: &mut Batch, txn: &Txn) -> Result<TxnAnswer, Failure> {
        validate::no_double_write(txn)?;
        let chosen = Chosen::choose(txn, &mut Before { store: self, snapshot: None })?;
        chosen.check(self)?;
        let mut writing = Writing::new(self, batch);
        let answer = chosen.run(&mut writing)?;
        writing.finish();
        Ok(answer)
    }

    fn check_range(&self, range: &Range) -> Result<(), Failure> {
        if let Some(asked) = range.revision {
            readable(asked, self.revision, self.compacted)?;
        }
        Ok(())
    }
}

impl<'a> Chosen<'a> {
    fn choose(txn: &'a Txn, before: &mut Before<'_>) -> Result<Self, StoreError> {
        let succeeded = before.holds(&txn.compares)?;
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let step = |op: &'a Op| {
            Ok(match op {
                Op::Range(range) => Step::Range(range),
                Op::Put(put) => Step::Put(put),
                Op::DeleteRange(delete) => Step::DeleteRange(delete),
                Op::Txn(txn) => Step::Txn(Self::choose(txn, before)?),
            })
        };
        Ok(Self { succeeded, steps: ops.iter().map(step).collect::<Result<_, StoreError>>()? })
    }

    fn check(&self, store: &Store) -> Result<(), Failure> {
        self.steps.iter().try_for_each(|step| match step {
            Step::Range(range) => store.check_range(range),
            Step::Put(put) => store.check_put(put),
            Step::DeleteRange(_) => Ok(()),
            Step::Txn(chosen) => chosen.check(store),
        })
    }

    fn run(&self, writing: &mut Writing<'_>) -> Result<TxnAnswer, Failure> {
        let ops = self.steps.iter().map(|step| step.run(writing)).collect::<Result<_, Failure>>()?;
        Ok(TxnAnswer { revision: writing.revision(), succeeded: self.succeeded, ops })
    }
}

impl Step<'_> {
    fn run(&self, writing: &mut Writing<'_>) -> Result<OpAnswer, Failure> {
        Ok(match self {
            Self::Range(range) => OpAnswer::Range(writing.store.snapshot(writing.revision())?.range(range)?),
            Self::Put(put) => OpAnswer::Put(writing.put(put)?),
            Self::DeleteRange(delete) => OpAnswer::DeleteRange(writing.delete([delete.keys.clone()], delete.prev_kv)?),
            Self::Txn(chosen) => OpAnswer::Txn(chosen.run(writing)?),
        })
    }
}
