//! How the key verbs reach a store: etcdctl's flags, its environment, and the defaults.

use super::{
    duration,
    failure::{Exit, Failure},
    named::NamedFiles,
    output::{Format, Printer},
    password::{self, Secret},
};
use client::{Client, Config, Password, User};
use std::{path::PathBuf, time::Duration};
use tls::{CredentialsError, web::Trust};

/// A server may cut a client that probes more often.
const KEEPALIVE_TIME_MIN: Duration = Duration::from_secs(5);

/// Flags of every key verb, accepted before the verb too, as etcdctl does. A flag wins over the environment.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Connection and output")]
pub(crate) struct Flags {
    /// Endpoints, separated by commas [env: `ETCDCTL_ENDPOINTS`] [default: 127.0.0.1:2379]
    #[arg(long, value_name = "URL,…", value_delimiter = ',')]
    pub(crate) endpoints: Option<Vec<String>>,
    /// PEM file of the authorities to trust; speaks TLS [env: `ETCDCTL_CACERT`] [default: this machine's authorities]
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// PEM file of the certificate to show [env: `ETCDCTL_CERT`]
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// PEM file of its key [env: `ETCDCTL_KEY`]
    #[arg(id = "private_key", long = "key", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Speak plain text to endpoints that do not start with https:// [env: `ETCDCTL_INSECURE_TRANSPORT`] [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(hide_possible_values = true)]
    pub(crate) insecure_transport: Option<bool>,
    /// Take whoever answers for the server: for tests only [env: `ETCDCTL_INSECURE_SKIP_TLS_VERIFY`]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(hide_possible_values = true)]
    pub(crate) insecure_skip_tls_verify: Option<bool>,
    /// User, where the cluster demands them; asks for the password that is left out [env: `ETCDCTL_USER`]
    #[arg(long, value_name = "NAME[:PASSWORD]")]
    pub(crate) user: Option<Secret>,
    /// The user's password; others on this machine can see it, unlike in the environment [env: `ETCDCTL_PASSWORD`]
    #[arg(long, value_name = "PASSWORD")]
    pub(crate) password: Option<Secret>,
    /// Longest wait for a connection [env: `ETCDCTL_DIAL_TIMEOUT`] [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) dial_timeout: Option<Duration>,
    /// Longest time for one command [env: `ETCDCTL_COMMAND_TIMEOUT`] [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) command_timeout: Option<Duration>,
    /// A silent connection is probed this often, 5s at least [env: `ETCDCTL_KEEPALIVE_TIME`] [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) keepalive_time: Option<Duration>,
    /// Longest wait for the answer to a probe [env: `ETCDCTL_KEEPALIVE_TIMEOUT`] [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) keepalive_timeout: Option<Duration>,
    /// Output format [env: `ETCDCTL_WRITE_OUT`] [default: simple]
    #[arg(short = 'w', long, value_enum)]
    pub(crate) write_out: Option<Format>,
    /// Print keys and values in hexadecimal [env: `ETCDCTL_HEX`]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(hide_possible_values = true)]
    pub(crate) hex: Option<bool>,
}

/// What the flags of a key verb come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    /// At least one. Default `127.0.0.1:2379`.
    pub(crate) endpoints: Vec<String>,
    /// Default none: plain text.
    pub(crate) trust: Option<Trust>,
    /// Certificate and key. Default none.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// Default none.
    pub(crate) user: Option<User>,
    /// Default 2 s.
    pub(crate) dial_timeout: Duration,
    /// Default 5 s.
    pub(crate) command_timeout: Duration,
    /// Default 10 s.
    pub(crate) keepalive_time: Duration,
    /// Default 5 s.
    pub(crate) keepalive_timeout: Duration,
    /// Default simple.
    pub(crate) printer: Printer,
    /// What the flags are called by which the files came: those for trust, certificate and key.
    pub(crate) file_flags: [&'static str; 3],
}

/// What they are called for every verb.
const FILE_FLAGS: [&str; 3] = ["--cacert", "--cert", "--key"];

impl Default for Connection {
    fn default() -> Self {
        let config = Config::default();
        Self {
            endpoints: config.endpoints,
            trust: None,
            identity: None,
            user: None,
            dial_timeout: config.connect_timeout,
            command_timeout: config.request_timeout,
            keepalive_time: config.keepalive_interval,
            keepalive_timeout: config.keepalive_timeout,
            printer: Printer::default(),
            file_flags: FILE_FLAGS,
        }
    }
}

impl Flags {
    /// These flags where they are given, else those before the verb.
    pub(crate) fn or(self, before: Self) -> Self {
        Self {
            endpoints: self.endpoints.or(before.endpoints),
            cacert: self.cacert.or(before.cacert),
            cert: self.cert.or(before.cert),
            key: self.key.or(before.key),
            insecure_transport: self.insecure_transport.or(before.insecure_transport),
            insecure_skip_tls_verify: self.insecure_skip_tls_verify.or(before.insecure_skip_tls_verify),
            user: self.user.or(before.user),
            password: self.password.or(before.password),
            dial_timeout: self.dial_timeout.or(before.dial_timeout),
            command_timeout: self.command_timeout.or(before.command_timeout),
            keepalive_time: self.keepalive_time.or(before.keepalive_time),
            keepalive_timeout: self.keepalive_timeout.or(before.keepalive_timeout),
            write_out: self.write_out.or(before.write_out),
            hex: self.hex.or(before.hex),
        }
    }

