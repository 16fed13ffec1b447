//! `get`, `put`, `del` and `compaction`.

use super::{
    KeyVerb, Session,
    connection::Flags,
    failure::Failure,
    lease_id,
    output::{Format, Response, Shown},
    range,
};
use bytes::Bytes;
use client::{Delete, Get, Put, SortBy, SortOrder};
use std::io::Read;
use types::{LeaseId, Revision};

/// Reads keys.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  meshstore get foo
  meshstore get --prefix /mesh/config/ --keys-only
  meshstore get a z --limit 10 --sort-by modify --order descend
  meshstore get foo --rev 42 -w json")]
pub(crate) struct GetArgs {
    #[command(flatten)]
    request: GetRequest,
    /// Print values only (format simple)
    #[arg(long)]
    print_value_only: bool,
    #[command(flatten)]
    flags: Flags,
}

/// What to read; also in a transaction.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of etcdctl's")]
pub(crate) struct GetRequest {
    /// The key, or the first of a range
    #[arg(value_parser = range::bytes())]
    key: Bytes,
    /// The end of the range, itself not in it
    #[arg(value_parser = range::bytes())]
    range_end: Option<Bytes>,
    /// All keys that start with KEY
    #[arg(long)]
    prefix: bool,
    /// KEY and all that follow
    #[arg(long)]
    from_key: bool,
    /// Most keys to print; 0 is all
    #[arg(long, value_name = "COUNT", default_value_t = 0, allow_negative_numbers = true)]
    limit: i64,
    /// The revision to read at; 0 is the latest
    #[arg(long, value_name = "REVISION", default_value_t = 0, allow_negative_numbers = true)]
    rev: i64,
    /// Only keys that were created at this revision or later; 0 is all
    #[arg(long, value_name = "REVISION", default_value_t = 0, allow_negative_numbers = true)]
    min_create_rev: i64,
    /// Only keys that were created at this revision or earlier; 0 is all
    #[arg(long, value_name = "REVISION", default_value_t = 0, allow_negative_numbers = true)]
    max_create_rev: i64,
    /// Only keys that were last written at this revision or later; 0 is all
    #[arg(long, value_name = "REVISION", default_value_t = 0, allow_negative_numbers = true)]
    min_mod_rev: i64,
    /// Only keys that were last written at this revision or earlier; 0 is all
    #[arg(long, value_name = "REVISION", default_value_t = 0, allow_negative_numbers = true)]
    max_mod_rev: i64,
    /// What to sort by
    #[arg(long, value_enum, ignore_case = true)]
    sort_by: Option<SortTarget>,
    /// How to sort
    #[arg(long, value_enum, ignore_case = true)]
    order: Option<Order>,
    /// Print keys only
    #[arg(long)]
    keys_only: bool,
    /// Print only how many there are
    #[arg(long)]
    count_only: bool,
    /// l: linearizable; s: serializable, from the endpoint's own state, which may be stale
    #[arg(long, value_enum, default_value_t = Consistency::Linearizable)]
    consistency: Consistency,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SortTarget {
    Create,
    Key,
    Modify,
    Value,
    Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Order {
    Ascend,
    Descend,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Consistency {
    #[value(name = "l")]
    Linearizable,
    #[value(name = "s")]
    Serializable,
}

/// A revision flag, 0 meaning none.
pub(crate) fn revision(value: i64) -> Result<Option<Revision>, Failure> {
    match value {
        0 => Ok(None),
        value => Revision::new(value).map(Some).ok_or_else(|| Failure::bad_args(format!("{value} is not a revision"))),
    }
}

impl GetRequest {
    pub(crate) fn read(&self) -> Result<Get, Failure> {
        let by = self.sort_by.map(|target| match target {
            SortTarget::Create => SortBy::CreateRevision,
            SortTarget::Key => SortBy::Key,
            SortTarget::Modify => SortBy::ModRevision,
            SortTarget::Value => SortBy::Value,
            SortTarget::Version => SortBy::Version,
        });
        let order = self.order.map(|order| match order {
            Order::Ascend => SortOrder::Ascending,
            Order::Descend => SortOrder::Descending,
        });
        let sort = match (by, order) {
            (None, None) => None,
            (by, order) => Some((by.unwrap_or(SortBy::Key), order.unwrap_or(SortOrder::Ascending))),
        };
        let range = range::parse(&self.key, self.range_end.as_ref(), self.prefix, self.from_key)?;
        Ok(Get {
            limit: (self.limit > 0).then(|| u32::try_from(self.limit).unwrap_or(u32::MAX)),
            revision: revision(self.rev)?,
            min_create_revision: revision(self.min_create_rev)?,
            max_create_revision: revision(self.max_create_rev)?,
            min_mod_revision: revision(self.min_mod_rev)?,
            max_mod_revision: revision(self.max_mod_rev)?,
            sort,
            serializable: self.consistency == Consistency::Serializable,
            keys_only: self.keys_only,
            count_only: self.count_only,
            ..Get::new(range)
        })
    }
}

impl GetArgs {
    fn shown(&self, format: Format) -> Result<Shown, Failure> {
        match (self.request.count_only, self.print_value_only, self.request.keys_only) {
            // etcdctl's words.
            (_, true, _) if format != Format::Simple => {
                Err(Failure::bad_args("print-value-only is only for `--write-out=simple`"))
            }
            (_, true, true) => Err(Failure::bad_args("`--keys-only` and `--print-value-only` leave nothing to print")),
            (true, true, _) => Err(Failure::bad_args("`--count-only` and `--print-value-only` leave nothing to print")),
            (true, false, _) => Ok(Shown::Count),
            (false, true, false) => Ok(Shown::Value),
            (false, false, _) => Ok(Shown::KeyAndValue),
        }
    }
}

impl KeyVerb for GetArgs {
    fn flags(&self) -> &Flags {
        &self.flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let (request, shown) = (self.request.read()?, self.shown(session.format())?);
        let session = session.without(&[Format::Table])?;
        let response = session.client()?.get(request).await?;
        session.print(&Response::Get(&response, shown))
    }
}

/// Writes a key. Without VALUE, it is read from standard input.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  meshstore put foo bar
  meshstore put config < config.yaml
  meshstore put foo bar --lease 32695410dcc0ca06
  meshstore put foo --ignore-value --lease 32695410dcc0ca06")]
pub(crate) struct PutArgs {
    #[command(flatten)]
    request: PutRequest,
    #[command(flatten)]
    flags: Flags,
}

/// What to write; also in a transaction.
#[derive(Debug, clap::Args)]
pub(crate) struct PutRequest {
    /// The key
    #[arg(value_parser = range::bytes())]
    key: Bytes,
    /// The value; standard input where it is left out
    #[arg(allow_hyphen_values = true, value_parser = range::bytes())]
    value: Option<Bytes>,
    /// The lease that the key is to live by, hexadecimal; 0 is none
    #[arg(long, value_name = "ID", default_value = "0", hide_default_value = true, value_parser = leased)]
    lease: Leased,
    /// Print what the key was before
    #[arg(long)]
    prev_kv: bool,
    /// Keep the key's value
    #[arg(long, conflicts_with = "value")]
    ignore_value: bool,
    /// Keep the key's lease
    #[arg(long, conflicts_with = "lease")]
    ignore_lease: bool,
}

/// The lease of a key, if it is to have one.
#[derive(Clone, Copy, Debug)]
struct Leased(Option<LeaseId>);

fn leased(text: &str) -> Result<Leased, String> {
    if text == "0" { Ok(Leased(None)) } else { lease_id(text).map(|id| Leased(Some(id))) }
}

impl PutRequest {
    /// `missing` brings the value where it is neither given nor to be kept.
    pub(crate) fn read(self, missing: impl FnOnce() -> Result<Vec<u8>, Failure>) -> Result<Put, Failure> {
        let value = match self.value {
            Some(value) => value,
            None if self.ignore_value => Bytes::new(),
            None => missing()?.into(),
        };
        Ok(Put {
            lease: self.lease.0,
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
            ..Put::new(self.key, value)
        })
    }
}

impl KeyVerb for PutArgs {
    fn flags(&self) -> &Flags {
        &self.flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let session = session.without(&[Format::Table])?;
        let put = self.request.read(|| {
            let mut value = Vec::new();
            std::io::stdin().lock().read_to_end(&mut value)?;
            if value.is_empty() {
                // More likely what should have written it has failed.
                let failure = Failure::bad_args("neither an argument nor standard input says what to put");
                return Err(failure.next("put an empty value by: put KEY ''"));
            }
            Ok(value)
        })?;
        let response = session.client()?.put(put).await?;
        session.print(&Response::Put(&response))
    }
}

/// Deletes keys.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  meshstore del foo --prev-kv
  meshstore del --prefix tmp/
  meshstore del a c")]
pub(crate) struct DelArgs {
    #[command(flatten)]
    request: DelRequest,
    #[command(flatten)]
    flags: Flags,
}

/// What to delete; also in a transaction.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of etcdctl's")]
pub(crate) struct DelRequest {
    /// The key, or the first of a range
    #[arg(value_parser = range::bytes())]
    key: Bytes,
    /// The end of the range, itself not in it
    #[arg(value_parser = range::bytes())]
    range_end: Option<Bytes>,
    /// All keys that start with KEY
    #[arg(long)]
    prefix: bool,
    /// KEY and all that follow
    #[arg(long)]
    from_key: bool,
    /// A range is meant: without its end nothing is deleted
    #[arg(long)]
    range: bool,
    /// Print what the keys were
    #[arg(long)]
    prev_kv: bool,
}

impl DelRequest {
    pub(crate) fn read(&self) -> Result<Delete, Failure> {
        if self.range && self.range_end.is_none() {
            return Err(Failure::bad_args("`--range` needs the end of the range after the key"));
        }
        let range = range::parse(&self.key, self.range_end.as_ref(), self.prefix, self.from_key)?;
        Ok(Delete { range, prev_kv: self.prev_kv })
    }
}

impl KeyVerb for DelArgs {
    fn flags(&self) -> &Flags {
        &self.flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let session = session.without(&[Format::Table])?;
        let response = session.client()?.delete(self.request.read()?).await?;
        session.print(&Response::Delete(&response))
    }
}

/// Gives up history before a revision.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  meshstore compaction 1000
  meshstore compaction --physical 1000")]
pub(crate) struct CompactionArgs {
    /// The oldest revision to keep
    revision: i64,
    /// Wait until the space is given back
    #[arg(long)]
    physical: bool,
    #[command(flatten)]
    flags: Flags,
}

impl KeyVerb for CompactionArgs {
    fn flags(&self) -> &Flags {
        &self.flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let session = session.without(&[Format::Table])?;
        let malformed = || Failure::bad_args(format!("{} is not a revision", self.revision));
        let revision = Revision::new(self.revision).ok_or_else(malformed)?;
        let response = session.client()?.compact(revision, self.physical).await?;
        let by = (response.header, response.revision);
        session.print(&Response::Done(Some(by), format!("compacted revision {revision}")))
    }
}
