//! `cluster join`: from an invitation to a data directory.

use std::{
    io::{self, Write},
    net::{SocketAddr, ToSocketAddrs, UdpSocket},
    path::PathBuf,
};

use client::{Client, ClientError, Config, membership::JoinRequest};
use tls::AuthorityHash;
use types::{Namespace, ServiceAccount};

use super::member_name;
use crate::cli::{
    failed,
    failure::{Exit, Failure},
    logging::Logging,
};

/// Where other members connect by default.
const PEER_PORT: u16 = 2380;

/// Makes a data directory of a member that was invited. Its server is started afterwards, and gets its vote once it has
/// caught up. What was cut short is taken up by the same line.
#[derive(Debug, clap::Args)]
#[command(mut_arg("log_level", |level| level.default_value("warn")))]
#[command(after_help = "Example: as `meshstore cluster add` prints it
  meshstore cluster join 10.0.0.1:15012 --name b --token meshstore-join-… --authority 5f…")]
pub(crate) struct JoinArgs {
    /// A member's mesh port
    #[arg(value_name = "HOST:PORT")]
    endpoint: String,
    /// This member's name, as it was invited
    #[arg(long, value_parser = member_name)]
    name: String,
    /// The invitation's secret; others on this machine can see it, unlike in the environment
    #[arg(long, env = "MESHSTORE_JOIN_TOKEN", hide_env_values = true)]
    token: Secret,
    /// The hash by which the cluster's authority is known
    #[arg(long, value_name = "HASH", value_parser = authority)]
    authority: AuthorityHash,
    /// Where everything is kept; nothing may be there yet
    #[arg(long, value_name = "DIR", env = "ETCD_DATA_DIR", default_value = "default.meshstore")]
    data_dir: PathBuf,
    /// Where other members will reach this one [default: this host's address towards the cluster, port 2380]
    #[arg(long, value_name = "URL,…", value_delimiter = ',', env = "ETCD_INITIAL_ADVERTISE_PEER_URLS")]
    initial_advertise_peer_urls: Option<Vec<String>>,
    #[command(flatten)]
    logging: Logging,
}

/// A secret of the command line, never printed.
#[derive(Clone)]
struct Secret(String);

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

fn authority(text: &str) -> Result<AuthorityHash, String> {
    AuthorityHash::parse(text).ok_or_else(|| "not 64 hexadecimal digits".to_owned())
}

impl JoinArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.logging.start()?;
        if let Some(server::Remembered { name, .. }) =
            server::remembered(&self.data_dir).map_err(|error| failed(error.into()))?
        {
            let failure = Failure::bad_args(format!("{} is already member {name}'s", self.data_dir.display()));
            return Err(failure.next("start it by `meshstore server`, or name another --data-dir"));
        }
        let peer_urls = match self.initial_advertise_peer_urls.clone() {
            Some(urls) => urls,
            None => vec![self.own_url()?],
        };
        let client = self.client()?;
        let nonce = server::begin(&self.data_dir).map_err(|error| failed(error.into()))?;
        let request = JoinRequest {
            token: self.token.0.clone(),
            nonce: nonce.to_vec().into(),
            name: self.name.clone(),
            peer_urls: peer_urls.clone(),
        };
        let answer = client.join_cluster(request).await.map_err(not_let_in)?;
        let joined = server::prepare(&self.data_dir, &self.name, &peer_urls, &answer);
        let joined = joined.map_err(|error| failed(error.into()))?;
        let (data_dir, name) = (self.data_dir.display(), &self.name);
        let vote = if answer.learner { "follows without a vote" } else { "gets its vote when it has caught up" };
        writeln!(io::stdout(), "{name} is member {} of cluster {}, and {vote}", joined.member, joined.cluster)?;
        // It must never found a cluster of its own, not even on an empty disk.
        let start = format!("meshstore server --data-dir {data_dir} --initial-cluster-state existing");
        Ok(writeln!(io::stderr(), "start it by: {start}")?)
    }

    fn client(&self) -> Result<Client, Failure> {
        let namespace = Namespace::parse("meshstore-system").expect("a namespace");
        let account = ServiceAccount::parse("server").expect("a service account");
        let tls = tls::pinned_client_config(self.authority, namespace, account, tls::H2);
        let config = Config { endpoints: vec![self.endpoint.clone()], tls: Some(tls), ..Config::default() };
        Client::connect(&config).map_err(|error| Failure::bad_args(error.to_string()))
    }

    /// The address of this host by which it reaches the cluster: nothing is sent to find out.
    fn own_url(&self) -> Result<String, Failure> {
        let unknown = |error: io::Error| {
            let failure =
                Failure::bad_args(format!("cannot tell where {} would reach this host: {error}", self.endpoint));
            failure.next("say it by --initial-advertise-peer-urls https://HOST:2380")
        };
        let local = || {
            let there = self.endpoint.to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
            let any: SocketAddr = if there.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 8], 0).into() };
            let socket = UdpSocket::bind(any)?;
            socket.connect(there)?;
            socket.local_addr()
        };
        let own = local().map_err(unknown)?;
        Ok(format!("https://{}", SocketAddr::new(own.ip(), PEER_PORT)))
    }
}

fn not_let_in(error: ClientError) -> Failure {
    let next = match &error {
        ClientError::Unavailable { text } if text.contains("UnknownIssuer") => {
            "that server is not of the cluster that --authority names"
        }
        ClientError::Unavailable { .. } => "is a member's mesh port there? its server says so by --listen-mesh-addr",
        ClientError::Uncertain { .. } => "say the same again, with the same --data-dir: it is taken up",
        _ => return Failure { next: None, ..error.into() },
    };
    Failure::new(Exit::Error, error.to_string()).next(next)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: JoinArgs,
    }

    #[test]
    fn the_line_that_is_printed_is_the_one_that_is_read() {
        let (hash, token) = (AuthorityHash::of(b"x").to_string(), "meshstore-join-secret");
        let line =
            super::super::JoinLine { endpoint: "127.0.0.1:15012", name: "b", token, authority: &hash }.to_string();
        let words: Vec<_> = line.strip_prefix("meshstore cluster ").unwrap().split(' ').collect();
        let args = Line::try_parse_from(words).unwrap().args;
        assert_eq!((args.name.as_str(), args.authority.to_string()), ("b", hash));
        assert_eq!(args.own_url().unwrap(), "https://127.0.0.1:2380");
        assert!(!format!("{args:?}").contains("secret"));
    }
}
