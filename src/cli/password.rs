//! Passwords: from a flag, from standard input, or asked for without showing what is typed.

use super::failure::Failure;
use client::Password;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use std::{
    convert::Infallible,
    fmt,
    io::{self, BufRead, IsTerminal, Write},
    str::FromStr,
};
use tokio::sync::oneshot;

/// A flag that is or holds a password. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Asks for a password. Ctrl-C ends it with the terminal as it was.
pub(crate) async fn ask(prompt: &str) -> Result<Password, Failure> {
    let hidden = Hidden::begin()?;
    write!(io::stderr(), "{prompt}")?;
    let line = line().await;
    writeln!(io::stderr())?;
    drop(hidden);
    let password = line?;
    if password.is_empty() { Err(Failure::bad_args("empty password")) } else { Ok(password) }
}

/// Asks twice.
pub(crate) async fn ask_new(user: &str) -> Result<Password, Failure> {
    let password = ask(&format!("Password of {user}: ")).await?;
    let again = ask(&format!("Type password of {user} again for confirmation: ")).await?;
    if password == again { Ok(password) } else { Err(Failure::bad_args("given passwords are different")) }
}

/// A line of standard input, without asking.
pub(crate) async fn piped() -> Result<Password, Failure> {
    line().await
}

/// Reads a line, or fails at Ctrl-C. The thread that reads ends with its line or with the process.
async fn line() -> Result<Password, Failure> {
    let (sender, read) = oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let outcome = io::stdin()
            .lock()
            .read_line(&mut line)
            .map(|_| Password::new(line.trim_end_matches(['\r', '\n']).to_owned()));
        // Whoever asked has given up if nobody takes it.
        let _ = sender.send(outcome);
    });
    tokio::select! {
        outcome = read => Ok(outcome.map_err(|_| Failure::bad_args("standard input cannot be read"))??),
        _ = tokio::signal::ctrl_c() => Err(Failure::bad_args("no password was given")),
    }
}

/// A terminal that does not show what is typed, until dropped.
struct Hidden {
    before: Termios,
}

impl Hidden {
    /// `None` where there is no terminal.
    fn begin() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = termios::tcgetattr(&stdin)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        termios::tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // There is nothing better to do when the terminal is gone.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}
