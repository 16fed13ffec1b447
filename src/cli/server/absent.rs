//! etcd's flags for what is not in this version.
//!
//! - None is taken and ignored: each is an error that says what to do, unless its value asks for nothing.

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    builder::{StringValueParser, TypedValueParser},
    error::{Error, ErrorKind},
};

/// A flag that is not here.
struct Absent {
    name: &'static str,
    /// Values that ask for nothing, etcd's default first; it stands for a flag without a value too, if that is `true`.
    idle: &'static [&'static str],
    advice: &'static str,
}

const fn absent(name: &'static str, idle: &'static [&'static str], advice: &'static str) -> Absent {
    Absent { name, idle, advice }
}

const NO_COMPARISON: &str = "members are compared by 'meshstore endpoint hashkv --cluster': leave it out";
const ONE_CERTIFICATE: &str = "members show one certificate in both directions: leave it out";
const NO_DISCOVERY: &str = "members are not discovered in this version: leave it out";
const NO_TUNING: &str = "there is nothing to tune here: leave it out";
const NO_TRACING: &str = "traces are not sent in this version: leave it out";

const FLAGS: &[Absent] = &[
    absent("wal-dir", &[], "the log is kept in the data directory: make DATA_DIR/log a mount point instead"),
    absent("max-wals", &["5"], "the log frees its space by itself: leave it out"),
    absent("max-snapshots", &["5"], "there are no snapshot files to count: leave it out"),
    absent("backend-bbolt-freelist-type", &["map", "array"], "the backend is not bbolt: leave it out"),
    absent("backend-batch-interval", &["0s", "0", "100ms"], NO_TUNING),
    absent("backend-batch-limit", &["0", "10000"], NO_TUNING),
    absent("compaction-batch-limit", &["0", "1000"], NO_TUNING),
    absent("compaction-sleep-interval", &["0s", "0", "10ms"], NO_TUNING),
    absent("bootstrap-defrag-threshold-megabytes", &["0"], "space comes back without defragmentation: leave it out"),
    absent("grpc-keepalive-min-time", &["5s"], "clients may ping as often as they like: leave it out"),
    absent("socket-reuse-port", &["false"], "ports are not shared with other processes: leave it out"),
    absent("socket-reuse-address", &["false"], "addresses are always reused: leave it out"),
    absent("raft-read-timeout", &["5s"], NO_TUNING),
    absent("raft-write-timeout", &["5s"], NO_TUNING),
    absent("initial-election-tick-advance", &["true"], NO_TUNING),
    absent("pre-vote", &["true"], "elections always begin with a pre-vote: leave it out"),
    absent("strict-reconfig-check", &["true", "false"], "what would cost the quorum is always refused: leave it out"),
    absent(
        "force-new-cluster",
        &["false"],
        "a member does not leave its cluster by a flag: restore a snapshot, as docs/operations.md says",
    ),
    absent("discovery", &[], NO_DISCOVERY),
    absent("discovery-fallback", &["proxy", "exit"], NO_DISCOVERY),
    absent("discovery-proxy", &[], NO_DISCOVERY),
    absent("discovery-srv", &[], NO_DISCOVERY),
    absent("discovery-srv-name", &[], NO_DISCOVERY),
    absent("discovery-endpoints", &[], NO_DISCOVERY),
    absent("discovery-token", &[], NO_DISCOVERY),
    absent("peer-client-cert-file", &[], ONE_CERTIFICATE),
    absent("peer-client-key-file", &[], ONE_CERTIFICATE),
    absent("peer-auto-tls", &["false"], "found the cluster by 'meshstore cluster bootstrap', which makes certificates"),
    absent("peer-crl-file", &[], "a member is taken back by 'meshstore cluster remove': leave it out"),
    absent("peer-cert-allowed-cn", &[], "say whom to let in by --peer-cert-allowed-hostname"),
    absent("peer-skip-client-san-verification", &["false"], "addresses of members are not compared: leave it out"),
    absent("client-cert-file", &[], "the gateway needs no certificate to reach its own member: leave it out"),
    absent("client-key-file", &[], "the gateway needs no certificate to reach its own member: leave it out"),
    absent("logger", &["zap"], "there is one logger: leave it out, and choose a form by --log-format"),
    absent("log-outputs", &["default", "stderr"], "logs go to standard error: leave it out, and redirect that"),
    absent("enable-log-rotation", &["false"], "logs go to standard error: let what takes it rotate"),
    absent("log-rotation-config-json", &[], "logs go to standard error: let what takes it rotate"),
    absent("enable-pprof", &["false"], "profiles are not served: leave it out, and use perf on the process"),
    absent("enable-distributed-tracing", &["false"], NO_TRACING),
    absent("distributed-tracing-address", &["localhost:4317"], NO_TRACING),
    absent("distributed-tracing-service-name", &["etcd"], NO_TRACING),
    absent("distributed-tracing-instance-id", &[], NO_TRACING),
    absent("distributed-tracing-sampling-rate", &["0"], NO_TRACING),
    absent("feature-gates", &[], "this version has no feature gates: leave it out"),
    absent("corrupt-check-time", &["0s", "0"], NO_COMPARISON),
    absent("compact-hash-check-time", &["1m0s", "1m"], NO_COMPARISON),
    absent("downgrade-check-time", &["5s"], "there is no downgrade to look for: leave it out"),
    absent("warning-apply-duration", &["100ms"], "slow requests are told by the metrics: leave it out"),
    absent("warning-unary-request-duration", &["300ms"], "slow requests are told by the metrics: leave it out"),
    absent("memory-mlock", &["false"], "memory is not locked: leave it out, and give the process no swap"),
    absent("unsafe-no-fsync", &["false"], "what is acknowledged is always on stable storage: leave it out"),
    absent("enable-v2", &["false"], "API v2 is gone: leave it out"),
    absent("proxy", &["off"], "the proxy mode of API v2 is gone: leave it out"),
    absent("auto-tls", &["false"], "certificates are not made up here: give --cert-file and --key-file"),
    absent("self-signed-cert-validity", &["1"], "certificates are not made up here: leave it out"),
];

/// The flags of the table, hidden, for `#[command(flatten)]`.
#[derive(Debug, Default)]
pub(super) struct AbsentFlags;

impl clap::FromArgMatches for AbsentFlags {
    fn from_arg_matches(_: &ArgMatches) -> Result<Self, Error> {
        Ok(Self)
    }

    fn update_from_arg_matches(&mut self, _: &ArgMatches) -> Result<(), Error> {
        Ok(())
    }
}

impl clap::Args for AbsentFlags {
    fn augment_args(command: Command) -> Command {
        command.args(FLAGS.iter().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn argument(flag: &'static Absent) -> Arg {
    let switch = matches!(flag.idle.first(), Some(&("true" | "false")));
    let argument = Arg::new(flag.name)
        .long(flag.name)
        .hide(true)
        .action(ArgAction::Append)
        .env(super::variable(flag.name))
        .value_parser(Idle(flag));
    if switch { argument.num_args(0..=1).require_equals(true).default_missing_value("true") } else { argument }
}

/// Takes the values that ask for nothing.
#[derive(Clone)]
struct Idle(&'static Absent);

impl TypedValueParser for Idle {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Self::Value, Error> {
        let value = StringValueParser::new().parse_ref(command, argument, value)?;
        let Absent { name, idle, advice } = *self.0;
        if value.is_empty() || idle.contains(&value.as_str()) {
            return Ok(value);
        }
        let text = format!("--{name}: {advice}\n");
        Err(Error::raw(ErrorKind::InvalidValue, text).with_cmd(command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(words: &[&str]) -> Result<(), String> {
        let command = <AbsentFlags as clap::Args>::augment_args(Command::new("server"));
        let words = ["server"].iter().chain(words);
        command.try_get_matches_from(words).map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn what_asks_for_nothing_is_taken_and_the_rest_is_told_what_to_do() {
        let taken: [&[&str]; 5] =
            [&[], &["--logger=zap"], &["--pre-vote"], &["--enable-pprof=false"], &["--discovery-srv", ""]];
        for words in taken {
            assert_eq!(outcome(words), Ok(()), "{words:?}");
        }
        let refused: [(&[&str], &str); 4] = [
            (&["--discovery-srv", "example.com"], "members are not discovered"),
            (&["--pre-vote=false"], "pre-vote"),
            (&["--peer-auto-tls"], "cluster bootstrap"),
            (&["--wal-dir", "/wal"], "mount point"),
        ];
        for (words, advice) in refused {
            let text = outcome(words).unwrap_err();
            assert!(text.contains(advice), "{words:?}: {text}");
        }
    }
}
