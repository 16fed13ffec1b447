//! The command line: verbs, their flags, and what they come to.
//!
//! Owns: how the binary is spoken to, and how it answers: stdout for results, stderr for errors with a next step,
//! etcdctl's exit codes.
//!
//! - What a verb does to the outside it does by the public API of a room; here is only its dress.
//! - Each command resolves flags, environment and defaults once, into one struct.
//! - Key verbs print what etcdctl 3.5 prints, to the byte; `tests/end_to_end/cli.rs` holds both against each other. They
//!   differ where that helps: prompts and progress go to standard error, `-w json` is JSON alone, `--count-only` works in
//!   every format, `user` and `auth status` have `-w fields`, and an error is followed by a next step.

mod auth;
mod bootstrap;
mod check;
mod cluster;
mod connection;
mod duration;
mod elect;
mod empty;
mod endpoint;
mod exec;
mod expiry;
mod failure;
mod keys;
mod lease;
mod lock;
mod logging;
mod maintenance;
mod member;
mod mesh;
mod mirror;
mod named;
mod output;
mod password;
mod proxy;
mod range;
mod role;
mod server;
mod signals;
mod snapshot;
mod switches;
mod token;
mod txn;
mod user;
mod watch;
mod words;

use crate::demo;
use clap::{
    CommandFactory, FromArgMatches, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use client::Client;
use connection::{Connection, Flags};
use failure::{Exit, Failure};
use output::{Format, Response};
use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};
use types::LeaseId;

/// A service mesh in one binary, standing on a replicated etcd v3 store.
#[derive(Debug, Parser)]
#[command(name = "meshstore", version, subcommand_required = true, arg_required_else_help = true)]
// As etcdctl does: `compact` is `compaction`, where no other verb begins so.
#[command(infer_subcommands = true)]
#[command(after_help = "Examples:
  meshstore demo                              a mesh on this machine, with real traffic
  meshstore server                            a single-member store on loopback
  meshstore put foo bar && meshstore get foo
  meshstore mesh apply -f examples/bookinfo/")]
struct Cli {
    #[command(flatten)]
    before: Flags,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Demo(demo::Args),
    Server(Box<server::Args>),
    #[command(subcommand)]
    Proxy(proxy::Proxy),
    #[command(subcommand)]
    Cluster(Cluster),
    #[command(subcommand)]
    Mesh(mesh::Mesh),
    Get(keys::GetArgs),
    Put(keys::PutArgs),
    Del(keys::DelArgs),
    Watch(watch::WatchArgs),
    Txn(txn::TxnArgs),
    Compaction(keys::CompactionArgs),
    /// Keys that live as long as somebody says so
    Lease(Group<lease::Lease>),
    Lock(lock::LockArgs),
    Elect(elect::ElectArgs),
    /// Members of the cluster
    Member(Group<member::Member>),
    Endpoint(endpoint::EndpointArgs),
    /// What makes a cluster refuse writes
    Alarm(Group<maintenance::Alarm>),
    Defrag(maintenance::DefragArgs),
    MoveLeader(maintenance::MoveLeaderArgs),
    /// Everything that a member has, as a file, and back; for etcd's files too
    Snapshot(Group<snapshot::Snapshot>),
    MakeMirror(mirror::MirrorArgs),
    /// Whether the cluster demands users
    Auth(Group<auth::Auth>),
    /// Users of the cluster
    User(Group<user::User>),
    /// What users may do with which keys
    Role(Group<role::Role>),
    /// Whether a cluster is quick enough, and what data cost it
    Check(Group<check::Check>),
    /// Prints the version
    Version,
    /// Prints a script that completes this command line
    #[command(after_help = "Example:\n  meshstore completion bash > /etc/bash_completion.d/meshstore")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Verbs of one kind. Their flags may stand between the kind and the verb, too.
#[derive(Debug, clap::Args)]
struct Group<V: clap::Subcommand> {
    #[command(flatten)]
    before: Flags,
    #[command(subcommand)]
    verb: V,
}

/// A cluster: how it is founded, grows and is.
#[derive(Debug, clap::Subcommand)]
enum Cluster {
    Bootstrap(Box<bootstrap::Args>),
    Join(Box<cluster::JoinArgs>),
    #[command(visible_alias = "status")]
    Members(Box<cluster::ReportArgs>),
    Probe(Box<cluster::ProbeArgs>),
    Add(Box<cluster::AddArgs>),
    Promote(Box<cluster::PromoteArgs>),
    Remove(Box<cluster::RemoveArgs>),
    Replace(Box<cluster::ReplaceArgs>),
    Transfer(Box<cluster::TransferArgs>),
    #[command(subcommand)]
    Token(token::Token),
}

/// A verb that speaks to the store.
trait KeyVerb {
    fn flags(&self) -> &Flags;

