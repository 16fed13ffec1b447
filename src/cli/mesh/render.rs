//! Resources, changes, problems and proxies as text.

use super::Output;
use crate::cli::{failure::Failure, output::table};
use client::mesh::{Action, Change, Problem, ProxyState, ProxyStatusResponse, Resource, TypeStatus};
use serde_json::{Value, json};
use std::io::Write;

/// `file:line: field: message (suggestion)`, without the parts that are not known.
pub(super) fn problem(problem: &Problem) -> String {
    let mut text = problem.source.clone();
    let mut part = |separator: &str, part: &str| {
        if !part.is_empty() {
            text.push_str(if text.is_empty() { "" } else { separator });
            text.push_str(part);
        }
    };
    part(":", &if problem.line == 0 { String::new() } else { problem.line.to_string() });
    part(": ", &problem.field);
    part(": ", &problem.message);
    if !problem.suggestion.is_empty() {
        part(" ", &format!("({})", problem.suggestion));
    }
    text
}

/// `virtualservice/reviews created`.
pub(super) fn change(change: &Change) -> String {
    let action = match change.action() {
        Action::Unchanged => "unchanged",
        Action::Created => "created",
        Action::Updated => "configured",
        Action::Deleted => "deleted",
    };
    let resource = change.resource.clone().unwrap_or_default();
    format!("{} {action}", name(&resource))
}

fn name(resource: &Resource) -> String {
    format!("{}/{}", resource.kind.to_lowercase(), resource.name)
}

/// Prints resources; `one`: a single one was asked for by name.
pub(super) fn resources(resources: &[Resource], output: Output, one: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let documents = || resources.iter().map(|resource| serde_json::from_str(&resource.json)).collect::<Result<_, _>>();
    let documents =
        || -> Result<Vec<Value>, Failure> { documents().map_err(|error| std::io::Error::from(error).into()) };
    match output {
        Output::Yaml => yaml(&documents()?, out),
        Output::Json => {
            let mut documents = documents()?;
            let value = match documents.pop() {
                Some(only) if one && documents.is_empty() => only,
                last => {
                    json!({"apiVersion": "v1", "kind": "List", "items": documents.into_iter().chain(last).collect::<Vec<_>>()})
                }
            };
            pretty(&value, out)
        }
        Output::Table | Output::Wide if resources.is_empty() => Ok(()),
        Output::Table | Output::Wide => {
            let mut header = vec!["NAMESPACE", "NAME", "HOSTS", "REVISION"];
            if output == Output::Wide {
                header.extend(["GROUP", "CREATED"]);
            }
            let rows: Vec<_> = resources.iter().map(|resource| row(resource, header.len())).collect();
            Ok(table::columns(&header, &rows, out)?)
        }
    }
}

fn row(resource: &Resource, columns: usize) -> Vec<String> {
    let group = if resource.group.is_empty() { "core" } else { &resource.group };
    let cells = [
        resource.namespace.clone(),
        name(resource),
        hosts(resource),
        resource.mod_revision.to_string(),
        group.to_owned(),
        resource.create_revision.to_string(),
    ];
    cells.into_iter().take(columns).collect()
}

