//! Why a call from another member is not answered.

use tonic::{Code, Status, metadata::MetadataValue};
use types::Release;

use super::wire::Fault;
use crate::MemberId;

/// The trailer that names a refusal to a program.
const KIND: &str = "meshstore-refusal";
/// And the one that tells the cluster's version to a program that is too old for it, as a number.
const VERSION: &str = "meshstore-cluster-version";

/// Why a call is refused, by what its sender can do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// It is for another cluster or member: the sender has a wrong address.
    #[error("{0}")]
    Misled(String),
    /// The sender has lost its data, and must stop.
    #[error("{0}")]
    Forgetful(String),
    /// The sender was removed, and must stop.
    #[error("member {0} was removed from the cluster")]
    Removed(MemberId),
    /// The sender's release is older than the cluster's version, and it must stop.
    #[error("member {member} runs release {release}, and the cluster is at {version}")]
    TooOld {
        /// Who it is.
        member: MemberId,
        release: Release,
        version: Release,
    },
    /// The message makes no sense.
    #[error("message refused: {0}")]
    Senseless(#[from] Fault),
    /// This member is stopped, or has just noticed that it must stop.
    #[error("this member is stopped")]
    Stopped,
}

impl Refusal {
    /// Its name in the trailer, for those that a sender acts on.
    fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Forgetful(_) => Some("forgetful"),
            Self::Removed(_) => Some("removed"),
            Self::TooOld { .. } => Some("too-old"),
            Self::Misled(_) | Self::Senseless(_) | Self::Stopped => None,
        }
    }

    /// What the sender is told.
    pub(crate) fn status(&self) -> Status {
        let code = match self {
            Self::Misled(_) | Self::Forgetful(_) | Self::Removed(_) | Self::TooOld { .. } => Code::FailedPrecondition,
            Self::Senseless(_) => Code::InvalidArgument,
            Self::Stopped => Code::Unavailable,
        };
        let mut status = Status::new(code, self.to_string());
        if let Some(kind) = self.kind() {
            status.metadata_mut().insert(KIND, MetadataValue::from_static(kind));
        }
        if let Self::TooOld { version, .. } = self {
            status.metadata_mut().insert(VERSION, version.number().into());
        }
        status
    }
}

/// What a refusal by another member means for this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Forgetful,
    Removed,
    /// For this version of the cluster.
    TooOld(Release),
}

/// Whether a refusal is such that this member must stop.
pub(crate) fn verdict(status: &Status) -> Option<Verdict> {
    match status.metadata().get(KIND)?.to_str().ok()? {
        "forgetful" => Some(Verdict::Forgetful),
        "removed" => Some(Verdict::Removed),
        "too-old" => {
            let version = status.metadata().get(VERSION)?.to_str().ok()?.parse().ok()?;
            Some(Verdict::TooOld(Release::from_number(version)))
        }
        _ => None,
    }
}
