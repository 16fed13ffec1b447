//! etcd's `Watch` service.
//!
//! Owns: one task a stream, which alone drives that stream's watchers.
//!
//! - `created` precedes every event of its watch, and nothing follows `canceled`.
//! - A revision is in one response, with others if the client is behind, or in consecutive fragments if it asked for them.
//! - A client that does not read fills its own queue and nobody else's: its watches lag in the store.

mod wire;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::StreamExt;
use prost::Message;
use proto::{
    etcdserverpb::{self as pb, WatchResponse, watch_create_request::FilterType, watch_request::RequestUnion},
    mvccpb,
};
use store::{Delivery, Events, Filter, WatchId, WatchRequest, WatchStart, WatchStream};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tonic::{Request, Status, Streaming};
use types::{KeyRange, Revision};

use crate::{
    auth::Caller,
    core::Core,
    status::{COMPACTED, as_go_prints, auth_refused},
};
pub(crate) use wire::WatchServer;
use wire::{Answer, Answers, Piece};

/// Pieces that wait for a slow client, beside what its connection buffers; and most deliveries in one.
const PIECES_MAX: usize = 16;
const PIECE_DELIVERIES_MAX: usize = 64;
/// Added to the request limit, this bounds a fragment. Source: etcd `grpcOverheadBytes`.
const FRAGMENT_OVERHEAD_BYTES: usize = 512 << 10;
/// The id of answers that are about no watch, or about one that never was.
const NO_WATCH: i64 = -1;

/// Keys watched.
#[derive(Clone, Debug)]
pub(crate) struct WatchFace(pub(crate) Arc<Core>);

impl WatchFace {
    /// Starts a client's stream.
    fn watch(&self, request: Request<Streaming<pb::WatchRequest>>) -> Answers {
        let (answers, pieces) = mpsc::channel(PIECES_MAX);
        let session = Session {
            core: Arc::clone(&self.0),
            caller: Caller::of(&request),
            stream: self.0.view.watches().stream(),
            watches: BTreeMap::new(),
            next_id: 0,
            asked: Asked::default(),
            answers,
        };
        let stop = self.0.stop.clone();
        self.0.tasks.spawn(async move {
            stop.run_until_cancelled(session.run(request.into_inner())).await;
        });
        Answers::new(pieces)
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
    answers: mpsc::Sender<Piece>,
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
                        let status = self.core.failed(&error.into());
                        let _client_gone = self.answers.send(Err(status)).await;
                        Err(Gone)
                    }
                },
                _ = progress.tick() => { self.progress_is_due(); Ok(()) }
                () = self.answers.closed() => Err(Gone),
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

    /// Tells the client of a delivery, and of those that are at hand.
    async fn deliver(&mut self, first: Delivery) -> Result<(), Gone> {
        let mut piece = Vec::new();
        let mut next = Some(first);
        while let Some(delivery) = next {
            match delivery {
                Delivery::Events(events) => self.events(&events, &mut piece),
                Delivery::Compacted { watcher, oldest } => {
                    self.watches.remove(&watcher);
                    piece.push(Answer::Whole(WatchResponse {
                        header: Some(self.core.header_without_revision()),
                        watch_id: watcher.0,
                        canceled: true,
                        compact_revision: oldest.get(),
                        ..Default::default()
                    }));
                }
                Delivery::Progress { revision } => self.progress(revision, &mut piece),
            }
            next = if piece.len() < PIECE_DELIVERIES_MAX { self.stream.ready() } else { None };
        }
        self.send_all(piece).await
    }

    fn events(&mut self, events: &Events, piece: &mut Vec<Answer>) {
        let Some(options) = self.watches.get_mut(&events.watcher()) else { return };
        options.idle = false;
        let (header, watch_id) = (self.core.header(events.revision()), events.watcher().0);
        if !options.fragment {
            let events = events.encoded(wire::encode);
            return piece.push(Answer::Encoded { header, watch_id, events });
        }
        let wire_events = events.iter().map(|(change, previous)| wire::event(change, previous)).collect();
        let bytes_max = self.core.config.store.request_bytes_max + FRAGMENT_OVERHEAD_BYTES;
        let mut parts = fragments(wire_events, bytes_max).into_iter().peekable();
        while let Some(events) = parts.next() {
            let fragment = parts.peek().is_some();
            piece.push(Answer::Whole(WatchResponse {
                header: Some(header),
                watch_id,
                fragment,
                events,
                ..Default::default()
            }));
        }
    }

    fn progress_is_due(&mut self) {
        if self.watches.values().any(|options| options.progress_notify) {
            self.asked.by_interval = true;
            self.stream.request_progress();
        }
    }

    fn progress(&mut self, revision: Revision, piece: &mut Vec<Answer>) {
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
        let header = Some(self.core.header(revision));
        let response = |watch_id| WatchResponse { header, watch_id, ..Default::default() };
        piece.extend(ids.into_iter().map(|watch_id| Answer::Whole(response(watch_id))));
    }

    async fn send(&mut self, response: WatchResponse) -> Result<(), Gone> {
        self.send_all(vec![Answer::Whole(response)]).await
    }

    async fn send_all(&mut self, piece: Vec<Answer>) -> Result<(), Gone> {
        self.answers.send(Ok(piece)).await.map_err(|_closed| Gone)
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

/// Cuts events so that each part stays below `bytes_max`; a larger event is a part of its own.
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
