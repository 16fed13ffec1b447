//! The order of a range's keys, where etcd leaves it open.

use proto::{
    etcdserverpb::{
        self as pb,
        range_request::{SortOrder, SortTarget},
        request_op::Request,
        response_op::Response,
    },
    mvccpb::KeyValue,
};

use super::{difference::Difference, operation::Operation, peer::Answer};

/// Gives `theirs` the keys of `ours` wherever they differ deliberately; how often, and why.
pub(super) fn align(operation: &Operation, theirs: &mut Answer, ours: &Answer) -> Vec<Difference> {
    let mut found = Vec::new();
    match (operation, theirs, ours) {
        (Operation::Range(request), Answer::Range(theirs), Answer::Range(ours)) => {
            found.extend(range(request, theirs, ours));
        }
        (Operation::Txn(request), Answer::Txn(theirs), Answer::Txn(ours)) => txn(request, theirs, ours, &mut found),
        _ => {}
    }
    found
}

fn txn(request: &pb::TxnRequest, theirs: &mut pb::TxnResponse, ours: &pb::TxnResponse, found: &mut Vec<Difference>) {
    let requests = if theirs.succeeded { &request.success } else { &request.failure };
    for ((request, theirs), ours) in requests.iter().zip(&mut theirs.responses).zip(&ours.responses) {
        match (&request.request, &mut theirs.response, &ours.response) {
            (
                Some(Request::RequestRange(request)),
                Some(Response::ResponseRange(theirs)),
                Some(Response::ResponseRange(ours)),
            ) => found.extend(range(request, theirs, ours)),
            (
                Some(Request::RequestTxn(request)),
                Some(Response::ResponseTxn(theirs)),
                Some(Response::ResponseTxn(ours)),
            ) => txn(request, theirs, ours, found),
            _ => {}
        }
    }
}

fn range(request: &pb::RangeRequest, theirs: &mut pb::RangeResponse, ours: &pb::RangeResponse) -> Option<Difference> {
    if theirs.kvs == ours.kvs || theirs.kvs.len() != ours.kvs.len() {
        return None;
    }
    let ordered = request.sort_target != i32::from(SortTarget::Key);
    let limited = ordered && request.sort_order == i32::from(SortOrder::None) && ours.more;
    let difference = if limited { Difference::LimitBeforeOrder } else { Difference::Ties };
    if !limited && !only_ties_differ(request, theirs, ours) {
        return None;
    }
    theirs.kvs.clone_from(&ours.kvs);
    Some(difference)
}

fn only_ties_differ(request: &pb::RangeRequest, theirs: &pb::RangeResponse, ours: &pb::RangeResponse) -> bool {
    let tied = |one: &KeyValue, other: &KeyValue| match SortTarget::try_from(request.sort_target) {
        Ok(SortTarget::Version) => one.version == other.version,
        Ok(SortTarget::Create) => one.create_revision == other.create_revision,
        Ok(SortTarget::Mod) => one.mod_revision == other.mod_revision,
        // The value itself may have been left out of the answer.
        Ok(SortTarget::Value) => request.keys_only || one.value == other.value,
        Ok(SortTarget::Key) | Err(_) => false,
    };
    // Of the last ones a limit may have left out others.
    let cut = |kv: &KeyValue| ours.more && ours.kvs.last().is_some_and(|last| tied(kv, last));
    theirs.kvs.iter().zip(&ours.kvs).all(|(one, other)| tied(one, other))
        && theirs.kvs.iter().all(|kv| cut(kv) || ours.kvs.contains(kv))
}
