//! `txn`: a transaction read from standard input, in etcdctl's syntax.
//!
//! Three blocks, each ended by an empty line: comparisons, what to do if all hold, what to do if not.

use super::{
    KeyVerb, Session,
    connection::Flags,
    failure::{Exit, Failure},
    keys::{DelRequest, GetRequest, PutRequest},
    output::{Format, Response},
    words::{self, Words},
};
use clap::Parser;
use client::{Compare, Comparison, Op, Txn};
use std::{
    ffi::OsStr,
    io::{BufRead, Write},
    os::unix::ffi::OsStrExt,
};
use types::LeaseId;

/// Compares, then does one list of requests or the other, at one revision. Read from standard input.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: take a lock if nobody holds it, else see who does
  meshstore txn <<'END'
  create(\"lock\") = \"0\"

  put lock \"me\"

  get lock

  END

Comparisons: create, mod, version, value or lease, of a key, =, !=, > or <, an operand.
Requests: get, put and del, with the flags they have as verbs.")]
pub(crate) struct TxnArgs {
    /// Ask for each block
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    flags: Flags,
}

impl KeyVerb for TxnArgs {
    fn flags(&self) -> &Flags {
        &self.flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let session = session.without(&[Format::Table])?;
        let mut prompts = std::io::stdout();
        let ask = |block: &str| if self.interactive { writeln!(prompts, "{block}") } else { Ok(()) };
        let txn = read(&mut std::io::stdin().lock(), ask)?;
        session.print(&Response::Txn(&session.client()?.txn(txn).await?))
    }
}

/// Reads a transaction, whose three blocks each end with an empty line.
fn read(input: &mut dyn BufRead, mut ask: impl FnMut(&str) -> std::io::Result<()>) -> Result<Txn, Failure> {
    let mut txn = Txn::new();
    ask("compares:")?;
    for line in block(input)? {
        txn = txn.when(comparison(&line)?);
    }
    ask("success requests (get, put, del):")?;
    for line in block(input)? {
        txn = txn.then(request(&line)?);
    }
    ask("failure requests (get, put, del):")?;
    for line in block(input)? {
        txn = txn.otherwise(request(&line)?);
    }
    Ok(txn)
}

/// The lines up to an empty one. An input that ends sooner was cut, or is none.
fn block(input: &mut dyn BufRead) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        input.read_line(&mut line)?;
        if !line.ends_with('\n') {
            let step = "comparisons, what to do then, what to do else: end each of the three blocks with an empty line";
            return Err(invalid("EOF").next(step));
        }
        let line = line.trim();
        if line.is_empty() {
            return Ok(lines);
        }
        lines.push(line.to_owned());
    }
}

fn invalid(text: impl Into<String>) -> Failure {
    Failure::new(Exit::InvalidInput, text)
}

/// Reads `mod("key") > "0"`; quotes may be left out where nothing needs them. A lease is hexadecimal, 0 none.
fn comparison(line: &str) -> Result<Comparison, Failure> {
    let malformed = || invalid(format!("malformed comparison: {line}")).next("write it as in: mod(\"key\") > \"0\"");
    let (target, rest) = line.split_once('(').ok_or_else(malformed)?;
    let mut words = Words::new(rest);
    let key = words.next_until(')').map_err(|_| malformed())?;
    let operator = words.operator().ok_or_else(malformed)?;
    let operand = words.next_word().map_err(|_| malformed())?.ok_or_else(malformed)?;
    if !words.is_at_end() {
        return Err(malformed());
    }
    let not_a_number = || invalid(format!("invalid txn compare request: {line}")).next("compare it with a number");
    let number = || words::text(&operand).and_then(|text| text.parse::<i64>().ok()).ok_or_else(not_a_number);
    Ok(match target.trim() {
        "ver" | "version" => compared(Compare::version(key), operator, number()?),
        "c" | "create" => compared(Compare::create_revision(key), operator, number()?),
        "m" | "mod" => compared(Compare::mod_revision(key), operator, number()?),
        "val" | "value" => compared(Compare::value(key), operator, operand),
        "lease" => {
            let lease = words::text(&operand).and_then(|text| i64::from_str_radix(text, 16).ok());
            compared(Compare::lease(key), operator, LeaseId::new(lease.ok_or_else(not_a_number)?))
        }
        target => {
            let failure = invalid(format!("malformed comparison: {line} (unknown target {target})"));
            return Err(failure.next("compare version, create, mod, value or lease"));
        }
    })
}

fn compared<V>(target: Compare<V>, operator: words::Operator, operand: V) -> Comparison {
    match operator {
        words::Operator::Equal => target.equal(operand),
        words::Operator::NotEqual => target.not_equal(operand),
        words::Operator::Greater => target.greater(operand),
        words::Operator::Less => target.less(operand),
    }
}

