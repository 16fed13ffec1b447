//! The member's state machine: the store and the CA's ledger, moved together.
//!
//! - What entries do, and raft's record that they were applied, are one atomic write: no crash splits them.
//! - Readers and watchers are told only after that write.
//! - What this member's release does not know stops it: nothing is misread, and nothing passed over.
//! - Another member's state takes this one's place as a whole, and so do all that follow from it: leases, tokens, caches.

mod command;
mod image;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use ca::Ledger;
use engine::{Batch, Durability, Engine, EngineError, Home, Read, Space};
use parking_lot::Mutex;
use raft::{Collector, Committed, Image, MachineError};
use store::{AuthCommand, Entry, Lessor, Refusal, Store};
use tracing::info;
use types::{Bug, Release};

use self::command::Command;
pub(crate) use self::command::{ClusterCommand, Proposal};

use crate::{
    auth::{News, SimpleTokens},
    clock::Clock,
    metrics::Metrics,
};

/// Raft's own record in the state's engine, and the cluster's version.
pub(crate) const RAFT: Space = Space::new("raft");
const RECORD: &[u8] = b"applied";
/// The version's number, 4 bytes.
const VERSION: &[u8] = b"version";

/// What one command came to.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Of [`Proposal::store`].
    Store(Result<store::Answer, Refusal>),
    /// Of a login that was not refused.
    Login {
        /// Its place in the log.
        index: u64,
    },
    /// Of [`Proposal::ledger`].
    Ledger(ca::Outcome),
    /// Of [`Proposal::cluster`].
    Cluster {
        /// Its place in the log.
        index: u64,
        /// The cluster's version by then.
        version: Release,
    },
    /// Of [`Proposal::store_in_term`], which came into the log when its term was over. Nothing was done.
    TermIsOver,
}

/// The cluster's version that a state was left with; `None` for a state from before there was one.
pub(crate) fn version_of(state: &impl Read) -> Result<Option<Release>, EngineError> {
    let Some(number) = state.get(RAFT, VERSION)? else { return Ok(None) };
    let number =
        number[..].try_into().map_err(|_| EngineError::Damaged("the cluster's version is 4 bytes".to_owned()))?;
    Ok(Some(Release::from_number(u32::from_be_bytes(number))))
}

/// Whether nothing was ever applied to a state.
pub(crate) fn is_new(state: &impl Read) -> Result<bool, EngineError> {
    Ok(state.get(RAFT, RECORD)?.is_none())
}

/// Applies what was agreed to store and ledger.
pub(crate) struct StateMachine {
    home: Home,
    /// What lives in `home`.
    state: Engine,
    store: Store,
    ledger: Ledger,
    lessor: Arc<Mutex<Lessor>>,
    tokens: Arc<SimpleTokens>,
    /// What the entries at hand mean for tokens.
    news: Vec<News>,
    /// There is a trust domain.
    founded: Arc<AtomicBool>,
    /// What this member is, for the others.
    release: Release,
    /// The cluster's version.
    version: Option<Release>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl StateMachine {
    pub(crate) fn new(
        home: Home,
        (store, ledger): (Store, Ledger),
        (lessor, tokens): (Arc<Mutex<Lessor>>, Arc<SimpleTokens>),
        release: Release,
        (clock, metrics): (Clock, Arc<Metrics>),
    ) -> Result<Self, EngineError> {
        let (state, founded) = (home.engine(), Arc::new(AtomicBool::new(ledger.is_founded())));
        let (news, version) = (Vec::new(), version_of(&state)?);
        Ok(Self { home, state, store, ledger, lessor, tokens, news, founded, release, version, clock, metrics })
    }

    /// Whether there is a trust domain, as the log goes on.
    pub(crate) fn founded(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.founded)
    }

    fn run(&mut self, batch: &mut Batch, (index, term): (u64, u64), command: &Bytes) -> Result<Answer, MachineError> {
        match Command::decode(command, self.release).map_err(MachineError::new)? {
            Command::Store(entry) => self.run_store(batch, index, entry),
            Command::StoreInTerm(their_term, entry) if their_term == term => self.run_store(batch, index, entry),
            Command::StoreInTerm(..) => Ok(Answer::TermIsOver),
            Command::Ledger(command) => {
                self.ledger.apply(batch, index, command).map(Answer::Ledger).map_err(MachineError::new)
            }
            Command::Cluster(command) => Ok(self.run_cluster(batch, index, command)),
        }
    }

    fn run_cluster(&mut self, batch: &mut Batch, index: u64, command: ClusterCommand) -> Answer {
        match command {
            ClusterCommand::Version(version) if Some(version) > self.version => {
                batch.put(RAFT, VERSION, Bytes::copy_from_slice(&version.number().to_be_bytes()));
                self.version = Some(version);
                info!(%version, "the cluster is at this release");
            }
            ClusterCommand::Version(_) | ClusterCommand::Probe => {}
        }
        Answer::Cluster { index, version: self.version.unwrap_or(Release::FIRST) }
    }

