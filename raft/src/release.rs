//! Which releases may be in one cluster.
//!
//! Owns: what this member does about its own release; which releases the others have said they run.
//!
//! - A member that is older than the cluster's version stops: it could misread what comes. This is certain from whoever
//!   says it, since the version never falls.
//! - A member that is too new for the cluster's version stops when the leader says so: others may not have heard of the
//!   version that there is by now.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::watch;
use types::Release;

use crate::{MemberId, RaftError};

/// What is known of releases. Shared by all who speak to other members.
#[derive(Debug)]
pub(crate) struct Releases {
    own: Release,
    /// The cluster's version, as of what is applied here.
    version: watch::Receiver<Option<Release>>,
    /// Which release each member said last that it runs.
    others: Mutex<BTreeMap<u64, Release>>,
}

impl Releases {
    pub(crate) fn new(own: Release, version: watch::Receiver<Option<Release>>) -> Self {
        Self { own, version, others: Mutex::default() }
    }

    pub(crate) fn own(&self) -> Release {
        self.own
    }

    pub(crate) fn version(&self) -> Option<Release> {
        *self.version.borrow()
    }

    /// Takes note of what a member says it runs; gives the version that this has to do for.
    pub(crate) fn hear(&self, member: u64, release: Release) -> Option<Release> {
        self.others.lock().insert(member, release);
        self.version()
    }

    /// What it said.
    pub(crate) fn of(&self, member: MemberId) -> Option<Release> {
        self.others.lock().get(&member.0).copied()
    }

    /// Whether this member may be in a cluster of a version that its leader tells.
    pub(crate) fn check(&self, version: Release) -> Result<(), RaftError> {
        check_age(self.own, version)?;
        check_youth(self.own, version)
    }
}

/// Whether a release understands what is written at a version.
pub(crate) fn check_age(release: Release, version: Release) -> Result<(), RaftError> {
    if version > release { Err(RaftError::TooOld { release, version }) } else { Ok(()) }
}

/// Whether a release was meant to run at a version.
fn check_youth(release: Release, version: Release) -> Result<(), RaftError> {
    if version < release.before() { Err(RaftError::TooNew { release, version }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_for_its_own_version_and_the_one_before_it() {
        let (first, this) = (Release::FIRST, Release::THIS);
        let later = Release::from_number(this.number() + 1);
        let check = |own, version| Releases::new(own, watch::channel(None).1).check(version);
        assert!(check(this, this).is_ok() && check(this, first).is_ok() && check(first, first).is_ok());
        let too_old = check(first, this).unwrap_err();
        assert!(matches!(too_old, RaftError::TooOld { release, version } if (release, version) == (first, this)));
        assert!(too_old.to_string().contains(&format!("start this member with release {this}")), "{too_old}");
        assert!(matches!(check(this, later), Err(RaftError::TooOld { .. })));
        // The one before a later release is this one.
        let too_new = check(later, first).unwrap_err();
        assert!(matches!(too_new, RaftError::TooNew { .. }));
        assert!(too_new.to_string().ends_with(&format!("bring all members to {this} first")), "{too_new}");
    }

    #[test]
    fn what_a_member_said_last_is_what_it_runs() {
        let (applied, version) = watch::channel(None);
        let releases = Releases::new(Release::THIS, version);
        assert_eq!(releases.hear(2, Release::FIRST), None);
        applied.send_replace(Some(Release::FIRST));
        assert_eq!(releases.hear(2, Release::THIS), Some(Release::FIRST));
        assert_eq!(releases.of(MemberId(2)), Some(Release::THIS));
        assert_eq!(releases.of(MemberId(4)), None);
    }
}
