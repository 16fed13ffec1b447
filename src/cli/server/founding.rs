//! The flags by which etcd's members find one another when a cluster is formed, or joined.

use std::collections::BTreeMap;

use clap::builder::BoolishValueParser;
use server::{Founder, Founding};

use super::{renamed_variable, variable};
use crate::cli::failure::Failure;

/// The cluster's first members.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct FoundingFlags {
    /// The cluster's members when it is formed, or joined as etcd does, all with https URLs [default: itself alone]
    #[arg(long, value_name = "NAME=URL,…", value_delimiter = ',', env = variable("initial-cluster"))]
    initial_cluster: Option<Vec<String>>,
    /// Whether they form the cluster, or it runs already and has this member added; a data directory that is a member's
    /// goes on as that, and existing without --initial-cluster demands one [default: new]
    #[arg(long, value_enum, env = variable("initial-cluster-state"))]
    initial_cluster_state: Option<State>,
    /// When the quorum is lost for good: go on as the only member, with all that this one has [default: false]
    #[arg(long, value_name = "BOOL", env = variable("force-new-cluster"), value_parser = BoolishValueParser::new(),
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    force_new_cluster: Option<bool>,
    /// Most learners that are to stay learners [default: 1]
    #[arg(long, value_name = "COUNT", alias = "experimental-max-learners", env = renamed_variable("max-learners"))]
    max_learners: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum State {
    #[default]
    New,
    Existing,
}

impl FoundingFlags {
    /// What a new member does, whether an old one goes on alone, and how many learners there may be.
    pub(super) fn resolve(&self, mut member: server::Config) -> Result<server::Config, Failure> {
        member.founding = self.founding(&member)?;
        member.force_new_cluster = self.force_new_cluster.unwrap_or(member.force_new_cluster);
        member.learners_max = self.max_learners.unwrap_or(member.learners_max);
        Ok(member)
    }

    fn founding(&self, member: &server::Config) -> Result<Founding, Failure> {
        let named = founders(self.initial_cluster.iter().flatten().filter(|one| !one.is_empty()))?;
        let is_existing = self.initial_cluster_state == Some(State::Existing);
        if named.is_empty() && is_existing {
            return Ok(Founding::Never);
        }
        if named.is_empty() {
            // etcd's own default cluster is the member alone, which nothing can be added to.
            return Ok(Founding::Alone);
        }
        let own = named.iter().find(|founder| founder.name == member.name).ok_or_else(|| {
            let failure = Failure::bad_args(format!("--initial-cluster does not name this member, {:?}", member.name));
            failure.next("say by --name which of them it is")
        })?;
        let sorted = |urls: &[String]| {
            let mut urls = urls.to_vec();
            urls.sort_unstable();
            urls
        };
        if sorted(&own.peer_urls) != sorted(&member.advertise_peer_urls) {
            let failure = Failure::bad_args(format!(
                "--initial-cluster has {} at {}, and --initial-advertise-peer-urls says {}",
                own.name,
                own.peer_urls.join(","),
                member.advertise_peer_urls.join(",")
            ));
            return Err(failure.next("both must say the same"));
        }
        if named.len() == 1 && !is_existing {
            return Ok(Founding::Alone);
        }
        if let Some(url) = named.iter().flat_map(|founder| &founder.peer_urls).find(|url| !url.starts_with("https://"))
        {
            let failure = Failure::bad_args(format!("{url} is plain text, and members speak TLS alone"));
            return Err(failure.next("write https:// in --initial-cluster and --initial-advertise-peer-urls"));
        }
        Ok(if is_existing { Founding::Existing(named) } else { Founding::Among(named) })
    }
}

/// Members by name, each with all the URLs that are given for it.
fn founders<'a>(named: impl Iterator<Item = &'a String>) -> Result<Vec<Founder>, Failure> {
    let mut founders: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for one in named {
        let (name, url) =
            one.split_once('=').filter(|(name, url)| !name.is_empty() && !url.is_empty()).ok_or_else(|| {
                Failure::bad_args(format!("--initial-cluster has {one:?}")).next("write it as NAME=https://HOST:2380")
            })?;
        founders.entry(name).or_default().push(url.to_owned());
    }
    let founder = |(name, peer_urls): (&str, _)| Founder { name: name.to_owned(), peer_urls };
    Ok(founders.into_iter().map(founder).collect())
}
