//! How a verb fails: what is said, what to do next, and the exit code, which is etcdctl's.

use client::ClientError;
use std::{fmt, io};

/// etcdctl's exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The request failed.
    Error = 1,
    /// No connection could be used, or a lease could not be kept.
    BadConnection = 2,
    /// What was read makes no sense.
    InvalidInput = 3,
    /// The output format is not for this verb.
    BadFeature = 4,
    /// The server ended it.
    Interrupted = 5,
    /// Reading or writing failed.
    Io = 6,
    /// The command line makes no sense.
    BadArgs = 128,
}

/// Why a verb failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What went wrong; empty when it was told already.
    pub(crate) text: String,
    /// What to do about it.
    pub(crate) next: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into(), next: None }
    }

    pub(crate) fn bad_args(text: impl Into<String>) -> Self {
        Self::new(Exit::BadArgs, text)
    }

    pub(crate) fn next(self, step: impl Into<String>) -> Self {
        Self { next: Some(step.into()), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() {
            return Ok(());
        }
        writeln!(f, "Error: {}", self.text)?;
        self.next.iter().try_for_each(|next| writeln!(f, "  {next}"))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let next = match &error {
            ClientError::Unavailable { .. } => Some("is the server running there? name others by --endpoints"),
            ClientError::Uncertain { .. } => Some("read before writing again"),
            ClientError::Compacted { .. } => Some("leave --rev out to read the present state"),
            ClientError::Busy { .. } => Some("try again, more slowly"),
            ClientError::Denied { .. } => Some("show another certificate"),
            ClientError::Refused { .. } | ClientError::Protocol(_) | ClientError::Config(_) => None,
        };
        Self { exit: Exit::Error, text: error.to_string(), next: next.map(str::to_owned) }
    }
}

impl From<io::Error> for Failure {
    /// A reader that had enough, as in `meshstore get … | head`, is no news.
    fn from(error: io::Error) -> Self {
        let text = if error.kind() == io::ErrorKind::BrokenPipe { String::new() } else { error.to_string() };
        Self::new(Exit::Io, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_to_do_next() {
        let failure = Failure::bad_args("no key").next("name one");
        assert_eq!(failure.to_string(), "Error: no key\n  name one\n");
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).to_string(), "");
        let lost = Failure::from(ClientError::Uncertain { text: "cut".into() });
        assert_eq!(lost.to_string(), "Error: cut (the outcome of the write is unknown)\n  read before writing again\n");
    }
}
