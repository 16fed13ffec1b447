//! `cluster token create`.

use super::{duration, expiry, failure::Failure, mesh::Administration};
use std::{
    io::{self, Write},
    time::Duration,
};
use types::{Namespace, ServiceAccount};

/// Join tokens: single-use secrets by which workloads obtain their first certificate.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Token {
    /// Makes a token for one workload and prints it, once
    #[command(after_help = "Example: a token for the account bookinfo-reviews of namespace default
  meshstore cluster token create default/bookinfo-reviews --ttl 15m > token")]
    Create(CreateArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// The identity that its bearer is given
    #[arg(value_name = "NAMESPACE/SERVICE_ACCOUNT", value_parser = identity)]
    identity: (Namespace, ServiceAccount),
    /// How long it can be used [default: the server's hour]
    #[arg(long, value_name = "TIME", value_parser = duration::parse_ttl)]
    ttl: Option<Duration>,
    #[command(flatten)]
    administration: Administration,
}

impl Token {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let Self::Create(CreateArgs { identity: (namespace, account), ttl, administration }) = self;
        let token = administration.client()?.create_join_token(&namespace, &account, ttl).await?;
        writeln!(io::stderr(), "for {}, once, until {}", token.spiffe_id, expiry::told(token.expires_at))?;
        Ok(writeln!(io::stdout(), "{}", token.token)?)
    }
}

/// Reads `NAMESPACE/SERVICE_ACCOUNT`.
pub(crate) fn identity(text: &str) -> Result<(Namespace, ServiceAccount), String> {
    let (namespace, account) =
        text.split_once('/').ok_or_else(|| format!("{text:?} is not NAMESPACE/SERVICE_ACCOUNT"))?;
    let namespace = Namespace::parse(namespace).map_err(|error| error.to_string())?;
    Ok((namespace, ServiceAccount::parse(account).map_err(|error| error.to_string())?))
}
