//! Access log lines, written by a thread of their own.

use std::{
    fs::OpenOptions,
    io::{self, BufWriter, Write},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::SystemTime,
};

use http::{Request, header};
use hyper::body::Incoming;
use serde::Serialize;

use super::Rare;
use crate::{http::Peer, settings::AccessLogTarget};

/// One request, as Istio's JSON access log names its fields.
#[derive(Debug, Default, Serialize)]
pub(crate) struct AccessLine {
    /// Unix time, milliseconds.
    pub(crate) start_time: u128,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) protocol: String,
    pub(crate) authority: String,
    pub(crate) response_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grpc_status: Option<u32>,
    pub(crate) response_flags: String,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    /// Milliseconds.
    pub(crate) duration: u128,
    /// Milliseconds.
    pub(crate) upstream_service_time: Option<u128>,
    pub(crate) x_forwarded_for: String,
    pub(crate) user_agent: String,
    pub(crate) request_id: String,
    pub(crate) route_name: String,
    pub(crate) upstream_cluster: String,
    pub(crate) upstream_host: Option<String>,
    pub(crate) attempts: u32,
    pub(crate) downstream_remote_address: String,
    pub(crate) downstream_peer_id: Option<String>,
}

impl AccessLine {
    /// A request as it arrives.
    pub(crate) fn of_request(request: &Request<Incoming>, peer: &Peer) -> Self {
        let header = |name| request.headers().get(name).map(|value: &http::HeaderValue| value.as_bytes());
        let text =
            |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
        let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        Self {
            start_time: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis(),
            method: request.method().to_string(),
            path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            protocol: format!("{:?}", request.version()),
            authority: text(authority.or_else(|| header(header::HOST))),
            user_agent: text(header(header::USER_AGENT)),
            downstream_remote_address: peer.address.to_string(),
            downstream_peer_id: peer.identity.as_deref().map(str::to_owned),
            ..Self::default()
        }
    }
}

/// The queue to the writer. Dropping it lets the writer finish.
pub(crate) struct AccessLog {
    lines: SyncSender<Vec<u8>>,
    dropped: Rare,
}

impl AccessLog {
    /// Opens the target and starts its writer, which ends when the log is dropped.
    pub(crate) fn open(target: &AccessLogTarget, queue: usize) -> io::Result<Self> {
        let output: Box<dyn Write + Send> = match target {
            AccessLogTarget::Stdout => Box::new(io::stdout()),
            AccessLogTarget::File(path) => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
        };
        let (lines, received) = sync_channel(queue);
        thread::Builder::new().name("access-log".to_owned()).spawn(move || write_lines(&received, output))?;
        Ok(Self { lines, dropped: Rare::default() })
    }

    pub(crate) fn write(&self, line: &AccessLine) {
        let Ok(mut text) = serde_json::to_vec(line) else { return self.dropped.add() };
        text.push(b'\n');
        if self.lines.try_send(text).is_err() {
            self.dropped.add();
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.get()
    }
}

/// Writes what comes, and flushes when nothing more is waiting.
fn write_lines(lines: &Receiver<Vec<u8>>, output: Box<dyn Write + Send>) {
    let mut output = BufWriter::new(output);
    while let Ok(line) = lines.recv() {
        let mut result = output.write_all(&line);
        while let (Ok(()), Ok(line)) = (&result, lines.try_recv()) {
            result = output.write_all(&line);
        }
        if let Err(error) = result.and_then(|()| output.flush()) {
            tracing::warn!(%error, "access log line lost");
        }
    }
}
