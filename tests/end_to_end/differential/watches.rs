//! One watch stream, and what was said on it.
//!
//! - What a watch was told is compared as one list of events: how revisions are packed into responses is a server's own
//!   affair, as long as it splits none.
//! - Order, wholeness and the meaning of progress are checked as responses come in.

use std::{collections::BTreeMap, time::Duration};

use proto::{etcdserverpb as pb, mvccpb};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use super::peer::comparable_header;

/// Longest wait for a response that must come.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long to wait for progress before asking again: etcd does not answer while a watch catches up.
const PROGRESS_PAUSE: Duration = Duration::from_millis(20);

const QUEUE: usize = 64;
/// An id that no operation gives a watch.
const FIRST: i64 = 1_000_000;

/// What a server said that it must never say.
pub(crate) type Violation = String;

/// What one watch was told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Told {
    pub(crate) created: pb::WatchResponse,
    pub(crate) events: Vec<mvccpb::Event>,
    pub(crate) ended: Option<pb::WatchResponse>,
}

/// What must hold of a watch's next events.
#[derive(Debug)]
struct Alive {
    /// Which of `told`.
    index: usize,
    /// The last revision that was told; it is not over yet if the response was a fragment.
    last: i64,
    unfinished: bool,
    /// Progress up to here was told since the watch was created.
    progress: i64,
    /// The first revision that it wants.
    start: i64,
}

/// A stream and its watches.
pub(crate) struct Watches {
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
    /// All watches, in the order of their creation.
    pub(crate) told: Vec<Told>,
    alive: BTreeMap<i64, Alive>,
    progress: i64,
    /// The server keeps a watch that compaction ended until it is cancelled too, and tells no progress meanwhile.
    keeps_ended: bool,
    /// Such a watch, until its second end.
    ended_twice: Option<i64>,
}

impl Watches {
    /// Opens the stream with a watch that is taken back: etcd's answer to the call itself comes with the first message.
    pub(crate) async fn open(channel: Channel, keeps_ended: bool) -> Self {
        let (requests, queue) = mpsc::channel(QUEUE);
        let first = pb::WatchCreateRequest { key: "first".into(), watch_id: FIRST, ..Default::default() };
        let first = pb::watch_request::RequestUnion::CreateRequest(first);
        requests.send(pb::WatchRequest { request_union: Some(first) }).await.unwrap();
        let responses =
            pb::watch_client::WatchClient::new(channel).watch(ReceiverStream::new(queue)).await.unwrap().into_inner();
        let mut watches = Self {
            requests,
            responses,
            told: Vec::new(),
            alive: BTreeMap::new(),
            progress: 0,
            keeps_ended,
            ended_twice: None,
        };
        while watches.told.is_empty() {
            watches.receive().await.unwrap();
        }
        watches.cancel(pb::WatchCancelRequest { watch_id: FIRST }).await.unwrap();
        watches
    }

    /// The ids of the watches that are alive.
    pub(crate) fn alive(&self) -> Vec<i64> {
        self.alive.keys().copied().collect()
    }

