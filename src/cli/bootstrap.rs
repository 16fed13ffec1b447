//! `cluster bootstrap`: a trust domain on a data directory.

use super::{failed, failure::Failure, logging::Logging, server::MemberFlags, token};
use crate::bootstrap::{self, Settings};
use std::{
    io::{self, Write},
    path::PathBuf,
};
use types::{Namespace, ServiceAccount, TrustDomain};

/// Founds the cluster's trust domain: its authority, the administrator's credential, join tokens.
///
/// The server of that data directory must not be running, and must later be started with the same member flags: its
/// name, peer URLs and cluster token make its identity.
#[derive(Debug, clap::Args)]
#[command(mut_arg("log_level", |level| level.default_value("warn")))]
#[command(
    after_help = "Examples: a trust domain, and three tokens for the gateway's account; and a member with a name of its own
  meshstore cluster bootstrap --data-dir default.meshstore --credentials-dir credentials --join-token default/gateway=3
  meshstore cluster bootstrap --name a --initial-advertise-peer-urls http://10.0.0.1:2380 --initial-cluster-token mesh"
)]
pub(crate) struct Args {
    /// Name of the trust domain
    #[arg(long, value_name = "NAME", default_value = "cluster.local", value_parser = TrustDomain::parse)]
    trust_domain: TrustDomain,
    /// Where admin.crt, admin.key, ca.crt and tokens/ are written
    #[arg(long, value_name = "DIR", default_value = "credentials")]
    credentials_dir: PathBuf,
    /// Make join tokens for an identity, 1 where COUNT is left out; may be repeated
    #[arg(long = "join-token", value_name = "NAMESPACE/SERVICE_ACCOUNT[=COUNT]", value_parser = join)]
    join: Vec<(Namespace, ServiceAccount, usize)>,
    #[command(flatten)]
    member: MemberFlags,
    #[command(flatten)]
    logging: Logging,
}

fn join(text: &str) -> Result<(Namespace, ServiceAccount, usize), String> {
    let (identity, count) = text.split_once('=').unwrap_or((text, "1"));
    let (namespace, account) = token::identity(identity)?;
    let count = count.parse().ok().filter(|count| *count > 0);
    Ok((namespace, account, count.ok_or_else(|| format!("{text:?}: COUNT is not a number above 0"))?))
}

impl Args {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.logging.start()?;
        let done = bootstrap::run(&self.resolve()).await.map_err(failed)?;
        let mut stdout = io::stdout().lock();
        for path in done.credentials.iter().chain(&done.tokens) {
            writeln!(stdout, "{}", path.display())?;
        }
        Ok(())
    }

    fn resolve(self) -> Settings {
        let member = self.member.resolve();
        Settings { member, trust_domain: self.trust_domain, credentials_dir: self.credentials_dir, join: self.join }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_member_is_founded_with_the_flags_that_its_server_has() {
        let flags = ["bootstrap", "--name", "a", "--initial-advertise-peer-urls", "http://10.0.0.1:2380"];
        let token = ["--initial-cluster-token", "mesh", "--data-dir", "/d"];
        let member = Line::try_parse_from(flags.iter().chain(&token)).unwrap().args.resolve().member;
        assert_eq!((member.name.as_str(), member.cluster_token.as_str()), ("a", "mesh"));
        assert_eq!(
            (member.advertise_peer_urls, member.data_dir),
            (vec!["http://10.0.0.1:2380".to_owned()], "/d".into())
        );
    }

    #[test]
    fn it_is_quiet_unless_told_otherwise() {
        let level = |line: &[&str]| Line::try_parse_from(line).unwrap().args.logging.level().to_owned();
        assert_eq!(level(&["bootstrap"]), "warn");
        assert_eq!(level(&["bootstrap", "--log-level", "debug"]), "debug");
    }

    #[test]
    fn a_join_token_names_an_identity_and_a_count() {
        let read = |text| join(text).map(|(namespace, account, count)| format!("{namespace} {account} {count}")).ok();
        let cases = [
            ("default/gateway", Some("default gateway 1")),
            ("default/gateway=3", Some("default gateway 3")),
            ("default/gateway=0", None),
            ("default/gateway=x", None),
            ("gateway", None),
            ("Default/gateway", None),
            ("default/", None),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text).as_deref(), expected, "{text}");
        }
    }
}
