//! Elections: one leader at a time, as long as its session lives. Compatible with etcd's own clients and `etcdctl elect`.

use crate::{
    Client, ClientError, Compare, Event, Get, GetResponse, Op, Put, Session, SortBy, SortOrder, Txn, WatchOptions,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use types::{KeyRange, LeaseId, Revision};

/// A leadership that was won.
#[derive(Clone, Debug)]
pub struct Leadership {
    client: Client,
    key: Bytes,
    created: Revision,
    lease: LeaseId,
}

impl Session {
    /// Waits until it leads, and tells all observers `proposal`. Whoever stops waiting should close the session.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the session ended meanwhile.
    pub async fn campaign(
        &self,
        name: impl AsRef<[u8]>,
        proposal: impl Into<Bytes>,
    ) -> Result<Leadership, ClientError> {
        let proposal = proposal.into();
        let place = self.queue(&prefix(name.as_ref()), proposal.clone()).await?;
        let won =
            Leadership { client: self.client().clone(), key: place.key, created: place.created, lease: self.lease() };
        won.proclaim_if_other(proposal).await?;
        Ok(won)
    }
}

fn prefix(name: &[u8]) -> Vec<u8> {
    [name, b"/"].concat()
}

impl Leadership {
    /// The leader's key. While it is there, it leads.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// When the key was created: later for each leader, so that it can fence off an earlier one.
    pub fn created(&self) -> Revision {
        self.created
    }

    /// Tells all observers something else.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when it leads no longer.
    pub async fn proclaim(&self, proposal: impl Into<Bytes>) -> Result<(), ClientError> {
        let put = Put { lease: Some(self.lease), ..Put::new(self.key.clone(), proposal) };
        self.while_leading(Op::Put(put)).await
    }

    /// One that campaigned before with the same session keeps its key, and may propose something else now.
    async fn proclaim_if_other(&self, proposal: Bytes) -> Result<(), ClientError> {
        let found = self.client.get(Get::key(self.key.clone())).await?;
        if found.kvs.first().is_some_and(|kv| kv.value != proposal) { self.proclaim(proposal).await } else { Ok(()) }
    }

    /// Leads no longer.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when it did not lead any more.
    pub async fn resign(self) -> Result<(), ClientError> {
        self.while_leading(Op::delete(self.key.clone())).await
    }

    async fn while_leading(&self, op: Op) -> Result<(), ClientError> {
        let leads = Compare::create_revision(self.key.clone()).equal(self.created.get());
        let done = self.client.txn(Txn::new().when(leads).then(op)).await?;
        if done.succeeded {
            return Ok(());
        }
        Err(ClientError::Refused { code: tonic::Code::Unknown, text: "election: not leader".to_owned() })
    }
}

/// What an observer waits for.
enum Observed {
    /// Somebody to lead.
    Nobody,
    /// Another proposal of this leader's, from this revision on, or its end.
    Leader { key: Bytes, next: Revision },
}

impl Client {
    /// Each leader of an election with what it proposes, from the present one on. Proposals in quick succession may be
    /// told as one. Ends after an error.
    pub fn observe(&self, name: &[u8]) -> impl Stream<Item = Result<GetResponse, ClientError>> + Send + use<> {
        let observer = Observer { client: self.clone(), prefix: prefix(name).into() };
        stream::unfold(Some((observer, Observed::Nobody)), |state| async {
            let (observer, before) = state?;
            match observer.next(before).await {
                Ok((found, now)) => Some((Ok(found), Some((observer, now)))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

struct Observer {
    client: Client,
    prefix: Bytes,
}

impl Observer {
    async fn next(&self, observed: Observed) -> Result<(GetResponse, Observed), ClientError> {
        let mut observed = observed;
        loop {
            let found = match observed {
                Observed::Nobody => self.leader().await?,
                Observed::Leader { key, next } => match self.change(key, next).await? {
                    Some(found) => found,
                    None => self.leader().await?,
                },
            };
            if let Some(kv) = found.kvs.first() {
                let leader = Observed::Leader { key: kv.key.clone(), next: kv.mod_revision.next() };
                return Ok((found, leader));
            }
            self.newcomer(found.revision.next()).await?;
            observed = Observed::Nobody;
        }
    }

    /// Who leads now.
    async fn leader(&self) -> Result<GetResponse, ClientError> {
        let sort = Some((SortBy::CreateRevision, SortOrder::Ascending));
        self.client.get(Get { limit: Some(1), sort, ..Get::prefix(self.prefix.clone()) }).await
    }

    /// Waits until somebody enters the election.
    async fn newcomer(&self, from: Revision) -> Result<(), ClientError> {
        let options = WatchOptions { start: Some(from), ..WatchOptions::default() };
        let mut watch = self.client.watch(KeyRange::prefix(self.prefix.clone()), options).await?;
        while let Some(batch) = watch.next().await {
            if batch?.events.iter().any(Event::is_create) {
                return Ok(());
            }
        }
        Err(ClientError::Protocol("a watch ended without saying why"))
    }

    /// Waits for the leader's next proposal; `None` when it ended.
    async fn change(&self, key: Bytes, from: Revision) -> Result<Option<GetResponse>, ClientError> {
        let options = WatchOptions { start: Some(from), ..WatchOptions::default() };
        let mut watch = self.client.watch(KeyRange::One(key), options).await?;
        while let Some(batch) = watch.next().await {
            let batch = batch?;
            match batch.events.into_iter().last() {
                Some(Event::Put { kv, .. }) => {
                    let (header, revision) = (batch.header, batch.revision);
                    return Ok(Some(GetResponse { header, revision, kvs: vec![kv], more: false, count: 1 }));
                }
                Some(Event::Delete { .. }) => return Ok(None),
                None => {}
            }
        }
        Err(ClientError::Protocol("a watch ended without saying why"))
    }
}