    /// Lays the environment over the defaults, and the flags over both; asks for a password that is missing.
    pub(crate) async fn resolve(
        self,
        before: Self,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Connection, Failure> {
        let (flags, env) = (self.or(before), Environment(env));
        let default = Connection::default();
        let cert = flags.cert.or_else(|| env.path("CERT"));
        let key = flags.key.or_else(|| env.path("KEY"));
        let identity = match (cert, key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert, key)),
            _ => return Err(Failure::bad_args("--cert and --key go together")),
        };
        let listed = env.get("ENDPOINTS").map(|list| list.split(',').map(str::to_owned).collect());
        let endpoints: Vec<String> = flags.endpoints.or(listed).unwrap_or(default.endpoints);
        let endpoints: Vec<_> = endpoints.iter().map(|endpoint| endpoint.trim().to_owned()).collect();
        let secure = endpoints.iter().any(|endpoint| endpoint.starts_with("https://"))
            || identity.is_some()
            || !env.switch(flags.insecure_transport, "INSECURE_TRANSPORT", true)?;
        let trust = match (
            flags.cacert.or_else(|| env.path("CACERT")),
            env.switch(flags.insecure_skip_tls_verify, "INSECURE_SKIP_TLS_VERIFY", false)?,
        ) {
            (_, true) => Some(Trust::Anybody),
            (Some(file), false) => Some(Trust::File(file)),
            (None, false) => secure.then_some(Trust::System),
        };
        let format = match (flags.write_out, env.get("WRITE_OUT")) {
            (Some(format), _) => format,
            (None, Some(name)) => Format::named(&name).map_err(|text| Failure::new(Exit::BadFeature, text))?,
            (None, None) => default.printer.format,
        };
        let name = flags.user.or_else(|| env.get("USER").map(Secret));
        let password = flags.password.or_else(|| env.get("PASSWORD").map(Secret));
        Ok(Connection {
            endpoints,
            trust,
            identity,
            user: user(name, password, "Password: ").await?,
            dial_timeout: env.span(flags.dial_timeout, "DIAL_TIMEOUT", default.dial_timeout)?,
            command_timeout: env.span(flags.command_timeout, "COMMAND_TIMEOUT", default.command_timeout)?,
            keepalive_time: env
                .span(flags.keepalive_time, "KEEPALIVE_TIME", default.keepalive_time)?
                .max(KEEPALIVE_TIME_MIN),
            keepalive_timeout: env.span(flags.keepalive_timeout, "KEEPALIVE_TIMEOUT", default.keepalive_timeout)?,
            printer: Printer { format, hex: env.switch(flags.hex, "HEX", false)? },
            file_flags: default.file_flags,
        })
    }
}

/// Reads `NAME[:PASSWORD]`; a password given apart means that a colon is part of the name.
pub(crate) async fn user(
    name: Option<Secret>,
    password: Option<Secret>,
    prompt: &str,
) -> Result<Option<User>, Failure> {
    let Some(Secret(name)) = name else { return Ok(None) };
    let (name, password) = match (password, name.split_once(':')) {
        (Some(Secret(password)), _) => (name, Password::new(password)),
        (None, Some((name, password))) => (name.to_owned(), Password::new(password.to_owned())),
        (None, None) => (name, password::ask(prompt).await?),
    };
    Ok(Some(User { name, password }))
}

/// Variables that start with `ETCDCTL_`; an empty one is as none.
struct Environment<E>(E);

impl<E: Fn(&str) -> Option<String>> Environment<E> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(&format!("ETCDCTL_{name}")).filter(|value| !value.is_empty())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    fn span(&self, flag: Option<Duration>, name: &str, default: Duration) -> Result<Duration, Failure> {
        let parse = |text: &String| {
            duration::parse(text).map_err(|error| Failure::bad_args(format!("ETCDCTL_{name}: {error}")))
        };
        flag.map_or_else(|| self.get(name).as_ref().map_or(Ok(default), parse), Ok)
    }

    fn switch(&self, flag: Option<bool>, name: &str, default: bool) -> Result<bool, Failure> {
        let parse = |text: &String| {
            text.parse().map_err(|_| Failure::bad_args(format!("ETCDCTL_{name}: {text:?} is neither true nor false")))
        };
        flag.map_or_else(|| self.get(name).as_ref().map_or(Ok(default), parse), Ok)
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
        let tls = self.trust.as_ref().map(|trust| tls::web::client_config(trust, identity, tls::H2)).transpose();
        let config = Config {
            endpoints,
            tls: tls.map_err(|error| self.blame(&error))?,
            user: self.user.clone(),
            connect_timeout: self.dial_timeout,
            request_timeout: self.command_timeout,
            keepalive_interval: self.keepalive_time,
            keepalive_timeout: self.keepalive_timeout,
        };
        Client::connect(&config).map_err(|error| Failure::bad_args(error.to_string()))
    }
}

impl Connection {
    /// Why there is no TLS, and by which flag that came.
    fn blame(&self, error: &CredentialsError) -> Failure {
        let [cacert, cert, key] = self.file_flags;
        let trusted = match &self.trust {
            Some(Trust::File(file)) => Some(file.as_path()),
            _ => None,
        };
        let own = self.identity.as_ref();
        let files = NamedFiles::default()
            .and(cacert, trusted)
            .and(cert, own.map(|(cert, _)| cert.as_path()))
            .and(key, own.map(|(_, key)| key.as_path()));
        Failure::bad_args(format!("TLS: {}", files.blame(error.file(), error.to_string())))
    }
}

#[cfg(test)]
mod tests;
