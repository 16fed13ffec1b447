//! `lock`: holds a lock until it is told to stop, or while a command runs.

use super::{
    KeyVerb, Session,
    connection::Flags,
    exec,
    failure::{Exit, Failure},
    output::{Format, Response, Shown},
    range, signals,
};
use bytes::Bytes;
use client::{ClientError, Get, Lock};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, time::Duration};
use tokio_util::sync::CancellationToken;

/// Holds a lock until Ctrl-C, or while a command runs, which knows it by `ETCD_LOCK_KEY` and `ETCD_LOCK_REV`.
///
/// The exit code is the command's. A holder that is cut off loses the lock within the TTL: what must not happen twice
/// should be a transaction that compares the create revision of `ETCD_LOCK_KEY`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  meshstore lock nightly
  meshstore lock nightly ./backup.sh --full
  meshstore lock nightly --ttl 60 -- sh -c 'echo $ETCD_LOCK_KEY'")]
pub(crate) struct LockArgs {
    /// Name of the lock
    #[arg(value_parser = range::bytes())]
    name: Bytes,
    /// Command to run while it is held, with its arguments
    #[arg(trailing_var_arg = true)]
    command: Vec<String>,
    /// Seconds after which the lock is free when its holder is gone
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    ttl: u64,
    #[command(flatten)]
    flags: Flags,
}

impl KeyVerb for LockArgs {
    fn flags(&self) -> &Flags {
        &self.flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let session = session.without(&[Format::Table])?;
        signals::until_stopped(|stop| async move { self.work(&session, stop).await }).await
    }
}

impl LockArgs {
    async fn work(&self, session: &Session, stop: CancellationToken) -> Result<(), Failure> {
        let mut holder = session.client()?.session(Duration::from_secs(self.ttl)).await?;
        let taken = stop.run_until_cancelled(holder.lock(&self.name)).await;
        let outcome = match taken {
            None => Err(Failure::new(Exit::Error, "interrupted while waiting for the lock")),
            Some(Err(error)) => Err(error.into()),
            Some(Ok(lock)) if self.command.is_empty() => self.hold(session, &mut holder, lock, stop).await,
            Some(Ok(lock)) => self.run_command(lock).await,
        };
        // The lock lapses by itself when its session cannot be closed; why that is so was told already.
        let _ = holder.close().await;
        outcome
    }

    async fn hold(
        &self,
        session: &Session,
        holder: &mut client::Session,
        lock: Lock,
        stop: CancellationToken,
    ) -> Result<(), Failure> {
        let held = session.client()?.get(Get::key(lock.key().clone())).await?;
        if held.kvs.is_empty() {
            return Err(Failure::new(Exit::Error, "lock lost on init"));
        }
        session.print(&Response::Get(&held, Shown::KeyAndValue))?;
        tokio::select! {
            () = stop.cancelled() => Ok(lock.unlock().await?),
            lost = holder.lost() => Err(Failure::new(Exit::Error, format!("session expired: {lost}"))),
        }
    }

    async fn run_command(&self, lock: Lock) -> Result<(), Failure> {
        let key = OsStr::from_bytes(lock.key()).to_owned();
        let variables = [("ETCD_LOCK_KEY", key), ("ETCD_LOCK_REV", lock.revision().to_string().into())];
        let status = exec::run(&self.command, &variables).await;
        let unlocked: Result<(), ClientError> = lock.unlock().await;
        let status = status?;
        unlocked?;
        if status.success() { Ok(()) } else { Err(Failure::new(exec::exit(status), exec::ended(status))) }
    }
}
