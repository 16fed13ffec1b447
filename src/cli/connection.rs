//! How the key verbs reach a store: etcdctl's flags, its environment, and the defaults.

use super::{
    duration,
    failure::Failure,
    output::{Format, Printer},
};
use client::{Client, Config};
use std::{path::PathBuf, time::Duration};

/// Flags of every key verb, accepted before the verb too, as etcdctl does. A flag wins over the environment.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Connection and output")]
pub(crate) struct Flags {
    /// Endpoints, separated by commas [env: `ETCDCTL_ENDPOINTS`] [default: 127.0.0.1:2379]
    #[arg(long, value_name = "URL,…", value_delimiter = ',')]
    pub(crate) endpoints: Option<Vec<String>>,
    /// PEM file of the authorities to trust; speaks TLS [env: `ETCDCTL_CACERT`]
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// PEM file of the certificate to show [env: `ETCDCTL_CERT`]
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// PEM file of its key [env: `ETCDCTL_KEY`]
    #[arg(id = "private_key", long = "key", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Longest wait for a connection [env: `ETCDCTL_DIAL_TIMEOUT`] [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) dial_timeout: Option<Duration>,
    /// Longest time for one command [env: `ETCDCTL_COMMAND_TIMEOUT`] [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) command_timeout: Option<Duration>,
    /// Output format [env: `ETCDCTL_WRITE_OUT`] [default: simple]
    #[arg(short = 'w', long, value_enum)]
    pub(crate) write_out: Option<Format>,
    /// Print keys and values in hexadecimal
    #[arg(long)]
    pub(crate) hex: bool,
}

/// What the flags of a key verb come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    /// At least one. Default `127.0.0.1:2379`.
    pub(crate) endpoints: Vec<String>,
    /// Default none: plain text.
    pub(crate) cacert: Option<PathBuf>,
    /// Certificate and key. Default none.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// Default 2 s.
    pub(crate) dial_timeout: Duration,
    /// Default 5 s.
    pub(crate) command_timeout: Duration,
    /// Default simple.
    pub(crate) printer: Printer,
}

impl Default for Connection {
    fn default() -> Self {
        let Config { endpoints, connect_timeout, request_timeout, .. } = Config::default();
        Self {
            endpoints,
            cacert: None,
            identity: None,
            dial_timeout: connect_timeout,
            command_timeout: request_timeout,
            printer: Printer::default(),
        }
    }
}

impl Flags {
    /// These flags where they are given, else those before the verb.
    fn or(self, before: Self) -> Self {
        Self {
            endpoints: self.endpoints.or(before.endpoints),
            cacert: self.cacert.or(before.cacert),
            cert: self.cert.or(before.cert),
            key: self.key.or(before.key),
            dial_timeout: self.dial_timeout.or(before.dial_timeout),
            command_timeout: self.command_timeout.or(before.command_timeout),
            write_out: self.write_out.or(before.write_out),
            hex: self.hex || before.hex,
        }
    }

    /// Lays the environment over the defaults, and the flags over both.
    pub(crate) fn resolve(self, before: Self, env: impl Fn(&str) -> Option<String>) -> Result<Connection, Failure> {
        let flags = self.or(before);
        let env = |name: &str| env(&format!("ETCDCTL_{name}")).filter(|value| !value.is_empty());
        let span = |flag: Option<Duration>, name: &str, default: Duration| match (flag, env(name)) {
            (Some(span), _) => Ok(span),
            (None, Some(text)) => {
                duration::parse(&text).map_err(|error| Failure::bad_args(format!("ETCDCTL_{name}: {error}")))
            }
            (None, None) => Ok(default),
        };
        let default = Connection::default();
        let listed = env("ENDPOINTS").map(|list| list.split(',').map(str::to_owned).collect());
        let cert = flags.cert.or_else(|| env("CERT").map(PathBuf::from));
        let key = flags.key.or_else(|| env("KEY").map(PathBuf::from));
        let identity = match (cert, key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert, key)),
            _ => return Err(Failure::bad_args("--cert and --key go together")),
        };
        let format = match (flags.write_out, env("WRITE_OUT")) {
            (Some(format), _) => format,
            (None, Some(name)) => Format::named(&name).map_err(Failure::bad_args)?,
            (None, None) => default.printer.format,
        };
        Ok(Connection {
            endpoints: flags.endpoints.or(listed).unwrap_or(default.endpoints),
            cacert: flags.cacert.or_else(|| env("CACERT").map(PathBuf::from)),
            identity,
            dial_timeout: span(flags.dial_timeout, "DIAL_TIMEOUT", default.dial_timeout)?,
            command_timeout: span(flags.command_timeout, "COMMAND_TIMEOUT", default.command_timeout)?,
            printer: Printer { format, hex: flags.hex },
        })
    }
}

