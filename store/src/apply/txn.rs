//! Transactions.
//!
//! Owns: which branches run, what is checked before they do, and their steps in order.
//!
//! - All compares, nested ones too, are decided against the state before the transaction.
//! - All that can be refused is refused before the first write.

use engine::Batch;

use super::{Store, write::Writing};
use crate::{
    DeleteRange, Failure, Op, OpAnswer, Put, Range, StoreError, Txn, TxnAnswer,
    snapshot::{Snapshot, readable},
    validate,
};

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
        let chosen = Chosen::choose(txn, &mut self.snapshot(self.revision)?)?;
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
    fn choose(txn: &'a Txn, before: &mut Snapshot<'_>) -> Result<Self, StoreError> {
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
