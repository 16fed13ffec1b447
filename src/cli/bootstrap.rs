//! `cluster bootstrap`: a trust domain on a data directory.

use super::{
    cluster, failed, failure::Failure, logging::Logging, mesh::default_mesh_address, server::MemberFlags, token,
};
use crate::bootstrap::{self, Settings};
use std::{
    io::{self, Write},
    path::PathBuf,
};
use types::{Namespace, ServiceAccount, TrustDomain};

/// Founds a cluster on this host: its authorities, the administrator's credential, join tokens; and prints the line by
/// which the next member joins.
///
/// The server of that data directory must not be running. It keeps the name and peer URLs that are given here.
#[derive(Debug, clap::Args)]
#[command(mut_arg("log_level", |level| level.default_value("warn")))]
#[command(
    after_help = "Examples: a cluster of one, and three tokens for the gateway's account; the first of three members
  meshstore cluster bootstrap --data-dir default.meshstore --credentials-dir credentials --join-token default/gateway=3
  meshstore cluster bootstrap --name a --initial-advertise-peer-urls https://10.0.0.1:2380 --invite b --invite c"
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
    /// Invite a member of this name, for a day; may be repeated [default: member-2, if others are told an https URL]
    #[arg(long, value_name = "NAME", value_parser = super::cluster::member_name)]
    invite: Vec<String>,
    /// Where invited members will find this one's mesh port [default: the host of the peer URL, port 15012]
    #[arg(long, value_name = "HOST:PORT")]
    join_endpoint: Option<String>,
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
        let endpoint = self.join_endpoint.clone();
        let settings = self.resolve()?;
        let done = bootstrap::run(&settings).await.map_err(failed)?;
        let mut stdout = io::stdout().lock();
        for path in done.credentials.iter().chain(&done.tokens) {
            writeln!(stdout, "{}", path.display())?;
        }
        if done.invitations.is_empty() {
            return Ok(());
        }
        let endpoint = endpoint.or_else(|| mesh_endpoint(&settings.member)).unwrap_or_default();
        let data_dir = settings.member.data_dir.display();
        writeln!(
            io::stderr(),
            "\nStart this member, so that others reach it:\n  meshstore server --data-dir {data_dir} \
             --listen-mesh-addr {endpoint} --initial-cluster-state existing\nThen, on the next host (the invitation is good once, for a day):"
        )?;
        for (name, token) in &done.invitations {
            let authority = done.authority.to_string();
            let line = cluster::JoinLine { endpoint: &endpoint, name, token: token.reveal(), authority: &authority };
            writeln!(stdout, "{line}")?;
        }
        Ok(())
    }

    fn resolve(self) -> Result<Settings, Failure> {
        self.member.check()?;
        let member = self.member.resolve();
        let mut invite = self.invite;
        match mesh_endpoint(&member) {
            Some(_) if invite.is_empty() => invite.push("member-2".to_owned()),
            None if !invite.is_empty() => {
                let failure = Failure::bad_args("other members can not reach this one");
                return Err(failure.next("say where by --initial-advertise-peer-urls https://HOST:2380"));
            }
            _ => {}
        }
        Ok(Settings {
            member,
            trust_domain: self.trust_domain,
            credentials_dir: self.credentials_dir,
            join: self.join,
            invite,
        })
    }
}

/// The mesh port of a member on the host that its peers are told, if they are told one where TLS is spoken.
fn mesh_endpoint(member: &server::Config) -> Option<String> {
    let url = member.advertise_peer_urls.iter().find_map(|url| url.strip_prefix("https://"))?;
    let (host, _) = url.trim_end_matches('/').rsplit_once(':')?;
    Some(format!("{host}:{}", default_mesh_address().port()))
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
        let member = Line::try_parse_from(flags.iter().chain(&token)).unwrap().args.resolve().unwrap().member;
        assert_eq!((member.name.as_str(), member.cluster_token.as_str()), ("a", "mesh"));
        assert_eq!(
            (member.advertise_peer_urls, member.data_dir),
            (vec!["http://10.0.0.1:2380".to_owned()], "/d".into())
        );
    }

    #[test]
    fn the_next_member_is_invited_where_it_can_reach_this_one() {
        let invited = |flags: &[&str]| {
            let line = ["bootstrap", "--data-dir", "/nowhere"].iter().chain(flags);
            Line::try_parse_from(line).unwrap().args.resolve().map(|settings| settings.invite)
        };
        let url = ["--initial-advertise-peer-urls", "https://[::1]:2380"];
        assert_eq!(invited(&[]).unwrap(), [""; 0]);
        assert_eq!(invited(&url).unwrap(), ["member-2"]);
        assert_eq!(invited(&[&url[..], &["--invite", "b", "--invite", "c"]].concat()).unwrap(), ["b", "c"]);
        assert!(invited(&["--invite", "b"]).is_err());
        let member = server::Config { advertise_peer_urls: vec![url[1].to_owned()], ..server::Config::default() };
        assert_eq!(mesh_endpoint(&member).as_deref(), Some("[::1]:15012"));
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
