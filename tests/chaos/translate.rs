//! Between what the history says and what our client says.

use client::{
    Client, ClientError, Comparison, Delete, DeleteResponse, Event as ClientEvent, Get, GetResponse, Op, OpResponse,
    Put, PutResponse, Txn,
};
use types::{KeyRange, LeaseId, Revision};

use crate::history::{Answer, Change, Compare, Event, KeyValue, Keys, Outcome, Request, Response, Target};

/// Asks, and gives what came of it.
pub(crate) async fn ask(client: &Client, request: &Request) -> Outcome {
    let answered = match operation(request) {
        Op::Get(get) => client.get(get).await.map(|response| (response.revision, range(&response))),
        Op::Put(put) => client.put(put).await.map(|response| (response.revision, put_answer(&response))),
        Op::Delete(delete) => client.delete(delete).await.map(|response| (response.revision, delete_answer(&response))),
        Op::Txn(txn) => client.txn(txn).await.map(|response| {
            let answers = response.responses.into_iter().map(answer).collect();
            (response.revision, Answer::Txn { succeeded: response.succeeded, answers })
        }),
    };
    match answered {
        Ok((revision, answer)) => Outcome::Answered(Response { revision: revision.get(), answer }),
        Err(error) => failure(&error),
    }
}

/// What the client promises about a call that was not answered. The history is held against that, too.
fn failure(error: &ClientError) -> Outcome {
    match error {
        ClientError::Uncertain { .. } => Outcome::Unknown(error.to_string()),
        ClientError::Protocol(_) | ClientError::Config(_) => panic!("{error}"),
        ClientError::Unavailable { .. }
        | ClientError::Compacted { .. }
        | ClientError::Busy { .. }
        | ClientError::Denied { .. }
        | ClientError::Refused { .. } => Outcome::Failed(error.to_string()),
    }
}

fn operation(request: &Request) -> Op {
    match request {
        Request::Range { keys, revision, serializable, limit } => Op::Get(Get {
            revision: Revision::new(*revision),
            serializable: *serializable,
            limit: u32::try_from(*limit).ok().filter(|limit| *limit > 0),
            ..Get::new(key_range(keys))
        }),
        Request::Put { key, value, lease, prev } => {
            let put = Put::new(key.clone(), value.clone());
            Op::Put(Put { lease: LeaseId::new(*lease), prev_kv: *prev, ..put })
        }
        Request::Delete { keys, prev } => Op::Delete(Delete { prev_kv: *prev, ..Delete::new(key_range(keys)) }),
        Request::Txn { compares, success, failure } => {
            let txn = compares.iter().map(comparison).fold(Txn::new(), Txn::when);
            let txn = success.iter().map(operation).fold(txn, Txn::then);
            Op::Txn(failure.iter().map(operation).fold(txn, Txn::otherwise))
        }
    }
}

pub(crate) fn key_range(keys: &Keys) -> KeyRange {
    match keys {
        Keys::One(key) => KeyRange::One(key.clone().into()),
        Keys::Prefix(prefix) => KeyRange::prefix(prefix.clone()),
        Keys::All => KeyRange::all(),
    }
}

fn comparison(compare: &Compare) -> Comparison {
    let key = compare.key.clone();
    match &compare.target {
        Target::Value(value) => client::Compare::value(key).equal(value.clone()),
        Target::ModRevision(revision) => client::Compare::mod_revision(key).equal(*revision),
        Target::Version(version) => client::Compare::version(key).equal(*version),
    }
}

fn answer(response: OpResponse) -> Answer {
    match response {
        OpResponse::Get(response) => range(&response),
        OpResponse::Put(response) => put_answer(&response),
        OpResponse::Delete(response) => delete_answer(&response),
        OpResponse::Txn(_) => panic!("no transaction of a test has one inside"),
    }
}

fn range(response: &GetResponse) -> Answer {
    let count = i64::try_from(response.count).unwrap();
    Answer::Range { kvs: response.kvs.iter().map(key_value).collect(), count }
}

fn put_answer(response: &PutResponse) -> Answer {
    Answer::Put { prev: response.prev_kv.as_ref().map(key_value) }
}

fn delete_answer(response: &DeleteResponse) -> Answer {
    let prev = response.prev_kvs.iter().map(key_value).collect();
    Answer::Delete { deleted: i64::try_from(response.deleted).unwrap(), prev }
}

fn key_value(kv: &client::KeyValue) -> KeyValue {
    KeyValue {
        key: text(&kv.key),
        value: text(&kv.value),
        create_revision: kv.create_revision.get(),
        mod_revision: kv.mod_revision.get(),
        version: kv.version,
        lease: kv.lease.map_or(0, LeaseId::get),
    }
}

pub(crate) fn event(event: ClientEvent) -> Event {
    let revision = event.revision().get();
    match event {
        ClientEvent::Put { kv, prev } => {
            Event { revision, change: Change::Put(key_value(&kv)), prev: prev.as_ref().map(key_value) }
        }
        ClientEvent::Delete { key, prev, .. } => {
            Event { revision, change: Change::Delete(text(&key)), prev: prev.as_ref().map(key_value) }
        }
    }
}

/// The same of an event on the wire.
pub(crate) fn wire_event(event: proto::mvccpb::Event) -> Event {
    let kv = event.kv.unwrap();
    let revision = kv.mod_revision;
    let is_put = event.r#type == i32::from(proto::mvccpb::event::EventType::Put);
    let change = if is_put { Change::Put(wire_key_value(&kv)) } else { Change::Delete(text(&kv.key)) };
    Event { revision, change, prev: event.prev_kv.as_ref().map(wire_key_value) }
}

fn wire_key_value(kv: &proto::mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: text(&kv.key),
        value: text(&kv.value),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
