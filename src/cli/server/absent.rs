//! etcd's flags for what is not in this version.
//!
//! - None is taken and ignored: each is an error that says what to do, unless its value asks for nothing.

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    builder::{StringValueParser, TypedValueParser},
    error::{Error, ErrorKind},
};

use crate::cli::duration;

/// A flag that is not here.
pub(super) struct Absent {
    pub(super) name: &'static str,
    /// Whether etcd 3.5 has it with `experimental-` before its name.
    was_experimental: bool,
    /// Values that ask for nothing, etcd's default first; it stands for a flag without a value too, if that is `true`.
    idle: &'static [&'static str],
    pub(super) advice: &'static str,
}

const fn absent(name: &'static str, idle: &'static [&'static str], advice: &'static str) -> Absent {
    Absent { name, was_experimental: false, idle, advice }
}

impl Absent {
    const fn experimental(mut self) -> Self {
        self.was_experimental = true;
        self
    }

    fn takes(&self, value: &str) -> bool {
        let same = |idle: &str| {
            let (idle, value) = (duration::parse(idle), duration::parse(value));
            idle.is_ok() && idle == value
        };
        value.is_empty() || self.idle.iter().any(|idle| *idle == value || same(idle))
    }
}

pub(super) const NO_COMPARISON: &str = "members are compared by --corrupt-check-time: leave it out";
const ONE_CERTIFICATE: &str = "members show one certificate in both directions: leave it out";
const NO_DISCOVERY: &str = "members are not discovered in this version: leave it out";
const NO_TUNING: &str = "there is nothing to tune here: leave it out";
const NO_ROTATION: &str = "logs are appended to: leave it out, and let logrotate do it, with copytruncate";
const NO_TRACING: &str = "traces are not sent in this version: leave it out";
const NO_V2: &str = "API v2 is gone, and its proxy with it: leave it out";
/// etcd's default, to the letter.
const ROTATION: &str = r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;

pub(super) const FLAGS: &[Absent] = &[
    absent("max-wals", &["5"], "the log frees its space by itself: leave it out"),
    absent("max-snapshots", &["5"], "there are no snapshot files to count: leave it out"),
    absent("backend-bbolt-freelist-type", &["map", "array"], "the backend is not bbolt: leave it out"),
    absent("backend-batch-interval", &["0s", "100ms"], NO_TUNING),
    absent("backend-batch-limit", &["0", "10000"], NO_TUNING),
    absent("compaction-batch-limit", &["0", "1000"], NO_TUNING).experimental(),
    absent("compaction-sleep-interval", &["0s", "10ms"], NO_TUNING).experimental(),
    absent("bootstrap-defrag-threshold-megabytes", &["0"], "space comes back without defragmentation: leave it out")
        .experimental(),
    absent("grpc-keepalive-min-time", &["5s"], "clients may ping as often as they like: leave it out"),
    absent("socket-reuse-port", &["false"], "ports are not shared with other processes: leave it out"),
    absent("socket-reuse-address", &["false", "true"], "addresses are always reused: leave it out"),
    absent("raft-read-timeout", &["5s"], NO_TUNING),
    absent("raft-write-timeout", &["5s"], NO_TUNING),
    absent("initial-election-tick-advance", &["true"], NO_TUNING),
    absent("pre-vote", &["true"], "elections always begin with a pre-vote: leave it out"),
    absent("strict-reconfig-check", &["true", "false"], "what would cost the quorum is always refused: leave it out"),
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
    absent(
        "peer-skip-client-san-verification",
        &["false", "true"],
        "addresses of members are not compared: leave it out",
    )
    .experimental(),
    absent("client-cert-file", &[], "the gateway needs no certificate to reach its own member: leave it out"),
    absent("client-key-file", &[], "the gateway needs no certificate to reach its own member: leave it out"),
    absent("logger", &["zap"], "there is one logger: leave it out, and choose a form by --log-format"),
    absent("enable-log-rotation", &["false"], NO_ROTATION),
    absent("log-rotation-config-json", &[ROTATION], NO_ROTATION),
    absent("enable-pprof", &["false"], "profiles are not served: leave it out, and use perf on the process"),
    absent("enable-distributed-tracing", &["false"], NO_TRACING).experimental(),
    absent("distributed-tracing-address", &["localhost:4317"], NO_TRACING).experimental(),
    absent("distributed-tracing-service-name", &["etcd"], NO_TRACING).experimental(),
    absent("distributed-tracing-instance-id", &[], NO_TRACING).experimental(),
    absent("distributed-tracing-sampling-rate", &["0"], NO_TRACING).experimental(),
    absent("compact-hash-check-time", &["1m"], NO_COMPARISON).experimental(),
    absent("downgrade-check-time", &["5s"], "there is no downgrade to look for: leave it out").experimental(),
    absent("warning-apply-duration", &["100ms"], "slow requests are told by the metrics: leave it out").experimental(),
    absent("warning-unary-request-duration", &["300ms"], "slow requests are told by the metrics: leave it out")
        .experimental(),
    absent("memory-mlock", &["false"], "memory is not locked: leave it out, and give the process no swap")
        .experimental(),
    absent("unsafe-no-fsync", &["false"], "what is acknowledged is always on stable storage: leave it out"),
    absent("enable-v2", &["false"], NO_V2),
    absent("enable-v2v3", &[], NO_V2).experimental(),
    absent("v2-deprecation", &["not-yet", "write-only", "write-only-drop-data", "gone"], NO_V2),
    absent("proxy", &["off"], NO_V2),
    absent("proxy-failure-wait", &["5000"], NO_V2),
    absent("proxy-refresh-interval", &["30000"], NO_V2),
    absent("proxy-dial-timeout", &["1000"], NO_V2),
    absent("proxy-write-timeout", &["5000"], NO_V2),
    absent("proxy-read-timeout", &["0"], NO_V2),
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
    let argument = Arg::new(flag.name).long(flag.name).hide(true).action(ArgAction::Append).value_parser(Idle(flag));
    let argument = if flag.was_experimental {
        argument.alias(super::experimental(flag.name)).env(super::renamed_variable(flag.name))
    } else {
        argument.env(super::variable(flag.name))
    };
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
        let Absent { name, advice, .. } = *self.0;
        if self.0.takes(&value) {
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
        let taken: [&[&str]; 7] = [
            &[],
            &["--logger=zap"],
            &["--pre-vote"],
            &["--enable-pprof=false"],
            &["--discovery-srv", ""],
            &["--compact-hash-check-time", "60s"],
            &["--experimental-peer-skip-client-san-verification"],
        ];
        for words in taken {
            assert_eq!(outcome(words), Ok(()), "{words:?}");
        }
        let refused: [(&[&str], &str); 5] = [
            (&["--experimental-compact-hash-check-time", "1h"], "--corrupt-check-time"),
            (&["--discovery-srv", "example.com"], "members are not discovered"),
            (&["--pre-vote=false"], "pre-vote"),
            (&["--peer-auto-tls"], "cluster bootstrap"),
            (&["--max-wals", "9"], "frees its space"),
        ];
        for (words, advice) in refused {
            let text = outcome(words).unwrap_err();
            assert!(text.contains(advice), "{words:?}: {text}");
        }
    }
}
