//! Asking name servers.
//!
//! - A name has no address only if every server that was asked says so; whatever else came of it is a failure.
//! - Names are completed as the system's resolver does it: by `search` and `ndots` of resolv.conf.
//! - Nothing is cached: how long an answer is kept is for those who ask.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        ProtoError,
        rr::{Name, RecordType},
    },
    system_conf::read_system_conf,
};
use tokio::{sync::Semaphore, time::timeout};

use crate::config::Family;

/// Longest lookup, whatever it takes. Source: resolv.conf's defaults, two attempts of five seconds.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Lookups under way at once, over all clusters; others wait.
const LOOKUPS_MAX: usize = 32;

/// Finds addresses of names. A clone shares.
#[derive(Clone)]
pub(crate) struct Resolver(Arc<Inner>);

struct Inner {
    dns: TokioResolver,
    search: Vec<Name>,
    /// A name with so many dots is tried as it is before it is completed.
    ndots: usize,
    slots: Semaphore,
}

/// What name servers say of a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// In their order, and for how long they hold.
    Addresses(Vec<IpAddr>, Duration),
    /// The name has no address.
    Nothing,
}

/// Why there is no answer. It may come when asked again.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupFailure {
    #[error("not a DNS name: {0}")]
    Name(#[from] ProtoError),
    #[error("{0}")]
    Dns(#[from] NetError),
    #[error("no answer within {} s", LOOKUP_TIMEOUT.as_secs())]
    Timeout,
}

type Asked = Result<Answer, LookupFailure>;

impl Resolver {
    /// Asks `server`, or those of the system's resolv.conf, which is read now.
    ///
    /// # Errors
    /// If the resolver can not be made.
    pub(crate) fn new(server: Option<SocketAddr>) -> Result<Self, NetError> {
        let (config, mut options) = match server {
            Some(server) => (only(server), ResolverOpts::default()),
            None => read_system_conf().unwrap_or_else(|error| {
                // As the C library does.
                tracing::warn!(%error, "resolv.conf is unusable, asking 127.0.0.1 for names");
                (only(SocketAddr::from((Ipv4Addr::LOCALHOST, 53))), ResolverOpts::default())
            }),
        };
        options.cache_size = 0;
        let (search, ndots) = (config.search().to_vec(), options.ndots);
        let provider = TokioRuntimeProvider::default();
        let dns = TokioResolver::builder_with_config(config, provider).with_options(options).build()?;
        Ok(Self(Arc::new(Inner { dns, search, ndots, slots: Semaphore::new(LOOKUPS_MAX) })))
    }

    /// Asks for the addresses of a name. Waits for its turn, then no longer than the lookup timeout.
    pub(super) async fn lookup(&self, host: &str, family: Family) -> Asked {
        let _slot = self.0.slots.acquire().await;
        timeout(LOOKUP_TIMEOUT, self.search(host, family)).await.map_err(|_| LookupFailure::Timeout)?
    }

    async fn search(&self, host: &str, family: Family) -> Asked {
        for name in candidates(host, &self.0.search, self.0.ndots)? {
            match self.family(&name, family).await? {
                Answer::Nothing => {}
                found @ Answer::Addresses(..) => return Ok(found),
            }
        }
        Ok(Answer::Nothing)
    }

    async fn family(&self, name: &Name, family: Family) -> Asked {
        let (v4, v6) = (|| self.ask(name, RecordType::A), || self.ask(name, RecordType::AAAA));
        match family {
            Family::V4 => v4().await,
            Family::V6 => v6().await,
            Family::All => {
                let (v4, v6) = tokio::join!(v4(), v6());
                both(v4, v6)
            }
            Family::V4Preferred => match v4().await {
                Ok(found @ Answer::Addresses(..)) => Ok(found),
                other => both(other, v6().await),
            },
            Family::V6Preferred => match v6().await {
                Ok(found @ Answer::Addresses(..)) => Ok(found),
                other => both(other, v4().await),
            },
        }
    }

    async fn ask(&self, name: &Name, kind: RecordType) -> Asked {
        let lookup = match self.0.dns.lookup(name.clone(), kind).await {
            Ok(lookup) => lookup,
            Err(NetError::Dns(DnsError::NoRecordsFound(_))) => return Ok(Answer::Nothing),
            Err(error) => return Err(error.into()),
        };
        let addresses: Vec<_> = lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
        let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
        let ttl = Duration::from_secs(ttl.into());
        Ok(if addresses.is_empty() { Answer::Nothing } else { Answer::Addresses(addresses, ttl) })
    }
}

fn only(server: SocketAddr) -> ResolverConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    ResolverConfig::from_parts(None, Vec::new(), vec![NameServerConfig::new(server.ip(), true, connections.into())])
}

