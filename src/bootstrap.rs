//! Founding a trust domain on a data directory.
//!
//! - Everything goes through the log, as it does later: the authority's certificates, the join tokens, the
//!   administrator's certificate. What is not in the log was not issued.
//! - Run again after an interruption it goes on where it stopped: the authority is made once.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use ca::{Authority, Issuer, JoinToken, LedgerCommand, Time};
use server::{Member, workload_custody};
use tls::AuthorityHash;
use types::{Namespace, ServiceAccount, TrustDomain};

/// How long the administrator's certificate lives.
const ADMIN_TTL: Duration = Duration::from_hours(365 * 24);
/// How long the join tokens are good for that bootstrap makes: time to carry them to other machines.
const TOKEN_TTL: Duration = Duration::from_hours(24);

/// What to found, and for whom to make join tokens.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The member on whose data directory the trust domain is founded; it must not be running.
    pub(crate) member: server::Config,
    /// The name of the trust domain.
    pub(crate) trust_domain: TrustDomain,
    /// Where the administrator's credential and the tokens go.
    pub(crate) credentials_dir: PathBuf,
    /// Identities that may join, and how many tokens each gets.
    pub(crate) join: Vec<(Namespace, ServiceAccount, usize)>,
    /// Names of members that are invited.
    pub(crate) invite: Vec<String>,
}

/// What was written where.
#[derive(Clone, Debug)]
pub(crate) struct Bootstrapped {
    /// The administrator's certificate, its key, and the trust bundle.
    pub(crate) credentials: [PathBuf; 3],
    /// One file a token.
    pub(crate) tokens: Vec<PathBuf>,
    /// Names the authority of whom invitations may be shown to.
    pub(crate) authority: AuthorityHash,
    /// Names of invited members, and the secret by which each joins.
    pub(crate) invitations: Vec<(String, JoinToken)>,
}

/// Founds the trust domain and writes the credentials.
///
/// # Errors
/// If the data directory is in use or belongs to another trust domain, or the credentials cannot be written.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<Bootstrapped> {
    make_private(&settings.credentials_dir)?;
    let member = Member::start(settings.member.clone()).await?;
    let outcome = found(&member, settings).await;
    member.shutdown().await?;
    outcome
}

async fn found(member: &Member, settings: &Settings) -> anyhow::Result<Bootstrapped> {
    let custody = workload_custody(&settings.member.data_dir);
    let log = member.ledger_log();
    if let Some(genesis) = member.ledger().genesis()? {
        let theirs = genesis.trust_domain;
        ensure!(theirs == settings.trust_domain, "this data directory already serves the trust domain {theirs}");
    } else {
        let genesis = custody.found(&settings.trust_domain, Time::now())?;
        log.propose(LedgerCommand::Genesis(genesis)).await??;
    }
    member.found_member_authority()?;
    let authority = Arc::new(Authority::open(&custody, member.ledger())?);
    let issuer = Issuer::new(log, member.ledger(), authority, ca::Config::default());
    let credentials = write_admin(&issuer, settings).await?;
    let tokens = write_tokens(&issuer, settings).await?;
    let genesis = member.ledger().genesis()?.context("the authority was founded above")?;
    let mut invitations = Vec::new();
    for name in &settings.invite {
        let (token, _) = issuer.invite(name.clone(), false, Some(TOKEN_TTL)).await?;
        invitations.push((name.clone(), token));
    }
    Ok(Bootstrapped { credentials, tokens, authority: AuthorityHash::of(&genesis.issuing), invitations })
}

async fn write_admin(issuer: &Issuer, settings: &Settings) -> anyhow::Result<[PathBuf; 3]> {
    let id = Issuer::admin_id(&settings.trust_domain);
    let admin = issuer.issue_own(id, Vec::new(), Vec::new(), ADMIN_TTL).await?;
    let paths = ["admin.crt", "admin.key", "ca.crt"].map(|name| settings.credentials_dir.join(name));
    write_private(&paths[0], admin.certificate().shown_pem().as_bytes())?;
    write_private(&paths[1], admin.key_pem().as_bytes())?;
    write_private(&paths[2], admin.certificate().root_pem().as_bytes())?;
    Ok(paths)
}

/// Numbers of tokens go on after those that are there already.
async fn write_tokens(issuer: &Issuer, settings: &Settings) -> anyhow::Result<Vec<PathBuf>> {
    let folder = settings.credentials_dir.join("tokens");
    make_private(&folder)?;
    let mut written = Vec::new();
    for (namespace, account, count) in &settings.join {
        let mut free =
            (1..).map(|n: usize| folder.join(format!("{namespace}.{account}.{n}"))).filter(|path| !path.exists());
        for path in free.by_ref().take(*count) {
            let (token, ..) = issuer.create_token(namespace.clone(), account.clone(), Some(TOKEN_TTL)).await?;
            write_private(&path, token.reveal().as_bytes())?;
            written.push(path);
        }
    }
    Ok(written)
}

fn make_private(path: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make {}", path.display()))
}

fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    tls::write_private(path, content).with_context(|| format!("cannot write {}", path.display()))
}
