//! Between etcd's messages and the store's words.
//!
//! - A request has one meaning: what the wire spells as 0, empty or a flag becomes a variant here, once.
//! - What etcd takes silently or dies of (unknown enum values, empty operations) is refused with etcd's own error.

use std::num::NonZeroU64;

use proto::{
    etcdserverpb::{self as pb, compare, range_request, request_op, response_op},
    mvccpb,
};
use store::{
    Bounds, Compare, CompareResult, CompareTarget, DeleteRange, DeleteRangeAnswer, KeyValue, Op, OpAnswer, Order,
    OrderBy, Put, PutAnswer, PutLease, PutValue, Range, RangeAnswer, Refusal, Show, Txn, TxnAnswer,
};
use tonic::Status;
use types::{KeyRange, Revision};

use crate::status::{compacted, refused, unknown_enum};

pub(crate) fn range(request: pb::RangeRequest) -> Result<Range, Status> {
    let order = order(request.sort_order, request.sort_target)?;
    let show = match (request.count_only, request.keys_only) {
        (true, _) => Show::CountOnly,
        (false, true) => Show::KeysOnly,
        (false, false) => Show::Whole,
    };
    Ok(Range {
        keys: KeyRange::from_wire(request.key, request.range_end),
        revision: Revision::new(request.revision),
        limit: u64::try_from(request.limit).ok().and_then(NonZeroU64::new),
        order,
        show,
        mod_revisions: Bounds::from_wire(request.min_mod_revision, request.max_mod_revision),
        create_revisions: Bounds::from_wire(request.min_create_revision, request.max_create_revision),
    })
}

fn order(sort_order: i32, sort_target: i32) -> Result<Order, Status> {
    use range_request::{SortOrder, SortTarget};
    let descending = match SortOrder::try_from(sort_order) {
        Ok(SortOrder::None | SortOrder::Ascend) => false,
        Ok(SortOrder::Descend) => true,
        Err(_) => return Err(refused(&Refusal::InvalidSortOption)),
    };
    let by = match SortTarget::try_from(sort_target) {
        Ok(SortTarget::Key) => OrderBy::Key,
        Ok(SortTarget::Version) => OrderBy::Version,
        Ok(SortTarget::Create) => OrderBy::CreateRevision,
        Ok(SortTarget::Mod) => OrderBy::ModRevision,
        Ok(SortTarget::Value) => OrderBy::Value,
        Err(_) => return Err(refused(&Refusal::InvalidSortOption)),
    };
    Ok(Order { by, descending })
}

pub(crate) fn put(request: pb::PutRequest) -> Result<Put, Status> {
    Ok(Put {
        key: request.key,
        value: PutValue::from_wire(request.value, request.ignore_value).map_err(|refusal| refused(&refusal))?,
        lease: PutLease::from_wire(request.lease, request.ignore_lease).map_err(|refusal| refused(&refusal))?,
        prev_kv: request.prev_kv,
    })
}

pub(crate) fn delete_range(request: pb::DeleteRangeRequest) -> DeleteRange {
    DeleteRange { keys: KeyRange::from_wire(request.key, request.range_end), prev_kv: request.prev_kv }
}

pub(crate) fn txn(request: pb::TxnRequest) -> Result<Txn, Status> {
    Ok(Txn {
        compares: request.compare.into_iter().map(compare).collect::<Result<_, _>>()?,
        success: request.success.into_iter().map(op).collect::<Result<_, _>>()?,
        failure: request.failure.into_iter().map(op).collect::<Result<_, _>>()?,
    })
}

fn op(request: pb::RequestOp) -> Result<Op, Status> {
    match request.request {
        // Alone, such a range reads the present; etcd refuses it here, once anything was compacted.
        Some(request_op::Request::RequestRange(request)) if request.revision < 0 => Err(compacted()),
        Some(request_op::Request::RequestRange(request)) => range(request).map(Op::Range),
        Some(request_op::Request::RequestPut(request)) => put(request).map(Op::Put),
        Some(request_op::Request::RequestDeleteRange(request)) => Ok(Op::DeleteRange(delete_range(request))),
        Some(request_op::Request::RequestTxn(request)) => txn(request).map(Op::Txn),
        None => Err(refused(&Refusal::KeyNotFound)),
    }
}

