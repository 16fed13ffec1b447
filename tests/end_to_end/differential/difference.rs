//! Where meshstore means not to answer as etcd does: `docs/etcd-differences.md` has the reasons.

use std::collections::BTreeSet;

use proto::etcdserverpb::{self as pb, request_op::Request};
use tonic::Code;

use super::{operation::Operation, peer::Answer, users::About};

/// A deliberate difference, by its heading in the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Difference {
    OverlookedDuplicate,
    UnknownSort,
    UnknownCompare,
    NegativeRevision,
    SeveralFaults,
    Ties,
    EndedWatch,
    LimitBeforeOrder,
    NestedPuts,
    HashOfNow,
    PublicStatus,
    SilentLogin,
    Nobody,
}

impl Difference {
    pub(crate) const ALL: [Self; 13] = [
        Self::OverlookedDuplicate,
        Self::UnknownSort,
        Self::UnknownCompare,
        Self::NegativeRevision,
        Self::SeveralFaults,
        Self::Ties,
        Self::EndedWatch,
        Self::LimitBeforeOrder,
        Self::NestedPuts,
        Self::HashOfNow,
        Self::PublicStatus,
        Self::SilentLogin,
        Self::Nobody,
    ];

    /// Its heading in the document.
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::OverlookedDuplicate => "A key written twice by nested transactions is refused",
            Self::UnknownSort => "An unknown sort order or target is refused",
            Self::UnknownCompare => "An unknown compare result or target is refused",
            Self::NegativeRevision => "A range at a negative revision inside a transaction is refused",
            Self::SeveralFaults => "A request with several faults is refused for one of them",
            Self::Ties => "Keys that a range's order does not tell apart come in key order",
            Self::EndedWatch => "A watch that compaction has ended is gone",
            Self::LimitBeforeOrder => "A limit cuts after the order",
            Self::NestedPuts => "What nested transactions put needs space, too",
            Self::HashOfNow => "A hash is that of now",
            Self::SilentLogin => "A login that fails tells nothing of the user",
            Self::PublicStatus => "Whether users are asked for is no secret",
            Self::Nobody => "Who may not ask is told so first",
        }
    }

    /// Why etcd is not to be asked what `ours` refused: it would take the request, or die of it.
    pub(crate) fn before_etcd(operation: &Operation, ours: &Answer) -> Option<Self> {
        let Answer::Refused { text, .. } = ours else { return None };
        let faults = Faults::of(operation);
        match text.as_str() {
            "etcdserver: duplicate key given in txn request" => {
                let Operation::Txn(txn) = operation else { return None };
                (!etcd_sees_duplicate(txn)).then_some(Self::OverlookedDuplicate)
            }
            "etcdserver: mvcc: required revision has been compacted" if faults.negative_revision => {
                Some(Self::NegativeRevision)
            }
            "etcdserver: mvcc: database space exceeded" => {
                let Operation::Txn(txn) = operation else { return None };
                let is_put = |op: &pb::RequestOp| matches!(op.request, Some(Request::RequestPut(_)));
                (!txn.success.iter().chain(&txn.failure).any(is_put)).then_some(Self::NestedPuts)
            }
            text if text.starts_with("etcdserver: Compare.") => Some(Self::UnknownCompare),
            // Whatever it is refused for, etcd must not see this.
            _ => faults.sort.then_some(Self::UnknownSort),
        }
    }

    /// Why two answers may differ.
    pub(crate) fn between(operation: &Operation, etcd: &Answer, ours: &Answer) -> Option<Self> {
        const FAULTS: [Code; 6] = [
            Code::DataLoss,
            Code::InvalidArgument,
            Code::NotFound,
            Code::OutOfRange,
            Code::Unauthenticated,
            Code::PermissionDenied,
        ];
        if let (Answer::HashKv(etcd), Answer::HashKv(ours)) = (etcd, ours) {
            return (etcd.compact_revision < ours.compact_revision).then_some(Self::HashOfNow);
        }
        if let (Operation::About(About::Status(_)), Answer::Refused { .. }, Answer::About(_)) = (operation, etcd, ours)
        {
            return Some(Self::PublicStatus);
        }
        if matches!(etcd, Answer::Refused { text, .. } if text.ends_with("password was given for no password user"))
            && matches!(ours, Answer::Refused { text, .. } if text.ends_with("invalid user ID or password"))
        {
            return Some(Self::SilentLogin);
        }
        if let (Operation::Txn(txn), Answer::Txn(_), Answer::Refused { text, .. }) = (operation, etcd, ours)
            && asks_nothing(txn)
            && text == "etcdserver: user name is empty"
        {
            return Some(Self::Nobody);
        }
        let refused = |answer: &Answer| matches!(answer, Answer::Refused { code, .. } if FAULTS.contains(code));
        let composed = match operation {
            Operation::Txn(_) | Operation::Put(_) | Operation::Range(_) => true,
            Operation::LeaseRevoke(request) => request.id == 0,
            _ => false,
        };
        // Whoever asks is looked at first here, and what is asked there.
        let unknown = match ours {
            Answer::Refused { code: Code::Unauthenticated | Code::PermissionDenied, .. } => true,
            Answer::Refused { text, .. } => text == "etcdserver: user name is empty",
            _ => false,
        };
        ((composed || unknown) && refused(etcd) && refused(ours)).then_some(Self::SeveralFaults)
    }
}

