//! Who a member is, found out before anything of it runs.
//!
//! - A data directory that is somebody's stays so, whatever the flags say now.
//! - The identity is on the disk before the member says anything in its name.

use std::collections::BTreeMap;

use raft::{ClusterId, Formation, MemberId, Node};
use tracing::info;

use crate::{
    Config, Founder, Founding, ServerError,
    custody::member_custody,
    identity::Identity,
    ids,
    peers::{Introduced, PeerSecurity, introduce},
};

/// A member that is about to start.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) identity: Identity,
    /// What it does if its log is empty.
    pub(crate) formation: Formation,
    /// How it proves itself to others; `None`: it has no way to them.
    pub(crate) security: Option<PeerSecurity>,
}

/// Reads who the data directory is, or makes it somebody.
pub(crate) async fn begin(config: &Config) -> Result<Beginning, ServerError> {
    let identity = match Identity::load(&config.data_dir)? {
        Some(identity) => identity,
        None if config.force_new_cluster => {
            return Err(ServerError::NobodyToForce { path: config.data_dir.clone() });
        }
        None => become_somebody(config).await?,
    };
    let ids = (identity.cluster(), identity.member());
    let security = PeerSecurity::open(config.peer_files.as_ref(), &member_custody(&config.data_dir), ids)?;
    let formation = formation(config, &identity);
    Ok(Beginning { identity, formation, security })
}

/// Who a member of a simulation is: a founder, unless it was added and has ids.
pub(crate) fn of_simulation(config: &Config, joined: Option<(ClusterId, MemberId)>) -> (Identity, Formation) {
    let (name, urls) = (config.name.clone(), config.advertise_peer_urls.clone());
    let identity = if let Some((cluster, member)) = joined {
        Identity::joiner(cluster, member, name, urls)
    } else {
        let Plan { cluster, member, .. } = Plan::of(config);
        Identity::founder(cluster, member, name, urls)
    };
    let formation = formation(config, &identity);
    (identity, formation)
}

async fn become_somebody(config: &Config) -> Result<Identity, ServerError> {
    let (name, urls) = (config.name.clone(), config.advertise_peer_urls.clone());
    let identity = match &config.founding {
        Founding::Alone | Founding::Among(_) => {
            if config.founding != Founding::Alone && config.peer_files.is_none() {
                return Err(ServerError::NoPeerCertificates);
            }
            let Plan { cluster, member, .. } = Plan::of(config);
            Identity::founder(cluster, member, name, urls)
        }
        Founding::Existing(members) => {
            let files = config.peer_files.clone().ok_or(ServerError::NoPeerCertificates)?;
            let others: Vec<_> = others(members, &config.name).map(|other| other.peer_urls.clone()).collect();
            let Introduced { cluster, member } = introduce(&PeerSecurity::Files(files), &urls, &others).await?;
            Identity::joiner(cluster, member, name, urls)
        }
        Founding::Never => return Err(ServerError::NobodysDirectory { path: config.data_dir.clone() }),
    };
    identity.save(&config.data_dir)?;
    info!(cluster = %identity.cluster(), member = %identity.member(), "made a member's data directory");
    Ok(identity)
}

fn others<'a>(members: &'a [Founder], name: &'a str) -> impl Iterator<Item = &'a Founder> {
    members.iter().filter(move |member| member.name != name)
}

/// A log that is there says itself what it belongs to; an empty one does what the member was made for. If that is not
/// what the flags say now, the member has lost its log: it waits, and the others tell it so.
fn formation(config: &Config, identity: &Identity) -> Formation {
    let Plan { cluster, member, voters } = Plan::of(config);
    let is_same = (cluster, member) == (identity.cluster(), identity.member());
    if identity.joined || !is_same { Formation::Join } else { Formation::Found(voters) }
}

/// A cluster as its first members form it.
struct Plan {
    cluster: ClusterId,
    member: MemberId,
    voters: BTreeMap<MemberId, Node>,
}

impl Plan {
    fn of(config: &Config) -> Self {
        let id = |urls: &[String]| ids::member_id(urls, &config.cluster_token);
        let member = id(&config.advertise_peer_urls);
        let own = Node {
            name: config.name.clone(),
            peer_urls: config.advertise_peer_urls.clone(),
            client_urls: config.advertise_client_urls.clone(),
            ..Node::default()
        };
        let mut voters = BTreeMap::from([(member, own)]);
        if let Founding::Among(founders) = &config.founding {
            voters = founders.iter().map(|founder| (id(&founder.peer_urls), node(founder))).collect();
        }
        let members: Vec<MemberId> = voters.keys().copied().collect();
        Self { cluster: ids::cluster_id(&members), member, voters }
    }
}

/// All founders write the same, so only what all of them know.
fn node(founder: &Founder) -> Node {
    let Founder { name, peer_urls } = founder.clone();
    Node { name, peer_urls, ..Node::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn founder(name: &str) -> Founder {
        Founder { name: name.to_owned(), peer_urls: vec![format!("https://{name}:2380")] }
    }

    fn config(name: &str, founding: Founding) -> Config {
        let advertise_peer_urls = founder(name).peer_urls;
        Config { name: name.to_owned(), advertise_peer_urls, founding, ..Config::default() }
    }

    #[test]
    fn all_founders_plan_the_same_cluster() {
        let all = || Founding::Among(["a", "b", "c"].map(founder).to_vec());
        let plans = ["a", "b", "c"].map(|name| Plan::of(&config(name, all())));
        assert!(plans.iter().all(|plan| plan.cluster == plans[0].cluster && plan.voters == plans[0].voters));
        assert!(plans.iter().all(|plan| plan.voters.contains_key(&plan.member)) && plans[0].voters.len() == 3);
        let alone = Plan::of(&config("a", Founding::Alone));
        assert_eq!(alone.member, plans[0].member);
        assert_ne!(alone.cluster, plans[0].cluster);
    }

    #[test]
    fn a_member_of_several_that_has_lost_its_log_founds_nothing() {
        let all = config("a", Founding::Among(["a", "b"].map(founder).to_vec()));
        let Plan { cluster, member, .. } = Plan::of(&all);
        let identity = Identity::founder(cluster, member, "a".to_owned(), all.advertise_peer_urls.clone());
        assert!(matches!(formation(&all, &identity), Formation::Found(voters) if voters.len() == 2));
        assert_eq!(formation(&config("a", Founding::Alone), &identity), Formation::Join);
        let joined = Identity::joiner(cluster, member, "a".to_owned(), all.advertise_peer_urls.clone());
        assert_eq!(formation(&all, &joined), Formation::Join);
    }

    #[tokio::test]
    async fn several_members_need_certificates() {
        let dir = tempfile::tempdir().expect("a folder");
        for founding in [Founding::Among(vec![founder("a"), founder("b")]), Founding::Existing(vec![founder("b")])] {
            let config = Config { data_dir: dir.path().to_owned(), ..config("a", founding) };
            let error = begin(&config).await.expect_err("refused");
            assert!(matches!(error, ServerError::NoPeerCertificates), "{error}");
            assert_eq!(Identity::load(dir.path()).expect("readable"), None);
        }
    }
}
