//! etcd's database file, read and written.
//!
//! Owns: the layout of a bbolt file: pages, buckets, and the two pages that say where they start.
//! In:   a file that bbolt wrote, or anything else; sorted keys and values.
//! Out:  the keys and values in order; a file that bbolt reads.
//!
//! - No bytes make a reader panic, go round in circles or take more memory than one item of the file needs: each key is
//!   greater than the one before it, or the file is damaged.
//! - Damage is an error that names the page.
//! - A writer holds one page a level of each tree, whatever the size of the file.
//!
//! Source: bbolt's `internal/common/{page,meta,bucket}.go`, and its `Tx.Check`, which the files written here pass.

mod check;
mod error;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod page;
mod reader;
mod tree;
mod writer;

pub use check::{Summary, check};
pub use error::Error;
pub use reader::{Bucket, Content, Database, Entries, Entry, Source};
pub use writer::{BucketWriter, Writer};

#[cfg(test)]
mod tests;
