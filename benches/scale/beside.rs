//! Who is beside something large: one client that puts and gets small keys, a few hundred times a second, and notes how long
//! each takes.

use std::time::{Duration, Instant};

use tokio::{sync::oneshot, task::JoinHandle};

use super::client::Client;

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(2);

/// The client, until it is asked what it saw.
pub(crate) struct Beside {
    stop: oneshot::Sender<()>,
    running: JoinHandle<anyhow::Result<Seen>>,
}

/// How long requests took, each list in order.
#[derive(Default)]
pub(crate) struct Seen {
    puts: Vec<Duration>,
    gets: Vec<Duration>,
}

impl Beside {
    pub(crate) fn start(client: Client) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, running: tokio::spawn(run(client, stopped)) }
    }

    pub(crate) async fn stop(self) -> anyhow::Result<Seen> {
        // It may have ended by a fault, which is told next.
        let _ended = self.stop.send(()).is_err();
        self.running.await?
    }

    /// What it sees for `span` with nothing beside it.
    pub(crate) async fn alone(client: Client, span: Duration) -> anyhow::Result<Seen> {
        let beside = Self::start(client);
        tokio::time::sleep(span).await;
        beside.stop().await
    }
}

async fn run(client: Client, mut stopped: oneshot::Receiver<()>) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
        let begun = Instant::now();
        client.put("beside", 256).await?;
        seen.puts.push(begun.elapsed());
        let begun = Instant::now();
        client.get("beside").await?;
        seen.gets.push(begun.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    seen.puts.sort();
    seen.gets.sort();
    Ok(seen)
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "put {}, get {}", latencies(&self.puts), latencies(&self.gets))
    }
}

/// Median, 99th hundredth and greatest of an ordered list.
pub(crate) fn latencies(ordered: &[Duration]) -> String {
    let at = |numerator: usize| ordered.get((ordered.len() * numerator / 100).min(ordered.len().saturating_sub(1)));
    let ms = |span: Option<&Duration>| span.map_or(0.0, |span| span.as_secs_f64() * 1000.0);
    format!("p50 {:.1} p99 {:.1} max {:.1} ms", ms(at(50)), ms(at(99)), ms(ordered.last()))
}