/// Whether a transaction is about no key at all.
fn asks_nothing(txn: &pb::TxnRequest) -> bool {
    let is_nothing = |op: &pb::RequestOp| matches!(&op.request, Some(Request::RequestTxn(txn)) if asks_nothing(txn));
    txn.compare.is_empty() && txn.success.iter().chain(&txn.failure).all(is_nothing)
}

/// What etcd would take, anywhere in a request.
#[derive(Default)]
struct Faults {
    sort: bool,
    negative_revision: bool,
}

impl Faults {
    fn of(operation: &Operation) -> Self {
        let mut faults = Self::default();
        match operation {
            Operation::Range(range) => faults.sort = has_unknown_sort(range),
            Operation::Txn(txn) => faults.txn(txn),
            _ => {}
        }
        faults
    }

    fn txn(&mut self, txn: &pb::TxnRequest) {
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(Request::RequestRange(range)) => {
                    self.sort |= has_unknown_sort(range);
                    self.negative_revision |= range.revision < 0;
                }
                Some(Request::RequestTxn(txn)) => self.txn(txn),
                _ => {}
            }
        }
    }
}

/// Whether a range asks for an order that there is not.
pub(super) fn has_unknown_sort(range: &pb::RangeRequest) -> bool {
    use pb::range_request::{SortOrder, SortTarget};
    SortOrder::try_from(range.sort_order).is_err() || SortTarget::try_from(range.sort_target).is_err()
}

/// Whether etcd refuses a transaction because it may write a key twice: it looks at the deletes of a level and below
/// before the puts of that level, but does not hold the puts of one nested transaction against the deletes of the next,
/// nor any put against a delete without end.
fn etcd_sees_duplicate(txn: &pb::TxnRequest) -> bool {
    Writes::of(&txn.success).and_then(|_| Writes::of(&txn.failure)).is_none()
}

#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Vec<(&'a [u8], Vec<u8>)>,
}

impl<'a> Writes<'a> {
    /// `None` for a duplicate.
    fn of(ops: &'a [pb::RequestOp]) -> Option<Self> {
        let mut all = Self::default();
        let requests = || ops.iter().filter_map(|op| op.request.as_ref());
        for request in requests() {
            if let Request::RequestDeleteRange(delete) = request {
                let point = || [&delete.key[..], b"\0"].concat();
                let end = if delete.range_end.is_empty() { point() } else { delete.range_end.to_vec() };
                all.deletes.push((&delete.key, end));
            }
        }
        for request in requests() {
            if let Request::RequestTxn(txn) = request {
                let (success, failure) = (Self::of(&txn.success)?, Self::of(&txn.failure)?);
                // What both branches put is no duplicate.
                all.put(success.puts.union(&failure.puts).copied())?;
                all.deletes.extend(success.deletes.into_iter().chain(failure.deletes));
            }
        }
        for request in requests() {
            if let Request::RequestPut(put) = request {
                all.put([&put.key[..]])?;
            }
        }
        Some(all)
    }

    fn put(&mut self, keys: impl IntoIterator<Item = &'a [u8]>) -> Option<()> {
        keys.into_iter().try_for_each(|key| {
            let deleted = self.deletes.iter().any(|(start, end)| *start <= key && key < &end[..]);
            (!deleted && self.puts.insert(key)).then_some(())
        })
    }
}