/// The answers about both families as one. A failure counts only where the other family has no address: what is left
/// unsaid may be the only one there is.
fn both(first: Asked, second: Asked) -> Asked {
    match (first, second) {
        (Ok(Answer::Addresses(mut first, one)), Ok(Answer::Addresses(second, other))) => {
            first.extend(second);
            Ok(Answer::Addresses(first, one.min(other)))
        }
        (Ok(found @ Answer::Addresses(..)), _) | (_, Ok(found @ Answer::Addresses(..))) => Ok(found),
        (Err(error), _) | (_, Err(error)) => Err(error),
        (Ok(Answer::Nothing), Ok(Answer::Nothing)) => Ok(Answer::Nothing),
    }
}

/// The absolute names that a name may stand for, the likeliest first.
fn candidates(host: &str, search: &[Name], ndots: usize) -> Result<Vec<Name>, ProtoError> {
    let name = Name::from_utf8(host)?;
    if name.is_fqdn() {
        return Ok(vec![name]);
    }
    let dots = usize::from(name.num_labels()).saturating_sub(1);
    // A completion that is too long to be a name is none.
    let completed = search.iter().filter_map(|domain| name.clone().append_domain(domain).ok());
    let mut absolute = name.clone();
    absolute.set_fqdn(true);
    let mut names: Vec<Name> = completed.collect();
    names.insert(if dots >= ndots { 0 } else { names.len() }, absolute);
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_resolv_conf_says() {
        let search = ["corp.example", "example"].map(|domain| Name::from_utf8(domain).expect("a name"));
        for (host, ndots, expected) in [
            ("db", 1, vec!["db.corp.example.", "db.example.", "db."]),
            ("db.prod", 1, vec!["db.prod.", "db.prod.corp.example.", "db.prod.example."]),
            ("db.prod", 5, vec!["db.prod.corp.example.", "db.prod.example.", "db.prod."]),
            ("db.prod.", 5, vec!["db.prod."]),
        ] {
            let names = candidates(host, &search, ndots).expect("a name");
            assert_eq!(names.iter().map(Name::to_ascii).collect::<Vec<_>>(), expected, "{host}");
        }
        assert!(candidates(&"x".repeat(64), &search, 1).is_err());
    }

    #[test]
    fn only_two_answers_make_a_name_without_address() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let second = Duration::from_secs(1);
        let v4 = || Ok(Answer::Addresses(vec![ip("10.0.0.1")], 2 * second));
        let v6 = || Ok(Answer::Addresses(vec![ip("::1")], second));
        let nothing = || Ok(Answer::Nothing);
        let failed = || Err(LookupFailure::Timeout);
        let answer = |asked: Asked| asked.ok();
        assert_eq!(answer(both(v4(), v6())), Some(Answer::Addresses(vec![ip("10.0.0.1"), ip("::1")], second)));
        assert_eq!(answer(both(v4(), failed())), answer(v4()));
        assert_eq!(answer(both(nothing(), v6())), answer(v6()));
        assert_eq!(answer(both(nothing(), nothing())), Some(Answer::Nothing));
        assert_eq!(answer(both(nothing(), failed())), None);
        assert_eq!(answer(both(failed(), nothing())), None);
    }
}
