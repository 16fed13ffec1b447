//! The command line: verbs, their flags, and what they come to.
//!
//! Owns: how the binary is spoken to, and how it answers: stdout for results, stderr for errors with a next step,
//! etcdctl's exit codes.
//!
//! - What a verb does to the outside it does by the public API of a room; here is only its dress.
//! - Each command resolves flags, environment and defaults once, into one struct.

mod bootstrap;
mod connection;
mod duration;
mod endpoint;
mod failure;
mod keys;
mod lease;
mod logging;
mod mesh;
mod output;
mod proxy;
mod range;
mod server;
mod signals;
mod token;
mod txn;
mod words;

use crate::demo;
use clap::{CommandFactory, Parser, error::ErrorKind};
use client::Client;
use connection::{Connection, Flags};
use failure::{Exit, Failure};
use output::Response;
use std::{
    io::{self, Write},
    process::ExitCode,
};
use types::LeaseId;

/// A service mesh in one binary, standing on a replicated etcd v3 store.
#[derive(Debug, Parser)]
#[command(name = "meshstore", version, subcommand_required = true, arg_required_else_help = true)]
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
    Server(server::Args),
    #[command(subcommand)]
    Proxy(proxy::Proxy),
    #[command(subcommand)]
    Cluster(Cluster),
    #[command(subcommand)]
    Mesh(mesh::Mesh),
    Get(keys::GetArgs),
    Put(keys::PutArgs),
    Del(keys::DelArgs),
    Watch(keys::WatchArgs),
    Txn(txn::TxnArgs),
    Compaction(keys::CompactionArgs),
    #[command(subcommand)]
    Lease(lease::Lease),
    #[command(subcommand)]
    Member(endpoint::Member),
    #[command(subcommand)]
    Endpoint(endpoint::Endpoint),
    /// Prints the version
    Version,
    /// Prints a script that completes this command line
    #[command(after_help = "Example:\n  meshstore completion bash > /etc/bash_completion.d/meshstore")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// A cluster's trust domain.
#[derive(Debug, clap::Subcommand)]
enum Cluster {
    Bootstrap(bootstrap::Args),
    #[command(subcommand)]
    Token(token::Token),
}

/// A verb that speaks to the store.
trait KeyVerb {
    fn flags(&self) -> &Flags;

    async fn run(self, session: Session) -> Result<(), Failure>;
}

/// What a key verb works with: where the store is, and how to print.
pub(crate) struct Session {
    connection: Connection,
}

impl Session {
    fn client(&self) -> Result<Client, Failure> {
        self.connection.client()
    }

    fn without_table(self) -> Result<Self, Failure> {
        self.connection.printer.without_table()?;
        Ok(self)
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
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    match execute(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // There is nobody left to tell when standard error is gone.
            let _ = write!(io::stderr(), "{failure}");
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Help and version are answers; everything else is a mistake in the command line.
fn refuse(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    match error.kind() {
        ErrorKind::InvalidSubcommand => ExitCode::from(Exit::Error as u8),
        _ if error.use_stderr() => ExitCode::from(Exit::BadArgs as u8),
        _ => ExitCode::SUCCESS,
    }
}

/// Runs a key verb with what its flags come to.
async fn in_session<V: KeyVerb>(verb: V, before: Flags) -> Result<(), Failure> {
    let connection = verb.flags().clone().resolve(before, |name| std::env::var(name).ok())?;
    verb.run(Session { connection }).await
}

async fn execute(cli: Cli) -> Result<(), Failure> {
    match cli.verb {
        Verb::Demo(arguments) => demo::run(arguments).await.map_err(failed),
        Verb::Server(arguments) => arguments.run().await,
        Verb::Proxy(proxy) => proxy.run().await,
        Verb::Cluster(Cluster::Bootstrap(arguments)) => arguments.run().await,
        Verb::Cluster(Cluster::Token(token)) => token.run().await,
        Verb::Mesh(mesh) => mesh.run().await,
        Verb::Get(verb) => in_session(verb, cli.before).await,
        Verb::Put(verb) => in_session(verb, cli.before).await,
        Verb::Del(verb) => in_session(verb, cli.before).await,
        Verb::Watch(verb) => in_session(verb, cli.before).await,
        Verb::Txn(verb) => in_session(verb, cli.before).await,
        Verb::Compaction(verb) => in_session(verb, cli.before).await,
        Verb::Lease(verb) => in_session(verb, cli.before).await,
        Verb::Member(verb) => in_session(verb, cli.before).await,
        Verb::Endpoint(verb) => in_session(verb, cli.before).await,
        Verb::Version => version(),
        Verb::Completion { shell } => completion(shell),
    }
}

/// An error of a room, with its causes.
#[expect(clippy::needless_pass_by_value, reason = "made for `map_err`")]
fn failed(error: anyhow::Error) -> Failure {
    Failure::new(Exit::Error, format!("{error:#}"))
}

fn version() -> Result<(), Failure> {
    let mut stdout = io::stdout();
    writeln!(stdout, "meshstore version: {}", env!("CARGO_PKG_VERSION"))?;
    Ok(writeln!(stdout, "etcd API version: {}", ::server::ETCD_API_VERSION)?)
}

fn completion(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "meshstore", &mut script);
    Ok(io::stdout().write_all(&script)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_of_key_verbs_stand_before_or_after_the_verb() {
        let lines: [&[&str]; 4] = [
            &["meshstore", "--endpoints", "a:1,b:2", "get", "foo"],
            &["meshstore", "get", "foo", "--endpoints=a:1,b:2"],
            &["meshstore", "--endpoints=x:1", "get", "foo", "--endpoints", "a:1,b:2"],
            &["meshstore", "get", "--endpoints", "a:1", "--endpoints", "b:2", "foo"],
        ];
        for line in lines {
            let cli = Cli::try_parse_from(line).unwrap();
            let Verb::Get(get) = cli.verb else { panic!("{line:?}") };
            let connection = get.flags().clone().resolve(cli.before, |_| None).unwrap();
            assert_eq!(connection.endpoints, ["a:1", "b:2"], "{line:?}");
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
        check(&Cli::command(), "");
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
