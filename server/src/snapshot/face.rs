//! `Maintenance.Snapshot`: the file, in pieces.
//!
//! - The file is written whole before its first byte is sent, in the data directory, without a name: it is gone with the
//!   stream, or with the process.
//! - A slow client holds a piece in memory and room on the disk, and no thread; one that went away holds nothing.

use std::{fs::File, os::unix::fs::FileExt, sync::Arc};

use bytes::Bytes;
use engine::Home;
use proto::etcdserverpb::SnapshotResponse;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::spawn_blocking,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{info, warn};

use super::{
    SnapshotError,
    digest::PIECE_BYTES,
    export::{About, unnamed_file, write},
};
use crate::{ETCD_API_VERSION, core::Core, status::no_snapshot};

/// Bytes of one message. Source: etcd `snapshotSendBufferSize`.
const MESSAGE_BYTES: usize = 32 << 10;
/// Messages that wait for a slow client.
const QUEUE_MAX: usize = 16;
/// Snapshots that are sent at once, each of which takes as much of the disk as the store; more wait.
const STREAMS_MAX: usize = 4;

type Sender = mpsc::Sender<Result<SnapshotResponse, Status>>;

/// How many snapshots are under way.
#[derive(Clone, Debug)]
pub(crate) struct Snapshots(Arc<Semaphore>);

impl Default for Snapshots {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(STREAMS_MAX)))
    }
}

/// Starts to send the state as it is now.
pub(crate) fn stream(
    core: &Arc<Core>,
    state: Home,
    snapshots: &Snapshots,
) -> ReceiverStream<Result<SnapshotResponse, Status>> {
    let (sender, stream) = mpsc::channel(QUEUE_MAX);
    let (core, slots) = (Arc::clone(core), Arc::clone(&snapshots.0));
    core.tasks.clone().spawn(async move {
        let stop = core.stop.child_token();
        let _stop_when_gone = stop.clone().drop_guard();
        let sending = async {
            // Nobody closes the semaphore.
            let Ok(slot) = slots.acquire_owned().await else { return };
            if let Err(error) = send(&core, state, slot, &sender, &stop).await {
                warn!(%error, "cannot send a snapshot");
                // The client may be gone.
                let _ = sender.send(Err(no_snapshot(&error))).await;
            }
        };
        tokio::select! {
            () = sending => {}
            () = sender.closed() => {}
            () = stop.cancelled() => {}
        }
    });
    ReceiverStream::new(stream)
}

/// Sends the file and its checksum.
async fn send(
    core: &Core,
    state: Home,
    slot: OwnedSemaphorePermit,
    sender: &Sender,
    stop: &CancellationToken,
) -> Result<(), SnapshotError> {
    let (about, folder, stop) = (About::of(core), core.config.data_dir.clone(), stop.clone());
    // The slot is taken for as long as the thread is, even if nobody waits for it any more.
    let writing = spawn_blocking(move || (slot, write(&state, &about, &stop, || unnamed_file(&folder))));
    let (_slot, written) = writing.await.map_err(|_| SnapshotError::Interrupted)?;
    let (file, total) = written?;
    info!(bytes = total, "sends a snapshot");
    let (file, mut sha, mut sent) = (Arc::new(file), Sha256::new(), 0);
    while sent < total {
        let (file, at, hashed) = (Arc::clone(&file), sent, sha);
        let reading = spawn_blocking(move || piece(&file, at, total, hashed));
        let (piece, hashed) = reading.await.map_err(|_| SnapshotError::Interrupted)??;
        sha = hashed;
        for start in (0..piece.len()).step_by(MESSAGE_BYTES) {
            let blob = piece.slice(start..piece.len().min(start + MESSAGE_BYTES));
            sent += blob.len() as u64;
            if sender.send(Ok(message(total - sent, blob))).await.is_err() {
                return Ok(());
            }
        }
    }
    // Whoever went away needs no checksum.
    let _ = sender.send(Ok(message(0, Bytes::copy_from_slice(&sha.finalize())))).await;
    Ok(())
}

/// Reads what is sent next, and takes it into the checksum.
fn piece(file: &File, at: u64, total: u64, mut sha: Sha256) -> Result<(Bytes, Sha256), SnapshotError> {
    let length = usize::try_from(total - at).map_or(PIECE_BYTES, |rest| rest.min(PIECE_BYTES));
    let mut piece = vec![0; length];
    file.read_exact_at(&mut piece, at).map_err(bbolt::Error::Io)?;
    sha.update(&piece);
    Ok((piece.into(), sha))
}

fn message(remaining_bytes: u64, blob: Bytes) -> SnapshotResponse {
    SnapshotResponse { header: None, remaining_bytes, blob, version: ETCD_API_VERSION.to_owned() }
}