/// The hosts that a resource speaks of, where its kind has any: a Service's own name, with its ports.
fn hosts(resource: &Resource) -> String {
    let document: Value = serde_json::from_str(&resource.json).unwrap_or_default();
    let spec = &document["spec"];
    if resource.group.is_empty() && resource.kind == "Service" {
        return service(resource, spec);
    }
    let texts = |value: &Value| match value {
        Value::String(host) => vec![host.clone()],
        Value::Array(hosts) => hosts.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let servers = spec["servers"].as_array().into_iter().flatten().flat_map(|server| texts(&server["hosts"]));
    let named = ["hosts", "host", "address"].into_iter().flat_map(|field| texts(&spec[field]));
    let hosts: Vec<_> = named.chain(servers).collect();
    if hosts.is_empty() { "-".to_owned() } else { hosts.join(",") }
}

/// `reviews.default.svc.cluster.local:9080,9443`, as routes name it.
fn service(resource: &Resource, spec: &Value) -> String {
    let ports = spec["ports"].as_array().into_iter().flatten().filter_map(|port| port["port"].as_i64());
    let ports: Vec<_> = ports.map(|port| port.to_string()).collect();
    let host = format!("{}.{}.svc.cluster.local", resource.name, resource.namespace);
    if ports.is_empty() { host } else { format!("{host}:{}", ports.join(",")) }
}

pub(crate) fn yaml(documents: &[Value], out: &mut dyn Write) -> Result<(), Failure> {
    for (index, document) in documents.iter().enumerate() {
        if index > 0 {
            writeln!(out, "---")?;
        }
        let text = serde_saphyr::to_string(document).map_err(std::io::Error::other)?;
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

pub(crate) fn pretty(value: &Value, out: &mut dyn Write) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(std::io::Error::from)?;
    Ok(writeln!(out)?)
}

/// Prints what each proxy runs; below the table, why any refused what.
pub(super) fn proxies(status: &ProxyStatusResponse, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    match output {
        Output::Yaml => return yaml(&[proxies_json(status)], out),
        Output::Json => return pretty(&proxies_json(status), out),
        Output::Table | Output::Wide => {}
    }
    let mut types: Vec<_> = status.proxies.iter().flat_map(|proxy| &proxy.types).map(short).collect();
    types.sort_unstable();
    types.dedup();
    let mut header = vec!["PROXY", "PROTOCOL"];
    if output == Output::Wide {
        header.extend(["IDENTITY", "VERSION"]);
    }
    header.extend(&types);
    let rows: Vec<_> = status.proxies.iter().map(|proxy| proxy_row(proxy, &types, output)).collect();
    table::columns(&header, &rows, out)?;
    for proxy in &status.proxies {
        for one in proxy.types.iter().filter(|one| one.rejected > 0) {
            writeln!(out, "{}: {} of revision {} refused: {}", proxy.id, short(one), one.rejected, one.reject_reason)?;
        }
    }
    Ok(writeln!(out, "revision {}", status.revision)?)
}

fn proxy_row(proxy: &ProxyState, types: &[&str], output: Output) -> Vec<String> {
    let mut row = vec![proxy.id.clone(), proxy.protocol.clone()];
    if output == Output::Wide {
        row.extend([proxy.spiffe_id.clone(), proxy.client_version.clone()]);
    }
    let state = |name: &&str| proxy.types.iter().find(|one| short(one) == *name).map_or("-".to_owned(), state);
    row.extend(types.iter().map(state));
    row
}

/// `42` is acknowledged; `40<42` is behind; `!42` is refused.
fn state(status: &TypeStatus) -> String {
    match status {
        TypeStatus { rejected, .. } if *rejected > 0 => format!("!{rejected}"),
        TypeStatus { sent: 0, .. } => "-".to_owned(),
        TypeStatus { sent, acknowledged, .. } if acknowledged < sent => format!("{acknowledged}<{sent}"),
        TypeStatus { acknowledged, .. } => acknowledged.to_string(),
    }
}

/// `Cluster` of `type.googleapis.com/envoy.config.cluster.v3.Cluster`.
fn short(status: &TypeStatus) -> &str {
    status.type_url.rsplit('.').next().unwrap_or_default()
}

fn proxies_json(status: &ProxyStatusResponse) -> Value {
    let one = |one: &TypeStatus| {
        json!({
            "typeUrl": one.type_url,
            "sent": one.sent,
            "acknowledged": one.acknowledged,
            "rejected": one.rejected,
            "rejectReason": one.reject_reason,
        })
    };
    let proxy = |proxy: &ProxyState| {
        json!({
            "id": proxy.id,
            "spiffeId": proxy.spiffe_id,
            "clientVersion": proxy.client_version,
            "protocol": proxy.protocol,
            "types": proxy.types.iter().map(one).collect::<Vec<_>>(),
        })
    };
    json!({"revision": status.revision, "proxies": status.proxies.iter().map(proxy).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reviews() -> Resource {
        Resource {
            group: "networking.istio.io".into(),
            kind: "VirtualService".into(),
            namespace: "default".into(),
            name: "reviews".into(),
            json: r#"{"kind":"VirtualService","spec":{"hosts":["reviews","other"]}}"#.into(),
            create_revision: 5,
            mod_revision: 7,
        }
    }

    fn printed(all: &[Resource], output: Output, one: bool) -> String {
        let mut out = Vec::new();
        resources(all, output, one, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_problem_reads_as_a_compiler_s() {
        let whole = Problem {
            source: "a.yaml".into(),
            line: 7,
            field: "spec.host".into(),
            message: "unknown host".into(),
            suggestion: "reviews".into(),
            resource: "DestinationRule default/reviews".into(),
        };
        assert_eq!(problem(&whole), "a.yaml:7: spec.host: unknown host (reviews)");
        let bare = Problem { source: "stdin".into(), message: "is empty".into(), ..Problem::default() };
        assert_eq!(problem(&bare), "stdin: is empty");
        let named = Problem { message: "not found".into(), ..Problem::default() };
        assert_eq!(problem(&named), "not found");
    }

    #[test]
    fn a_change_reads_as_kubectl_s() {
        for (action, word) in [
            (Action::Unchanged, "unchanged"),
            (Action::Created, "created"),
            (Action::Updated, "configured"),
            (Action::Deleted, "deleted"),
        ] {
            let one = Change { action: action.into(), resource: Some(reviews()) };
            assert_eq!(change(&one), format!("virtualservice/reviews {word}"));
        }
    }

    #[test]
    fn resources_are_printed_in_columns_and_whole() {
        let table = "NAMESPACE   NAME                     HOSTS           REVISION\n\
                     default     virtualservice/reviews   reviews,other   7\n";
        assert_eq!(printed(&[reviews()], Output::Table, true), table);
        assert!(printed(&[reviews()], Output::Wide, true).contains("networking.istio.io   5"));
        let yaml = printed(&[reviews(), reviews()], Output::Yaml, false);
        assert_eq!(yaml.matches("kind: VirtualService").count(), 2);
        assert_eq!(yaml.matches("---\n").count(), 1);
        let one: Value = serde_json::from_str(&printed(&[reviews()], Output::Json, true)).unwrap();
        assert_eq!(one["kind"], "VirtualService");
        let list: Value = serde_json::from_str(&printed(&[reviews(), reviews()], Output::Json, false)).unwrap();
        assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&json!("List"), 2));
    }

    #[test]
    fn what_a_resource_speaks_of_is_shown() {
        let of = |group: &str, kind: &str, json: &str| {
            hosts(&Resource { group: group.into(), kind: kind.into(), json: json.into(), ..reviews() })
        };
        let service = r#"{"spec":{"ports":[{"port":9080},{"port":9443}]}}"#;
        assert_eq!(of("", "Service", service), "reviews.default.svc.cluster.local:9080,9443");
        assert_eq!(of("", "Service", "{}"), "reviews.default.svc.cluster.local");
        assert_eq!(of("n", "DestinationRule", r#"{"spec":{"host":"reviews"}}"#), "reviews");
        assert_eq!(of("n", "WorkloadEntry", r#"{"spec":{"address":"10.0.0.1"}}"#), "10.0.0.1");
        assert_eq!(of("n", "Gateway", r#"{"spec":{"servers":[{"hosts":["a","b"]},{"hosts":["c"]}]}}"#), "a,b,c");
        assert_eq!(of("s", "PeerAuthentication", r#"{"spec":{}}"#), "-");
    }

    #[test]
    fn nothing_to_print_is_an_empty_list() {
        assert_eq!(printed(&[], Output::Table, false), "");
        assert_eq!(printed(&[], Output::Yaml, false), "");
        let list: Value = serde_json::from_str(&printed(&[], Output::Json, false)).unwrap();
        assert_eq!(list["items"], json!([]));
    }

    #[test]
    fn a_proxy_s_state_is_told_by_type() {
        let one = |name: &str, sent, acknowledged, rejected| TypeStatus {
            type_url: format!("type.googleapis.com/envoy.config.v3.{name}"),
            sent,
            acknowledged,
            rejected,
            reject_reason: if rejected > 0 { "no".into() } else { String::new() },
        };
        let types = vec![one("Cluster", 42, 42, 0), one("Listener", 42, 40, 0), one("Secret", 42, 40, 42)];
        let proxy = ProxyState { id: "p".into(), protocol: "delta".into(), types, ..ProxyState::default() };
        let status = ProxyStatusResponse { revision: 42, proxies: vec![proxy] };
        let mut out = Vec::new();
        proxies(&status, Output::Table, &mut out).unwrap();
        let expected = "PROXY   PROTOCOL   Cluster   Listener   Secret\n\
                        p       delta      42        40<42      !42\n\
                        p: Secret of revision 42 refused: no\nrevision 42\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
