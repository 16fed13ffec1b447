//! The same random requests to meshstore and to etcd, and the same answers.
//!
//! - A sequence follows from its seed; a failure prints the seed, the operation, both answers, and the shortest sequence
//!   that was found to fail alike, with the command that runs it again.
//! - Answers are compared field by field, except for ids, terms and the seconds that pass; errors by code and text.
//! - What is meant to differ is in `docs/etcd-differences.md`, is known here by name, and is counted.
//!
//! `MESHSTORE_DIFFERENTIAL_OPERATIONS=1000000` runs more, `MESHSTORE_DIFFERENTIAL_SEED=7` begins with another seed,
//! `MESHSTORE_ETCD=/usr/bin/etcd` compares with another etcd. One in three sequences has users and roles, if etcd is a 3.5 that
//! asks for rights wherever it should: earlier ones let nobody do some things. `MESHSTORE_DIFFERENTIAL_USERS=1` has them with any
//! etcd.

mod difference;
mod operation;
mod order;
mod peer;
mod shrink;
mod users;
mod watches;

use std::{collections::BTreeMap, env, path::PathBuf, process::Command};

use proto::etcdserverpb as pb;
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

use self::{
    difference::Difference,
    operation::{Operation, Standing},
    peer::{Answer, Peer},
    users::Caller,
};
use crate::harness::tools;

/// Operations in the quick form.
const OPERATIONS: usize = 60_000;
/// Operations on one pair of servers.
const SEQUENCE: usize = 6_000;
/// Sequences at once: their servers take turns at waiting.
const AT_ONCE: usize = 2;
/// One in so many sequences has users and roles.
const USERS_EVERY: u64 = 3;

/// The oldest 3.5 whose rights were compared with ours.
const ASKS_FOR_RIGHTS: u32 = 30;

/// Lines shown before those that differ.
const CONTEXT: usize = 6;

/// How often each deliberate difference was met.
type Excused = BTreeMap<Difference, usize>;

/// The first operation that the servers did not answer alike.
struct Mismatch {
    /// Up to that one.
    asked: Vec<String>,
    what: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn random_requests_are_answered_as_etcd_answers_them() {
    let (operations, first_seed) = (knob("OPERATIONS").unwrap_or(OPERATIONS), knob("SEED").unwrap_or(1));
    let seeds: Vec<_> = (first_seed..).take(operations.div_ceil(SEQUENCE)).collect();
    let length = operations.div_ceil(seeds.len());
    let mut excused = Excused::new();
    for seeds in seeds.chunks(AT_ONCE) {
        let running: Vec<_> = seeds.iter().map(|&seed| tokio::spawn(sequence(seed, length))).collect();
        for sequence in running {
            let outcome = sequence.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            for (difference, count) in outcome {
                *excused.entry(difference).or_default() += count;
            }
        }
    }
    for (difference, count) in excused {
        eprintln!("excused {count} times: {}", difference.heading());
    }
}

#[test]
fn every_deliberate_difference_is_documented() {
    let document = include_str!("../../docs/etcd-differences.md");
    let headings: Vec<_> = document.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    for difference in Difference::ALL {
        assert!(headings.contains(&difference.heading()), "{}", difference.heading());
    }
}

/// A number from the environment.
fn knob<T: std::str::FromStr>(name: &str) -> Option<T> {
    let value = env::var(format!("MESHSTORE_DIFFERENTIAL_{name}")).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("MESHSTORE_DIFFERENTIAL_{name}={value} is no number")))
}

/// Where `scripts/setup.sh test` puts it, or the one that `MESHSTORE_ETCD` names.
fn etcd() -> PathBuf {
    env::var("MESHSTORE_ETCD").map_or_else(|_| tools().join("etcd"), PathBuf::from)
}

/// Whether etcd is one whose rights were compared with ours.
fn asks_for_rights() -> bool {
    let version = Command::new(etcd()).arg("--version").output().unwrap().stdout;
    let version = String::from_utf8_lossy(&version).into_owned();
    let patch = version.lines().find_map(|line| line.strip_prefix("etcd Version: 3.5."));
    patch.and_then(|patch| patch.trim().parse().ok()).is_some_and(|patch: u32| patch >= ASKS_FOR_RIGHTS)
}

async fn sequence(seed: u64, length: usize) -> Excused {
    let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
    let numbers: Vec<u64> = (0..length).map(|_| dice.random()).collect();
    let mut excused = Excused::new();
    let users = seed.is_multiple_of(USERS_EVERY) && (knob::<u8>("USERS").is_some() || asks_for_rights());
    let Err(mismatch) = run(&numbers, users, &mut excused).await else { return excused };
    let index = mismatch.asked.len() - 1;
    eprintln!("seed {seed}, operation {index}: {}\n{}", mismatch.asked[index], mismatch.what);
    let Mismatch { asked, what } = shrink::shortest(numbers[..=index].to_vec(), users, mismatch).await;
    panic!(
        "seed {seed}, operation {index} of {length} is answered differently; the shortest sequence found that is:\n\
         {}\n{what}\nagain: MESHSTORE_DIFFERENTIAL_SEED={seed} MESHSTORE_DIFFERENTIAL_OPERATIONS={length} \
         cargo test --test end_to_end random_requests",
        asked.join("\n")
    );
}

/// Asks a fresh pair of servers all of it.
async fn run(numbers: &[u64], users: bool, excused: &mut Excused) -> Result<(), Mismatch> {
    let mut pair = Pair::start().await;
    let mut asked = Vec::new();
    if users {
        pair.users = true;
        for about in users::founding() {
            let founding = pair.step(&Operation::About(about), Caller::Root, excused).await;
            founding.unwrap_or_else(|what| panic!("the first users: {what}"));
        }
    }
    for &number in numbers {
        let (operation, caller) = pair.operation(number);
        asked.push(format!("{caller:?}: {operation:?}"));
        if let Err(what) = pair.step(&operation, caller, excused).await {
            return Err(Mismatch { asked, what });
        }
    }
    Ok(())
}

