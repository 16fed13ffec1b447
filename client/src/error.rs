//! What went wrong, sorted by what the caller can do about it.

use std::{error::Error, time::Duration};
use tonic::{Code, Status};
use types::Revision;

/// Why a call failed. `text` holds the server's own words; for etcd's errors, exactly etcd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No endpoint was reached, or none could serve a read in time. Nothing was changed: repeat it later.
    #[error("{text}")]
    Unavailable {
        /// The last endpoint's answer, or why it could not be reached.
        text: String,
    },
    /// A write was sent and its answer was lost: it may have happened, or happen still. Read before writing again.
    #[error("{text} (the outcome of the write is unknown)")]
    Uncertain {
        /// How the answer was lost.
        text: String,
    },
    /// The history asked for is gone: read the present state, and go on from there.
    #[error("{text}")]
    Compacted {
        /// The oldest revision that can still be read, where the server says it (for watches it does).
        oldest: Option<Revision>,
        /// The server's words.
        text: String,
    },
    /// The server is overloaded and did nothing: repeat it later, and less often.
    #[error("{text}")]
    Busy {
        /// The server's words.
        text: String,
    },
    /// The caller may not do this, or is not known.
    #[error("{text}")]
    Denied {
        /// `PermissionDenied` or `Unauthenticated`.
        code: Code,
        /// The server's words.
        text: String,
    },
    /// The server refused and did nothing; the same request will be refused again.
    #[error("{text}")]
    Refused {
        /// gRPC's class of the refusal.
        code: Code,
        /// The server's words.
        text: String,
    },
    /// The server's answer makes no sense: it is not what it claims to be.
    #[error("the server broke the protocol: {0}")]
    Protocol(&'static str),
    /// The client can not work with this configuration.
    #[error("{0}")]
    Config(String),
}

/// etcd's words for history that is gone, on every call alike.
pub(crate) const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
/// etcd's words for a full queue; its other exhausted resource, space, does not pass by itself.
const TOO_MANY_REQUESTS: &str = "etcdserver: too many requests";

impl ClientError {
    /// gRPC's code of the server's answer; `None` where there was no answer.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Compacted { .. } => Some(Code::OutOfRange),
            Self::Busy { .. } => Some(Code::ResourceExhausted),
            Self::Denied { code, .. } | Self::Refused { code, .. } => Some(*code),
            Self::Unavailable { .. } | Self::Uncertain { .. } | Self::Protocol(_) | Self::Config(_) => None,
        }
    }

    /// Whether the same call may succeed later, and repeating it can do no harm.
    pub fn is_repeatable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Busy { .. })
    }

    /// What an answer means that was really given.
    pub(crate) fn answered(status: &Status) -> Self {
        let text = status.message().to_owned();
        match status.code() {
            Code::OutOfRange if text == COMPACTED => Self::Compacted { oldest: None, text },
            Code::ResourceExhausted if text == TOO_MANY_REQUESTS => Self::Busy { text },
            code @ (Code::PermissionDenied | Code::Unauthenticated) => Self::Denied { code, text },
            code => Self::Refused { code, text },
        }
    }

    pub(crate) fn unavailable(endpoint: &str, status: &Status) -> Self {
        Self::Unavailable { text: format!("{endpoint}: {}", cause(status)) }
    }

    pub(crate) fn uncertain(endpoint: &str, status: &Status) -> Self {
        Self::Uncertain { text: format!("{endpoint}: {}", cause(status)) }
    }

    pub(crate) fn silent(endpoint: &str, waited: Duration) -> String {
        format!("{endpoint}: no answer within {waited:.1?}")
    }
}

/// How a call that was not answered failed; decides who may repeat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The request never left, or the server says that it did not look at it.
    NotSent,
    /// It was sent, and what became of it is not known.
    Lost,
    /// The server answered.
    Answered,
}

impl Failure {
    /// Sorts by evidence: only an error that names an unmade connection counts as unsent.
    pub(crate) fn of(status: &Status) -> Self {
        let mut link: Option<&(dyn Error + 'static)> = status.source();
        let carried = link.is_some();
        while let Some(error) = link {
            if is_unsent(error) {
                return Self::NotSent;
            }
            link = error.source();
        }
        // A server that was out of time does not say what became of a write.
        let says_nothing = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded);
        if carried || says_nothing { Self::Lost } else { Self::Answered }
    }
}

fn is_unsent(error: &(dyn Error + 'static)) -> bool {
    error.is::<tonic::ConnectError>()
        || error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
        || error.downcast_ref::<h2::Error>().is_some_and(|error| error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

/// The innermost reason, which is the one that helps ("connection refused").
fn cause(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut link = status.source();
    while let Some(error) = link {
        text = error.to_string();
        link = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_can_be_done() {
        type Is = fn(&ClientError) -> bool;
        let cases: [(Code, &str, bool, Is); 6] = [
            (Code::OutOfRange, COMPACTED, false, |e| matches!(e, ClientError::Compacted { .. })),
            (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision", false, |e| {
                matches!(e, ClientError::Refused { .. })
            }),
            (Code::ResourceExhausted, TOO_MANY_REQUESTS, true, |e| matches!(e, ClientError::Busy { .. })),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", false, |e| {
                matches!(e, ClientError::Refused { .. })
            }),
            (Code::PermissionDenied, "etcdserver: permission denied", false, |e| {
                matches!(e, ClientError::Denied { .. })
            }),
            (Code::NotFound, "etcdserver: requested lease not found", false, |e| {
                matches!(e, ClientError::Refused { .. })
            }),
        ];
        for (code, text, repeatable, is) in cases {
            let error = ClientError::answered(&Status::new(code, text));
            assert!(is(&error), "{error:?}");
            assert_eq!((error.code(), error.is_repeatable()), (Some(code), repeatable), "{text}");
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn only_an_unmade_connection_is_certainly_unsent() {
        let unmade = tonic::ConnectError("refused".into());
        assert_eq!(Failure::of(&Status::from_error(Box::new(unmade))), Failure::NotSent);
        let refused = Status::from_error(Box::new(h2::Error::from(h2::Reason::REFUSED_STREAM)));
        assert_eq!(Failure::of(&refused), Failure::NotSent);
        let broken = Status::from_error(Box::new(h2::Error::from(h2::Reason::INTERNAL_ERROR)));
        assert_eq!(Failure::of(&broken), Failure::Lost);
        assert_eq!(Failure::of(&Status::unavailable("etcdserver: request timed out")), Failure::Lost);
        assert_eq!(Failure::of(&Status::deadline_exceeded("context deadline exceeded")), Failure::Lost);
        assert_eq!(Failure::of(&Status::invalid_argument("etcdserver: key is not provided")), Failure::Answered);
    }
}
