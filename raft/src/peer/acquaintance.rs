//! Which disks the members are on, and which releases they run.
//!
//! Owns: for each member that this one was ever in touch with, what is remembered of it: its disk and its last start on
//!       stable storage, and what of the committed log it had then on the way there.
//! In:   headers of other members' calls, and what others know.
//! Out:  headers of this member's calls; refusals.
//!
//! - A member is on one disk for its whole life. One that comes with another, or with an older copy of it, has forgotten
//!   what it promised: its votes, and which entries it has. It is refused by all who knew it, and it stops when it hears.
//! - A member's start is on stable storage before its first answer. What it has of the log is kept with each round of
//!   greetings, and told to all in the next one: the leader knows of what it has acknowledged to it, the others soon.
//! - Both sides compare: who calls is held against what is remembered of it, and who is called hears what the caller
//!   remembers. So a member that is on an older disk gives its vote to nobody, and acknowledges nothing to anybody, who
//!   knows better.
//! - Who hears that it is on an older disk does not start on it again.
//! - A member whose release is older than the cluster's version is refused, and stops when it hears.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use proto::peer as pb;
use tokio::sync::watch;
use tracing::error;
use types::Release;

use super::{
    refusal::Refusal,
    wire::{self, Fault},
};
use crate::{
    ClusterId, MemberId, RaftError,
    fatal::Fatal,
    life::{Contradiction, Held, Known, Life},
    log::Notes,
    node::Roster,
    release::Releases,
    types::LogId,
};

/// Shared by all who speak to other members.
#[derive(Debug)]
pub(crate) struct Acquaintances {
    cluster: u64,
    member: u64,
    own: Life,
    pub(crate) releases: Releases,
    known: Mutex<BTreeMap<u64, Remembered>>,
    /// Held while one is added, so that what is on the disk is what is in memory.
    meeting: tokio::sync::Mutex<()>,
    notes: Notes,
    roster: watch::Receiver<Arc<Roster>>,
    fatal: Fatal,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    known: Known,
    /// It is on the disk as it is here, or on its way there.
    is_kept: bool,
    /// Since that start, the member lost what it had acknowledged to this one.
    has_lost: bool,
}

impl Remembered {
    fn kept(known: Known) -> Self {
        Self { known, is_kept: true, has_lost: false }
    }
}

impl Acquaintances {
    pub(crate) fn new(
        (cluster, member): (ClusterId, MemberId),
        (own, known): (Life, BTreeMap<u64, Known>),
        releases: Releases,
        notes: Notes,
        roster: watch::Receiver<Arc<Roster>>,
        fatal: Fatal,
    ) -> Self {
        Self {
            cluster: cluster.0,
            member: member.0,
            own,
            releases,
            known: Mutex::new(known.into_iter().map(|(member, known)| (member, Remembered::kept(known))).collect()),
            meeting: tokio::sync::Mutex::default(),
            notes,
            roster,
            fatal,
        }
    }

    /// The header of a call to `addressee`.
    pub(crate) fn header(&self, addressee: u64) -> pb::Header {
        let remembered = self.known.lock().get(&addressee).copied();
        let known = remembered.map(|remembered| remembered.known);
        pb::Header {
            cluster: self.cluster,
            sender: self.member,
            sender_incarnation: self.own.disk.incarnation,
            sender_starts: self.own.disk.starts,
            addressee,
            addressee_incarnation: known.map_or(0, |known| known.disk.incarnation),
            sender_release: wire::release_out(self.releases.own()),
            sender_sessions: self.own.sessions.clone(),
            sender_found: self.own.found.as_ref().map(wire::log_id_out),
            addressee_known: known.map(|known| wire::known_out(addressee, &known)),
            addressee_lost: remembered.is_some_and(|remembered| remembered.has_lost),
        }
    }

    /// Checks who calls, and whom; gives the sender.
    pub(crate) async fn admit(&self, header: Option<&pb::Header>) -> Result<u64, Refusal> {
        let header = header.ok_or(Refusal::Senseless(Fault::Missing("header")))?;
        self.check_addressee(header)?;
        if self.fatal.happened() {
            return Err(Refusal::Stopped);
        }
        let sender = header.sender;
        if self.roster.borrow().removed.contains(&sender) {
            return Err(Refusal::Removed(MemberId(sender)));
        }
        self.meet(sender, &wire::sender_in(header).map_err(Refusal::Senseless)?).await?;
        let release = Release::from_number(header.sender_release);
        match self.releases.hear(sender, release) {
            Some(version) if release < version => Err(Refusal::TooOld { member: MemberId(sender), release, version }),
            _ => Ok(sender),
        }
    }