/// The two servers, which have been asked the same.
struct Pair {
    etcd: Peer,
    ours: Peer,
    revision: i64,
    compacted: i64,
    alarm: Option<i32>,
    users: bool,
}

impl Pair {
    async fn start() -> Self {
        let program = etcd();
        let (etcd, ours) = tokio::join!(Peer::etcd(program.to_str().unwrap()), Peer::meshstore());
        Self { etcd, ours, revision: 1, compacted: -1, alarm: None, users: false }
    }

    fn standing(&self) -> Standing {
        Standing {
            revision: self.revision,
            compacted: self.compacted,
            watches: self.etcd.watches.alive(),
            alarm: self.alarm,
            users: self.users,
        }
    }

    fn operation(&self, number: u64) -> (Operation, Caller) {
        Operation::new(number, &self.standing())
    }

    /// Asks both, and compares.
    async fn step(&mut self, operation: &Operation, caller: Caller, excused: &mut Excused) -> Result<(), String> {
        if operation.needs_quiet_watches() {
            if self.etcd.watches.waits_beyond(self.revision) {
                return Ok(());
            }
            self.settle().await?;
        }
        let standing = self.standing();
        // A transaction may be one that etcd is not to be asked.
        let (theirs, ours) = if operation.may_harm_etcd() {
            let ours = self.ours.ask(operation, caller, &standing).await?;
            if let Some(difference) = Difference::before_etcd(operation, &ours) {
                *excused.entry(difference).or_default() += 1;
                return Ok(());
            }
            (self.etcd.ask(operation, caller, &standing).await, Ok(ours))
        } else {
            tokio::join!(self.etcd.ask(operation, caller, &standing), self.ours.ask(operation, caller, &standing))
        };
        let mut theirs = theirs.map_err(|violation| format!("etcd: {violation}"))?;
        let ours = ours.map_err(|violation| format!("meshstore: {violation}"))?;
        for difference in order::align(operation, &mut theirs, &ours) {
            *excused.entry(difference).or_default() += 1;
        }
        if !theirs.agrees(&ours) {
            let difference = Difference::between(operation, &theirs, &ours);
            let difference = difference.ok_or_else(|| different(&theirs, &ours))?;
            *excused.entry(difference).or_default() += 1;
        }
        self.follow(operation, &theirs);
        match operation {
            Operation::WatchCreate(_) => {
                let ended = self.ours.watches.told.last().is_some_and(|told| told.ended.is_some());
                *excused.entry(Difference::EndedWatch).or_default() += usize::from(ended);
                self.same_watches(false)?;
            }
            Operation::WatchCancel(_) => self.same_watches(false)?,
            _ => {}
        }
        Ok(())
    }

    fn follow(&mut self, operation: &Operation, answer: &Answer) {
        self.revision = answer.revision().unwrap_or(self.revision).max(self.revision);
        match (operation, answer) {
            (Operation::Compact(compact), Answer::Compact(_)) => self.compacted = compact.revision,
            (Operation::Alarm(request), Answer::Alarm(_)) => {
                use pb::{AlarmType, alarm_request::AlarmAction};
                let kind = Some(request.alarm).filter(|kind| *kind != i32::from(AlarmType::None));
                match AlarmAction::try_from(request.action) {
                    Ok(AlarmAction::Activate) => self.alarm = kind.or(self.alarm),
                    Ok(AlarmAction::Deactivate) => self.alarm = self.alarm.filter(|raised| Some(*raised) != kind),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// Waits until every watch was told everything, and compares what.
    async fn settle(&mut self) -> Result<(), String> {
        let revision = self.revision;
        let (theirs, ours) = tokio::join!(self.etcd.watches.progress(revision), self.ours.watches.progress(revision));
        theirs.map_err(|violation| format!("etcd: {violation}"))?;
        ours.map_err(|violation| format!("meshstore: {violation}"))?;
        self.same_watches(true)
    }

    /// Compares what watches were told: how they began and ended, and the events if they are `settled`.
    fn same_watches(&mut self, settled: bool) -> Result<(), String> {
        let (theirs, ours) = (&mut self.etcd.watches.told, &mut self.ours.watches.told);
        for (theirs, ours) in theirs.iter_mut().zip(ours) {
            let begun = theirs.created == ours.created && theirs.ended == ours.ended;
            if !begun || (settled && theirs.events != ours.events) {
                return Err(different(theirs, ours));
            }
            if settled {
                theirs.events.clear();
                ours.events.clear();
            }
        }
        Ok(())
    }
}

/// Where two answers, a field a line, part and meet again.
fn different(theirs: &impl std::fmt::Debug, ours: &impl std::fmt::Debug) -> String {
    let (theirs, ours) = (format!("{theirs:#?}"), format!("{ours:#?}"));
    let (theirs, ours): (Vec<_>, Vec<_>) = (theirs.lines().collect(), ours.lines().collect());
    let same = |pairs: &mut dyn Iterator<Item = (&&str, &&str)>| pairs.take_while(|(one, other)| one == other).count();
    let head = same(&mut theirs.iter().zip(&ours));
    let tail = same(&mut theirs.iter().rev().zip(ours.iter().rev())).min(theirs.len().min(ours.len()) - head);
    let part = |lines: &[&str]| lines[head.saturating_sub(CONTEXT)..lines.len() - tail].join("\n");
    format!("etcd, from line {head}:\n{}\nmeshstore:\n{}", part(&theirs), part(&ours))
}