    /// Returns when the answer has come; it is the last of `told`. If its start is compacted, when it has ended.
    pub(crate) async fn create(&mut self, request: pb::WatchCreateRequest, ends: bool) -> Result<(), Violation> {
        let (index, start) = (self.told.len(), request.start_revision);
        self.send(pb::watch_request::RequestUnion::CreateRequest(request)).await;
        while self.told.get(index).is_none_or(|told| ends && told.ended.is_none() && !told.created.canceled) {
            self.receive().await?;
        }
        if let (true, Some(ended)) = (self.keeps_ended, &self.told[index].ended) {
            let watch_id = ended.watch_id;
            self.send(pb::watch_request::RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id })).await;
            self.ended_twice = Some(watch_id);
            while self.ended_twice.is_some() {
                self.receive().await?;
            }
        }
        if let Some(alive) = self.alive.values_mut().find(|alive| alive.index == index) {
            alive.start = start;
        }
        Ok(())
    }

    /// Whether a watch waits for a revision after `revision`: there is no progress to tell then.
    pub(crate) fn waits_beyond(&self, revision: i64) -> bool {
        self.alive.values().any(|alive| alive.start > revision)
    }

    /// Returns when the answer has come, at once if there is no such watch.
    pub(crate) async fn cancel(&mut self, request: pb::WatchCancelRequest) -> Result<(), Violation> {
        let id = request.watch_id;
        self.send(pb::watch_request::RequestUnion::CancelRequest(request)).await;
        while self.alive.contains_key(&id) {
            self.receive().await?;
        }
        Ok(())
    }

    /// Returns when every watch was told everything up to `revision`.
    pub(crate) async fn progress(&mut self, revision: i64) -> Result<(), Violation> {
        if self.alive.is_empty() {
            return Ok(());
        }
        self.progress = 0;
        let asked = async {
            while self.progress < revision {
                self.send(pb::watch_request::RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
                while let Ok(received) = timeout(PROGRESS_PAUSE, self.receive()).await {
                    received?;
                    if self.progress >= revision {
                        break;
                    }
                }
            }
            Ok(())
        };
        let outcome = timeout(DEADLINE, asked).await;
        outcome.map_err(|_elapsed| format!("no progress to {revision} within {DEADLINE:?}: {:?}", self.alive))?
    }

    async fn send(&self, request: pb::watch_request::RequestUnion) {
        self.requests.send(pb::WatchRequest { request_union: Some(request) }).await.unwrap();
    }

    /// Takes in the next response. Dropping the future loses nothing.
    async fn receive(&mut self) -> Result<(), Violation> {
        let next = timeout(DEADLINE, self.responses.message()).await;
        let response = next.map_err(|_elapsed| format!("no response of the watch stream within {DEADLINE:?}"))?;
        let mut response = response.map_err(|status| format!("the watch stream ends: {status}"))?;
        let response = response.take().ok_or("the watch stream ends")?;
        if response.created {
            self.created(response)
        } else if response.canceled {
            self.canceled(response)
        } else if response.events.is_empty() {
            self.progressed(&response)
        } else {
            self.happened(response)
        }
    }

    fn created(&mut self, mut response: pb::WatchResponse) -> Result<(), Violation> {
        comparable_header(&mut response.header);
        if !response.canceled {
            let alive = Alive { index: self.told.len(), last: 0, unfinished: false, progress: 0, start: 0 };
            if self.alive.insert(response.watch_id, alive).is_some() {
                return Err(format!("watch {} is created twice", response.watch_id));
            }
        }
        self.told.push(Told { created: response, ..Told::default() });
        Ok(())
    }

    fn canceled(&mut self, mut response: pb::WatchResponse) -> Result<(), Violation> {
        if self.ended_twice.take_if(|id| *id == response.watch_id).is_some() {
            return Ok(());
        }
        comparable_header(&mut response.header);
        let alive = self.alive.remove(&response.watch_id);
        let alive = alive.ok_or_else(|| format!("a watch ends that there is not: {response:?}"))?;
        self.told[alive.index].ended = Some(response);
        Ok(())
    }

    fn progressed(&mut self, response: &pb::WatchResponse) -> Result<(), Violation> {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if response.watch_id != -1 {
            return Err(format!("progress that nobody asked for: {response:?}"));
        }
        self.progress = revision;
        self.alive.values_mut().for_each(|alive| alive.progress = alive.progress.max(revision));
        Ok(())
    }

    fn happened(&mut self, response: pb::WatchResponse) -> Result<(), Violation> {
        let alive = self.alive.get_mut(&response.watch_id);
        let alive = alive.ok_or_else(|| format!("events of a watch that there is not: {response:?}"))?;
        let at = |event: &mvccpb::Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let (first, last) = (at(&response.events[0]), at(response.events.last().unwrap()));
        let follows = if alive.unfinished { first >= alive.last } else { first > alive.last };
        if !follows || !response.events.is_sorted_by_key(at) {
            return Err(format!("events out of order, or a revision split, after {}: {response:?}", alive.last));
        }
        if first <= alive.progress {
            return Err(format!("events after progress to {}: {response:?}", alive.progress));
        }
        if response.header.as_ref().is_none_or(|header| header.revision < last) {
            return Err(format!("a header older than its events: {response:?}"));
        }
        (alive.last, alive.unfinished) = (last, response.fragment);
        self.told[alive.index].events.extend(response.events);
        Ok(())
    }
}
