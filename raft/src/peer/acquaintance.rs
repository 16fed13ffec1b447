//! Which disks the members are on, and which releases they run.
//!
//! Owns: for each member that this one was ever in touch with, the disk it had then, on stable storage.
//! In:   headers of other members' calls, and what others know.
//! Out:  headers of this member's calls; refusals.
//!
//! - A member is on one disk for its whole life. One that comes with another, or with an older copy of it, has forgotten
//!   what it promised: its votes, and which entries it has. It is refused by all who knew it, and it stops when it hears.
//! - What is remembered is on stable storage before the first answer.
//! - A member whose release is older than the cluster's version is refused, and stops when it hears.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use proto::peer as pb;
use tokio::sync::watch;
use types::Release;

use super::{
    refusal::Refusal,
    wire::{self, Fault},
};
use crate::{ClusterId, MemberId, RaftError, codec::Known, fatal::Fatal, log::Notes, node::Roster, release::Releases};

/// Shared by all who speak to other members.
#[derive(Debug)]
pub(crate) struct Acquaintances {
    cluster: u64,
    member: u64,
    own: Known,
    pub(crate) releases: Releases,
    known: Mutex<BTreeMap<u64, Known>>,
    /// Held while one is added, so that what is on the disk is what is in memory.
    meeting: tokio::sync::Mutex<()>,
    notes: Notes,
    roster: watch::Receiver<Arc<Roster>>,
    fatal: Fatal,
}

impl Acquaintances {
    pub(crate) fn new(
        (cluster, member): (ClusterId, MemberId),
        (own, known): (Known, BTreeMap<u64, Known>),
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
            known: Mutex::new(known),
            meeting: tokio::sync::Mutex::default(),
            notes,
            roster,
            fatal,
        }
    }

    /// The header of a call to `addressee`.
    pub(crate) fn header(&self, addressee: u64) -> pb::Header {
        let addressee_incarnation = self.known.lock().get(&addressee).map_or(0, |known| known.incarnation);
        pb::Header {
            cluster: self.cluster,
            sender: self.member,
            sender_incarnation: self.own.incarnation,
            sender_starts: self.own.starts,
            addressee,
            addressee_incarnation,
            sender_release: wire::release_out(self.releases.own()),
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
        let known = Known { incarnation: header.sender_incarnation, starts: header.sender_starts };
        self.meet(sender, known).await?;
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
        if header.addressee_incarnation != 0 && header.addressee_incarnation != self.own.incarnation {
            self.must_stop(&format!("member {sender} knows it with another disk"));
            return Err(Refusal::Stopped);
        }
        Ok(())
    }

    /// Remembers the disk of a member that is in touch, or refuses another one.
    pub(crate) async fn meet(&self, member: u64, now: Known) -> Result<(), Refusal> {
        if self.compare(member, now)? {
            return Ok(());
        }
        let meeting = self.meeting.lock().await;
        if !self.compare(member, now)? {
            self.notes.remember(member, now).await.map_err(|_| Refusal::Stopped)?;
            self.known.lock().insert(member, now);
        }
        drop(meeting);
        Ok(())
    }

    /// Whether the disk is the one that is known; refuses another one, or an older copy.
    fn compare(&self, member: u64, now: Known) -> Result<bool, Refusal> {
        let known = self.known.lock().get(&member).copied();
        let who = MemberId(member);
        match known {
            Some(known) if known == now => Ok(true),
            Some(known) if known.incarnation != now.incarnation => {
                Err(Refusal::Forgetful(format!("member {who} had another disk before")))
            }
            Some(known) if known.starts > now.starts => Err(Refusal::Forgetful(format!(
                "member {who} had been started more often: this is an older copy of it"
            ))),
            None if now.incarnation == 0 => Err(Refusal::Senseless(Fault::Missing("incarnation"))),
            Some(_) | None => Ok(false),
        }
    }

    /// Takes over what another member knows of those that this one never met, and hears what it knows of this one.
    pub(crate) async fn learn(&self, from: u64, known: impl Iterator<Item = (u64, Known)>) {
        for (member, disk) in known {
            if member == self.member {
                if disk.incarnation != self.own.incarnation {
                    return self.must_stop(&format!("member {} knows it with another disk", MemberId(from)));
                }
            } else if !self.known.lock().contains_key(&member) && self.meet(member, disk).await.is_err() {
                return;
            }
        }
    }

    /// All that is known, this member first.
    pub(crate) fn all(&self) -> Vec<(u64, Known)> {
        let known = self.known.lock();
        [(self.member, self.own)].into_iter().chain(known.iter().map(|(member, known)| (*member, *known))).collect()
    }

    /// Stops this member, whose data is lost.
    pub(crate) fn must_stop(&self, reason: &str) {
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
