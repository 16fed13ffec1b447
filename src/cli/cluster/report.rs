//! `cluster members` and `cluster status`: who the members are, and how each of them is.
//!
//! - Each member is asked by itself, all at the same time; one that does not answer costs the others nothing.
//! - Who the members are is asked of a quorum, and where there is none of whoever answers.

use std::{
    io,
    time::{Duration, Instant},
};

use client::{Client, ClientError, MemberInfo, StatusResponse, Versions};
use futures_util::future::join_all;

use super::render;
use crate::cli::{
    KeyVerb, Session,
    connection::Flags,
    failure::{Exit, Failure},
    mesh::Output,
};

/// Prints the members: who leads, how far each is behind, and whether it answers.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  meshstore cluster members --endpoints 10.0.0.1:2379,10.0.0.2:2379
  meshstore cluster status -o yaml")]
pub(crate) struct ReportArgs {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    flags: Flags,
}

/// One member, and how it is.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) member: MemberInfo,
    /// What it says; or why it said nothing.
    pub(super) answer: Result<Answer, Silence>,
}

/// Why a member said nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Silence {
    /// It has told no address for clients.
    #[error("has not started yet")]
    NotStarted,
    #[error("another member answers at its client URLs")]
    AnotherAnswers,
    #[error("{0}")]
    Failed(String),
}

/// What a member says of itself.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusResponse,
    /// How long it took to say so.
    pub(super) took: Duration,
    /// `None`: it does not know of releases.
    pub(super) versions: Option<Versions>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) id: u64,
    /// The members are those that one of them has applied: no quorum has confirmed them.
    pub(super) unconfirmed: bool,
    pub(super) members: Vec<Report>,
}

impl Cluster {
    /// Who leads, as those say who answer and are in the latest term.
    pub(super) fn leader(&self) -> Option<u64> {
        let latest = self.members.iter().filter_map(Report::status).max_by_key(|status| status.raft_term)?;
        Some(latest.leader).filter(|leader| *leader != 0)
    }

    /// The last entry that any of them knows of.
    pub(super) fn last_index(&self) -> u64 {
        self.members.iter().filter_map(Report::status).map(|status| status.raft_index).max().unwrap_or(0)
    }

    /// The release that the cluster is at, as far as those know who answer.
    pub(super) fn version(&self) -> Option<&str> {
        let at = self.members.iter().filter_map(Report::versions).map(|versions| versions.cluster_version.as_str());
        at.max_by_key(|version| version.split('.').map(|number| number.parse::<u64>().ok()).collect::<Vec<_>>())
    }

    /// The release that a member has told others it runs.
    pub(super) fn release_of(&self, member: u64) -> Option<&str> {
        self.members
            .iter()
            .filter_map(Report::versions)
            .find_map(|versions| versions.members.get(&member))
            .map(String::as_str)
    }

    /// How many voters there are, and how many of them answer and follow the leader.
    pub(super) fn voters(&self) -> (usize, usize) {
        let voters = || self.members.iter().filter(|report| !report.member.is_learner);
        (voters().count(), voters().filter(|report| report.answer.is_ok() && !self.is_astray(report)).count())
    }

    /// Whether a member does not follow the leader, of whom others know.
    pub(super) fn is_astray(&self, report: &Report) -> bool {
        let followed = report.status().map(|status| status.leader);
        self.leader().is_some_and(|leader| followed.is_some_and(|followed| followed != leader))
    }

    pub(super) fn has_quorum(&self) -> bool {
        let (voters, well) = self.voters();
        well > voters / 2
    }
}

impl Report {
    pub(super) fn status(&self) -> Option<&StatusResponse> {
        self.answer.as_ref().ok().map(|answer| &answer.status)
    }

    pub(super) fn versions(&self) -> Option<&Versions> {
        self.answer.as_ref().ok()?.versions.as_ref()
    }
}

impl KeyVerb for ReportArgs {
    fn flags(&self) -> &Flags {
        &self.flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let cluster = ask(&session).await?;
        render::print(&cluster, self.output, &mut io::stdout().lock())?;
        if cluster.has_quorum() && cluster.leader().is_some() {
            return Ok(());
        }
        let failure = Failure::new(Exit::Error, "the cluster has no quorum: it answers no writes");
        Err(failure.next("start the members that are down; docs/operations.md says what to do if they are lost"))
    }
}

async fn ask(session: &Session) -> Result<Cluster, Failure> {
    let client = session.client()?;
    let (list, unconfirmed) = match client.member_list().await {
        Ok(list) => (list, false),
        Err(confirmed) => match client.member_list_unconfirmed().await {
            Ok(list) => (list, true),
            Err(_) => return Err(confirmed.into()),
        },
    };
    let ask = async |member: MemberInfo| {
        let answer = match session.connection.client_of(member.client_urls.clone()) {
            _ if member.client_urls.is_empty() => Err(Silence::NotStarted),
            Ok(client) => ask_one(&client, member.id).await,
            Err(failure) => Err(Silence::Failed(failure.to_string())),
        };
        Report { member, answer }
    };
    let members = join_all(list.members.into_iter().map(ask)).await;
    Ok(Cluster { id: list.header.cluster_id, unconfirmed, members })
}

/// Asks twice: the first answer includes the connection, the second is the round trip.
async fn ask_one(client: &Client, member: u64) -> Result<Answer, Silence> {
    let failed = |error: ClientError| Silence::Failed(error.to_string());
    let versions = client.versions().await.map_err(failed)?;
    let begun = Instant::now();
    let status = client.status().await.map_err(failed)?;
    // Members that tell the same address, such as loopback's, would all seem well while one of them is.
    if status.header.member_id != member {
        return Err(Silence::AnotherAnswers);
    }
    Ok(Answer { status, took: begun.elapsed(), versions })
}
