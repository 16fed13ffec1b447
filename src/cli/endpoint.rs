//! `endpoint status|health|hashkv`.

use super::{
    KeyVerb, Session,
    connection::Flags,
    failure::{Exit, Failure},
    keys::revision,
    output::{EndpointHash, EndpointHealth, EndpointStatus, Response, alarm},
};
use client::{Client, ClientError, Get};
use futures_util::future::join_all;
use std::{
    io::{self, Write},
    time::Instant,
};
use types::Revision;

/// Endpoints, each asked by itself.
#[derive(Debug, clap::Args)]
pub(crate) struct EndpointArgs {
    #[command(flatten)]
    pub(crate) before: Flags,
    #[command(flatten)]
    endpoints: Endpoints,
    #[command(subcommand)]
    verb: Endpoint,
}

#[derive(Debug, clap::Subcommand)]
enum Endpoint {
    /// Prints each endpoint's state
    #[command(after_help = "Example:\n  meshstore endpoint status --cluster -w table")]
    Status {
        #[command(flatten)]
        flags: Flags,
    },
    /// Tells of each endpoint whether its cluster serves reads, and has no alarm
    #[command(after_help = "Example:\n  meshstore endpoint health --endpoints 10.0.0.1:2379,10.0.0.2:2379")]
    Health {
        #[command(flatten)]
        flags: Flags,
    },
    /// Hashes each endpoint's keys and their history
    #[command(
        name = "hashkv",
        after_help = "Example: all members must print the same\n  meshstore endpoint hashkv --cluster --rev 1000"
    )]
    HashKv {
        /// The last revision to hash; 0 is the latest
        #[arg(long, value_name = "REVISION", default_value_t = 0)]
        rev: i64,
        #[command(flatten)]
        flags: Flags,
    },
}

/// Which endpoints.
#[derive(Debug, clap::Args)]
pub(crate) struct Endpoints {
    /// Ask every member's client address instead
    #[arg(long, global = true)]
    cluster: bool,
}

impl Endpoints {
    /// Those that were named, or those of all members.
    pub(crate) async fn of(&self, session: &Session) -> Result<Vec<String>, Failure> {
        if !self.cluster {
            return Ok(session.connection.endpoints.clone());
        }
        let members = session.client()?.member_list().await?.members;
        Ok(members.into_iter().flat_map(|member| member.client_urls).collect())
    }
}

impl KeyVerb for EndpointArgs {
    fn flags(&self) -> &Flags {
        let (Endpoint::Status { flags } | Endpoint::Health { flags } | Endpoint::HashKv { flags, .. }) = &self.verb;
        flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let endpoints = self.endpoints.of(&session).await?;
        match self.verb {
            Endpoint::Status { .. } => status(&session, endpoints).await,
            Endpoint::Health { .. } => health(&session, endpoints).await,
            Endpoint::HashKv { rev, .. } => hash(&session, endpoints, revision(rev)?).await,
        }
    }
}

/// The endpoint that leads, and a client of it alone.
pub(crate) async fn leader(session: &Session) -> Result<(u64, Client), Failure> {
    let endpoints = &session.connection.endpoints;
    for endpoint in endpoints {
        let client = session.connection.client_of(vec![endpoint.clone()])?;
        let status = client.status().await?;
        if status.leader == status.header.member_id {
            return Ok((status.leader, client));
        }
    }
    let failure = Failure::bad_args(format!("no leader endpoint given at [{}]", endpoints.join(" ")));
    Err(failure.next("`meshstore endpoint status --cluster` says who leads"))
}

/// Asks all endpoints at once; tells of those that fail, and answers the others.
async fn ask<T>(
    session: &Session,
    endpoints: Vec<String>,
    what: &str,
    question: impl AsyncFn(Client) -> Result<T, ClientError>,
) -> Result<(Vec<(String, T)>, bool), Failure> {
    let one = async |endpoint: String| {
        let answer = match session.connection.client_of(vec![endpoint.clone()]) {
            Ok(client) => question(client).await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        (endpoint, answer)
    };
    let (mut answers, mut failed) = (Vec::new(), false);
    for (endpoint, answer) in join_all(endpoints.into_iter().map(one)).await {
        match answer {
            Ok(answer) => answers.push((endpoint, answer)),
            Err(failure) => {
                failed = true;
                writeln!(io::stderr(), "Failed to get the {what} of endpoint {endpoint} ({})", failure.text)?;
            }
        }
    }
    Ok((answers, failed))
}

async fn status(session: &Session, endpoints: Vec<String>) -> Result<(), Failure> {
    let (answers, failed) = ask(session, endpoints, "status", async |client| client.status().await).await?;
    let all: Vec<_> = answers.into_iter().map(|(endpoint, status)| EndpointStatus { endpoint, status }).collect();
    session.print(&Response::Status(&all))?;
    if failed { Err(Failure::told(Exit::Error)) } else { Ok(()) }
}

async fn hash(session: &Session, endpoints: Vec<String>, revision: Option<Revision>) -> Result<(), Failure> {
    let (answers, failed) = ask(session, endpoints, "hash", async |client| client.hash_kv(revision).await).await?;
    let all: Vec<_> = answers.into_iter().map(|(endpoint, hash)| EndpointHash { endpoint, hash }).collect();
    session.print(&Response::Hash(&all))?;
    if failed { Err(Failure::told(Exit::Error)) } else { Ok(()) }
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
    let client = match session.connection.client_of(vec![endpoint.to_owned()]) {
        Ok(client) => client,
        Err(failure) => return Some(failure.text),
    };
    match client.get(Get::key("health")).await {
        Ok(_) | Err(ClientError::Denied { code: client::Code::PermissionDenied, .. }) => alarmed(&client).await,
        Err(error) => Some(error.to_string()),
    }
}

async fn alarmed(client: &Client) -> Option<String> {
    match client.alarms().await {
        Ok(raised) if raised.alarms.is_empty() => None,
        Ok(raised) => {
            let names: Vec<_> = raised.alarms.iter().map(|one| alarm(one.kind)).collect();
            Some(format!("Active Alarm(s): {} ", names.join(" ")))
        }
        Err(_) => Some("Unable to fetch the alarm list".to_owned()),
    }
}
