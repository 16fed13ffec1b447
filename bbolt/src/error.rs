//! Why a file cannot be read or written.

use std::io;

/// Why a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system's doing: the disk is full, say.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Neither of the two first pages is one of bbolt's, or both are damaged.
    #[error("not a bbolt database: neither of its meta pages is valid")]
    NotADatabase,
    /// What is on a page cannot be.
    #[error("page {page}: {what}")]
    Damaged {
        /// The page's number.
        page: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The writer was given what bbolt could not hold: our own bug, or a key that is too long for it.
    #[error("cannot be written: {0}")]
    Unwritable(&'static str),
}

pub(crate) fn damaged(page: u64, what: &'static str) -> Error {
    Error::Damaged { page, what }
}
