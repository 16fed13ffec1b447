//! How the process takes memory.

use tracing::debug;

/// Requests are made on one thread and dropped on another: where that is so, this is quicker than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// From now on memory is taken by the page. The allocator asks for huge pages, and touches each at once: a proxy would hold
/// four times what it uses. Programs that the process starts inherit it.
pub(crate) fn take_small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        debug!(%error, "huge pages stay");
    }
}
