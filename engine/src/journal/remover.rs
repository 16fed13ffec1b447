//! Removing segments, behind the back of who writes: a file system takes long to free one, and longer to free many.
//!
//! Owns: the segments that were let go and are still there.
//!
//! - They go in the order in which they were let go, each for good before the next: what is found after a crash is always
//!   without a gap.
//! - Between two of them the disk is left to whoever writes.
//! - After a failure none is removed any more, and whoever lets go of another is told.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::segment::Segment;
use crate::{EngineError, error::io_error, folder::sync_folder};

/// Segments that may wait to be removed; whoever lets go of more waits, too.
const QUEUE_MAX: usize = 1024;
/// After each that is removed.
const PAUSE: Duration = Duration::from_millis(50);

/// A thread that removes segments; it ends, with all that was let go removed, when this is dropped.
#[derive(Debug)]
pub(super) struct Remover {
    /// Until it is dropped.
    queue: Option<SyncSender<Arc<Segment>>>,
    thread: Option<JoinHandle<Result<(), EngineError>>>,
    /// No pauses are made any more.
    is_ending: Arc<AtomicBool>,
}

impl Remover {
    /// For the segments in the folder `dir`.
    pub(super) fn start(dir: &Path) -> Result<Self, EngineError> {
        let (queue, segments) = sync_channel(QUEUE_MAX);
        let is_ending = Arc::new(AtomicBool::new(false));
        let (folder, ends) = (dir.to_owned(), Arc::clone(&is_ending));
        let thread = thread::Builder::new().name("journal-remove".to_owned());
        let thread = thread.spawn(move || remove(&folder, &segments, &ends)).map_err(io_error(dir))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), is_ending })
    }

    /// Who has pinned the segment can still read it.
    pub(super) fn remove(&mut self, segment: Arc<Segment>) -> Result<(), EngineError> {
        let is_queued = self.queue.as_ref().is_some_and(|queue| queue.send(segment).is_ok());
        if is_queued { Ok(()) } else { self.end() }
    }

    /// Waits until the queue is done; how it ended.
    fn end(&mut self) -> Result<(), EngineError> {
        self.queue = None;
        self.is_ending.store(true, Ordering::Relaxed);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
        let ended = self.thread.take().map(JoinHandle::join);
        let failed = || EngineError::Storage("an earlier segment of the journal could not be removed".to_owned());
        match ended {
            Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(error),
            Some(Err(_)) | None => Err(failed()),
        }
    }
}

impl Drop for Remover {
    fn drop(&mut self) {
        // What could not be removed is let go again at the next start.
        let _left_behind = self.end().is_err();
    }
}

fn remove(dir: &Path, segments: &Receiver<Arc<Segment>>, is_ending: &AtomicBool) -> Result<(), EngineError> {
    while let Ok(segment) = segments.recv() {
        fs::remove_file(segment.path()).map_err(io_error(segment.path()))?;
        sync_folder(dir)?;
        // The space is freed by the last one who holds it.
        drop(segment);
        if !is_ending.load(Ordering::Relaxed) {
            thread::park_timeout(PAUSE);
        }
    }
    Ok(())
}
