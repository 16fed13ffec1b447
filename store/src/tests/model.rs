//! The model: a map per revision.
//!
//! Nothing here is clever: every revision is a whole copy of all keys, and every rule is written down once more, from
//! what etcd does rather than from how the store does it.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use types::{KeyRange, LeaseId, Revision};

use crate::{apply::ending::KEYS_AT_ONCE, *};

type Keys = BTreeMap<Bytes, KeyValue>;

/// What one key did at one revision: its new version, or none.
pub(crate) type Happened = (Bytes, Option<KeyValue>);

#[derive(Clone)]
pub(crate) struct Model {
    /// All keys after each revision; the first is revision 1.
    pub(crate) states: Vec<Keys>,
    /// What each revision did, in order; the first is revision 1, which did nothing.
    pub(crate) events: Vec<Vec<Happened>>,
    pub(crate) compacted: i64,
    pub(crate) leases: BTreeMap<LeaseId, Lease>,
}

/// A revision in the making.
struct Draft {
    keys: Keys,
    events: Vec<Happened>,
    before: Revision,
}

impl Default for Model {
    fn default() -> Self {
        Self { states: vec![Keys::new()], events: vec![Vec::new()], compacted: -1, leases: BTreeMap::new() }
    }
}

impl Model {
    pub(crate) fn revision(&self) -> Revision {
        Revision::new(i64::try_from(self.states.len()).expect("short")).expect("positive")
    }

    fn keys(&self) -> &Keys {
        self.states.last().expect("never empty")
    }

    pub(crate) fn lease_keys(&self, id: LeaseId) -> Vec<Bytes> {
        self.keys().values().filter(|kv| kv.lease == Some(id)).map(|kv| kv.key.clone()).collect()
    }

    pub(crate) fn apply(&mut self, command: &Command) -> Result<Answer, Refusal> {
        match command {
            Command::Put(put) => {
                self.check_put(put)?;
                let mut draft = self.draft();
                let answer = draft.put(put);
                self.commit(draft);
                Ok(Answer::Put(answer))
            }
            Command::DeleteRange(delete) => {
                let mut draft = self.draft();
                let answer = draft.delete(delete);
                self.commit(draft);
                Ok(Answer::DeleteRange(answer))
            }
            Command::Txn(txn) => self.txn(txn).map(Answer::Txn),
            Command::Compact(compact) => self.compact(compact.revision),
            Command::LeaseGrant(LeaseGrant { id, ttl }) => {
                if self.leases.contains_key(id) {
                    return Err(Refusal::LeaseExists(*id));
                }
                self.leases.insert(*id, Lease { id: *id, ttl: *ttl, remaining: None });
                Ok(Answer::LeaseGrant(LeaseGrantAnswer { revision: self.revision(), id: *id, ttl: *ttl }))
            }
            Command::LeaseRevoke(LeaseRevoke { ids }) => self.revoke(ids),
            Command::LeaseCheckpoint(LeaseCheckpoint { remaining }) => Ok(self.checkpoint(remaining)),
            Command::Settle => Ok(Answer::Settle(SettleAnswer { revision: self.revision(), is_settled: true })),
            Command::Alarm(_) => unreachable!("no strategy makes them"),
            Command::Auth(_) => unreachable!("users and roles have their own tests"),
        }
    }

    fn revoke(&mut self, ids: &[LeaseId]) -> Result<Answer, Refusal> {
        let (mut revoked, mut left, mut room) = (Vec::new(), Vec::new(), KEYS_AT_ONCE);
        for id in ids {
            let keys = self.lease_keys(*id).len();
            if self.leases.contains_key(id) && keys > room && !revoked.is_empty() {
                left.push(*id);
            } else if self.leases.remove(id).is_some() {
                room = room.saturating_sub(keys);
                let mut draft = self.draft();
                for key in self.lease_keys(*id) {
                    draft.delete(&DeleteRange { keys: KeyRange::One(key), prev_kv: false });
                }
                self.commit(draft);
                revoked.push(*id);
            }
        }
        match ids.first() {
            Some(id) if revoked.is_empty() => Err(Refusal::LeaseNotFound(*id)),
            _ => Ok(Answer::LeaseRevoke(LeaseRevokeAnswer { revision: self.revision(), revoked, left })),
        }
    }