    fn run_store(&mut self, batch: &mut Batch, index: u64, entry: Entry) -> Result<Answer, MachineError> {
        let is_login = matches!(entry.command, store::Command::Auth(AuthCommand::Authenticate { .. }));
        let news = News::of(&entry.command, index);
        let outcome = self.store.apply(batch, entry).map_err(MachineError::new)?;
        self.news.extend(news.filter(|_| outcome.is_ok()));
        Ok(if is_login && outcome.is_ok() { Answer::Login { index } } else { Answer::Store(outcome) })
    }

    /// The leader times what was granted, and forgets what was revoked.
    fn tell(&self, lessor: &mut Lessor, answers: &[Vec<Answer>]) {
        if !lessor.is_leading() {
            return;
        }
        let now = self.clock.now();
        for answer in answers.iter().flatten() {
            match answer {
                Answer::Store(Ok(store::Answer::LeaseGrant(grant))) => lessor.granted(grant.id, grant.ttl, now),
                Answer::Store(Ok(store::Answer::LeaseRevoke(revoke))) => {
                    revoke.revoked.iter().for_each(|&id| lessor.revoked(id));
                }
                Answer::Store(Ok(store::Answer::LeaseCheckpoint(checkpoint))) => {
                    checkpoint.remaining.iter().for_each(|&(id, remaining)| lessor.checkpointed(id, remaining));
                }
                Answer::Store(_)
                | Answer::Login { .. }
                | Answer::Ledger(_)
                | Answer::Cluster { .. }
                | Answer::TermIsOver => {}
            }
        }
    }
}

impl raft::Machine for StateMachine {
    type Answer = Answer;

    fn record(&self) -> Result<Option<Bytes>, MachineError> {
        self.state.get(RAFT, RECORD).map_err(MachineError::new)
    }

    fn version(&self) -> Option<Release> {
        self.version
    }

    fn apply(&mut self, entries: Vec<Committed>, record: Bytes) -> Result<Vec<Vec<Answer>>, MachineError> {
        let mut batch = Batch::new();
        let mut answers = Vec::with_capacity(entries.len());
        for entry in entries {
            if Bug::AppliedTwice.is_planted() && entry.index % 7 == 0 {
                for command in &entry.commands {
                    self.run(&mut batch, (entry.index, entry.term), command)?;
                }
            }
            let run = |command| self.run(&mut batch, (entry.index, entry.term), command);
            answers.push(entry.commands.iter().map(run).collect::<Result<Vec<_>, _>>()?);
        }
        let begun = Instant::now();
        if Bug::AppliedNotedApart.is_planted() {
            self.state.write(std::mem::take(&mut batch), Durability::Buffered).map_err(MachineError::new)?;
        }
        batch.put(RAFT, RECORD, record);
        self.state.write(batch, Durability::Buffered).map_err(MachineError::new)?;
        self.metrics.commits.record(begun.elapsed());
        // Before the revision is published that ended a token: who is recognized as of that revision has none that ended.
        self.news.drain(..).for_each(|news| self.tokens.tell(news));
        // Held until readers see the batch: who is told of a lease's end finds it gone, and who takes up the timing of
        // leases has either read of a grant or is told of it.
        let lessor = Arc::clone(&self.lessor);
        let mut lessor = lessor.lock();
        self.tell(&mut lessor, &answers);
        self.store.publish();
        drop(lessor);
        self.ledger.publish();
        self.founded.store(self.ledger.is_founded(), Ordering::Relaxed);
        Ok(answers)
    }

    fn sync(&mut self) -> Result<(), MachineError> {
        if Bug::StateNotSynced.is_planted() {
            return Ok(());
        }
        self.state.sync().map_err(MachineError::new)
    }

    fn image(&mut self) -> Result<Arc<dyn Image>, MachineError> {
        let begun = Instant::now();
        let image = image::make(&self.home)?;
        info!(image = image.id(), elapsed_ms = begun.elapsed().as_millis(), "made an image of the state");
        Ok(image)
    }

    fn collect(&mut self, id: &str) -> Result<Box<dyn Collector>, MachineError> {
        image::collect(&self.home, id)
    }

    fn install(&mut self, collected: Box<dyn Collector>) -> Result<(), MachineError> {
        let begun = Instant::now();
        let incoming = image::collected(collected)?;
        self.state = self.home.adopt(&incoming).map_err(MachineError::new)?;
        self.version = version_of(&self.state).map_err(MachineError::new)?;
        // The log knows who was given which token, and the state does not: its end may be in what was passed over.
        self.news.clear();
        self.tokens.tell(News::AllEnded);
        // Who takes in another's state does not lead.
        self.lessor.lock().demote();
        self.store.reopen(self.state.clone()).map_err(MachineError::new)?;
        self.ledger.reopen(self.state.clone()).map_err(MachineError::new)?;
        self.founded.store(self.ledger.is_founded(), Ordering::Relaxed);
        self.metrics.installed.record(begun.elapsed());
        info!(elapsed_ms = begun.elapsed().as_millis(), "took over another member's state");
        Ok(())
    }
}

#[cfg(test)]
mod tests;
