//! What the key verbs print: etcdctl's formats, to the byte where scripts read them.
//!
//! Owns: the formats. `simple` is for people and pipes, `json` and `fields` for programs, `table` for what has columns.

mod fields;
mod json;
mod quote;
mod simple;
pub(crate) mod table;

use super::failure::{Exit, Failure};
use bytes::Bytes;
use client::{
    AlarmKind, AlarmsResponse, AuthStatusResponse, DeleteResponse, GetResponse, GrantResponse, HashKvResponse, Header,
    KeepAliveResponse, LeasesResponse, MemberAddResponse, MemberListResponse, NamesResponse, PutResponse,
    RoleGetResponse, StatusResponse, TimeToLiveResponse, TxnResponse, WatchBatch,
};
use std::{io, time::Duration};
use types::Revision;

/// A format of `--write-out`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Lines, as etcdctl writes them by default
    #[default]
    Simple,
    /// One JSON object a response
    Json,
    /// `"Name" : value` lines
    Fields,
    /// A table, for `member list` and `endpoint`
    Table,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Json => "json",
            Self::Fields => "fields",
            Self::Table => "table",
        }
    }

    /// Reads the name that an environment variable holds.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        <Self as clap::ValueEnum>::from_str(name, false).map_err(|_| format!("{name:?} is not an output format"))
    }
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Printer {
    pub(crate) format: Format,
    /// Keys and values in hexadecimal, in the format simple; the IDs of members, in the format json.
    pub(crate) hex: bool,
}

/// How one endpoint answered a request for its state.
#[derive(Debug)]
pub(crate) struct EndpointStatus {
    pub(crate) endpoint: String,
    pub(crate) status: StatusResponse,
}

/// Whether one endpoint's cluster answers.
#[derive(Debug)]
pub(crate) struct EndpointHealth {
    pub(crate) endpoint: String,
    pub(crate) took: Duration,
    /// Why it does not.
    pub(crate) error: Option<String>,
}

/// How one endpoint hashed its keys.
#[derive(Debug)]
pub(crate) struct EndpointHash {
    pub(crate) endpoint: String,
    pub(crate) hash: HashKvResponse,
}

/// What of a key is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    KeyAndValue,
    Value,
    Count,
}

/// Everything that the key verbs print.
#[derive(Debug)]
pub(crate) enum Response<'a> {
    Get(&'a GetResponse, Shown),
    Put(&'a PutResponse),
    Delete(&'a DeleteResponse),
    Txn(&'a TxnResponse),
    Watch(&'a WatchBatch),
    Grant(&'a GrantResponse),
    KeepAlive(&'a KeepAliveResponse),
    TimeToLive(&'a TimeToLiveResponse, bool),
    Leases(&'a LeasesResponse),
    Members(&'a MemberListResponse),
    MemberAdded(&'a MemberAddResponse),
    /// The members after a change, and what is said of it.
    MembersChanged(&'a MemberListResponse, String),
    Status(&'a [EndpointStatus]),
    Health(&'a [EndpointHealth]),
    Hash(&'a [EndpointHash]),
    Alarms(&'a AlarmsResponse),
    AuthStatus(&'a AuthStatusResponse),
    /// A user's roles, and the user.
    User(&'a NamesResponse, &'a str),
    Users(&'a NamesResponse),
    /// What a role may do, and its name.
    Role(&'a RoleGetResponse, &'a str),
    Roles(&'a NamesResponse),
    /// It was done: who did it, if that was said, and what is said of it.
    Done(Option<(Header, Revision)>, String),
}

impl Printer {
    /// Refuses formats that are not for a verb, before anything is sent.
    pub(crate) fn without(self, formats: &[Format]) -> Result<Self, Failure> {
        if formats.contains(&self.format) {
            let failure =
                Failure::new(Exit::BadFeature, format!("{} not supported as output format", self.format.name()));
            return Err(failure.next("-w simple and -w json are formats of every verb"));
        }
        Ok(self)
    }

    /// Prints a response.
    pub(crate) fn print(self, response: &Response<'_>, out: &mut dyn io::Write) -> io::Result<()> {
        match self.format {
            Format::Simple => simple::print(response, self.hex, out),
            Format::Json => json::print(response, self.hex, out),
            Format::Fields => fields::print(response, out),
            Format::Table => table::print(response, out),
        }
    }
}

/// Bytes in double quotes, with Go's escapes.
pub(crate) use quote::quoted;

/// What etcd calls an alarm.
pub(crate) fn alarm(kind: AlarmKind) -> String {
    match kind {
        AlarmKind::NoSpace => "NOSPACE".to_owned(),
        AlarmKind::Corrupt => "CORRUPT".to_owned(),
        AlarmKind::Unknown(number) => number.to_string(),
    }
}

/// A key or value for people: as it is, or `\x66\x6f`.
fn text(bytes: &Bytes, hex: bool) -> Vec<u8> {
    if hex { quote::hex(bytes).into_bytes() } else { bytes.to_vec() }
}

/// Bytes with a decimal unit, as etcdctl rounds them.
pub(crate) fn size(bytes: i64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let bytes = u64::try_from(bytes).unwrap_or(0);
    let (mut scaled, mut unit) = (u128::from(bytes) * 10, 0);
    while scaled >= 10_000 && unit + 1 < UNITS.len() {
        scaled = (scaled + 500) / 1000;
        unit += 1;
    }
    let (whole, tenth) = (scaled / 10, scaled % 10);
    if unit == 0 || scaled >= 100 {
        // A half goes to the even number, as Go prints it.
        let up = tenth > 5 || (tenth == 5 && whole % 2 == 1);
        format!("{} {}", whole + u128::from(up), UNITS[unit])
    } else {
        format!("{whole}.{tenth} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests;