impl Connection {
    /// A client of all endpoints.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        self.client_of(self.endpoints.clone())
    }

    /// A client of these endpoints.
    pub(crate) fn client_of(&self, endpoints: Vec<String>) -> Result<Client, Failure> {
        let identity = self.identity.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
        let tls = match (&self.cacert, identity) {
            (Some(cacert), identity) => Some(
                tls::web::client_config(cacert, identity, tls::H2)
                    .map_err(|error| Failure::bad_args(format!("TLS: {error}")))?,
            ),
            (None, Some(_)) => return Err(Failure::bad_args("--cert needs --cacert: say which authority to trust")),
            (None, None) => None,
        };
        let config = Config {
            endpoints,
            tls,
            connect_timeout: self.dial_timeout,
            request_timeout: self.command_timeout,
            ..Config::default()
        };
        Client::connect(&config).map_err(|error| Failure::bad_args(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        let pairs = [
            ("ETCDCTL_ENDPOINTS", "a:1,b:2"),
            ("ETCDCTL_CACERT", "/ca"),
            ("ETCDCTL_COMMAND_TIMEOUT", "9s"),
            ("ETCDCTL_WRITE_OUT", "json"),
            ("ETCDCTL_CERT", ""),
        ];
        pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn nothing_said_is_the_defaults() {
        let connection = Flags::default().resolve(Flags::default(), |_| None).unwrap();
        assert_eq!(connection, Connection::default());
        assert_eq!(connection.endpoints, ["127.0.0.1:2379"]);
        assert_eq!((connection.dial_timeout.as_secs(), connection.command_timeout.as_secs()), (2, 5));
    }

    #[test]
    fn the_verb_s_flags_win_over_those_before_it_and_those_over_the_environment() {
        let verb = Flags { endpoints: Some(vec!["verb:1".into()]), ..Flags::default() };
        let before = Flags {
            endpoints: Some(vec!["before:1".into()]),
            command_timeout: Some(Duration::from_secs(7)),
            ..Flags::default()
        };
        let connection = verb.resolve(before, environment).unwrap();
        assert_eq!(connection.endpoints, ["verb:1"]);
        assert_eq!(connection.command_timeout, Duration::from_secs(7));
        assert_eq!(connection.cacert, Some(PathBuf::from("/ca")));
        assert_eq!(connection.printer.format, Format::Json);
        let connection = Flags::default().resolve(Flags::default(), environment).unwrap();
        assert_eq!(connection.endpoints, ["a:1", "b:2"]);
        assert_eq!(connection.command_timeout, Duration::from_secs(9));
    }

    #[test]
    fn a_certificate_needs_its_key_and_an_authority() {
        let half = Flags { cert: Some("c".into()), ..Flags::default() };
        assert!(half.clone().resolve(Flags::default(), |_| None).is_err());
        let whole = Flags { key: Some("k".into()), ..half };
        assert!(whole.resolve(Flags::default(), |_| None).unwrap().client().is_err());
    }
}
