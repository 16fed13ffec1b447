//! etcd's `Watch` service.
//!
//! Owns: one task a stream, which alone drives that stream's watchers.
//!
//! - `created` precedes every event of its watch, and nothing follows `canceled`.
//! - A revision is one response, or consecutive fragments of one if the client asked for that.
//! - A client that does not read fills its own queue and nobody else's: its watches lag in the store.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::StreamExt;
use prost::Message;
use proto::{
    etcdserverpb::{
        self as pb, WatchResponse, watch_create_request::FilterType, watch_request::RequestUnion, watch_server::Watch,
    },
    mvccpb::{self, event::EventType},
};
use store::{Change, Delivery, Events, Filter, KeyValue, WatchId, WatchRequest, WatchStart, WatchStream};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use types::{KeyRange, Revision};

use crate::{
    auth::Caller,
    core::Core,
    status::{COMPACTED, as_go_prints, auth_refused, failed},
    wire,
};

/// Responses that wait for a slow client, beside what its connection buffers.
const RESPONSE_QUEUE_MAX: usize = 16;
/// Added to the request limit, this bounds a fragment. Source: etcd `grpcOverheadBytes`.
const FRAGMENT_OVERHEAD_BYTES: usize = 512 << 10;
/// The id of answers that are about no watch, or about one that never was.
const NO_WATCH: i64 = -1;

/// Keys watched.
#[derive(Clone, Debug)]
pub(crate) struct WatchFace(pub(crate) Arc<Core>);

