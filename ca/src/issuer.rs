//! The edge of the authority: from a proof and a public key to a certificate.
//!
//! Owns: the clock and the randomness that go into commands, and the limits on work under way.
//!
//! - Nobody is answered before the ledger has the entry on this member.
//! - A bearer of no known token never reaches the log.
//! - A full issuer says so at once; signatures are made off the async workers, as many at a time as there are cores.

mod credential;
mod invite;
mod timekeeper;

use std::{net::IpAddr, num::NonZero, sync::Arc, thread, time::Duration};

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::info;
use types::{Namespace, ServiceAccount, SpiffeId, TrustDomain};

pub use credential::{Certificate, Credential};
pub use timekeeper::keep_time;

use crate::{
    authority::{Authority, AuthorityError, SignError, generate, random_serial},
    csr::{self, CsrError},
    ledger::{
        Caller, CreateToken, Genesis, Issue, LedgerAnswer, LedgerCommand, LedgerError, LedgerView, Place, Profile,
        Refusal, SYSTEM_NAMESPACE,
    },
    log::{Log, LogError},
    profile,
    time::Time,
    token::JoinToken,
};

/// How often a serial number is drawn before we give up: twice the same of 126 random bits means that they are not.
const SERIAL_DRAWS: usize = 3;

/// Limits of issuing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a certificate lives that is asked for by a token or a workload, unless it asks for less. Default 24 h.
    pub svid_ttl: Duration,
    /// The least that can be asked for. Default 1 min.
    pub svid_ttl_min: Duration,
    /// How long a join token is good for, unless said otherwise. Default 1 h.
    pub token_ttl: Duration,
    /// The longest that can be said. Default 7 days.
    pub token_ttl_max: Duration,
    /// Requests under way at once; more are refused at once. Default 256.
    pub requests_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            svid_ttl: Duration::from_hours(24),
            svid_ttl_min: Duration::from_mins(1),
            token_ttl: Duration::from_hours(1),
            token_ttl_max: Duration::from_hours(7 * 24),
            requests_max: 256,
        }
    }
}

/// Why there is no certificate, or no token.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The request for a certificate is unusable. Do not repeat it.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// The bearer's token is not one of ours, or is no longer.
    #[error("the join token is not accepted")]
    Unauthenticated,
    /// Decided at apply.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Something that is asked for is out of its bounds.
    #[error("{0}")]
    Invalid(String),
    /// Too many requests are under way. Try later.
    #[error("too many certificate requests are under way")]
    Busy,
    /// There is no leader now. Try again; a repeated request is answered with the same certificate.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The entry is in the ledger, and could not be signed here.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A key or random bytes could not be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A task of ours died.
    #[error("signing was cut short")]
    Cut,
}

/// Issues certificates and join tokens.
pub struct Issuer {
    log: Arc<dyn Log>,
    ledger: LedgerView,
    authority: Arc<Authority>,
    config: Config,
    requests: Semaphore,
    crypto: Semaphore,
}

/// What is asked for, once the caller is proven.
struct Order {
    caller: Caller,
    spiffe_id: SpiffeId,
    dns: Vec<String>,
    ips: Vec<IpAddr>,
    spki: Bytes,
    ttl: Duration,
}

