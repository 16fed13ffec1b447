//! `user add|get|list|delete|passwd|grant-role|revoke-role`.

use super::{
    KeyVerb, Session,
    connection::Flags,
    failure::Failure,
    output::{Format, Response},
    password::{self, Secret},
};
use client::Password;
use std::io::{self, Write};

/// Users of the cluster.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum User {
    /// Adds a user; asks for the password that is left out
    #[command(after_help = "Examples:
  meshstore user add ann
  meshstore user add ann --interactive=false < password
  meshstore user add client.example --no-password")]
    Add(AddArgs),
    /// Prints a user's roles
    #[command(after_help = "Example:\n  meshstore user get ann --detail")]
    Get {
        /// Its name
        name: String,
        /// Print what its roles may do, too
        #[arg(long)]
        detail: bool,
        #[command(flatten)]
        flags: Flags,
    },
    /// Lists all users
    #[command(after_help = "Example:\n  meshstore user list")]
    List {
        #[command(flatten)]
        flags: Flags,
    },
    /// Deletes a user
    #[command(after_help = "Example:\n  meshstore user delete ann")]
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// Changes a user's password
    #[command(
        after_help = "Examples:\n  meshstore user passwd ann\n  meshstore user passwd ann --interactive=false < password"
    )]
    Passwd {
        /// Its name
        name: String,
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        flags: Flags,
    },
    /// Gives a user a role
    #[command(after_help = "Example:\n  meshstore user grant-role ann readers")]
    GrantRole {
        /// The user
        #[arg(id = "whose", value_name = "USER")]
        user: String,
        /// The role
        role: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// Takes a role from a user
    #[command(after_help = "Example:\n  meshstore user revoke-role ann readers")]
    RevokeRole {
        /// The user
        #[arg(id = "whose", value_name = "USER")]
        user: String,
        /// The role
        role: String,
        #[command(flatten)]
        flags: Flags,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// Its name; a password after a colon can be seen by others on this machine
    #[arg(value_name = "NAME[:PASSWORD]")]
    name: Secret,
    /// The password; others on this machine can see it
    #[arg(long, value_name = "PASSWORD", conflicts_with = "no_password")]
    new_user_password: Option<Secret>,
    /// Know the user by the common name of its certificate alone
    #[arg(long)]
    no_password: bool,
    #[command(flatten)]
    asked: Asked,
    #[command(flatten)]
    flags: Flags,
}

/// Where a password comes from.
#[derive(Debug, clap::Args)]
pub(crate) struct Asked {
    /// Ask for the password twice; else it is a line of standard input
    #[arg(long, value_name = "BOOL", default_value = "true", default_missing_value = "true")]
    #[arg(num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set, hide_possible_values = true)]
    interactive: bool,
}

impl Asked {
    async fn password(&self, user: &str) -> Result<Password, Failure> {
        if self.interactive { password::ask_new(user).await } else { password::piped().await }
    }
}

impl KeyVerb for User {
    fn flags(&self) -> &Flags {
        match self {
            Self::Add(AddArgs { flags, .. })
            | Self::Get { flags, .. }
            | Self::List { flags }
            | Self::Delete { flags, .. }
            | Self::Passwd { flags, .. }
            | Self::GrantRole { flags, .. }
            | Self::RevokeRole { flags, .. } => flags,
        }
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let session = session.without(&[Format::Table])?;
        let client = session.client()?;
        let (by, line) = match self {
            Self::Add(arguments) => return arguments.run(&session).await,
            Self::Get { name, detail: true, .. } => return detail(&session, &name).await,
            Self::Get { name, .. } => return session.print(&Response::User(&client.user_get(&name).await?, &name)),
            Self::List { .. } => return session.print(&Response::Users(&client.user_list().await?)),
            Self::Delete { name, .. } => (client.user_delete(&name).await?, format!("User {name} deleted")),
            Self::Passwd { name, asked, .. } => {
                let password = asked.password(&name).await?;
                (client.user_change_password(&name, &password).await?, "Password updated".to_owned())
            }
            Self::GrantRole { user, role, .. } => {
                (client.user_grant_role(&user, &role).await?, format!("Role {role} is granted to user {user}"))
            }
            Self::RevokeRole { user, role, .. } => {
                (client.user_revoke_role(&user, &role).await?, format!("Role {role} is revoked from user {user}"))
            }
        };
        session.print(&Response::Done(Some(by), line))
    }
}

impl AddArgs {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let Secret(said) = self.name;
        let (name, password) = match (self.new_user_password, said.split_once(':')) {
            _ if self.no_password => (said.as_str(), None),
            (Some(Secret(password)), _) => (said.as_str(), Some(Password::new(password))),
            (None, Some((name, password))) => (name, Some(Password::new(password.to_owned()))),
            (None, None) => (said.as_str(), Some(self.asked.password(&said).await?)),
        };
        if name.is_empty() {
            return Err(Failure::bad_args("empty user name is not allowed"));
        }
        let by = session.client()?.user_add(name, password.as_ref()).await?;
        session.print(&Response::Done(Some(by), format!("User {name} created")))
    }
}

/// What each role of a user may do.
async fn detail(session: &Session, name: &str) -> Result<(), Failure> {
    let client = session.client()?;
    let user = client.user_get(name).await?;
    let is_simple = session.format() == Format::Simple;
    if is_simple {
        writeln!(io::stdout(), "User: {name}")?;
    }
    for role in &user.names {
        if is_simple {
            writeln!(io::stdout())?;
        }
        session.print(&Response::Role(&client.role_get(role).await?, role))?;
    }
    Ok(())
}
