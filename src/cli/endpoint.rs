//! `member list` and `endpoint status|health`.

use super::{
    KeyVerb, Session,
    connection::Flags,
    failure::{Exit, Failure},
    output::{EndpointHealth, EndpointStatus, Response},
};
use client::{ClientError, Get};
use futures_util::future::join_all;
use std::{io::Write, time::Instant};

/// Members of the cluster.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Member {
    /// Lists the members
    #[command(after_help = "Example:\n  meshstore member list -w table")]
    List {
        #[command(flatten)]
        flags: Flags,
    },
}

impl KeyVerb for Member {
    fn flags(&self) -> &Flags {
        let Self::List { flags } = self;
        flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        session.print(&Response::Members(&session.client()?.member_list().await?))
    }
}

/// Endpoints, each asked by itself.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Endpoint {
    /// Prints each endpoint's state
    #[command(after_help = "Example:\n  meshstore endpoint status --cluster -w table")]
    Status(EndpointArgs),
    /// Tells of each endpoint whether its cluster serves reads
    #[command(after_help = "Example:\n  meshstore endpoint health --endpoints 10.0.0.1:2379,10.0.0.2:2379")]
    Health(EndpointArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct EndpointArgs {
    /// Ask every member's client address instead
    #[arg(long)]
    cluster: bool,
    #[command(flatten)]
    flags: Flags,
}

impl Endpoint {
    fn arguments(&self) -> &EndpointArgs {
        let (Self::Status(arguments) | Self::Health(arguments)) = self;
        arguments
    }
}

impl KeyVerb for Endpoint {
    fn flags(&self) -> &Flags {
        &self.arguments().flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let endpoints = if self.arguments().cluster {
            let members = session.client()?.member_list().await?.members;
            members.into_iter().flat_map(|member| member.client_urls).collect()
        } else {
            session.connection.endpoints.clone()
        };
        match self {
            Self::Status(_) => status(&session, endpoints).await,
            Self::Health(_) => health(&session, endpoints).await,
        }
    }
}

async fn status(session: &Session, endpoints: Vec<String>) -> Result<(), Failure> {
    let ask = |endpoint: String| async move {
        let status = match session.connection.client_of(vec![endpoint.clone()]) {
            Ok(client) => client.status().await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        (endpoint, status)
    };
    let (mut found, mut failed) = (Vec::new(), false);
    for (endpoint, status) in join_all(endpoints.into_iter().map(ask)).await {
        match status {
            Ok(status) => found.push(EndpointStatus { endpoint, status }),
            Err(failure) => {
                failed = true;
                writeln!(std::io::stderr(), "Failed to get the status of endpoint {endpoint} ({})", failure.text)?;
            }
        }
    }
    session.print(&Response::Status(&found))?;
    if failed { Err(Failure::new(Exit::Error, "")) } else { Ok(()) }
}

async fn health(session: &Session, endpoints: Vec<String>) -> Result<(), Failure> {
    let ask = |endpoint: String| async move {
        let started = Instant::now();
        let error = unhealthy(session, &endpoint).await;
        EndpointHealth { endpoint, took: started.elapsed(), error }
    };
    let all = join_all(endpoints.into_iter().map(ask)).await;
    session.print(&Response::Health(&all))?;
    if all.iter().any(|health| health.error.is_some()) {
        return Err(Failure::new(Exit::Error, "unhealthy cluster"));
    }
    Ok(())
}

/// A linearizable read proves a quorum; one that is denied was decided by it, too.
async fn unhealthy(session: &Session, endpoint: &str) -> Option<String> {
    match session.connection.client_of(vec![endpoint.to_owned()]) {
        Err(failure) => Some(failure.text),
        Ok(client) => match client.get(Get::key("health")).await {
            Ok(_) | Err(ClientError::Denied { .. }) => None,
            Err(error) => Some(error.to_string()),
        },
    }
}
