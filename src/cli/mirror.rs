//! `make-mirror`: a prefix of this cluster kept as it is on another.

use super::{
    KeyVerb, Session,
    connection::{self, Connection, Flags},
    failure::{Exit, Failure},
    keys::revision,
    password::Secret,
    range, signals,
};
use bytes::Bytes;
use client::{ClientError, Mirror, Mirrored};
use std::{
    io::{self, Write},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tls::web::Trust;
use tokio::time::{interval, sleep};
use types::Revision;

/// How often the count of keys is printed.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);
/// Between two tries when one of the clusters cannot be reached.
const RETRY: Duration = Duration::from_secs(1);

/// Mirrors keys to another cluster until Ctrl-C; prints how many it wrote and deleted, each 30 seconds.
///
/// What is there is copied first; --rev leaves that out, and goes on where an earlier mirror ended, which it told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  meshstore make-mirror backup.example:2379
  meshstore make-mirror --prefix /config/ --dest-prefix /copy/ https://backup.example:2379
  meshstore make-mirror --rev 4711 backup.example:2379")]
pub(crate) struct MirrorArgs {
    /// The other cluster's endpoint
    destination: String,
    /// Mirror keys that start with this
    #[arg(long, default_value = "", value_parser = range::bytes())]
    prefix: Bytes,
    /// What they start with at the destination instead [default: the same]
    #[arg(long, conflicts_with = "no_dest_prefix", value_parser = range::bytes())]
    dest_prefix: Option<Bytes>,
    /// Leave their prefix out at the destination
    #[arg(long)]
    no_dest_prefix: bool,
    /// The first revision to mirror; 0 copies what is there first
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    rev: i64,
    /// Most operations of a transaction that the destination takes
    #[arg(long, value_name = "COUNT", default_value_t = 128)]
    max_txn_ops: usize,
    #[command(flatten)]
    to: DestinationFlags,
    #[command(flatten)]
    flags: Flags,
}

/// How the destination is reached.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Destination")]
#[expect(clippy::struct_field_names, reason = "the flags' names, which are etcdctl's")]
struct DestinationFlags {
    /// PEM file of the authorities to trust; speaks TLS
    #[arg(long, value_name = "FILE")]
    dest_cacert: Option<PathBuf>,
    /// PEM file of the certificate to show
    #[arg(long, value_name = "FILE", requires = "dest_key")]
    dest_cert: Option<PathBuf>,
    /// PEM file of its key
    #[arg(long, value_name = "FILE", requires = "dest_cert")]
    dest_key: Option<PathBuf>,
    /// Speak plain text unless the endpoint starts with https:// [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(hide_possible_values = true)]
    dest_insecure_transport: Option<bool>,
    /// User; asks for the password that is left out
    #[arg(long, value_name = "NAME[:PASSWORD]")]
    dest_user: Option<Secret>,
    /// The user's password; others on this machine can see it
    #[arg(long, value_name = "PASSWORD")]
    dest_password: Option<Secret>,
}

impl DestinationFlags {
    /// The destination's connection, with the source's patience.
    async fn resolve(&self, endpoint: &str, source: &Connection) -> Result<Connection, Failure> {
        let identity = self.dest_cert.clone().zip(self.dest_key.clone());
        let secure =
            endpoint.starts_with("https://") || identity.is_some() || self.dest_insecure_transport == Some(false);
        let system = secure.then_some(Trust::System);
        let user = connection::user(self.dest_user.clone(), self.dest_password.clone(), "Destination Password: ");
        Ok(Connection {
            endpoints: vec![endpoint.to_owned()],
            trust: self.dest_cacert.clone().map(Trust::File).or(system),
            identity,
            user: user.await?,
            file_flags: ["--dest-cacert", "--dest-cert", "--dest-key"],
            ..source.clone()
        })
    }
}

impl KeyVerb for MirrorArgs {
    fn flags(&self) -> &Flags {
        &self.flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let from = revision(self.rev)?;
        let destination = self.to.resolve(&self.destination, &session.connection).await?.client()?;
        let destination_prefix = match &self.dest_prefix {
            Some(prefix) => prefix.clone(),
            None if self.no_dest_prefix => Bytes::new(),
            None => self.prefix.clone(),
        };
        let source = (session.client()?, self.prefix.clone());
        let mirror = Mirror::new(source, (destination, destination_prefix), self.max_txn_ops);
        let progress = Reached::default();
        signals::until_stopped(|stop| async move {
            let outcome = tokio::select! {
                () = stop.cancelled() => Ok(()),
                failure = follow(&mirror, from, &progress) => Err(failure),
                failure = progress.report() => Err(failure),
            };
            match (outcome, progress.next()) {
                (Ok(()), Some(next)) => Ok(writeln!(io::stderr(), "to go on: --rev {next}")?),
                (Err(failure), Some(next)) if failure.next.is_none() => {
                    Err(failure.next(format!("go on by --rev {next}")))
                }
                (outcome, _) => outcome,
            }
        })
        .await
    }
}

/// How far the mirror has come, for those who report it.
#[derive(Default)]
struct Reached {
    keys: AtomicU64,
    /// 0 before the first.
    revision: AtomicU64,
}

impl Reached {
    fn reached(&self, mirrored: Mirrored) {
        self.keys.fetch_add(mirrored.keys, Ordering::Relaxed);
    }

    fn complete(&self, mirrored: Mirrored) {
        self.reached(mirrored);
        self.revision.store(u64::try_from(mirrored.revision.get()).unwrap_or(0), Ordering::Relaxed);
    }

    /// The first revision that is not mirrored; `None` while the copy is not complete.
    fn next(&self) -> Option<Revision> {
        let revision = i64::try_from(self.revision.load(Ordering::Relaxed)).ok();
        revision.and_then(Revision::new).map(Revision::next)
    }

    /// Prints the count of keys, until it cannot.
    async fn report(&self) -> Failure {
        let mut ticks = interval(REPORT_INTERVAL);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            if let Err(error) = writeln!(io::stdout(), "{}", self.keys.load(Ordering::Relaxed)) {
                return error.into();
            }
        }
    }
}

/// Copies if there is no revision to start from, and follows; goes on by itself when a cluster could not be reached.
async fn follow(mirror: &Mirror, from: Option<Revision>, progress: &Reached) -> Failure {
    loop {
        let outcome = match progress.next().or(from) {
            Some(next) => mirror.follow(next, |mirrored| progress.complete(mirrored)).await,
            None => mirror.copy(|mirrored| progress.reached(mirrored)).await.map(|revision| {
                progress.complete(Mirrored { revision, keys: 0 });
            }),
        };
        match outcome {
            Ok(()) => {}
            Err(error) if error.is_repeatable() || matches!(error, ClientError::Uncertain { .. }) => {
                if let Err(error) = writeln!(io::stderr(), "{error}; trying again") {
                    return error.into();
                }
                sleep(RETRY).await;
            }
            Err(ClientError::Compacted { text, .. }) => {
                return Failure::new(Exit::Error, text).next(
                    "leave --rev out to copy what is there first; what was deleted meanwhile stays at the destination",
                );
            }
            Err(error) => return error.into(),
        }
    }
}
