//! `watch`: prints what happens to keys, and runs a command for each event.

mod interactive;

use super::{
    KeyVerb, Session,
    connection::Flags,
    exec,
    failure::{Exit, Failure},
    keys::revision,
    output::{Format, Response, quoted},
    range,
};
use bytes::Bytes;
use client::{ClientError, Event, Watch, WatchBatch, WatchOptions};
use futures_util::StreamExt;
use std::{
    ffi::OsString,
    io::{self, Write},
};
use types::KeyRange;

/// Prints what happens to keys, until Ctrl-C; runs a command for each event, if one follows `--`.
///
/// The command knows the event by `ETCD_WATCH_REVISION`, and by `ETCD_WATCH_EVENT_TYPE`, `ETCD_WATCH_KEY` and
/// `ETCD_WATCH_VALUE`, which are in double quotes with Go's escapes. KEY and `RANGE_END` can also be given as
/// `ETCDCTL_WATCH_KEY` and `ETCDCTL_WATCH_RANGE_END`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  meshstore watch foo
  meshstore watch --prefix /mesh/ --rev 42
  meshstore watch a z --prev-kv -w json
  meshstore watch --prefix /config/ -- ./reload.sh
  echo 'watch --prefix /config/' | meshstore watch --interactive")]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    watched: Watched,
    /// Read watch commands, and `progress`, from standard input
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    flags: Flags,
}

/// What to watch, and what to do then; also a line of interactive input.
#[derive(Debug, clap::Args)]
pub(crate) struct Watched {
    /// The key, or the first of a range
    #[arg(value_parser = range::bytes())]
    key: Option<Bytes>,
    /// The end of the range, itself not in it
    #[arg(value_parser = range::bytes())]
    range_end: Option<Bytes>,
    /// All keys that start with KEY
    #[arg(long)]
    prefix: bool,
    /// The first revision to print; 0 is what comes from now on
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    rev: i64,
    /// Print what each key was before, too
    #[arg(long)]
    prev_kv: bool,
    /// Print progress reports of the server's, too
    #[arg(long)]
    progress_notify: bool,
    /// Command to run for each event, with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Watched {
    /// Lays the arguments over the environment; both at once is a mistake.
    fn keys(&self, env: impl Fn(&str) -> Option<OsString>) -> Result<KeyRange, Failure> {
        let env = |name: &str| env(name).map(OsString::into_encoded_bytes).map(Bytes::from);
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let (key, end) = match (&self.key, env("ETCDCTL_WATCH_KEY")) {
            (Some(_), Some(_)) => {
                return Err(Failure::bad_args("bad number of arguments (found conflicting environment key)"));
            }
            (Some(key), None) => (key.clone(), self.range_end.clone()),
            (None, Some(key)) => (key, env("ETCDCTL_WATCH_RANGE_END")),
            (None, None) => return Err(Failure::bad_args("bad number of arguments").next("say which key to watch")),
        };
        if end.is_some() && self.prefix {
            return Err(Failure::bad_args("`range_end` and `--prefix` are mutually exclusive"));
        }
        if key.is_empty() && end.is_none() {
            return Ok(KeyRange::all());
        }
        range::parse(&key, end.as_ref(), self.prefix, false)
    }

    async fn open(&self, session: &Session) -> Result<Watch, Failure> {
        let range = self.keys(|name| std::env::var_os(name))?;
        let options = WatchOptions {
            start: revision(self.rev)?,
            prev_kv: self.prev_kv,
            progress: self.progress_notify,
            ..WatchOptions::default()
        };
        session.client()?.watch(range, options).await.map_err(|error| match error {
            ClientError::Unavailable { .. } => error.into(),
            canceled => ended(&canceled),
        })
    }

    /// Prints a watch to its end, which is always an error.
    async fn print(&self, session: &Session, mut watch: Watch) -> Failure {
        loop {
            let printed = match watch.next().await {
                Some(Ok(batch)) => self.print_batch(session, &batch).await,
                Some(Err(error)) => Err(ended(&error)),
                None => Err(Failure::new(Exit::Interrupted, "watch is canceled by the server")),
            };
            if let Err(failure) = printed {
                return failure;
            }
        }
    }

