//! Watches: what happens to a range, from a revision on, whatever happens to connections.
//!
//! Owns: the revision that each watch is owed next, and the connection that will bring it.
//!
//! - Each matching event is yielded once, in revision order, with no gap; events of one revision come together.
//! - A lost connection is replaced, on any endpoint, from the revision after the last that was complete; a progress
//!   report counts as complete. A half-received revision is forgotten and comes again.
//! - Nothing is read ahead of the caller but what fits the connection's flow-control window.
//! - Dropping the watch cancels it on the server.

use crate::{
    Client, ClientError, Header, KeyValue,
    backoff::{self, Backoff},
    error::{COMPACTED, Failure},
    transport::{MESSAGE_BYTES_MAX, Transport},
};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use proto::{
    etcdserverpb::{
        self as pb, watch_client::WatchClient, watch_create_request::FilterType, watch_request::RequestUnion,
    },
    mvccpb,
};
use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, metadata::MetadataValue};
use types::{KeyRange, Revision};

/// What to watch for. Source: etcd v3 `WatchCreateRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// The first revision to see, past or future; `None` is whatever comes after the watch is there.
    pub start: Option<Revision>,
    /// Brings what each key was before.
    pub prev_kv: bool,
    /// Events to leave out.
    pub without: Option<EventFilter>,
    /// Yields a batch without events when the server reports that all up to a revision was delivered.
    pub progress: bool,
}

/// Events to leave out of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFilter {
    /// Sees deletes only.
    Puts,
    /// Sees puts only.
    Deletes,
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was written.
    Put {
        /// As it is since.
        kv: KeyValue,
        /// As it was, if that was asked for and is still known; `None` also when the key is new.
        prev: Option<KeyValue>,
    },
    /// It was deleted, by a request or with its lease.
    Delete {
        /// The key.
        key: Bytes,
        /// When.
        revision: Revision,
        /// As it was, if that was asked for and is still known.
        prev: Option<KeyValue>,
    },
}

impl Event {
    /// The key that it happened to.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { kv, .. } => &kv.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// When it happened.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put { kv, .. } => kv.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }

    /// Whether it brought a key into being.
    pub fn is_create(&self) -> bool {
        matches!(self, Self::Put { kv, .. } if kv.create_revision == kv.mod_revision)
    }

    fn from_wire(event: mvccpb::Event) -> Result<Self, ClientError> {
        let is_put = event.r#type == i32::from(mvccpb::event::EventType::Put);
        let kv = event.kv.ok_or(ClientError::Protocol("an event has no key"))?;
        let prev = event.prev_kv.map(KeyValue::from_wire).transpose()?;
        if is_put {
            return Ok(Self::Put { kv: KeyValue::from_wire(kv)?, prev });
        }
        let revision =
            Revision::new(kv.mod_revision).ok_or(ClientError::Protocol("a key was deleted at no revision"))?;
        Ok(Self::Delete { key: kv.key, revision, prev })
    }
}

/// One or more whole revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// Who brought it.
    pub header: Header,
    /// All that matches up to and with this revision has now been yielded.
    pub revision: Revision,
    /// The store's revision when it was sent.
    pub store_revision: Revision,
    /// In order; those of one revision are never spread over two batches. Empty in a progress report.
    pub events: Vec<Event>,
}

/// A live watch: a stream of [`WatchBatch`]es.
///
/// After an error it ends. The errors are [`ClientError::Compacted`], when the revision it is owed next is gone, and
/// those that would come back on every endpoint, such as [`ClientError::Denied`].
pub struct Watch {
    since: Revision,
    progress: Progress,
    batches: Pin<Box<dyn Stream<Item = Result<WatchBatch, ClientError>> + Send>>,
}

impl Watch {
    /// The first revision that it was owed: what [`WatchOptions::start`] said, else the first after it was created.
    pub fn since(&self) -> Revision {
        self.since
    }

    /// Asks for progress reports by its clones, wherever the watch itself is read.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

/// Asks a watch's server how far it has come. Clones ask the same watch.
#[derive(Clone, Default)]
pub struct Progress {
    requests: Arc<ArcSwapOption<mpsc::Sender<pb::WatchRequest>>>,
    asked: Arc<AtomicBool>,
}

impl Progress {
    /// Has the watch yield one report more, if its server is up to date with it. Does nothing between two connections, or
    /// while it was asked already.
    pub fn request(&self) {
        let request = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
        // Before it is sent: the report may be there before this goes on.
        let was_asked = self.asked.swap(true, Ordering::Relaxed);
        let sent = self
            .requests
            .load()
            .as_deref()
            .is_some_and(|requests| requests.try_send(pb::WatchRequest { request_union: Some(request) }).is_ok());
        if !sent {
            self.asked.store(was_asked, Ordering::Relaxed);
        }
    }

