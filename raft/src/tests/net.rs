//! The network between the members of a test, in memory.
//!
//! - Each connection is two pumps, one a direction, that hold back what they carry while their direction is cut.
//! - No connection can be made while either direction is cut.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};

use super::journal::Journal;
use crate::{Config, DialError, Dialer, Lane, MemberId, Node, Raft};

const BUFFER_BYTES: usize = 64 << 10;

/// What the network does to what it carries.
#[derive(Clone, Debug, Default)]
struct Rules {
    /// From whom to whom nothing gets through.
    cut: BTreeSet<(u64, u64)>,
    delay: Duration,
    /// Bulk connections break after so many bytes.
    bulk_bytes_max: Option<u64>,
    /// How often each member ended: its connections ended with it.
    ends: BTreeMap<u64, u64>,
}

impl Rules {
    fn ends(&self, (from, to): (u64, u64)) -> u64 {
        [from, to].iter().filter_map(|member| self.ends.get(member)).sum()
    }
}

#[derive(Clone)]
pub(super) struct Net(Arc<Inner>);

struct Inner {
    listeners: Mutex<BTreeMap<u64, mpsc::Sender<DuplexStream>>>,
    rules: watch::Sender<Rules>,
    refused: AtomicUsize,
}

impl Net {
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner {
            listeners: Mutex::default(),
            rules: watch::Sender::new(Rules::default()),
            refused: AtomicUsize::new(0),
        }))
    }

    pub(super) fn cut(&self, from: u64, to: u64) {
        self.0.rules.send_modify(|rules| rules.cut.extend([(from, to)]));
    }

    /// Cuts a member off from all others, in both directions.
    pub(super) fn isolate(&self, member: u64, others: impl IntoIterator<Item = u64>) {
        for other in others.into_iter().filter(|other| *other != member) {
            self.cut(member, other);
            self.cut(other, member);
        }
    }

    pub(super) fn heal(&self) {
        self.0.rules.send_modify(|rules| rules.cut.clear());
    }

    pub(super) fn delay(&self, delay: Duration) {
        self.0.rules.send_modify(|rules| rules.delay = delay);
    }

    pub(super) fn break_bulk_after(&self, bytes: Option<u64>) {
        self.0.rules.send_modify(|rules| rules.bulk_bytes_max = bytes);
    }

    pub(super) fn dialer(&self, config: &Config) -> Arc<dyn Dialer> {
        Arc::new(Dialing { net: self.clone(), config: config.clone() })
    }

    /// Lets others reach the member, until the task is aborted.
    pub(super) fn serve(&self, member: u64, raft: &Raft<Journal>) -> JoinHandle<()> {
        let (listener, accepted) = mpsc::channel(16);
        self.0.listeners.lock().insert(member, listener);
        let incoming = futures_util::stream::unfold(accepted, |mut accepted| async move {
            accepted.recv().await.map(|stream| (Ok::<_, io::Error>(stream), accepted))
        });
        let serving = Server::builder().add_service(raft.service()).serve_with_incoming(incoming);
        tokio::spawn(async move { drop(serving.await) })
    }

    /// As if the member's process ended.
    pub(super) fn close(&self, member: u64) {
        self.0.listeners.lock().remove(&member);
        self.0.rules.send_modify(|rules| *rules.ends.entry(member).or_default() += 1);
    }

    /// How many connections could not be made.
    pub(super) fn refused(&self) -> usize {
        self.0.refused.load(Ordering::Relaxed)
    }

    async fn connect(self, from: u64, to: u64, lane: Lane) -> io::Result<TokioIo<DuplexStream>> {
        let refused = || {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            io::Error::from(io::ErrorKind::ConnectionRefused)
        };
        let cut = |rules: &Rules| rules.cut.contains(&(from, to)) || rules.cut.contains(&(to, from));
        let listener = self.0.listeners.lock().get(&to).cloned().ok_or_else(refused)?;
        if cut(&self.0.rules.borrow()) {
            return Err(refused());
        }
        let (near, near_end) = duplex(BUFFER_BYTES);
        let (far, far_end) = duplex(BUFFER_BYTES);
        listener.send(far).await.map_err(|_| refused())?;
        let ((near_read, near_write), (far_read, far_write)) = (split(near_end), split(far_end));
        let broken = CancellationToken::new();
        tokio::spawn(self.clone().pump(near_read, far_write, (from, to), lane == Lane::Bulk, broken.clone()));
        tokio::spawn(self.pump(far_read, near_write, (to, from), false, broken));
        Ok(TokioIo::new(near))
    }

    async fn pump(
        self,
        mut from: ReadHalf<DuplexStream>,
        mut to: WriteHalf<DuplexStream>,
        direction: (u64, u64),
        is_bulk: bool,
        broken: CancellationToken,
    ) {
        let _breaks_both = broken.clone().drop_guard();
        let (mut rules, mut buffer, mut carried) = (self.0.rules.subscribe(), vec![0; BUFFER_BYTES], 0_u64);
        let (mut ending, ends) = (rules.clone(), rules.borrow().ends(direction));
        let carrying = async {
            while let Ok(bytes @ 1..) = from.read(&mut buffer).await {
                let delay = match rules.wait_for(|rules| !rules.cut.contains(&direction)).await {
                    Ok(rules) => rules.delay,
                    Err(_) => return,
                };
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                carried += bytes as u64;
                let breaks = is_bulk && rules.borrow().bulk_bytes_max.is_some_and(|bytes_max| carried > bytes_max);
                if breaks || to.write_all(&buffer[..bytes]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = carrying => {}
            () = broken.cancelled() => {}
            _ = ending.wait_for(|rules| rules.ends(direction) != ends) => {}
        }
    }
}

struct Dialing {
    net: Net,
    config: Config,
}

impl Dialer for Dialing {
    fn dial(&self, member: MemberId, _node: &Node, lane: Lane) -> Result<Channel, DialError> {
        let (net, from) = (self.net.clone(), self.config.member.0);
        let connector = tower::service_fn(move |_| net.clone().connect(from, member.0, lane));
        let endpoint = crate::tune(Endpoint::from_static("http://member"), &self.config);
        Ok(endpoint.connect_with_connector_lazy(connector))
    }
}