#[tonic::async_trait]
impl Watch for WatchFace {
    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (responses, stream) = mpsc::channel(RESPONSE_QUEUE_MAX);
        let session = Session {
            core: Arc::clone(&self.0),
            caller: Caller::of(&request),
            stream: self.0.view.watches().stream(),
            watches: BTreeMap::new(),
            next_id: 0,
            asked: Asked::default(),
            responses,
        };
        let stop = self.0.stop.clone();
        self.0.tasks.spawn(async move {
            stop.run_until_cancelled(session.run(request.into_inner())).await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// One client's stream.
struct Session {
    core: Arc<Core>,
    caller: Caller,
    stream: WatchStream,
    watches: BTreeMap<WatchId, Options>,
    next_id: i64,
    asked: Asked,
    responses: mpsc::Sender<Result<WatchResponse, Status>>,
}

/// What a watch asked for that the store need not know.
#[derive(Clone, Copy)]
struct Options {
    fragment: bool,
    progress_notify: bool,
    /// Nothing was sent since the last time that progress was due.
    idle: bool,
}

/// Who waits for the stream's progress.
#[derive(Default)]
struct Asked {
    by_client: bool,
    by_interval: bool,
}

/// The client has gone.
struct Gone;

impl Session {
    async fn run(mut self, mut requests: Streaming<pb::WatchRequest>) {
        let mut progress = progress_interval(self.core.config.watch_progress_interval);
        let mut half_closed = false;
        loop {
            let outcome = tokio::select! {
                request = requests.next(), if !half_closed => match request {
                    Some(Ok(request)) => self.handle(request).await,
                    Some(Err(_)) => Err(Gone),
                    // What is watched goes on: etcd serves a half closed stream too.
                    None => { half_closed = true; Ok(()) }
                },
                delivery = self.stream.next() => match delivery {
                    Ok(Some(delivery)) => self.deliver(delivery).await,
                    Ok(None) => Err(Gone),
                    Err(error) => {
                        let status = failed(&error.into());
                        let _client_gone = self.responses.send(Err(status)).await;
                        Err(Gone)
                    }
                },
                _ = progress.tick() => { self.progress_is_due(); Ok(()) }
                () = self.responses.closed() => Err(Gone),
            };
            if outcome.is_err() {
                return;
            }
        }
    }

    async fn handle(&mut self, request: pb::WatchRequest) -> Result<(), Gone> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create).await,
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id).await,
            Some(RequestUnion::ProgressRequest(_)) => {
                self.asked.by_client = true;
                self.stream.request_progress();
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn create(&mut self, request: pb::WatchCreateRequest) -> Result<(), Gone> {
        let keys = watched_keys(&request);
        if request.start_revision < 0 {
            return self.refuse(COMPACTED).await;
        }
        if let Err(refused) = self.may_watch(&keys).await {
            return self.refuse(&as_go_prints(&refused)).await;
        }
        if keys.is_empty() {
            return self.refuse("mvcc: watcher range is empty").await;
        }
        if self.watches.len() >= self.core.config.watches_per_stream_max {
            return self.refuse("etcdserver: too many watches on this stream").await;
        }
        let Some(id) = self.free_id(request.watch_id) else {
            return self.refuse("mvcc: duplicate watch ID provided on the WatchStream").await;
        };
        let has = |filter: FilterType| request.filters.contains(&i32::from(filter));
        let started = self.stream.watch(WatchRequest {
            id,
            keys,
            start: Revision::new(request.start_revision).map_or(WatchStart::Next, WatchStart::At),
            filter: Filter { no_put: has(FilterType::Noput), no_delete: has(FilterType::Nodelete) },
            prev_kv: request.prev_kv,
        });
        let published = started.expect("the id is free: `watches` holds all that the stream has");
        self.watches
            .insert(id, Options { fragment: request.fragment, progress_notify: request.progress_notify, idle: true });
        let header = Some(self.core.header(published));
        self.send(WatchResponse { header, watch_id: id.0, created: true, ..Default::default() }).await
    }

    /// Whoever watches keys may read them; asked anew for each watch, since a stream outlives changes of users.
    async fn may_watch(&self, keys: &KeyRange) -> Result<(), Status> {
        if !self.core.view.auth_is_enabled() {
            return Ok(());
        }
        let actor = self.core.recognize_again(&self.caller).await?;
        let auth = self.core.view.auth();
        auth.access(&actor).and_then(|access| access.read(keys)).map_err(auth_refused)
    }

    /// The id asked for, or the next one that is free.
    fn free_id(&mut self, asked: i64) -> Option<WatchId> {
        if asked != 0 {
            return Some(WatchId(asked)).filter(|id| !self.watches.contains_key(id));
        }
        while self.watches.contains_key(&WatchId(self.next_id)) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Some(WatchId(self.next_id - 1))
    }

    async fn refuse(&mut self, reason: &str) -> Result<(), Gone> {
        let header = Some(self.core.header(self.core.view.revision()));
        self.send(WatchResponse {
            header,
            watch_id: NO_WATCH,
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..Default::default()
        })
        .await
    }

    async fn cancel(&mut self, id: i64) -> Result<(), Gone> {
        if self.watches.remove(&WatchId(id)).is_none() {
            return Ok(());
        }
        self.stream.cancel(WatchId(id));
        let header = Some(self.core.header(self.core.view.revision()));
        self.send(WatchResponse { header, watch_id: id, canceled: true, ..Default::default() }).await
    }

    async fn deliver(&mut self, delivery: Delivery) -> Result<(), Gone> {
        match delivery {
            Delivery::Events(events) => self.events(&events).await,
            Delivery::Compacted { watcher, oldest } => {
                self.watches.remove(&watcher);
                self.send(WatchResponse {
                    header: Some(self.core.header_without_revision()),
                    watch_id: watcher.0,
                    canceled: true,
                    compact_revision: oldest.get(),
                    ..Default::default()
                })
                .await
            }
            Delivery::Progress { revision } => self.progress(revision).await,
        }
    }

    async fn events(&mut self, events: &Events) -> Result<(), Gone> {
        let Some(options) = self.watches.get_mut(&events.watcher()) else { return Ok(()) };
        options.idle = false;
        let fragment_bytes =
            options.fragment.then(|| self.core.config.store.request_bytes_max + FRAGMENT_OVERHEAD_BYTES);
        let header = self.core.header(events.revision());
        let wire_events = events.iter().map(|(change, previous)| event(change, previous)).collect();
        let mut parts = fragments(wire_events, fragment_bytes.unwrap_or(usize::MAX)).into_iter().peekable();
        while let Some(events_of_part) = parts.next() {
            self.send(WatchResponse {
                header: Some(header),
                watch_id: events.watcher().0,
                fragment: parts.peek().is_some(),
                events: events_of_part,
                ..Default::default()
            })
            .await?;
        }
        Ok(())
    }

    fn progress_is_due(&mut self) {
        if self.watches.values().any(|options| options.progress_notify) {
            self.asked.by_interval = true;
            self.stream.request_progress();
        }
    }

    async fn progress(&mut self, revision: Revision) -> Result<(), Gone> {
        let asked = std::mem::take(&mut self.asked);
        let mut ids = Vec::new();
        if asked.by_client {
            ids.push(NO_WATCH);
        }
        if asked.by_interval {
            for (id, options) in &mut self.watches {
                if options.progress_notify && std::mem::replace(&mut options.idle, true) {
                    ids.push(id.0);
                }
            }
        }
        for watch_id in ids {
            let header = Some(self.core.header(revision));
            self.send(WatchResponse { header, watch_id, ..Default::default() }).await?;
        }
        Ok(())
    }

    async fn send(&mut self, response: WatchResponse) -> Result<(), Gone> {
        self.responses.send(Ok(response)).await.map_err(|_closed| Gone)
    }
}

/// Ticks at the interval and up to a tenth more, so that many streams do not tick together.
fn progress_interval(interval: Duration) -> tokio::time::Interval {
    let period = interval.mul_f64(1.0 + rand::random::<f64>() / 10.0);
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// An empty key means the first one there can be.
fn watched_keys(request: &pb::WatchCreateRequest) -> KeyRange {
    let key = if request.key.is_empty() { bytes::Bytes::from_static(b"\0") } else { request.key.clone() };
    KeyRange::from_wire(key, request.range_end.clone())
}

/// A delete shows the key and when it went, and nothing else.
fn event(change: &Change, previous: Option<&KeyValue>) -> mvccpb::Event {
    let (kind, kv) = match change {
        Change::Put(kv) => (EventType::Put, wire::key_value(kv.clone())),
        Change::Delete { key, revision } => {
            let kv = mvccpb::KeyValue { key: key.clone(), mod_revision: revision.get(), ..Default::default() };
            (EventType::Delete, kv)
        }
    };
    mvccpb::Event { r#type: kind.into(), kv: Some(kv), prev_kv: previous.cloned().map(wire::key_value) }
}

/// Cuts a revision's events so that each part stays below `bytes_max`; a larger event is a part of its own.
fn fragments(events: Vec<mvccpb::Event>, bytes_max: usize) -> Vec<Vec<mvccpb::Event>> {
    let mut parts: Vec<Vec<mvccpb::Event>> = vec![Vec::new()];
    let mut bytes = 0;
    for event in events {
        let size = event.encoded_len();
        let part = parts.last_mut().expect("there is always a part");
        if !part.is_empty() && bytes + size >= bytes_max {
            parts.push(vec![event]);
            bytes = size;
        } else {
            part.push(event);
            bytes += size;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(value_bytes: usize) -> mvccpb::Event {
        let kv = mvccpb::KeyValue { value: vec![0; value_bytes].into(), ..Default::default() };
        mvccpb::Event { kv: Some(kv), ..Default::default() }
    }

    #[test]
    fn fragments_keep_order_and_stay_below_the_bound() {
        let events: Vec<_> = [10, 200, 10, 10, 90].map(sized).into();
        let parts = fragments(events.clone(), 120);
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 2, 1]);
        assert_eq!(parts.concat(), events);
        assert_eq!(fragments(events.clone(), usize::MAX), [events]);
    }
}