/// One request, as its verb reads it.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_subcommand = true, disable_help_flag = true)]
enum Request {
    Get(GetRequest),
    Put(PutRequest),
    Del(DelRequest),
}

fn request(line: &str) -> Result<Op, Failure> {
    let malformed = |reason: &str| invalid(format!("invalid txn request: {line}")).next(reason);
    let words = words::all(line).map_err(malformed)?;
    let words = words.iter().map(|word| OsStr::from_bytes(word));
    let first_line = |error: clap::Error| malformed(error.to_string().lines().next().unwrap_or_default());
    match Request::try_parse_from(words).map_err(first_line)? {
        Request::Get(get) => Ok(Op::Get(get.read()?)),
        Request::Del(del) => Ok(Op::Delete(del.read()?)),
        Request::Put(put) => Ok(Op::Put(put.read(|| Err(malformed("no value")))?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::{Delete, Get};

    fn parsed(text: &str) -> Result<Txn, Failure> {
        read(&mut text.as_bytes(), |_| Ok(()))
    }

    #[test]
    fn a_transaction_has_three_blocks() {
        let text = "mod(\"k1\") > \"0\"\nvalue(k2) != x\n\nput k1 \"a b\"\nget foo\ndel zz --prefix\n\nput k1 'f'\n\n";
        let expected = Txn::new()
            .when(Compare::mod_revision("k1").greater(0))
            .when(Compare::value("k2").not_equal("x"))
            .then(Op::put("k1", "a b"))
            .then(Op::get("foo"))
            .then(Op::Delete(Delete::prefix("zz")))
            .otherwise(Op::put("k1", "f"));
        assert_eq!(parsed(text).unwrap(), expected);
        assert_eq!(parsed("\n\n\n").unwrap(), Txn::new());
        for cut in ["", "mod(a) > 0\n\n", "\n\n", "\n\nget a", "\n\nget a\n", "\n\n\t"] {
            assert_eq!(parsed(cut).unwrap_err().exit, Exit::InvalidInput, "{cut:?}");
        }
    }

    #[test]
    fn comparisons_are_read_as_etcdctl_writes_them() {
        let lease = LeaseId::new(0x1f);
        let cases = [
            (r#"ver("a") = "1""#, Some(Compare::version("a").equal(1))),
            (r#"version("a") = "1""#, Some(Compare::version("a").equal(1))),
            (r#"c("a") < "2""#, Some(Compare::create_revision("a").less(2))),
            (r#"create("a") < "2""#, Some(Compare::create_revision("a").less(2))),
            (r#"m("a)b") > "3""#, Some(Compare::mod_revision("a)b").greater(3))),
            (r#"val("a") = "x y\n""#, Some(Compare::value("a").equal("x y\n"))),
            (r#"lease("a") = "1f""#, Some(Compare::lease("a").equal(lease))),
            ("lease(a) != 0", Some(Compare::lease("a").not_equal(None))),
            ("mod(a)>0", Some(Compare::mod_revision("a").greater(0))),
            ("mod(a) >= 0", None),
            ("mod(a) > x", None),
            ("mod(a) > 0 1", None),
            ("size(a) > 0", None),
            ("mod a > 0", None),
            (r#"mod("a) > 0"#, None),
        ];
        for (line, expected) in cases {
            let read = comparison(line);
            assert_eq!(read.as_ref().ok(), expected.as_ref(), "{line}");
            assert!(read.is_ok() || read.is_err_and(|failure| failure.exit == Exit::InvalidInput));
        }
    }

    #[test]
    fn requests_are_read_as_verbs() {
        let revision = types::Revision::new;
        let filtered = Get { min_mod_revision: revision(3), max_create_revision: revision(4), ..Get::key("a") };
        let leased = client::Put { lease: LeaseId::new(0x1f), prev_kv: true, ..client::Put::new("a", "b") };
        let cases = [
            ("get a", Some(Op::get("a"))),
            ("get a --prefix --limit 2", Some(Op::Get(Get { limit: Some(2), ..Get::prefix("a") }))),
            ("put a b --lease 1f --prev-kv", Some(Op::Put(leased))),
            ("put a -1", Some(Op::put("a", "-1"))),
            ("put a \"\"", Some(Op::put("a", ""))),
            (r#"put "\x00\xff" "\xfe""#, Some(Op::put(&b"\0\xff"[..], &b"\xfe"[..]))),
            ("get a --min-mod-rev 3 --max-create-rev 4", Some(Op::Get(filtered))),
            ("put a", None),
            ("put a 'b", None),
            ("watch a", None),
            ("get", None),
            ("get a --endpoints b", None),
        ];
        for (line, expected) in cases {
            assert_eq!(request(line).ok(), expected, "{line}");
        }
    }
}
