//! Logs of the long-running verbs: to standard error, set up once.

use super::failure::Failure;
use std::io::{self, IsTerminal};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Libraries that tell at `info` what is of no use to an operator, or warn of it at every heartbeat; said before the
/// user's filter, which overrules it.
const LIBRARIES: &str = "openraft=warn,openraft::core::heartbeat=error";
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What is logged, and how.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Logging")]
pub(crate) struct Logging {
    /// Least level that is logged: error, warn, info, debug or trace; or a filter such as info,raft=debug
    #[arg(long, value_name = "LEVEL", env = "ETCD_LOG_LEVEL", default_value = "info")]
    log_level: String,
    /// How a line is written
    #[arg(long, value_enum, env = "ETCD_LOG_FORMAT", default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    /// For people
    #[value(alias = "console")]
    Text,
    /// One JSON object a line
    Json,
}

impl Logging {
    /// Sets logging up for the whole process.
    pub(crate) fn start(&self) -> Result<(), Failure> {
        let filter = self.filter()?;
        let registry = tracing_subscriber::registry().with(filter);
        let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let lines = fmt::layer().with_writer(io::stderr).with_ansi(colour);
        let started = match self.log_format {
            LogFormat::Text => registry.with(lines).try_init(),
            LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        };
        started.map_err(|error| Failure::bad_args(format!("logging: {error}")))
    }

    #[cfg(test)]
    pub(super) fn level(&self) -> &str {
        &self.log_level
    }

    fn filter(&self) -> Result<EnvFilter, Failure> {
        // Levels of etcd's that go beyond errors.
        let level = match self.log_level.as_str() {
            "dpanic" | "panic" | "fatal" => "error",
            level => level,
        };
        // A word that is no level would be taken for the name of a room, and silence all others.
        if let Some(word) = level.split(',').find(|word| !word.contains(['=', '[']) && !LEVELS.contains(word)) {
            let failure = Failure::bad_args(format!("--log-level: {word:?} is no level"));
            return Err(failure.next(format!("say one of {}, or a filter such as info,raft=debug", LEVELS.join(", "))));
        }
        EnvFilter::try_new(format!("{LIBRARIES},{level}"))
            .map_err(|error| Failure::bad_args(format!("--log-level {:?}: {error}", self.log_level)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_word_or_a_filter() {
        for (level, valid) in [
            ("info", true),
            ("fatal", true),
            ("info,raft=debug", true),
            ("raft=loud", false),
            ("inf", false),
            ("raft=debug,warning", false),
        ] {
            let logging = Logging { log_level: level.into(), log_format: LogFormat::Text };
            assert_eq!(logging.filter().is_ok(), valid, "{level}");
        }
    }
}