impl Issuer {
    /// Issues through `log`, of which `ledger` shows what this member has applied.
    pub fn new(log: Arc<dyn Log>, ledger: LedgerView, authority: Arc<Authority>, config: Config) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let requests = Semaphore::new(config.requests_max);
        Self { log, ledger, authority, config, requests, crypto: Semaphore::new(cores) }
    }

    /// The ledger that it issues through.
    pub fn ledger(&self) -> &LedgerView {
        &self.ledger
    }

    /// The trust domain that it vouches for.
    pub fn trust_domain(&self) -> Result<TrustDomain, IssueError> {
        self.genesis().map(|genesis| genesis.trust_domain)
    }

    /// The identity of the cluster's administrator.
    pub fn admin_id(trust_domain: &TrustDomain) -> SpiffeId {
        system_id(trust_domain, "admin")
    }

    /// The identity of the cluster's servers.
    pub fn server_id(trust_domain: &TrustDomain) -> SpiffeId {
        system_id(trust_domain, "server")
    }

    /// A certificate for the bearer of a join token. `csr`: PEM; `ttl`: as long as allowed if `None`.
    pub async fn join(&self, token: &JoinToken, csr: String, ttl: Option<Duration>) -> Result<Certificate, IssueError> {
        let _request = self.request()?;
        let hash = token.hash();
        let spiffe_id = self.ledger.token_identity(&hash, Time::now())?.ok_or(IssueError::Unauthenticated)?;
        self.answer_csr(Caller::Token(hash), spiffe_id, csr, ttl).await
    }

    /// A certificate for a workload that has proven `id` by mTLS. `csr`: PEM; `ttl`: as long as allowed if `None`.
    pub async fn renew(&self, id: SpiffeId, csr: String, ttl: Option<Duration>) -> Result<Certificate, IssueError> {
        let _request = self.request()?;
        self.answer_csr(Caller::Svid(id.clone()), id, csr, ttl).await
    }

    /// A key of ours and its certificate: the administrator's at bootstrap, or this member's own. `ttl`: at most 366
    /// days, and never beyond the issuing certificate's end.
    pub async fn issue_own(
        &self,
        spiffe_id: SpiffeId,
        dns: Vec<String>,
        ips: Vec<IpAddr>,
        ttl: Duration,
    ) -> Result<Credential, IssueError> {
        let (key, pkcs8) = generate()?;
        let spki = crate::authority::public_half(&key)?.0.into();
        let certificate = self.order(Order { caller: Caller::Admin, spiffe_id, dns, ips, spki, ttl }).await?;
        Ok(Credential::new(certificate, pkcs8.as_ref()))
    }

    /// Makes a join token for one identity. `ttl`: as configured if `None`. Gives also when it expires.
    pub async fn create_token(
        &self,
        namespace: Namespace,
        service_account: ServiceAccount,
        ttl: Option<Duration>,
    ) -> Result<(JoinToken, SpiffeId, Time), IssueError> {
        let ttl = self.token_ttl(ttl)?;
        let spiffe_id = SpiffeId::new(self.trust_domain()?, namespace, service_account);
        let (token, time) = (JoinToken::random()?, Time::now());
        let expires = time.plus(ttl);
        let command = CreateToken { time, token_hash: token.hash(), spiffe_id: spiffe_id.clone(), expires };
        self.log.propose(LedgerCommand::CreateToken(command)).await??;
        info!(%spiffe_id, %expires, "join token created");
        Ok((token, spiffe_id, expires))
    }

    fn token_ttl(&self, asked: Option<Duration>) -> Result<Duration, IssueError> {
        let ttl = asked.unwrap_or(self.config.token_ttl);
        if ttl.is_zero() || ttl > self.config.token_ttl_max {
            let most = self.config.token_ttl_max.as_secs();
            return Err(IssueError::Invalid(format!("a join token lives 1 to {most} seconds")));
        }
        Ok(ttl)
    }

    async fn answer_csr(
        &self,
        caller: Caller,
        spiffe_id: SpiffeId,
        csr: String,
        ttl: Option<Duration>,
    ) -> Result<Certificate, IssueError> {
        let longest = self.config.svid_ttl;
        let ttl = ttl.map_or(longest, |asked| asked.clamp(self.config.svid_ttl_min.min(longest), longest));
        let spki = self.compute(move || csr::public_key(&csr)).await??;
        self.order(Order { caller, spiffe_id, dns: Vec::new(), ips: Vec::new(), spki, ttl }).await
    }

    /// Commits the order, then has its entry signed.
    async fn order(&self, order: Order) -> Result<Certificate, IssueError> {
        let genesis = self.genesis()?;
        let place = self.commit(order).await?;
        let authority = self.authority.clone();
        let leaf = self.compute(move || authority.sign(place)).await??;
        let record = self.ledger.issued(place)?.ok_or(SignError::NotIssued(place))?;
        let serial = profile::hex(&record.serial);
        info!(spiffe_id = %record.spiffe_id, serial, %place, index = record.log_index, "certificate issued");
        Ok(Certificate { record, leaf, issuing: genesis.issuing, root: genesis.root })
    }

    async fn commit(&self, order: Order) -> Result<Place, IssueError> {
        let mut issue = Issue {
            time: Time::now(),
            profile: Profile::SvidV1,
            issuer_key: self.authority.key_id(),
            caller: order.caller,
            spiffe_id: order.spiffe_id,
            dns: order.dns,
            ips: order.ips,
            spki: order.spki,
            serial: random_serial()?,
            ttl_seconds: u32::try_from(order.ttl.as_secs()).unwrap_or(u32::MAX),
        };
        for _ in 1..SERIAL_DRAWS {
            match self.propose(issue.clone()).await {
                Err(IssueError::Refused(Refusal::SerialTaken)) => issue.serial = random_serial()?,
                decided => return decided,
            }
        }
        self.propose(issue).await
    }

    async fn propose(&self, issue: Issue) -> Result<Place, IssueError> {
        match self.log.propose(LedgerCommand::Issue(issue)).await?? {
            LedgerAnswer::Issued(place) => Ok(place),
            LedgerAnswer::Recorded(_) | LedgerAnswer::Admitted(_) | LedgerAnswer::Time(_) => Err(IssueError::Cut),
        }
    }

    fn genesis(&self) -> Result<Genesis, IssueError> {
        self.ledger.genesis()?.ok_or(IssueError::Refused(Refusal::NotFounded))
    }

    fn request(&self) -> Result<SemaphorePermit<'_>, IssueError> {
        self.requests.try_acquire().map_err(|_| IssueError::Busy)
    }

    /// Runs cryptography off the async workers.
    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, IssueError> {
        let _core = self.crypto.acquire().await.map_err(|_| IssueError::Cut)?;
        tokio::task::spawn_blocking(work).await.map_err(|_| IssueError::Cut)
    }
}

fn system_id(trust_domain: &TrustDomain, account: &str) -> SpiffeId {
    let namespace = Namespace::parse(SYSTEM_NAMESPACE).expect("a DNS label");
    let account = ServiceAccount::parse(account).expect("a DNS label");
    SpiffeId::new(trust_domain.clone(), namespace, account)
}

#[cfg(test)]
mod tests;