    fn checkpoint(&mut self, remaining: &[(LeaseId, Option<Duration>)]) -> Answer {
        let known = remaining.iter().filter(|(id, _)| self.leases.contains_key(id)).copied().collect();
        for (id, remaining) in remaining {
            if let Some(lease) = self.leases.get_mut(id) {
                lease.remaining = remaining.filter(|remaining| *remaining < lease.ttl);
            }
        }
        Answer::LeaseCheckpoint(LeaseCheckpointAnswer { revision: self.revision(), remaining: known })
    }

    fn compact(&mut self, asked: i64) -> Result<Answer, Refusal> {
        if asked <= self.compacted {
            return Err(Refusal::Compacted { asked, oldest: self.compacted });
        }
        if asked > self.revision().get() {
            return Err(Refusal::FutureRevision { asked, current: self.revision() });
        }
        self.compacted = asked;
        Ok(Answer::Compact(CompactAnswer { revision: self.revision() }))
    }

    fn txn(&mut self, txn: &Txn) -> Result<TxnAnswer, Refusal> {
        validate::no_double_write(txn)?;
        let before = self.keys().clone();
        self.check_ops(txn, &before)?;
        let mut draft = self.draft();
        let answer = self.run_txn(txn, &before, &mut draft);
        self.commit(draft);
        Ok(answer)
    }

    fn branch<'a>(txn: &'a Txn, before: &Keys) -> (bool, &'a [Op]) {
        let holds = txn.compares.iter().all(|compare| compare_holds(compare, before));
        (holds, if holds { &txn.success } else { &txn.failure })
    }

    fn check_ops(&self, txn: &Txn, before: &Keys) -> Result<(), Refusal> {
        Self::branch(txn, before).1.iter().try_for_each(|op| match op {
            Op::Range(range) => self.at(range.revision).map(drop),
            Op::Put(put) => self.check_put(put),
            Op::DeleteRange(_) => Ok(()),
            Op::Txn(txn) => self.check_ops(txn, before),
        })
    }

    fn run_txn(&self, txn: &Txn, before: &Keys, draft: &mut Draft) -> TxnAnswer {
        let (succeeded, ops) = Self::branch(txn, before);
        let ops = ops.iter().map(|op| match op {
            Op::Range(range) => {
                let keys =
                    if range.revision.is_some() { self.at(range.revision).expect("checked") } else { &draft.keys };
                OpAnswer::Range(select(range, keys, draft.revision()))
            }
            Op::Put(put) => OpAnswer::Put(draft.put(put)),
            Op::DeleteRange(delete) => OpAnswer::DeleteRange(draft.delete(delete)),
            Op::Txn(txn) => OpAnswer::Txn(self.run_txn(txn, before, draft)),
        });
        let ops = ops.collect();
        TxnAnswer { revision: draft.revision(), succeeded, ops }
    }

    fn check_put(&self, put: &Put) -> Result<(), Refusal> {
        match put.lease {
            PutLease::Set(Some(id)) if !self.leases.contains_key(&id) => return Err(Refusal::LeaseNotFound(id)),
            PutLease::Set(_) | PutLease::Keep => {}
        }
        let keeps = put.value == PutValue::Keep || put.lease == PutLease::Keep;
        if keeps && !self.keys().contains_key(&put.key) {
            return Err(Refusal::KeyNotFound);
        }
        Ok(())
    }

    pub(crate) fn range(&self, range: &Range) -> Result<RangeAnswer, Refusal> {
        Ok(select(range, self.at(range.revision)?, self.revision()))
    }

    fn at(&self, asked: Option<Revision>) -> Result<&Keys, Refusal> {
        let Some(asked) = asked else { return Ok(self.keys()) };
        if asked > self.revision() {
            return Err(Refusal::FutureRevision { asked: asked.get(), current: self.revision() });
        }
        if asked.get() < self.compacted {
            return Err(Refusal::Compacted { asked: asked.get(), oldest: self.compacted });
        }
        Ok(&self.states[usize::try_from(asked.get() - 1).expect("positive")])
    }

    fn draft(&self) -> Draft {
        Draft { keys: self.keys().clone(), events: Vec::new(), before: self.revision() }
    }

    fn commit(&mut self, draft: Draft) {
        if !draft.events.is_empty() {
            self.states.push(draft.keys);
            self.events.push(draft.events);
        }
    }
}