    fn connected(&self, requests: mpsc::Sender<pb::WatchRequest>) {
        self.asked.store(false, Ordering::Relaxed);
        self.requests.store(Some(Arc::new(requests)));
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}

impl Stream for Watch {
    type Item = Result<WatchBatch, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_next_unpin(context)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("since", &self.since).finish_non_exhaustive()
    }
}

impl Client {
    /// Watches a range; answers when the server has created the watch, so that nothing that happens later is missed.
    /// Source: etcd v3 `Watch.Watch`.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`] when no endpoint answers within the request timeout; `Denied` and `Refused` as for a
    /// read. That `options.start` is compacted is told by the stream.
    pub async fn watch(&self, range: KeyRange, options: WatchOptions) -> Result<Watch, ClientError> {
        let mut cursor = Cursor {
            transport: self.transport.clone(),
            next: options.start,
            range,
            options,
            progress: Progress::default(),
            backoff: Backoff::default(),
        };
        let progress = cursor.progress.clone();
        let deadline = Instant::now() + self.transport.request_timeout();
        let (connection, since) = cursor.connect(Some(deadline)).await?;
        let batches = stream::unfold(Some((cursor, Some(connection))), |state| async {
            let (mut cursor, connection) = state?;
            match cursor.next_batch(connection).await {
                Ok((batch, connection)) => Some((Ok(batch), Some((cursor, connection)))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Watch { since, progress, batches: Box::pin(batches) })
    }
}

/// What a watch needs to go on anywhere.
struct Cursor {
    transport: Transport,
    range: KeyRange,
    options: WatchOptions,
    /// The first revision not yet complete; `None` until the first connection says what "now" is.
    next: Option<Revision>,
    progress: Progress,
    backoff: Backoff,
}

/// One gRPC stream with one watch on it.
struct Connection {
    responses: Streaming<pb::WatchResponse>,
    /// The fragments so far of a response.
    partial: Vec<mvccpb::Event>,
    opened: Instant,
}

/// Why a connection did not bring a batch.
enum Broken {
    /// Another may.
    Connection(Status),
    /// No other will.
    Watch(ClientError),
}

impl Cursor {
    /// Yields the next batch and the connection it came on, replacing connections that fail.
    async fn next_batch(
        &mut self,
        connection: Option<Connection>,
    ) -> Result<(WatchBatch, Option<Connection>), ClientError> {
        let mut current = connection;
        loop {
            let mut connection = match current.take() {
                Some(connection) => connection,
                None => self.connect(None).await?.0,
            };
            match self.receive(&mut connection).await {
                Ok(batch) => {
                    self.backoff.reset();
                    return Ok((batch, Some(connection)));
                }
                Err(Broken::Watch(error)) => return Err(error),
                Err(Broken::Connection(status)) => self.leave(&connection, &status).await,
            }
        }
    }

    /// A connection that lived long was a good one: the next is tried at once.
    async fn leave(&mut self, connection: &Connection, status: &Status) {
        if connection.opened.elapsed() > backoff::LONGEST {
            self.backoff.reset();
        }
        tracing::debug!(next = ?self.next, error = %status, "watch lost its connection");
        self.transport.preferred().move_on();
        sleep(self.backoff.wait()).await;
    }

    /// Opens the watch somewhere, trying until `deadline` or for good. Answers the revision that it is owed first.
    async fn connect(&mut self, deadline: Option<Instant>) -> Result<(Connection, Revision), ClientError> {
        let mut renewed = false;
        loop {
            let transport = self.transport.clone();
            let preferred = transport.preferred();
            let until = Instant::now() + transport.request_timeout();
            let (used, opened) = match transport.log_in(&preferred, until).await {
                Ok(used) => (used, self.open().await),
                Err(status) => (None, Err(Broken::of(status))),
            };
            let error = match opened {
                Ok(opened) => return Ok(opened),
                Err(Broken::Watch(error)) if !renewed && transport.renews(used.as_ref(), &error.to_string()) => {
                    renewed = true;
                    continue;
                }
                Err(Broken::Watch(error)) => return Err(error),
                Err(Broken::Connection(status)) => ClientError::unavailable(preferred.name(), &status),
            };
            preferred.move_on();
            let wait = self.backoff.wait();
            if deadline.is_some_and(|deadline| Instant::now() + wait >= deadline) {
                return Err(error);
            }
            sleep(wait).await;
        }
    }

    /// One attempt to open the watch on the preferred endpoint.
    async fn open(&mut self) -> Result<(Connection, Revision), Broken> {
        let link = self.transport.preferred().watches();
        let (requests, outgoing) = mpsc::channel(1);
        requests.try_send(self.create_request()).expect("a new channel has room for one");
        let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        let open = async {
            let mut client = WatchClient::new(link).max_decoding_message_size(MESSAGE_BYTES_MAX);
            let mut responses = client.watch(request).await?.into_inner();
            let created = responses.message().await?;
            Ok((
                responses,
                created.ok_or_else(|| Status::unavailable("the stream ended before the watch was created"))?,
            ))
        };
        let opened = timeout(self.transport.request_timeout(), open).await;
        let opened = opened.unwrap_or_else(|_| Err(Status::unavailable("no answer to a watch")));
        let (responses, created) = opened.map_err(Broken::of)?;
        let since = self.created(&created)?;
        self.progress.connected(requests);
        let connection = Connection { responses, partial: Vec::new(), opened: Instant::now() };
        Ok((connection, since))
    }

    fn create_request(&self) -> pb::WatchRequest {
        let (key, range_end) = self.range.to_wire();
        let filter = self.options.without.map(|without| match without {
            EventFilter::Puts => FilterType::Noput,
            EventFilter::Deletes => FilterType::Nodelete,
        });
        let create = pb::WatchCreateRequest {
            key,
            range_end,
            start_revision: self.next.map_or(0, Revision::get),
            progress_notify: true,
            filters: filter.map(i32::from).into_iter().collect(),
            prev_kv: self.options.prev_kv,
            watch_id: 0,
            fragment: true,
        };
        pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
    }

    /// Reads the server's first answer. A watch from "now" is from here on one from the revision after it.
    fn created(&mut self, response: &pb::WatchResponse) -> Result<Revision, Broken> {
        if response.canceled {
            return Err(canceled(response));
        }
        if !response.created {
            return Err(Broken::Watch(ClientError::Protocol("a watch was answered before it was created")));
        }
        let since = match self.next {
            Some(next) => next,
            None => Header::from_wire(response.header)
                .1
                .ok_or(Broken::Watch(ClientError::Protocol("a watch was created at no revision")))?
                .next(),
        };
        self.next = Some(since);
        Ok(since)
    }

    /// Reads responses until they make a batch.
    async fn receive(&mut self, connection: &mut Connection) -> Result<WatchBatch, Broken> {
        loop {
            let response = connection.responses.message().await.map_err(Broken::of)?;
            let response = response.ok_or_else(|| Broken::Connection(Status::unavailable("the stream ended")))?;
            if response.canceled {
                return Err(canceled(&response));
            }
            if let Some(batch) = self.accept(connection, response).map_err(Broken::Watch)? {
                return Ok(batch);
            }
        }
    }

    /// Adds a response; `Some` when it completes something new.
    fn accept(
        &mut self,
        connection: &mut Connection,
        response: pb::WatchResponse,
    ) -> Result<Option<WatchBatch>, ClientError> {
        let (header, reached) = Header::from_wire(response.header);
        connection.partial.extend(response.events);
        if response.fragment {
            return Ok(None);
        }
        if connection.partial.is_empty() {
            return Ok(reached.and_then(|revision| self.progress(header, revision)));
        }
        let events = std::mem::take(&mut connection.partial);
        let mut events = events.into_iter().map(Event::from_wire).collect::<Result<Vec<_>, _>>()?;
        events.retain(|event| self.next.is_none_or(|next| event.revision() >= next));
        let Some(revision) = events.last().map(Event::revision) else { return Ok(None) };
        if !events.is_sorted_by_key(Event::revision) {
            return Err(ClientError::Protocol("events are not in the order of their revisions"));
        }
        self.next = Some(revision.next());
        Ok(Some(WatchBatch { header, revision, store_revision: reached.unwrap_or(revision), events }))
    }

    /// All up to `revision` was delivered.
    fn progress(&mut self, header: Header, revision: Revision) -> Option<WatchBatch> {
        let report = WatchBatch { header, revision, store_revision: revision, events: Vec::new() };
        let asked = self.progress.asked.swap(false, Ordering::Relaxed);
        if self.next.is_some_and(|next| revision < next) {
            return asked.then_some(report);
        }
        self.next = Some(revision.next());
        (asked || self.options.progress).then_some(report)
    }
}

impl Broken {
    /// Only what every endpoint would answer alike is about the watch.
    fn of(status: Status) -> Self {
        use Code::{
            DataLoss, FailedPrecondition, InvalidArgument, NotFound, OutOfRange, PermissionDenied, Unauthenticated,
            Unimplemented,
        };
        match status.code() {
            InvalidArgument | PermissionDenied | Unauthenticated | Unimplemented | OutOfRange | NotFound
            | FailedPrecondition | DataLoss
                if Failure::of(&status) == Failure::Answered =>
            {
                Self::Watch(ClientError::answered(&status))
            }
            _ => Self::Connection(status),
        }
    }
}

/// Why the server ended the watch: its words carry no code, so etcd's texts stand for them.
fn canceled(response: &pb::WatchResponse) -> Broken {
    let text = response.cancel_reason.clone();
    if response.compact_revision != 0 || text == COMPACTED {
        let oldest = Revision::new(response.compact_revision);
        return Broken::Watch(ClientError::Compacted { oldest, text: COMPACTED.to_owned() });
    }
    match text.as_str() {
        "etcdserver: permission denied" => Broken::Watch(ClientError::Denied { code: Code::PermissionDenied, text }),
        "etcdserver: invalid auth token" | "etcdserver: user name is empty" => {
            Broken::Watch(ClientError::Denied { code: Code::Unauthenticated, text })
        }
        "etcdserver: no leader" | "etcdserver: server stopped" => Broken::Connection(Status::unavailable(text)),
        "" => {
            Broken::Watch(ClientError::Refused { code: Code::Cancelled, text: "the server canceled the watch".into() })
        }
        _ => Broken::Watch(ClientError::Refused { code: Code::InvalidArgument, text }),
    }
}