/// A target that was not given compares with zero, as in etcd; an unknown result or target is no compare of ours.
fn compare(request: pb::Compare) -> Result<Compare, Status> {
    use compare::TargetUnion;
    let result = match compare::CompareResult::try_from(request.result) {
        Ok(compare::CompareResult::Equal) => CompareResult::Equal,
        Ok(compare::CompareResult::Greater) => CompareResult::Greater,
        Ok(compare::CompareResult::Less) => CompareResult::Less,
        Ok(compare::CompareResult::NotEqual) => CompareResult::NotEqual,
        Err(_) => return Err(unknown_enum("Compare.result", request.result)),
    };
    let union = request.target_union;
    let target = match (compare::CompareTarget::try_from(request.target), union) {
        (Ok(compare::CompareTarget::Version), Some(TargetUnion::Version(version))) => CompareTarget::Version(version),
        (Ok(compare::CompareTarget::Version), _) => CompareTarget::Version(0),
        (Ok(compare::CompareTarget::Create), Some(TargetUnion::CreateRevision(at))) => {
            CompareTarget::CreateRevision(at)
        }
        (Ok(compare::CompareTarget::Create), _) => CompareTarget::CreateRevision(0),
        (Ok(compare::CompareTarget::Mod), Some(TargetUnion::ModRevision(at))) => CompareTarget::ModRevision(at),
        (Ok(compare::CompareTarget::Mod), _) => CompareTarget::ModRevision(0),
        (Ok(compare::CompareTarget::Value), Some(TargetUnion::Value(value))) => CompareTarget::Value(value),
        (Ok(compare::CompareTarget::Value), _) => CompareTarget::Value(bytes::Bytes::new()),
        (Ok(compare::CompareTarget::Lease), Some(TargetUnion::Lease(lease))) => CompareTarget::Lease(lease),
        (Ok(compare::CompareTarget::Lease), _) => CompareTarget::Lease(0),
        (Err(_), _) => return Err(unknown_enum("Compare.target", request.target)),
    };
    Ok(Compare { keys: KeyRange::from_wire(request.key, request.range_end), result, target })
}

pub(crate) fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision.get(),
        mod_revision: kv.mod_revision.get(),
        version: kv.version,
        value: kv.value,
        lease: kv.lease.map_or(0, types::LeaseId::get),
    }
}

pub(crate) fn range_response(answer: RangeAnswer, header: pb::ResponseHeader) -> pb::RangeResponse {
    pb::RangeResponse {
        header: Some(header),
        kvs: answer.kvs.into_iter().map(key_value).collect(),
        more: answer.more,
        count: answer.count.cast_signed(),
    }
}

pub(crate) fn put_response(answer: PutAnswer, header: pb::ResponseHeader) -> pb::PutResponse {
    pb::PutResponse { header: Some(header), prev_kv: answer.previous.map(key_value) }
}

pub(crate) fn delete_range_response(answer: DeleteRangeAnswer, header: pb::ResponseHeader) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: Some(header),
        deleted: answer.deleted.cast_signed(),
        prev_kvs: answer.previous.into_iter().map(key_value).collect(),
    }
}

pub(crate) fn txn_response(answer: TxnAnswer, header: pb::ResponseHeader) -> pb::TxnResponse {
    pb::TxnResponse {
        header: Some(header),
        succeeded: answer.succeeded,
        responses: answer.ops.into_iter().map(op_response).collect(),
    }
}

/// The headers of answers inside a transaction carry the revision alone, and those of transactions not even that.
fn op_response(answer: OpAnswer) -> pb::ResponseOp {
    let at = |revision: Revision| pb::ResponseHeader { revision: revision.get(), ..Default::default() };
    let response = match answer {
        OpAnswer::Range(answer) => {
            let header = at(answer.revision);
            response_op::Response::ResponseRange(range_response(answer, header))
        }
        OpAnswer::Put(answer) => {
            let header = at(answer.revision);
            response_op::Response::ResponsePut(put_response(answer, header))
        }
        OpAnswer::DeleteRange(answer) => {
            let header = at(answer.revision);
            response_op::Response::ResponseDeleteRange(delete_range_response(answer, header))
        }
        OpAnswer::Txn(answer) => {
            response_op::Response::ResponseTxn(txn_response(answer, pb::ResponseHeader::default()))
        }
    };
    pb::ResponseOp { response: Some(response) }
}