impl Draft {
    fn revision(&self) -> Revision {
        if self.events.is_empty() { self.before } else { self.before.next() }
    }

    fn put(&mut self, put: &Put) -> PutAnswer {
        let main = self.before.next();
        let old = self.keys.get(&put.key).cloned();
        let kv = KeyValue {
            key: put.key.clone(),
            value: match &put.value {
                PutValue::Set(value) => value.clone(),
                PutValue::Keep => old.as_ref().expect("checked").value.clone(),
            },
            create_revision: old.as_ref().map_or(main, |old| old.create_revision),
            mod_revision: main,
            version: old.as_ref().map_or(1, |old| old.version + 1),
            lease: match put.lease {
                PutLease::Set(lease) => lease,
                PutLease::Keep => old.as_ref().expect("checked").lease,
            },
        };
        self.keys.insert(put.key.clone(), kv.clone());
        self.events.push((put.key.clone(), Some(kv)));
        PutAnswer { revision: main, previous: old.filter(|_| put.prev_kv) }
    }

    fn delete(&mut self, delete: &DeleteRange) -> DeleteRangeAnswer {
        let doomed: Vec<KeyValue> = self.keys.values().filter(|kv| delete.keys.contains(&kv.key)).cloned().collect();
        for kv in &doomed {
            self.keys.remove(&kv.key);
            self.events.push((kv.key.clone(), None));
        }
        let deleted = doomed.len() as u64;
        let previous = if delete.prev_kv { doomed } else { Vec::new() };
        DeleteRangeAnswer { revision: self.revision(), deleted, previous }
    }
}

fn select(range: &Range, keys: &Keys, revision: Revision) -> RangeAnswer {
    let all: Vec<&KeyValue> = keys.values().filter(|kv| range.keys.contains(&kv.key)).collect();
    let count = all.len() as u64;
    if range.show == Show::CountOnly {
        return RangeAnswer { revision, kvs: Vec::new(), more: false, count };
    }
    let mut kvs: Vec<KeyValue> = all
        .into_iter()
        .filter(|kv| {
            range.mod_revisions.contains(kv.mod_revision) && range.create_revisions.contains(kv.create_revision)
        })
        .cloned()
        .collect();
    let by = range.order.by;
    kvs.sort_by(|a, b| {
        let ascending = match by {
            OrderBy::Key => a.key.cmp(&b.key),
            OrderBy::Version => a.version.cmp(&b.version),
            OrderBy::CreateRevision => a.create_revision.cmp(&b.create_revision),
            OrderBy::ModRevision => a.mod_revision.cmp(&b.mod_revision),
            OrderBy::Value => a.value.cmp(&b.value),
        };
        if range.order.descending { ascending.reverse() } else { ascending }
    });
    let limit = range.limit.map_or(usize::MAX, |limit| usize::try_from(limit.get()).expect("small"));
    let more = kvs.len() > limit;
    kvs.truncate(limit);
    if range.show == Show::KeysOnly {
        for kv in &mut kvs {
            kv.value = Bytes::new();
        }
    }
    RangeAnswer { revision, kvs, more, count }
}

fn compare_holds(compare: &Compare, keys: &Keys) -> bool {
    let mut matching = keys.values().filter(|kv| compare.keys.contains(&kv.key)).peekable();
    if matching.peek().is_none() {
        return match &compare.target {
            CompareTarget::Value(_) => false,
            CompareTarget::Version(number)
            | CompareTarget::CreateRevision(number)
            | CompareTarget::ModRevision(number)
            | CompareTarget::Lease(number) => stands(&0, compare.result, number),
        };
    }
    matching.all(|kv| match &compare.target {
        CompareTarget::Value(value) => stands(&kv.value, compare.result, value),
        CompareTarget::Version(number) => stands(&kv.version, compare.result, number),
        CompareTarget::CreateRevision(number) => stands(&kv.create_revision.get(), compare.result, number),
        CompareTarget::ModRevision(number) => stands(&kv.mod_revision.get(), compare.result, number),
        CompareTarget::Lease(number) => stands(&kv.lease.map_or(0, LeaseId::get), compare.result, number),
    })
}

fn stands<T: Ord>(field: &T, result: CompareResult, other: &T) -> bool {
    match result {
        CompareResult::Equal => field == other,
        CompareResult::Greater => field > other,
        CompareResult::Less => field < other,
        CompareResult::NotEqual => field != other,
    }
}
