//! Sessions: a lease that lives as long as its holder does, and the queues that hang on it.
//!
//! Locks and elections are both a queue: each who waits has a key of its own under one prefix, living by its session's
//! lease; who was there first is in front. A newcomer waits only for the one right before it, so that one who leaves wakes
//! one.

use crate::{
    Client, ClientError, Compare, Event, Get, Header, LeaseKeeper, LeaseLost, Op, OpResponse, Put, SortBy, SortOrder,
    Txn, WatchOptions,
};
use bytes::Bytes;
use futures_util::StreamExt;
use std::time::Duration;
use types::{KeyRange, LeaseId, Revision};

/// A lease that is kept alive. When it is dropped, what hangs on it lapses with the lease; [`Session::close`] ends it at
/// once.
#[derive(Debug)]
pub struct Session {
    client: Client,
    keeper: LeaseKeeper,
}

impl Client {
    /// Opens a session, whose lease outlives its holder by `ttl` at most.
    ///
    /// # Errors
    /// As [`Client::lease_grant`] and [`Client::lease_keep_alive`].
    pub async fn session(&self, ttl: Duration) -> Result<Session, ClientError> {
        let granted = self.lease_grant(ttl, None).await?;
        let keeper = self.lease_keep_alive(granted.id).await?;
        Ok(Session { client: self.clone(), keeper })
    }
}

impl Session {
    /// Its lease.
    pub fn lease(&self) -> LeaseId {
        self.keeper.id()
    }

    /// Waits until the session is lost, and with it all that hangs on it. Cancel-safe.
    pub async fn lost(&mut self) -> LeaseLost {
        self.keeper.lost().await
    }

    /// Ends the session and all that hangs on it.
    ///
    /// # Errors
    /// As [`Client::lease_revoke`]; it then ends by itself, later.
    pub async fn close(self) -> Result<(), ClientError> {
        self.client.lease_revoke(self.keeper.id()).await.map(drop)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Takes a place in the queue behind `prefix`, which ends with `/`, and waits until it is in front. Who gives up
    /// waiting leaves by [`Session::close`].
    pub(crate) async fn queue(&self, prefix: &[u8], value: Bytes) -> Result<Place, ClientError> {
        let mut key = prefix.to_vec();
        key.extend_from_slice(format!("{:x}", self.lease().get()).as_bytes());
        let mut place = self.enter(prefix, key.into(), value).await?;
        if place.is_first {
            return Ok(place.place);
        }
        place.place.position = self.wait_behind(prefix, &place.place).await?;
        Ok(place.place)
    }

    /// Enters the queue, or finds itself in it already.
    async fn enter(&self, prefix: &[u8], key: Bytes, value: Bytes) -> Result<Entered, ClientError> {
        let put = Put { lease: Some(self.lease()), ..Put::new(key.clone(), value) };
        let front = Get {
            limit: Some(1),
            sort: Some((SortBy::CreateRevision, SortOrder::Ascending)),
            ..Get::prefix(Bytes::copy_from_slice(prefix))
        };
        let txn = Txn::new()
            .when(Compare::create_revision(key.clone()).equal(0))
            .then(Op::Put(put))
            .then(Op::Get(front.clone()))
            .otherwise(Op::get(key.clone()))
            .otherwise(Op::Get(front));
        let answer = self.client.txn(txn).await?;
        let mut found = answer.responses.into_iter().map(|one| match one {
            OpResponse::Get(found) => found.kvs.into_iter().next(),
            _ => None,
        });
        let (own, front) = (found.next().flatten(), found.next().flatten());
        let created = own.map_or(answer.revision, |own| own.create_revision);
        let is_first = front.is_none_or(|front| front.create_revision == created);
        let position = Position { header: answer.header, revision: answer.revision };
        Ok(Entered { is_first, place: Place { key, created, position } })
    }

    /// Waits until nobody is before `place`; then it must still be there itself.
    async fn wait_behind(&self, prefix: &[u8], place: &Place) -> Result<Position, ClientError> {
        loop {
            let before = Get {
                limit: Some(1),
                sort: Some((SortBy::CreateRevision, SortOrder::Descending)),
                max_create_revision: place.created.previous(),
                ..Get::prefix(Bytes::copy_from_slice(prefix))
            };
            let found = self.client.get(before).await?;
            match found.kvs.into_iter().next() {
                Some(one) => self.client.deleted(one.key, found.revision.next()).await?,
                None => return self.still_there(place).await,
            }
        }
    }

    async fn still_there(&self, place: &Place) -> Result<Position, ClientError> {
        let own = self.client.get(Get::key(place.key.clone())).await?;
        match own.kvs.first() {
            Some(kv) if kv.create_revision == place.created => {
                Ok(Position { header: own.header, revision: own.revision })
            }
            _ => Err(ClientError::Refused { code: tonic::Code::Unknown, text: "mutex: session is expired".to_owned() }),
        }
    }
}

impl Client {
    /// Waits until a key is deleted, at `from` or later.
    pub(crate) async fn deleted(&self, key: Bytes, from: Revision) -> Result<(), ClientError> {
        let options = WatchOptions { start: Some(from), ..WatchOptions::default() };
        let mut watch = self.watch(KeyRange::One(key), options).await?;
        while let Some(batch) = watch.next().await {
            if batch?.events.iter().any(|event| matches!(event, Event::Delete { .. })) {
                return Ok(());
            }
        }
        Err(ClientError::Protocol("a watch ended without saying why"))
    }
}

/// Where the store was when something was found true.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) header: Header,
    pub(crate) revision: Revision,
}

/// A place in a queue.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) key: Bytes,
    pub(crate) created: Revision,
    pub(crate) position: Position,
}

struct Entered {
    is_first: bool,
    place: Place,
}
