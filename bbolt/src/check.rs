//! Reading all of a file.

use std::collections::BTreeSet;

use crate::{Bucket, Content, Database, Error, Source, error::damaged};

/// How deep buckets may lie in buckets; etcd's lie in none.
const NESTING_MAX: usize = 32;

/// What is in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Buckets, those in buckets too.
    pub buckets: u64,
    /// Keys with a value.
    pub values: u64,
    /// Bytes of these keys and values.
    pub bytes: u64,
}

/// Reads every key and value, and counts them.
///
/// # Errors
/// What is wrong with the file, if anything is.
pub fn check(source: impl Source) -> Result<Summary, Error> {
    let database = Database::open(source)?;
    let mut summary = Summary::default();
    let mut pages = BTreeSet::new();
    let mut open = vec![database.root().entries()?];
    while let Some(entries) = open.last_mut() {
        match entries.next()?.map(|entry| (entry.key.len(), entry.content)) {
            None => drop(open.pop()),
            Some((key, Content::Value(value))) => {
                summary.values += 1;
                summary.bytes += (key + value.len()) as u64;
            }
            Some((_, Content::Bucket(bucket))) => {
                summary.buckets += 1;
                once(&bucket, &mut pages)?;
                let entries = bucket.entries()?;
                if open.len() == NESTING_MAX {
                    return Err(damaged(bucket.first_page().unwrap_or(0), "it lies in too many buckets"));
                }
                open.push(entries);
            }
        }
    }
    Ok(summary)
}

/// No two buckets are the same, or one could hold itself.
fn once<S: Source>(bucket: &Bucket<'_, S>, pages: &mut BTreeSet<u64>) -> Result<(), Error> {
    match bucket.first_page() {
        Some(page) if !pages.insert(page) => Err(damaged(page, "two buckets start there")),
        _ => Ok(()),
    }
}