    fn check_addressee(&self, header: &pb::Header) -> Result<(), Refusal> {
        let sender = MemberId(header.sender);
        if header.cluster != self.cluster {
            let (here, there) = (ClusterId(self.cluster), ClusterId(header.cluster));
            let (me, addressee) = (MemberId(self.member), MemberId(header.addressee));
            return Err(Refusal::Misled(format!(
                "member {sender} of cluster {there} called member {addressee}, but this is member {me} of cluster {here}"
            )));
        }
        if header.addressee != self.member || header.sender == self.member {
            let (me, addressee) = (MemberId(self.member), MemberId(header.addressee));
            return Err(Refusal::Misled(format!("member {sender} called member {addressee}, but this is member {me}")));
        }
        let is_other = header.addressee_incarnation != 0 && header.addressee_incarnation != self.own.disk.incarnation;
        let contradiction = match &header.addressee_known {
            Some(known) => self.own.contradiction(&wire::known_in(known).map_err(Refusal::Senseless)?),
            None => is_other.then_some(Contradiction::Disk),
        };
        if let Some(contradiction) = contradiction {
            self.must_stop(&format!("member {sender} says: it {contradiction}"));
            return Err(Refusal::Stopped);
        }
        if header.addressee_lost && header.addressee_known.is_some_and(|known| known.starts == self.own.disk.starts) {
            self.must_stop(&format!("member {sender} says: it lost entries that it had acknowledged"));
            return Err(Refusal::Stopped);
        }
        Ok(())
    }

    /// Remembers a member that is in touch, or refuses one that is on another disk or an older copy.
    pub(crate) async fn meet(&self, member: u64, now: &Life) -> Result<(), Refusal> {
        if self.compare(member, now)? {
            return Ok(());
        }
        let _meeting = self.meeting.lock().await;
        if self.compare(member, now)? {
            return Ok(());
        }
        self.remember(member, now.known()).await
    }

    /// Whether all that the member shows is remembered; refuses one that is on another disk, or an older copy.
    fn compare(&self, member: u64, now: &Life) -> Result<bool, Refusal> {
        let remembered = self.known.lock().get(&member).copied();
        let who = MemberId(member);
        match remembered {
            Some(Remembered { has_lost: true, known, .. }) if known.disk == now.disk => {
                Err(Refusal::Forgetful(format!("member {who} lost entries that it had acknowledged")))
            }
            Some(Remembered { known, .. }) => match now.contradiction(&known) {
                Some(contradiction) => Err(Refusal::Forgetful(format!("member {who} {contradiction}"))),
                None => Ok(now.is_all_in(&known)),
            },
            None if now.disk.incarnation == 0 => Err(Refusal::Senseless(Fault::Missing("incarnation"))),
            None => Ok(false),
        }
    }

    /// Takes over the start of a member, on stable storage. Done under the lock of meetings.
    async fn remember(&self, member: u64, now: Known) -> Result<(), Refusal> {
        let before = self.known.lock().get(&member).and_then(|before| before.known.held);
        let known = Known { held: now.held.or(before), ..now };
        self.notes.remember(member, known).await.map_err(|_| Refusal::Stopped)?;
        let mut all = self.known.lock();
        let remembered = all.entry(member).or_insert(Remembered::kept(known));
        // What it holds may be known better by now.
        remembered.known = Known { held: remembered.known.held.or(known.held), ..known };
        remembered.has_lost = false;
        Ok(())
    }

    /// A member has a committed entry on its disk.
    pub(crate) fn holds(&self, member: u64, held: Held) {
        let mut known = self.known.lock();
        if let Some(remembered) = known.get_mut(&member)
            && remembered.known.hold(held)
        {
            remembered.is_kept = false;
        }
    }

