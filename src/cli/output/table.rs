//! `-w table`, and columns of text.

use super::{EndpointHealth, Response, simple};
use client::MemberInfo;
use std::io::{Result, Write};

pub(crate) fn print(response: &Response<'_>, out: &mut dyn Write) -> Result<()> {
    match response {
        Response::Members(response) => {
            let header = ["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"];
            bordered(&header, &response.members.iter().map(|one| member(one).to_vec()).collect::<Vec<_>>(), out)
        }
        Response::Status(all) => {
            let header = [
                "ENDPOINT",
                "ID",
                "VERSION",
                "DB SIZE",
                "IS LEADER",
                "IS LEARNER",
                "RAFT TERM",
                "RAFT INDEX",
                "RAFT APPLIED INDEX",
                "ERRORS",
            ];
            bordered(&header, &all.iter().map(|one| simple::endpoint_status(one).to_vec()).collect::<Vec<_>>(), out)
        }
        Response::Health(all) => {
            let header = ["ENDPOINT", "HEALTH", "TOOK", "ERROR"];
            bordered(&header, &all.iter().map(health).collect::<Vec<_>>(), out)
        }
        Response::Hash(all) => {
            let rows: Vec<_> = all.iter().map(|one| vec![one.endpoint.clone(), one.hash.hash.to_string()]).collect();
            bordered(&["ENDPOINT", "HASH"], &rows, out)
        }
        other => simple::print(other, false, out),
    }
}

/// The columns of a member.
pub(crate) fn member(member: &MemberInfo) -> [String; 6] {
    [
        format!("{:x}", member.id),
        if member.name.is_empty() { "unstarted" } else { "started" }.to_owned(),
        member.name.clone(),
        member.peer_urls.join(","),
        member.client_urls.join(","),
        member.is_learner.to_string(),
    ]
}

fn health(health: &EndpointHealth) -> Vec<String> {
    let EndpointHealth { endpoint, took, error } = health;
    vec![endpoint.clone(), error.is_none().to_string(), format!("{took:?}"), error.clone().unwrap_or_default()]
}

fn widths(header: &[&str], rows: &[Vec<String>]) -> Vec<usize> {
    let width = |text: &str| text.chars().count();
    let column =
        |(index, title): (usize, &&str)| rows.iter().map(|row| width(&row[index])).fold(width(title), usize::max);
    header.iter().enumerate().map(column).collect()
}

/// A table in a frame, titles centred and cells to the right, as etcdctl draws it.
pub(crate) fn bordered(header: &[&str], rows: &[Vec<String>], out: &mut dyn Write) -> Result<()> {
    let widths = widths(header, rows);
    let dashes: Vec<_> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
    let rule = format!("+{}+", dashes.join("+"));
    writeln!(out, "{rule}")?;
    for (title, &width) in header.iter().zip(&widths) {
        write!(out, "| {title:^width$} ")?;
    }
    writeln!(out, "|\n{rule}")?;
    for row in rows {
        for (cell, &width) in row.iter().zip(&widths) {
            write!(out, "| {cell:>width$} ")?;
        }
        writeln!(out, "|")?;
    }
    writeln!(out, "{rule}")
}

/// Columns without a frame, for `-o table`: titles, then rows, three spaces between.
pub(crate) fn columns(header: &[&str], rows: &[Vec<String>], out: &mut dyn Write) -> Result<()> {
    let widths = widths(header, rows);
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<_> = cells.zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        writeln!(out, "{}", padded.join("   ").trim_end())
    };
    line(&mut header.iter().copied())?;
    rows.iter().try_for_each(|row| line(&mut row.iter().map(String::as_str)))
}
