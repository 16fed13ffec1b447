//! The calls of a history, made with the real client.

use client::{
    Client, ClientError, Compare as ClientCompare, Delete, Event as ClientEvent, Get, KeyValue as ClientKeyValue, Op,
    OpResponse, Put, Txn,
};
use types::{KeyRange, LeaseId, Revision};

use crate::{
    history::{Answer, Change, Compare, Event, KeyValue, Keys, Outcome, Recorder, Request, Response, Target},
    stage::Stage,
};

/// Makes a call and writes it down, with what became of it.
pub(crate) async fn call(stage: &Stage, client: &Client, who: u32, request: Request) -> Result<Response, ClientError> {
    let recorder: &Recorder = stage.recorder();
    let call = recorder.call(who, "", request.clone());
    let result = perform(client, request).await;
    recorder.returned(
        call,
        match &result {
            Ok(response) => Outcome::Answered(response.clone()),
            Err(ClientError::Uncertain { text }) => Outcome::Unknown(text.clone()),
            Err(error) => Outcome::Failed(error.to_string()),
        },
    );
    result
}

async fn perform(client: &Client, request: Request) -> Result<Response, ClientError> {
    match op(request) {
        Op::Get(get) => client.get(get).await.map(OpResponse::Get),
        Op::Put(put) => client.put(put).await.map(OpResponse::Put),
        Op::Delete(delete) => client.delete(delete).await.map(OpResponse::Delete),
        Op::Txn(txn) => client.txn(txn).await.map(OpResponse::Txn),
    }
    .map(response)
}

pub(crate) fn range(keys: &Keys) -> KeyRange {
    match keys {
        Keys::One(key) => KeyRange::One(key.clone().into()),
        Keys::Prefix(prefix) => KeyRange::prefix(prefix.clone()),
        Keys::All => KeyRange::all(),
    }
}

fn op(request: Request) -> Op {
    match request {
        Request::Range { keys, revision, serializable, limit } => Op::Get(Get {
            revision: Revision::new(revision),
            serializable,
            limit: u32::try_from(limit).ok().filter(|limit| *limit > 0),
            ..Get::new(range(&keys))
        }),
        Request::Put { key, value, lease, prev } => {
            Op::Put(Put { lease: LeaseId::new(lease), prev_kv: prev, ..Put::new(key, value) })
        }
        Request::Delete { keys, prev } => Op::Delete(Delete { prev_kv: prev, ..Delete::new(range(&keys)) }),
        Request::Txn { compares, success, failure } => {
            let txn = compares.into_iter().fold(Txn::new(), |txn, Compare { key, target }| {
                txn.when(match target {
                    Target::Value(value) => ClientCompare::value(key).equal(value),
                    Target::ModRevision(revision) => ClientCompare::mod_revision(key).equal(revision),
                    Target::Version(version) => ClientCompare::version(key).equal(version),
                })
            });
            let txn = success.into_iter().map(op).fold(txn, Txn::then);
            Op::Txn(failure.into_iter().map(op).fold(txn, Txn::otherwise))
        }
    }
}

fn response(response: OpResponse) -> Response {
    let revision = match &response {
        OpResponse::Get(get) => get.revision,
        OpResponse::Put(put) => put.revision,
        OpResponse::Delete(delete) => delete.revision,
        OpResponse::Txn(txn) => txn.revision,
    };
    Response { revision: revision.get(), answer: answer(response) }
}

fn answer(response: OpResponse) -> Answer {
    let signed = |count: u64| i64::try_from(count).expect("few keys");
    match response {
        OpResponse::Get(get) => {
            Answer::Range { kvs: get.kvs.iter().map(key_value).collect(), count: signed(get.count) }
        }
        OpResponse::Put(put) => Answer::Put { prev: put.prev_kv.as_ref().map(key_value) },
        OpResponse::Delete(delete) => {
            Answer::Delete { deleted: signed(delete.deleted), prev: delete.prev_kvs.iter().map(key_value).collect() }
        }
        OpResponse::Txn(txn) => {
            Answer::Txn { succeeded: txn.succeeded, answers: txn.responses.into_iter().map(answer).collect() }
        }
    }
}

fn key_value(kv: &ClientKeyValue) -> KeyValue {
    KeyValue {
        key: text(&kv.key),
        value: text(&kv.value),
        create_revision: kv.create_revision.get(),
        mod_revision: kv.mod_revision.get(),
        version: kv.version,
        lease: kv.lease.map_or(0, LeaseId::get),
    }
}

/// An event as a history has it.
pub(crate) fn event(event: &ClientEvent) -> Event {
    let revision = event.revision().get();
    match event {
        ClientEvent::Put { kv, prev } => {
            Event { revision, change: Change::Put(key_value(kv)), prev: prev.as_ref().map(key_value) }
        }
        ClientEvent::Delete { key, prev, .. } => {
            Event { revision, change: Change::Delete(text(key)), prev: prev.as_ref().map(key_value) }
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
