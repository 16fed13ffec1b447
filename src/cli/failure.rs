//! How a verb fails: what is said, what to do next, and the exit code, which is etcdctl's.

use client::ClientError;
use std::{fmt, io};

/// etcdctl's exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The request failed.
    Error,
    /// No connection could be used, a login failed, or a lease could not be kept.
    BadConnection,
    /// What was read makes no sense.
    InvalidInput,
    /// The output format, or the choice of a flag, is none of this verb's.
    BadFeature,
    /// The server ended it.
    Interrupted,
    /// Reading or writing failed.
    Io,
    /// The command line makes no sense.
    BadArgs,
    /// A command that was run failed with this code.
    Command(u8),
}

impl Exit {
    /// What the process ends with.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Error => 1,
            Self::BadConnection => 2,
            Self::InvalidInput => 3,
            Self::BadFeature => 4,
            Self::Interrupted => 5,
            Self::Io => 6,
            Self::BadArgs => 128,
            Self::Command(code) => code,
        }
    }
}

/// etcd's words for a name or password that is wrong.
const LOGIN_FAILED: &str = "etcdserver: authentication failed, invalid user ID or password";

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

    /// One that was told already.
    pub(crate) fn told(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    pub(crate) fn bad_args(text: impl Into<String>) -> Self {
        Self::new(Exit::BadArgs, text)
    }

    pub(crate) fn next(self, step: impl Into<String>) -> Self {
        Self { next: Some(step.into()), ..self }
    }
}

/// An error and its causes, where it does not tell them itself.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
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

/// What may be done about a server that cannot be spoken to, by what TLS and HTTP/2 say when they meet one another.
fn unreachable(text: &str) -> &'static str {
    match text {
        text if text.contains("InvalidContentType") => "it seems to speak plain text: write http:// in --endpoints",
        text if text.contains("frame with invalid size") => {
            "it seems to speak TLS: write https:// in --endpoints, and name its authority by --cacert"
        }
        // The second is said of a certificate that has signed itself.
        text if text.contains("UnknownIssuer") || text.contains("CaUsedAsEndEntity") => {
            "name the authority of its certificate by --cacert"
        }
        _ => "is the server running there? name others by --endpoints",
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let next = match &error {
            ClientError::Unavailable { text } => Some(unreachable(text)),
            ClientError::Uncertain { .. } => Some("read before writing again"),
            ClientError::Compacted { .. } => Some("leave --rev out to read the present state"),
            ClientError::Busy { .. } => Some("try again, more slowly"),
            ClientError::Denied { .. } => Some("say who you are by --user, or show another certificate"),
            ClientError::Refused { text, .. } if text == LOGIN_FAILED => Some("check --user and its password"),
            ClientError::Refused { text, .. } if text == "etcdserver: user name is empty" => {
                Some("say who you are by --user")
            }
            ClientError::Refused { .. } | ClientError::Protocol(_) | ClientError::Config(_) => None,
        };
        let text = error.to_string();
        let exit = if text == LOGIN_FAILED { Exit::BadConnection } else { Exit::Error };
        Self { exit, text, next: next.map(str::to_owned) }
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
    fn a_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("{text}")]
        struct Link {
            text: &'static str,
            source: Option<Box<Link>>,
        }
        let link = |text, source: Option<Link>| Link { text, source: source.map(Box::new) };
        let told = link("cannot read a: no such file", Some(link("no such file", None)));
        assert_eq!(chain(&told), "cannot read a: no such file");
        assert_eq!(chain(&link("no mesh", Some(told))), "no mesh: cannot read a: no such file");
    }

    #[test]
    fn a_failure_says_what_to_do_next() {
        let failure = Failure::bad_args("no key").next("name one");
        assert_eq!(failure.to_string(), "Error: no key\n  name one\n");
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).to_string(), "");
        let lost = Failure::from(ClientError::Uncertain { text: "cut".into() });
        assert_eq!(lost.to_string(), "Error: cut (the outcome of the write is unknown)\n  read before writing again\n");
    }
}
