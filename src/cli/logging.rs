//! Logs of the long-running verbs, set up once.

use super::failure::Failure;
use std::{
    convert::Infallible,
    fs::OpenOptions,
    io::{self, IsTerminal},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    str::FromStr,
    sync::Mutex,
};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        self,
        writer::{BoxMakeWriter, MakeWriterExt},
    },
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// Libraries that tell at `info` what is of no use to an operator, or warn of it at every heartbeat; said before the
/// user's filter, which overrules it.
const LIBRARIES: &str = "openraft=warn,openraft::core::heartbeat=error";
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What is logged, and how.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Logging")]
pub(crate) struct Logging {
    /// Least level that is logged: error, warn, info, debug or trace; or a filter such as info,raft=debug
    #[arg(long = "log-level", id = "log_level", value_name = "LEVEL", env = "ETCD_LOG_LEVEL", default_value = "info")]
    level: String,
    /// How a line is written
    #[arg(long = "log-format", value_enum, env = "ETCD_LOG_FORMAT", default_value_t = LogFormat::Text)]
    format: LogFormat,
    /// Where lines go: stderr, stdout, or files, which they are appended to
    #[arg(
        long = "log-outputs",
        value_name = "OUTPUT,…",
        env = "ETCD_LOG_OUTPUTS",
        value_delimiter = ',',
        default_value = "stderr",
        value_parser = LogOutput::from_str
    )]
    outputs: Vec<LogOutput>,
}

/// Where the log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum LogOutput {
    /// What starts the process may pass it on to the system's journal.
    Stderr,
    Stdout,
    File(PathBuf),
}

impl FromStr for LogOutput {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "" | "default" | "stderr" | "systemd/journal" => Self::Stderr,
            "stdout" => Self::Stdout,
            path => Self::File(path.into()),
        })
    }
}

impl LogOutput {
    fn is_terminal(&self) -> bool {
        match self {
            Self::Stderr => io::stderr().is_terminal(),
            Self::Stdout => io::stdout().is_terminal(),
            Self::File(_) => false,
        }
    }

    fn open(&self) -> Result<BoxMakeWriter, Failure> {
        Ok(match self {
            Self::Stderr => BoxMakeWriter::new(io::stderr),
            Self::Stdout => BoxMakeWriter::new(io::stdout),
            Self::File(path) => {
                let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
                let failed = |error| {
                    let failure = Failure::bad_args(format!("--log-outputs: cannot write {}: {error}", path.display()));
                    failure.next("name a file in a folder that is there, or say stderr or stdout")
                };
                BoxMakeWriter::new(Mutex::new(file.map_err(failed)?))
            }
        })
    }
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
        let lines = fmt::layer().with_writer(self.open()?).with_ansi(self.wants_colour());
        let started = match self.format {
            LogFormat::Text => registry.with(lines).try_init(),
            LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        };
        started.map_err(|error| Failure::bad_args(format!("logging: {error}")))
    }

    /// All outputs, each once.
    fn open(&self) -> Result<BoxMakeWriter, Failure> {
        let outputs = self.outputs.iter().enumerate();
        let mut each = outputs.filter(|(at, output)| !self.outputs[..*at].contains(output)).map(|(_, one)| one);
        let first = each.next().map_or_else(|| LogOutput::Stderr.open(), LogOutput::open)?;
        each.try_fold(first, |all, output| Ok(BoxMakeWriter::new(all.and(output.open()?))))
    }

    fn wants_colour(&self) -> bool {
        let allowed = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        allowed && self.outputs.iter().all(LogOutput::is_terminal)
    }

    #[cfg(test)]
    pub(super) fn level(&self) -> &str {
        &self.level
    }

    fn filter(&self) -> Result<EnvFilter, Failure> {
        // Levels of etcd's that go beyond errors.
        let level = match self.level.as_str() {
            "dpanic" | "panic" | "fatal" => "error",
            level => level,
        };
        // A word that is no level would be taken for the name of a room, and silence all others.
        if let Some(word) = level.split(',').find(|word| !word.contains(['=', '[']) && !LEVELS.contains(word)) {
            let failure = Failure::bad_args(format!("--log-level: {word:?} is no level"));
            return Err(failure.next(format!("say one of {}, or a filter such as info,raft=debug", LEVELS.join(", "))));
        }
        EnvFilter::try_new(format!("{LIBRARIES},{level}"))
            .map_err(|error| Failure::bad_args(format!("--log-level {:?}: {error}", self.level)))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, os::unix::fs::PermissionsExt, path::Path};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    fn logging(level: &str, outputs: &str) -> Logging {
        let outputs = outputs.split(',').map(|output| output.parse().unwrap()).collect();
        Logging { level: level.into(), format: LogFormat::Text, outputs }
    }

    #[test]
    fn a_line_goes_to_each_output_once_and_behind_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| dir.path().join(name));
        let [a, b] = paths.each_ref().map(|path| path.to_str().unwrap());
        fs::write(a, "before\n").unwrap();
        let both = logging("info", &format!("{a},{b},{a}"));
        both.open().unwrap().make_writer().write_all(b"a line\n").unwrap();
        assert_eq!(paths.each_ref().map(|path| fs::read_to_string(path).unwrap()), ["before\na line\n", "a line\n"]);
        assert_eq!(fs::metadata(b).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!both.wants_colour());
    }

    #[test]
    fn an_output_that_cannot_be_written_is_refused() {
        let path = Path::new("/nowhere/that/is/there.log");
        let failure = logging("info", path.to_str().unwrap()).open().unwrap_err();
        assert!(failure.to_string().contains("--log-outputs: cannot write /nowhere/that/is/there.log"), "{failure}");
    }

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
            assert_eq!(logging(level, "stderr").filter().is_ok(), valid, "{level}");
        }
    }
}