    async fn print_batch(&self, session: &Session, batch: &WatchBatch) -> Result<(), Failure> {
        session.print(&Response::Watch(batch))?;
        if self.command.is_empty() {
            return Ok(());
        }
        for event in &batch.events {
            let status = exec::run(&self.command, &variables(batch, event)).await?;
            if !status.success() {
                let words: Vec<_> = self.command.iter().map(|word| quoted(word.as_bytes())).collect();
                writeln!(io::stderr(), "command [{}] error ({})", words.join(" "), exec::ended(status))?;
                return Err(Failure::told(Exit::Error));
            }
        }
        Ok(())
    }
}

/// What a command is told of an event.
fn variables(batch: &WatchBatch, event: &Event) -> [(&'static str, String); 4] {
    let (kind, value) = match event {
        Event::Put { kv, .. } => ("PUT", &kv.value[..]),
        Event::Delete { .. } => ("DELETE", &b""[..]),
    };
    [
        ("ETCD_WATCH_REVISION", batch.store_revision.to_string()),
        ("ETCD_WATCH_EVENT_TYPE", quoted(kind.as_bytes())),
        ("ETCD_WATCH_KEY", quoted(event.key())),
        ("ETCD_WATCH_VALUE", quoted(value)),
    ]
}

impl KeyVerb for WatchArgs {
    fn flags(&self) -> &Flags {
        &self.flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let session = session.without(&[Format::Table])?;
        if self.interactive {
            return interactive::run(&session).await;
        }
        let watch = self.watched.open(&session).await?;
        Err(self.watched.print(&session, watch).await)
    }
}

/// As etcdctl tells the end of a watch, and where to go on.
fn ended(error: &ClientError) -> Failure {
    // Standard error may be gone; the exit code tells the same.
    let _ = writeln!(io::stderr(), "watch was canceled ({error})");
    let failure = Failure::new(Exit::Interrupted, "watch is canceled by the server");
    match error {
        ClientError::Compacted { oldest: Some(oldest), .. } => failure.next(format!("watch from --rev {oldest}")),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        watched: Watched,
    }

    type Variables<'a> = &'a [(&'a str, &'a str)];

    #[test]
    fn the_keys_are_arguments_or_environment() {
        let all = Some(KeyRange::all());
        let one = Some(KeyRange::One("a".into()));
        let range = Some(KeyRange::Between("a".into(), "c".into()));
        let prefix = Some(KeyRange::prefix("a"));
        let cases: [(&[&str], Variables<'_>, Option<KeyRange>); 10] = [
            (&["a"], &[], one.clone()),
            (&["a", "c"], &[], range.clone()),
            (&["a", "--prefix"], &[], prefix),
            (&["", "--prefix"], &[], all.clone()),
            (&[""], &[], all),
            (&["a", "c", "--prefix"], &[], None),
            (&[], &[], None),
            (&[], &[("ETCDCTL_WATCH_KEY", "a")], one),
            (&["--", "echo"], &[("ETCDCTL_WATCH_KEY", "a"), ("ETCDCTL_WATCH_RANGE_END", "c")], range),
            (&["b"], &[("ETCDCTL_WATCH_KEY", "a")], None),
        ];
        for (words, variables, expected) in cases {
            let watched = Line::try_parse_from(["watch"].iter().chain(words)).unwrap().watched;
            let env = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
            assert_eq!(watched.keys(env).ok(), expected, "{words:?} {variables:?}");
        }
    }

    #[test]
    fn what_follows_two_dashes_is_a_command() {
        let watched = Line::try_parse_from(["watch", "a", "--rev", "3", "--", "sh", "-c", "x"]).unwrap().watched;
        assert_eq!((watched.key.as_deref(), watched.rev), (Some(&b"a"[..]), 3));
        assert_eq!(watched.command, ["sh", "-c", "x"]);
    }
}