    async fn run(self, session: Session) -> Result<(), Failure>;
}

/// What a key verb works with: where the store is, and how to print.
#[derive(Clone)]
pub(crate) struct Session {
    connection: Connection,
}

impl Session {
    fn client(&self) -> Result<Client, Failure> {
        self.connection.client()
    }

    /// Refuses formats that are not for the verb.
    fn without(self, formats: &[Format]) -> Result<Self, Failure> {
        self.connection.printer.without(formats)?;
        Ok(self)
    }

    fn format(&self) -> Format {
        self.connection.printer.format
    }

    fn print(&self, response: &Response<'_>) -> Result<(), Failure> {
        let mut stdout = io::BufWriter::new(io::stdout().lock());
        self.connection.printer.print(response, &mut stdout)?;
        Ok(stdout.flush()?)
    }
}

/// Reads a lease as it is printed.
fn lease_id(text: &str) -> Result<LeaseId, String> {
    let id = i64::from_str_radix(text, 16).ok().and_then(LeaseId::new);
    id.ok_or_else(|| format!("{text:?} is not a lease ID in hexadecimal"))
}

/// Runs the command line to its end.
pub(crate) async fn run() -> ExitCode {
    let cli = match parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    match Box::pin(execute(cli)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // There is nobody left to tell when standard error is gone.
            let _ = write!(io::stderr(), "{failure}");
            ExitCode::from(failure.exit.code())
        }
    }
}

fn command() -> clap::Command {
    empty::without_empty_variables(switches::with_values(Cli::command()))
}

fn parse<T: Into<OsString> + Clone>(line: impl IntoIterator<Item = T>) -> Result<Cli, clap::Error> {
    let mut words: Vec<OsString> = line.into_iter().map(Into::into).collect();
    let verb = words.get(1).and_then(|verb| verb.to_str()).unwrap_or_default();
    if verb.starts_with("se") && "server".starts_with(verb) {
        words = server::without_empty_flags(words);
    }
    Cli::from_arg_matches(&command().try_get_matches_from(words)?)
}

/// Flags whose value names a feature: etcdctl ends with a code of its own when it has no such.
const FEATURES: [&str; 5] = ["--consistency", "--load", "--order", "--sort-by", "--write-out"];

/// Help and version are answers; everything else is a mistake in the command line.
fn refuse(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.as_str(),
        _ => "",
    };
    let exit = match error.kind() {
        ErrorKind::InvalidSubcommand => Exit::Error,
        ErrorKind::UnknownArgument if argument.starts_with('-') => Exit::Error,
        ErrorKind::InvalidValue if FEATURES.iter().any(|flag| argument.starts_with(flag)) => Exit::BadFeature,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => return ExitCode::SUCCESS,
        _ if error.use_stderr() => Exit::BadArgs,
        _ => return ExitCode::SUCCESS,
    };
    ExitCode::from(exit.code())
}

/// Runs a key verb with what its flags come to.
async fn in_session<V: KeyVerb>(verb: V, before: Flags) -> Result<(), Failure> {
    let connection = verb.flags().clone().resolve(before, |name| std::env::var(name).ok()).await?;
    verb.run(Session { connection }).await
}

