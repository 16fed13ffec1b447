//! `check perf|datascale`: whether a cluster is quick enough, and what data cost it.

mod datascale;
mod load;
mod perf;
mod progress;

use super::{
    KeyVerb, Session,
    connection::Flags,
    failure::{Exit, Failure},
    maintenance,
};
use client::{Client, Delete, Get};
use std::io::{self, Write};
use types::Revision;

/// Checks of a cluster. They write keys, and delete them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Check {
    /// Writes for a minute at a given rate, and says whether the cluster keeps up
    #[command(after_help = "Example:\n  meshstore check perf --load m --auto-compact")]
    Perf {
        #[command(flatten)]
        common: Common,
        /// The keys start with this; there must be none yet
        #[arg(long, default_value = "/etcdctl-check-perf/")]
        prefix: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// Writes many keys, and says how much memory the first endpoint takes for them
    #[command(after_help = "Example:\n  meshstore check datascale --load s --auto-compact")]
    Datascale {
        #[command(flatten)]
        common: Common,
        /// The keys start with this; there must be none yet
        #[arg(long, default_value = "/etcdctl-check-datascale/")]
        prefix: String,
        #[command(flatten)]
        flags: Flags,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// How much
    #[arg(long, value_enum, default_value_t = Load::Small)]
    load: Load,
    /// Compact the history when it is done
    #[arg(long)]
    auto_compact: bool,
    /// Defragment the endpoints when it is done
    #[arg(long)]
    auto_defrag: bool,
}

/// How much is written, as etcdctl has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Load {
    /// perf: 150 writes a second by 50 clients; datascale: 10,000 keys of 1 KiB by 50
    #[value(name = "s", alias = "small")]
    Small,
    /// perf: 1,000 by 200; datascale: 100,000 by 200
    #[value(name = "m", alias = "medium")]
    Medium,
    /// perf: 8,000 by 500; datascale: 1,000,000 by 500
    #[value(name = "l", alias = "large")]
    Large,
    /// perf: 15,000 by 1,000; datascale: 3,000,000 by 1,000
    #[value(name = "xl", alias = "xLarge")]
    ExtraLarge,
}

impl Load {
    fn clients(self) -> usize {
        match self {
            Self::Small => 50,
            Self::Medium => 200,
            Self::Large => 500,
            Self::ExtraLarge => 1000,
        }
    }
}

impl KeyVerb for Check {
    fn flags(&self) -> &Flags {
        let (Self::Perf { flags, .. } | Self::Datascale { flags, .. }) = self;
        flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        match self {
            Self::Perf { common, prefix, .. } => perf::run(&session, &common, &prefix).await,
            Self::Datascale { common, prefix, .. } => datascale::run(&session, &common, &prefix).await,
        }
    }
}

/// Clients with a connection each.
fn clients(session: &Session, load: Load) -> Result<Vec<Client>, Failure> {
    (0..load.clients()).map(|_| session.client()).collect()
}

/// Keys of somebody else's are not to be deleted.
async fn must_be_empty(client: &Client, prefix: &str) -> Result<(), Failure> {
    let found = client.get(Get { limit: Some(1), keys_only: true, ..Get::prefix(prefix.to_owned()) }).await?;
    if found.kvs.is_empty() {
        return Ok(());
    }
    let failure = Failure::new(Exit::InvalidInput, format!("prefix {prefix:?} has keys"));
    Err(failure.next(format!("delete them by `meshstore del --prefix {prefix}`, or choose another --prefix")))
}

/// Leaves the cluster as it was, as far as the flags say.
async fn clean_up(session: &Session, client: &Client, common: &Common, prefix: &str) -> Result<(), Failure> {
    let deleted = client.delete(Delete::prefix(prefix.to_owned())).await?;
    if common.auto_compact {
        compact(client, deleted.revision).await?;
    }
    if common.auto_defrag {
        for endpoint in &session.connection.endpoints {
            writeln!(io::stdout(), "Defragmenting \"{endpoint}\"")?;
            maintenance::defragment(session, endpoint).await?;
            writeln!(io::stdout(), "Defragmented \"{endpoint}\"")?;
        }
    }
    Ok(())
}

async fn compact(client: &Client, revision: Revision) -> Result<(), Failure> {
    writeln!(io::stdout(), "Compacting with revision {revision}")?;
    client.compact(revision, true).await?;
    Ok(writeln!(io::stdout(), "Compacted with revision {revision}")?)
}
