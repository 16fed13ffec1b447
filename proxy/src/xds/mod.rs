//! Configuration from the server.
//!
//! Owns: the delta ADS stream, what was accepted by it, and the copy on disk.
//! In:   resources from the server, or from disk at start.
//! Out:  a snapshot for `http` and `tcp`, listeners for `listener`, one ACK or NACK a response.
//!
//! - A response is applied resource by resource: a bad one is refused by name, the good ones serve.
//! - A resource that comes again unchanged changes nothing, connections included.
//! - Without the server the last accepted configuration serves, across restarts too.

mod disk;
mod node;
mod resources;
mod session;

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use proto::google::protobuf::Any;
use tokio_util::sync::CancellationToken;

pub(crate) use disk::keep_on_disk;
pub(crate) use node::node;
pub(crate) use resources::Resources;
pub(crate) use session::{Server, endpoint};

use self::session::SessionEnd;
use crate::{
    config::{Book, Invalid, Kind},
    listener::Listeners,
    state_dir::StateDir,
    telemetry::Switch,
    worker::{Shared, Workers},
};

/// First and longest wait before another attempt to reach the server.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// A session that lasted so long was a good one: the wait starts anew.
const GOOD_SESSION: Duration = Duration::from_secs(30);
/// Wait before a listener that could not be bound is tried again.
const BIND_AGAIN: Duration = Duration::from_millis(250);

/// The xDS client, and the sole owner of what serves.
pub(crate) struct Client {
    book: Book,
    pub(crate) resources: Resources,
    listeners: Listeners,
    workers: Arc<Workers>,
    shared: Arc<Shared>,
    ready: Arc<Switch>,
    /// When to publish again although nothing came.
    again: Option<Instant>,
}

impl Client {
    pub(crate) fn new(book: Book, workers: Arc<Workers>, shared: Arc<Shared>, ready: Arc<Switch>) -> Self {
        let (listeners, resources) = (Listeners::new(shared.clone()), Resources::default());
        Self { book, resources, listeners, workers, shared, ready, again: None }
    }

    /// Serves what is on disk, until the server says something newer.
    pub(crate) fn restore(&mut self, dir: &StateDir) {
        let saved = match disk::load(dir) {
            Ok(saved) => saved,
            Err(error) => return tracing::warn!(%error, "saved configuration is unreadable"),
        };
        if saved.is_empty() {
            return;
        }
        for (kind, name, version, any) in saved {
            if let Err(error) = self.accept(kind, &name, &version, any) {
                tracing::warn!(resource = name, %error, "saved resource refused");
            }
        }
        self.publish();
        tracing::info!("serving the configuration of the last run");
    }

    /// Keeps to the server until told to stop, then closes the listeners.
    pub(crate) async fn run(mut self, server: Server, stop: CancellationToken) {
        let mut wait = BACK_OFF.0;
        while !stop.is_cancelled() {
            let begun = Instant::now();
            let end = self.session(&server, &stop).await;
            self.shared.telemetry.gauges.xds_connected.set(false);
            match end {
                Ok(()) => break,
                Err(error) => tracing::warn!(%error, "configuration stream ended, serving what is known"),
            }
            wait = if begun.elapsed() > GOOD_SESSION { BACK_OFF.0 } else { (wait * 2).min(BACK_OFF.1) };
            let pause = tokio::time::sleep(wait.mul_f64(0.5 + rand::random::<f64>() / 2.0));
            self.meanwhile(pause, &stop).await;
        }
        self.listeners.close();
    }

    /// Does something, and publishes meanwhile what becomes due; `None` when told to stop.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>, stop: &CancellationToken) -> Option<T> {
        let mut work = pin!(work);
        let found = self.book.found();
        loop {
            tokio::select! {
                () = stop.cancelled() => return None,
                done = &mut work => return Some(done),
                () = found.notified() => {}
                () = at(self.again) => {}
            }
            self.publish();
        }
    }

    fn accept(&mut self, kind: Kind, name: &str, version: &str, any: Any) -> Result<(), Invalid> {
        let known = self.resources.holds(kind, name, &any);
        if !known {
            self.book.accept(kind, name, &any, Instant::now())?;
        }
        self.resources.insert(kind, name, version, any);
        Ok(())
    }

    fn remove(&mut self, kind: Kind, name: &str) {
        self.book.remove(kind, name);
        self.resources.remove(kind, name);
    }

    /// Makes what was accepted serve.
    fn publish(&mut self) {
        let published = self.book.publish(Instant::now());
        self.shared.snapshot.store(published.snapshot);
        let bound = self.listeners.apply(&self.workers, &published.listeners);
        let bind_again = (!bound).then(|| Instant::now() + BIND_AGAIN);
        self.again = published.again.into_iter().chain(bind_again).min();
        let complete = published.again.is_none() && bound && self.resources.has(Kind::Listener);
        if complete && !self.ready.get() {
            self.ready.set(true);
            tracing::info!(listeners = ?self.listeners.names(), "ready");
        }
        self.resources.mark_changed();
    }

    async fn session(&mut self, server: &Server, stop: &CancellationToken) -> Result<(), SessionEnd> {
        session::run(self, server, stop).await
    }
}

/// Waits until then; for ever without one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