async fn execute(cli: Cli) -> Result<(), Failure> {
    match cli.verb {
        Verb::Demo(arguments) => demo::run(arguments).await.map_err(failed),
        Verb::Server(arguments) => arguments.run().await,
        Verb::Proxy(proxy) => proxy.run().await,
        Verb::Cluster(verb) => execute_on_cluster(verb, cli.before).await,
        Verb::Mesh(mesh) => mesh.run().await,
        Verb::Get(verb) => in_session(verb, cli.before).await,
        Verb::Put(verb) => in_session(verb, cli.before).await,
        Verb::Del(verb) => in_session(verb, cli.before).await,
        Verb::Watch(verb) => in_session(verb, cli.before).await,
        Verb::Txn(verb) => in_session(verb, cli.before).await,
        Verb::Compaction(verb) => in_session(verb, cli.before).await,
        Verb::Lease(group) => in_session(group.verb, group.before.or(cli.before)).await,
        Verb::Lock(verb) => in_session(verb, cli.before).await,
        Verb::Elect(verb) => in_session(verb, cli.before).await,
        Verb::Member(group) => in_session(group.verb, group.before.or(cli.before)).await,
        Verb::Endpoint(group) => {
            let before = group.before.clone().or(cli.before);
            in_session(group, before).await
        }
        Verb::Alarm(group) => in_session(group.verb, group.before.or(cli.before)).await,
        Verb::Defrag(verb) => in_session(verb, cli.before).await,
        Verb::MoveLeader(verb) => in_session(verb, cli.before).await,
        Verb::Snapshot(group) => group.verb.run(group.before.or(cli.before)).await,
        Verb::MakeMirror(verb) => in_session(verb, cli.before).await,
        Verb::Auth(group) => in_session(group.verb, group.before.or(cli.before)).await,
        Verb::User(group) => in_session(group.verb, group.before.or(cli.before)).await,
        Verb::Role(group) => in_session(group.verb, group.before.or(cli.before)).await,
        Verb::Check(group) => in_session(group.verb, group.before.or(cli.before)).await,
        Verb::Version => version(),
        Verb::Completion { shell } => completion(shell),
    }
}

async fn execute_on_cluster(verb: Cluster, before: Flags) -> Result<(), Failure> {
    match verb {
        Cluster::Bootstrap(arguments) => arguments.run().await,
        Cluster::Join(arguments) => arguments.run().await,
        Cluster::Add(arguments) => arguments.run().await,
        Cluster::Members(verb) => in_session(*verb, before).await,
        Cluster::Probe(verb) => in_session(*verb, before).await,
        Cluster::Promote(verb) => in_session(*verb, before).await,
        Cluster::Remove(verb) => in_session(*verb, before).await,
        Cluster::Replace(verb) => in_session(*verb, before).await,
        Cluster::Transfer(verb) => in_session(*verb, before).await,
        Cluster::Token(token) => token.run().await,
    }
}

/// An error of a room, with its causes.
#[expect(clippy::needless_pass_by_value, reason = "made for `map_err`")]
fn failed(error: anyhow::Error) -> Failure {
    Failure::new(Exit::Error, failure::chain(error.as_ref()))
}

fn version() -> Result<(), Failure> {
    let mut stdout = io::stdout();
    writeln!(stdout, "meshstore version: {}", env!("CARGO_PKG_VERSION"))?;
    Ok(writeln!(stdout, "etcd API version: {}", ::server::ETCD_API_VERSION)?)
}