    /// A member lost the entry `at`, which it had acknowledged to this one. Both sides refuse each other from now on.
    pub(crate) fn has_lost(&self, member: u64, at: &LogId) {
        let mut known = self.known.lock();
        let Some(remembered) = known.get_mut(&member) else { return };
        if !std::mem::replace(&mut remembered.has_lost, true) {
            let member = MemberId(member);
            error!(%member, index = at.index, "a member lost entries that it had acknowledged: replace it");
        }
    }

    /// Keeps what was learned of members since the last time.
    pub(crate) async fn keep(&self) {
        let _meeting = self.meeting.lock().await;
        for (member, remembered) in self.known.lock().iter_mut().filter(|(_, remembered)| !remembered.is_kept) {
            remembered.is_kept = self.notes.remember_later(*member, remembered.known);
        }
    }

    /// Takes over what another member remembers, and hears what it remembers of this one.
    pub(crate) async fn learn(&self, from: u64, known: impl IntoIterator<Item = (u64, Known)>) {
        for (member, told) in known {
            if member == self.member {
                if let Some(contradiction) = self.own.contradiction(&told) {
                    return self.must_stop(&format!("member {} says: it {contradiction}", MemberId(from)));
                }
            } else if self.hear_of(member, told).await.is_err() {
                return;
            }
        }
    }

    /// Only of a member that this one never met the start is taken from another one.
    async fn hear_of(&self, member: u64, told: Known) -> Result<(), Refusal> {
        let _meeting = self.meeting.lock().await;
        let known = self.known.lock().get(&member).map(|remembered| remembered.known);
        match known {
            Some(known) if known.disk.incarnation == told.disk.incarnation => {
                if let Some(held) = told.held {
                    self.holds(member, held);
                }
                Ok(())
            }
            Some(_) => Ok(()),
            None if told.disk.incarnation == 0 => Err(Refusal::Senseless(Fault::Missing("incarnation"))),
            None => self.remember(member, told).await,
        }
    }

    /// This member, as it shows itself.
    pub(crate) fn own(&self) -> &Life {
        &self.own
    }

    /// All that is remembered, this member first.
    pub(crate) fn all(&self) -> Vec<(u64, Known)> {
        let known = self.known.lock();
        let others = known.iter().map(|(member, remembered)| (*member, remembered.known));
        [(self.member, self.own.known())].into_iter().chain(others).collect()
    }

    /// Stops this member, whose data is lost, for as long as it has this disk.
    pub(crate) fn must_stop(&self, reason: &str) {
        if !self.fatal.happened() {
            self.notes.forsake(reason.to_owned());
        }
        self.fatal.report(RaftError::Forgetful { reason: reason.to_owned() });
    }

    /// Takes note of the release that a member tells when it is greeted. What it tells as the leader shows whether this
    /// member's release may be in the cluster at all; it stops if not.
    pub(crate) fn compare_releases(&self, member: u64, greeting: &pb::GreetResponse) {
        let release = Release::from_number(greeting.release);
        self.releases.hear(member, release);
        if greeting.leader != member {
            return;
        }
        // Where no version was agreed on, the leader's release is as far as the cluster can be.
        let version = Some(greeting.cluster_version).filter(|version| *version != 0).map(Release::from_number);
        let checked = match version {
            Some(version) => self.releases.check(version),
            None if release < self.releases.own() => self.releases.check(release),
            None => Ok(()),
        };
        if let Err(error) = checked {
            self.fatal.report(error);
        }
    }

    /// Whether this member, whose applied state is a leader's, is of a release for the cluster's version.
    pub(crate) fn may_lead(&self) -> Result<(), RaftError> {
        self.releases.version().map_or(Ok(()), |version| self.releases.check(version))
    }

    /// Stops this member, whose release is older than the cluster's version.
    pub(crate) fn is_too_old(&self, version: Release) {
        self.fatal.report(RaftError::TooOld { release: self.releases.own(), version });
    }

    /// Stops this member if a leader sends what only a later release reads.
    pub(crate) fn look_at(&self, fault: Fault) {
        if let Fault::Damaged(what, damage) = fault
            && damage.later().is_some()
        {
            self.fatal.report(damage.of(format!("the leader's {what}")));
        }
    }

    /// Stops this member, which is none any more.
    pub(crate) fn was_removed(&self) {
        self.fatal.report(RaftError::Removed);
    }
}

#[cfg(test)]
mod tests;
