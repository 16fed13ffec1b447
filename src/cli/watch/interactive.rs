//! `watch --interactive`: a watch for each line that is read, all printed to the same output.

use super::Watched;
use crate::cli::{
    Session,
    failure::{Exit, Failure},
    words,
};
use clap::Parser;
use client::{Progress, Watch};
use std::{
    ffi::OsStr,
    io::{self, BufRead, Write},
    os::unix::ffi::OsStrExt,
};
use tokio::{sync::mpsc, task::JoinSet};

/// Lines read ahead of the watches that they open; the reader waits then.
const LINES_MAX: usize = 16;

#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, disable_version_flag = true)]
struct Line {
    #[command(flatten)]
    watched: Watched,
}

/// Opens watches until the input ends or a command of theirs fails. One that the server cancels ends alone.
pub(super) async fn run(session: &Session) -> Result<(), Failure> {
    let mut lines = read_lines();
    let mut watches = JoinSet::new();
    let mut progress: Vec<Progress> = Vec::new();
    loop {
        tokio::select! {
            Some(Ok(failure)) = watches.join_next() => canceled(failure)?,
            line = lines.recv() => {
                let Some(line) = line else {
                    let failure = Failure::new(Exit::InvalidInput, "error reading watch request line: EOF");
                    return Err(failure.next("keep the input open for as long as the watches are to go on"));
                };
                if let Some((watched, watch)) = obey(session, &line, &progress).await? {
                    progress.push(watch.progress());
                    let session = session.clone();
                    watches.spawn(async move { watched.print(&session, watch).await });
                }
            }
        }
    }
}

fn canceled(failure: Failure) -> Result<(), Failure> {
    if failure.exit == Exit::Interrupted { Ok(()) } else { Err(failure) }
}

/// Does what a line says: the watch that it opened, if it is one that does.
async fn obey(session: &Session, line: &str, progress: &[Progress]) -> Result<Option<(Watched, Watch)>, Failure> {
    let words = words::all(line).unwrap_or_default();
    let words: Vec<_> = words.iter().map(|word| OsStr::from_bytes(word)).collect();
    match words.as_slice() {
        [verb, rest @ ..] if *verb == "watch" => match Line::try_parse_from(rest) {
            Ok(Line { watched }) => open(session, watched, line).await,
            Err(error) => invalid(line, error.to_string().lines().next().unwrap_or_default()),
        },
        [verb] if *verb == "progress" => {
            progress.iter().for_each(Progress::request);
            Ok(None)
        }
        _ => invalid(line, "only support watch"),
    }
}

async fn open(session: &Session, watched: Watched, line: &str) -> Result<Option<(Watched, Watch)>, Failure> {
    match watched.open(session).await {
        Ok(watch) => Ok(Some((watched, watch))),
        Err(failure) if failure.exit == Exit::BadArgs => invalid(line, &failure.text),
        Err(failure) => canceled(failure).map(|()| None),
    }
}

fn invalid<T>(line: &str, reason: &str) -> Result<Option<T>, Failure> {
    writeln!(io::stderr(), "Invalid command {line} ({reason})")?;
    Ok(None)
}

/// Standard input, line by line. The thread that reads ends with the input or with the process.
fn read_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(LINES_MAX);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
