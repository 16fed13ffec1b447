//! `member list|add|remove|update|promote`.

use super::{
    KeyVerb, Session,
    connection::Flags,
    failure::Failure,
    output::{Format, Response},
};
use client::MemberAddResponse;
use std::io::{self, Write};

/// Members of the cluster.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Member {
    /// Lists the members
    #[command(after_help = "Example:\n  meshstore member list -w table")]
    List {
        #[command(flatten)]
        flags: Flags,
    },
    /// Adds a member, and prints what to start it with
    #[command(after_help = "Example:\n  meshstore member add b --peer-urls https://10.0.0.2:2380 --learner")]
    Add {
        /// Its name
        name: String,
        /// Where the other members will reach it
        #[arg(long, value_name = "URL,…", value_delimiter = ',', required = true)]
        peer_urls: Vec<String>,
        /// Give it no vote before it is promoted
        #[arg(long)]
        learner: bool,
        #[command(flatten)]
        flags: Flags,
    },
    /// Removes a member, for good
    #[command(after_help = "Example:\n  meshstore member remove 8e9e05c52164694d")]
    Remove {
        /// The member, hexadecimal
        #[arg(value_parser = member_id)]
        id: u64,
        #[command(flatten)]
        flags: Flags,
    },
    /// Tells the cluster where a member is reached from now on
    #[command(after_help = "Example:\n  meshstore member update 8e9e05c52164694d --peer-urls https://10.0.0.9:2380")]
    Update {
        /// The member, hexadecimal
        #[arg(value_parser = member_id)]
        id: u64,
        /// Where the other members reach it
        #[arg(long, value_name = "URL,…", value_delimiter = ',', required = true)]
        peer_urls: Vec<String>,
        #[command(flatten)]
        flags: Flags,
    },
    /// Gives a learner its vote
    #[command(after_help = "Example:\n  meshstore member promote 8e9e05c52164694d")]
    Promote {
        /// The member, hexadecimal
        #[arg(value_parser = member_id)]
        id: u64,
        #[command(flatten)]
        flags: Flags,
    },
}

/// Reads a member as it is printed.
pub(crate) fn member_id(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|_| format!("{text:?} is not a member ID in hexadecimal"))
}

impl KeyVerb for Member {
    fn flags(&self) -> &Flags {
        match self {
            Self::List { flags }
            | Self::Add { flags, .. }
            | Self::Remove { flags, .. }
            | Self::Update { flags, .. }
            | Self::Promote { flags, .. } => flags,
        }
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        if let Self::List { .. } = self {
            return session.print(&Response::Members(&session.client()?.member_list().await?));
        }
        let session = session.without(&[Format::Table, Format::Fields])?;
        let client = session.client()?;
        let (members, id, verb) = match self {
            Self::List { .. } => return Ok(()),
            Self::Add { name, peer_urls, learner, .. } => {
                let added = client.member_add(peer_urls, learner).await?;
                session.print(&Response::MemberAdded(&added))?;
                return if session.format() == Format::Simple { Ok(start_with(&name, &added)?) } else { Ok(()) };
            }
            Self::Remove { id, .. } => (client.member_remove(id).await?, id, "removed from"),
            Self::Update { id, peer_urls, .. } => (client.member_update(id, peer_urls).await?, id, "updated in"),
            Self::Promote { id, .. } => (client.member_promote(id).await?, id, "promoted in"),
        };
        let line = format!("Member {id:16x} {verb} cluster {:16x}", members.header.cluster_id);
        session.print(&Response::MembersChanged(&members, line))
    }
}

/// The environment that the new member is to be started with.
fn start_with(name: &str, added: &MemberAddResponse) -> io::Result<()> {
    let members = added.all.members.iter().flat_map(|member| {
        let name = if member.id == added.member.id { name } else { &member.name };
        member.peer_urls.iter().map(move |url| format!("{name}={url}"))
    });
    let cluster = members.collect::<Vec<_>>().join(",");
    let own = added.member.peer_urls.join(",");
    writeln!(
        io::stdout(),
        "\nETCD_NAME=\"{name}\"\nETCD_INITIAL_CLUSTER=\"{cluster}\"\n\
         ETCD_INITIAL_ADVERTISE_PEER_URLS=\"{own}\"\nETCD_INITIAL_CLUSTER_STATE=\"existing\""
    )
}