fn completion(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "meshstore", &mut script);
    Ok(io::stdout().write_all(&script)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn a_switch_may_have_a_value() {
        for (words, expected) in [(&["--prefix"][..], true), (&["--prefix=true"], true), (&["--prefix=false"], false)] {
            let cli = parse(["meshstore", "del", "k"].iter().chain(words)).unwrap();
            let Verb::Del(del) = cli.verb else { panic!("{words:?}") };
            assert_eq!(format!("{del:?}").contains("prefix: true"), expected, "{words:?}");
        }
        assert!(parse(["meshstore", "del", "--prefix", "k"]).is_ok());
    }

    #[test]
    fn the_beginning_of_a_verb_is_enough_where_no_other_begins_so() {
        let lines: [&[&str]; 5] = [&["compact", "5"], &["mem", "li"], &["snap", "stat", "f"], &["def"], &["del", "k"]];
        for line in lines {
            assert!(parse(["meshstore"].iter().chain(line)).is_ok(), "{line:?}");
        }
        let several: [&[&str]; 4] = [&["comp", "5"], &["me", "list"], &["endpoint", "h"], &["cluster", "re", "a"]];
        for line in several {
            let error = parse(["meshstore"].iter().chain(line)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidSubcommand, "{line:?}");
        }
    }

    #[test]
    fn a_key_is_bytes_and_need_not_be_text() {
        let bytes = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
        let lines: [&[&[u8]]; 6] = [
            &[b"put", b"\xff", b"\x01\xff\xfe"],
            &[b"get", b"\xff", b"\xfe"],
            &[b"del", b"\xff"],
            &[b"watch", b"\xff"],
            &[b"role", b"grant-permission", b"r", b"read", b"\xff", b"\xfe"],
            &[b"make-mirror", b"--prefix", b"\xff", b"--dest-prefix", b"\xfe", b"127.0.0.1:1"],
        ];
        for line in lines {
            let words = [&b"meshstore"[..]].into_iter().chain(line.iter().copied()).map(bytes);
            parse(words).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[tokio::test]
    async fn flags_of_key_verbs_stand_before_or_after_the_verb() {
        let lines: [&[&str]; 4] = [
            &["meshstore", "--endpoints", "a:1,b:2", "get", "foo"],
            &["meshstore", "get", "foo", "--endpoints=a:1,b:2"],
            &["meshstore", "--endpoints=x:1", "get", "foo", "--endpoints", "a:1,b:2"],
            &["meshstore", "get", "--endpoints", "a:1", "--endpoints", "b:2", "foo"],
        ];
        for line in lines {
            let cli = parse(line).unwrap();
            let Verb::Get(get) = cli.verb else { panic!("{line:?}") };
            let connection = get.flags().clone().resolve(cli.before, |_| None).await.unwrap();
            assert_eq!(connection.endpoints, ["a:1", "b:2"], "{line:?}");
        }
    }

    #[tokio::test]
    async fn flags_of_a_group_stand_between_its_words_too() {
        let line = ["meshstore", "--hex", "member", "--endpoints", "a:1", "list", "-w", "json"];
        let cli = parse(line).unwrap();
        let Verb::Member(Group { before, verb }) = cli.verb else { panic!() };
        let connection = verb.flags().clone().resolve(before.or(cli.before), |_| None).await.unwrap();
        assert_eq!((connection.endpoints, connection.printer.format), (vec!["a:1".to_owned()], Format::Json));
        assert!(connection.printer.hex);
        for line in [["meshstore", "endpoint", "--cluster", "health"], ["meshstore", "endpoint", "health", "--cluster"]]
        {
            assert!(parse(line).is_ok(), "{line:?}");
        }
    }

    #[test]
    fn every_verb_has_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let leaves: Vec<_> = command.get_subcommands().filter(|one| !one.is_hide_set()).collect();
            if leaves.is_empty() && !path.ends_with("version") && !path.contains("demo") {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("meshstore "), "no example in the help of{path}");
            }
            for one in leaves {
                check(one, &path);
            }
        }
        check(&command(), "");
    }

    #[test]
    fn a_lease_is_read_as_it_is_printed() {
        let id = lease_id("32695410dcc0ca06").unwrap();
        assert_eq!(lease_id(&id.to_string()), Ok(id));
        for text in ["0", "", "zz", "123456789abcdef01"] {
            assert!(lease_id(text).is_err(), "{text:?}");
        }
    }
}
