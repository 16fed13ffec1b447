//! `elect`: takes part in an election, or watches who leads.

use super::{
    KeyVerb, Session,
    connection::Flags,
    failure::{Exit, Failure},
    output::{Format, Response, Shown},
    range, signals,
};
use bytes::Bytes;
use client::Get;
use futures_util::StreamExt;
use std::{io::Write, pin::pin, time::Duration};
use tokio_util::sync::CancellationToken;

/// How long a leader that is gone still counts.
const TTL: Duration = Duration::from_mins(1);

/// Leads an election from when it is won until Ctrl-C, or with --listen prints each leader and what it proposes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  meshstore elect primary host-1
  meshstore elect --listen primary")]
pub(crate) struct ElectArgs {
    /// Name of the election
    #[arg(value_parser = range::bytes())]
    name: Bytes,
    /// What to tell all who listen when it is won
    #[arg(required_unless_present = "listen", conflicts_with = "listen", value_parser = range::bytes())]
    proposal: Option<Bytes>,
    /// Take no part
    #[arg(short, long)]
    listen: bool,
    #[command(flatten)]
    flags: Flags,
}

impl KeyVerb for ElectArgs {
    fn flags(&self) -> &Flags {
        &self.flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let session = session.without(&[Format::Table])?;
        signals::until_stopped(|stop| async move {
            match &self.proposal {
                Some(proposal) => self.campaign(&session, proposal.clone(), stop).await,
                None => self.observe(&session, stop).await,
            }
        })
        .await
    }
}

impl ElectArgs {
    async fn observe(&self, session: &Session, stop: CancellationToken) -> Result<(), Failure> {
        let client = session.client()?;
        let mut leaders = pin!(client.observe(&self.name));
        while let Some(Some(leader)) = stop.run_until_cancelled(leaders.next()).await {
            session.print(&Response::Get(&leader?, Shown::KeyAndValue))?;
            std::io::stdout().flush()?;
        }
        Ok(())
    }

    async fn campaign(&self, session: &Session, proposal: Bytes, stop: CancellationToken) -> Result<(), Failure> {
        let mut member = session.client()?.session(TTL).await?;
        let outcome = match stop.run_until_cancelled(member.campaign(&self.name, proposal)).await {
            None => Err(Failure::new(Exit::Error, "interrupted while waiting to be elected")),
            Some(Err(error)) => Err(error.into()),
            Some(Ok(leadership)) => lead(session, &mut member, leadership, stop).await,
        };
        // The leadership lapses by itself when its session cannot be closed; why that is so was told already.
        let _ = member.close().await;
        outcome
    }
}

async fn lead(
    session: &Session,
    member: &mut client::Session,
    leadership: client::Leadership,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let won = session.client()?.get(Get::key(leadership.key().clone())).await?;
    session.print(&Response::Get(&won, Shown::KeyAndValue))?;
    tokio::select! {
        () = stop.cancelled() => Ok(leadership.resign().await?),
        lost = member.lost() => Err(Failure::new(Exit::Error, format!("elect: session expired: {lost}"))),
    }
}
