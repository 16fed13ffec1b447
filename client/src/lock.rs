//! Locks: one holder at a time, as long as its session lives. Compatible with etcd's own clients and `etcdctl lock`.
//!
//! A holder can be cut off without knowing it yet: what it does to the store under the lock should be a transaction that
//! compares [`Lock::key`]'s create revision with [`Lock::created`].

use crate::{Client, ClientError, Compare, Comparison, Delete, Header, Session};
use bytes::Bytes;
use types::Revision;

/// A lock that is held.
#[derive(Clone, Debug)]
pub struct Lock {
    client: Client,
    key: Bytes,
    created: Revision,
    header: Header,
    revision: Revision,
}

impl Session {
    /// Waits for a lock, and takes it. Whoever stops waiting should close the session, or the place in the queue is kept.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the session ended meanwhile.
    pub async fn lock(&self, name: impl AsRef<[u8]>) -> Result<Lock, ClientError> {
        let prefix = [name.as_ref(), b"/"].concat();
        let place = self.queue(&prefix, Bytes::new()).await?;
        Ok(Lock {
            client: self.client().clone(),
            key: place.key,
            created: place.created,
            header: place.position.header,
            revision: place.position.revision,
        })
    }
}

impl Lock {
    /// The holder's key. While it is there, the lock is held.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// When the key was created: later for each holder, so that it can fence off an earlier one.
    pub fn created(&self) -> Revision {
        self.created
    }

    /// Who said that the lock is held.
    pub fn header(&self) -> Header {
        self.header
    }

    /// The store's revision at which the lock was found held.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Holds, in a transaction, while the lock is held.
    pub fn is_held(&self) -> Comparison {
        Compare::create_revision(self.key.clone()).equal(self.created.get())
    }

    /// Lets go.
    ///
    /// # Errors
    /// As [`Client::delete`]; the lock then lapses with its session.
    pub async fn unlock(self) -> Result<(), ClientError> {
        self.client.delete(Delete::key(self.key)).await.map(drop)
    }
}
