//! Watchers: of each member, on the wire, resumed by hand; and one by our client, which resumes by itself anywhere.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use client::{Client, Config, WatchOptions};
use futures_util::StreamExt;
use proto::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse, watch_client::WatchClient,
    watch_create_request::FilterType, watch_request::RequestUnion,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use types::{KeyRange, Revision};

use crate::{
    harness::eventually,
    history::{Filter, Keys, Recorder, Told, Watched},
    translate,
};

/// Before a watch is opened again that was lost.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a watcher asks how far it has been told.
const ASKS_EVERY: Duration = Duration::from_millis(250);
/// Without any word for so long, a watcher turns to a new stream.
const SILENT_MAX: Duration = Duration::from_secs(2);
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The watchers of one run; they end when this is dropped.
pub(crate) struct Watchers {
    recorder: Arc<Recorder>,
    tasks: JoinSet<()>,
    /// How far each has been told, with its name.
    reached: Vec<(String, Arc<AtomicI64>)>,
}

impl Watchers {
    pub(crate) fn new(recorder: Arc<Recorder>) -> Self {
        Self { recorder, tasks: JoinSet::new(), reached: Vec::new() }
    }

    /// Watches everything through whichever member answers, as our users do.
    pub(crate) fn anywhere(&mut self, members: &[SocketAddr]) {
        let client = Client::connect(&Config::new(members.iter().map(SocketAddr::to_string))).unwrap();
        let reached = self.progress("anywhere");
        self.tasks.spawn(by_our_client(client, Arc::clone(&self.recorder), reached));
    }

    /// Watches one member: everything, and a part.
    pub(crate) fn of(&mut self, member: &str, address: SocketAddr) {
        let part = Watched { keys: Keys::Prefix("k0".to_owned()), start: 1, prev: false, filter: Some(Filter::NoPut) };
        for (what, watched) in [("all of", Watched::everything()), ("a part of", part)] {
            let reached = self.progress(&format!("{what} {member}"));
            let (recorder, member) = (Arc::clone(&self.recorder), member.to_owned());
            self.tasks.spawn(on_the_wire(member, address, recorder, watched, reached));
        }
    }

    fn progress(&mut self, name: &str) -> Arc<AtomicI64> {
        let reached = Arc::new(AtomicI64::new(0));
        self.reached.push((name.to_owned(), Arc::clone(&reached)));
        reached
    }

    /// Waits until everybody but those of members in `gone` has been told everything up to `revision`.
    pub(crate) async fn caught_up(&self, revision: i64, gone: &[String]) {
        for (name, reached) in &self.reached {
            if gone.iter().any(|gone| name.ends_with(&format!(" {gone}"))) {
                continue;
            }
            let told = || async { (reached.load(Ordering::Relaxed) >= revision).then_some(()) };
            eventually(&format!("the watcher of {name} is told of revision {revision}"), told).await;
        }
    }
}

async fn by_our_client(client: Client, recorder: Arc<Recorder>, reached: Arc<AtomicI64>) {
    let options = WatchOptions { start: Revision::new(1), prev_kv: true, without: None, progress: true };
    let mut watch = loop {
        match client.watch(KeyRange::all(), options.clone()).await {
            Ok(watch) => break watch,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    };
    let opened = recorder.watch(u32::MAX, "anywhere", Watched::everything());
    let progress = watch.progress();
    let mut ask = interval(ASKS_EVERY);
    loop {
        tokio::select! {
            batch = watch.next() => {
                let batch = batch.expect("the watch goes on").unwrap();
                let revision = batch.revision.get();
                let told = if batch.events.is_empty() {
                    Told::Progress { revision }
                } else {
                    let events = batch.events.into_iter().map(translate::event).collect();
                    Told::Events { revision: batch.store_revision.get(), events }
                };
                recorder.told(opened, told);
                reached.store(revision, Ordering::Relaxed);
            }
            _ = ask.tick() => progress.request(),
        }
    }
}

/// Watches again and again, each time from after what was told whole.
async fn on_the_wire(
    member: String,
    address: SocketAddr,
    recorder: Arc<Recorder>,
    watched: Watched,
    reached: Arc<AtomicI64>,
) {
    let dialer = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_timeout(SILENT_MAX);
    loop {
        let start = reached.load(Ordering::Relaxed) + 1;
        let watched = Watched { start, ..watched.clone() };
        if let Ok(channel) = dialer.connect().await {
            let client = WatchClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
            follow(client, &member, &recorder, watched, &reached).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// One stream with one watch, until it ends or nothing comes any more.
async fn follow(
    mut client: WatchClient<tonic::transport::Channel>,
    member: &str,
    recorder: &Recorder,
    watched: Watched,
    reached: &AtomicI64,
) {
    let (requests, outgoing) = mpsc::channel(4);
    requests.try_send(create(&watched)).unwrap();
    let opened = recorder.watch(u32::MAX, member, watched);
    let Ok(Ok(responses)) = timeout(SILENT_MAX, client.watch(ReceiverStream::new(outgoing))).await else { return };
    let mut responses = responses.into_inner();
    let mut ask = interval(ASKS_EVERY);
    let mut silent_since = tokio::time::Instant::now();
    while silent_since.elapsed() < SILENT_MAX {
        tokio::select! {
            response = responses.message() => {
                let Ok(Some(response)) = response else { return };
                silent_since = tokio::time::Instant::now();
                let told = told(response);
                let complete = match &told {
                    Told::Events { events, .. } => events.last().map(|event| event.revision),
                    Told::Progress { revision } => Some(*revision),
                    Told::Created { .. } => None,
                    Told::Ended { reason } => panic!("{member} ended a watch: {reason}"),
                };
                recorder.told(opened, told);
                reached.fetch_max(complete.unwrap_or(0), Ordering::Relaxed);
            }
            _ = ask.tick() => {
                // A full queue asks already.
                let _ = requests.try_send(request(RequestUnion::ProgressRequest(WatchProgressRequest {})));
            }
        }
    }
}

fn create(watched: &Watched) -> WatchRequest {
    let (key, range_end) = translate::key_range(&watched.keys).to_wire();
    // Everything, in etcd's words.
    let key = if key.is_empty() { "\0".into() } else { key };
    let filter = watched.filter.map(|filter| match filter {
        Filter::NoPut => FilterType::Noput,
        Filter::NoDelete => FilterType::Nodelete,
    });
    request(RequestUnion::CreateRequest(WatchCreateRequest {
        key,
        range_end,
        start_revision: watched.start,
        prev_kv: watched.prev,
        filters: filter.map(i32::from).into_iter().collect(),
        ..WatchCreateRequest::default()
    }))
}

fn request(union: RequestUnion) -> WatchRequest {
    WatchRequest { request_union: Some(union) }
}

fn told(response: WatchResponse) -> Told {
    let revision = response.header.map_or(0, |header| header.revision);
    if response.canceled {
        return Told::Ended { reason: format!("{} {}", response.cancel_reason, response.compact_revision) };
    }
    if response.created {
        return Told::Created { revision };
    }
    if response.events.is_empty() {
        return Told::Progress { revision };
    }
    Told::Events { revision, events: response.events.into_iter().map(translate::wire_event).collect() }
}
