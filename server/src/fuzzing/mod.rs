//! What the fuzz targets in `fuzz/` call, and the tests too.
//!
//! - Whatever the bytes are, nothing panics unless what reads them is wrong.

mod json;
mod requests;
mod snapshot;

pub use json::json;
pub use requests::requests;
pub use snapshot::snapshot;
