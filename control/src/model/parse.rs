//! From sources to resources, with every problem in its place.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    decode::Finding,
    kind::Kind,
    node::{Node, Value},
    problem::Problem,
    resource::{Id, Resource},
};

/// Text to read, and what problems call it.
#[derive(Clone, Debug)]
pub(crate) struct SourceText {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Where a resource was read, so that a problem found later still finds its line.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    source: Arc<str>,
    document: Arc<Node>,
}

impl Origin {
    /// A problem at `field` of the document; the line is that of the field, or of its nearest ancestor.
    pub(crate) fn problem(&self, id: &Id, field: &str, message: String, suggestion: String) -> Problem {
        Problem {
            source: self.source.to_string(),
            line: self.document.line_of(field),
            field: field.to_owned(),
            message,
            suggestion,
            resource: id.to_string(),
        }
    }
}

/// A resource that was read, and where.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    pub(crate) resource: Resource,
    pub(crate) origin: Origin,
}

/// Reads all documents of all sources. What could be read is returned beside what is wrong.
pub(crate) fn parse(sources: &[SourceText], default_namespace: &str) -> (Vec<Parsed>, Vec<Problem>) {
    let mut reader = Reader { default_namespace, parsed: Vec::new(), problems: Vec::new() };
    for source in sources {
        reader.source(source);
    }
    reader.refuse_duplicates();
    (reader.parsed, reader.problems)
}

struct Reader<'a> {
    default_namespace: &'a str,
    parsed: Vec<Parsed>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn source(&mut self, source: &SourceText) {
        let name: Arc<str> = source.name.as_str().into();
        match Node::documents(&source.text) {
            Ok(documents) => documents.into_iter().for_each(|document| self.document(&name, document)),
            Err(error) => {
                let (line, message) = (error.line, format!("this is no valid YAML: {}", error.message));
                self.problems.push(Problem { source: name.to_string(), line, message, ..Problem::default() });
            }
        }
    }

    fn document(&mut self, source: &Arc<str>, document: Node) {
        if document.value == Value::Null {
            return;
        }
        if document.get("kind").and_then(|kind| kind.node.text()) == Some("List") {
            return self.list(source, &document);
        }
        match kind_of(&document) {
            Ok(kind) => self.resource(source, kind, document),
            Err(finding) => self.refuse(source, "", finding),
        }
    }

    /// Kubernetes' `v1 List`: the resources are its items.
    fn list(&mut self, source: &Arc<str>, list: &Node) {
        let Some(items) = list.get("items") else { return };
        if let Value::List(documents) = &items.node.value {
            return documents.iter().for_each(|document| self.document(source, document.clone()));
        }
        let message = format!("expected a list, found {}", items.node.describe());
        let finding = Finding { line: items.line, field: "items".to_owned(), message, suggestion: String::new() };
        self.refuse(source, "", finding);
    }

    fn resource(&mut self, source: &Arc<str>, kind: Kind, document: Node) {
        let mut findings = Vec::new();
        let resource = Resource::decode(kind, &document, self.default_namespace, &mut findings);
        let label = label(kind, &document, self.default_namespace);
        for finding in findings {
            self.refuse(source, &label, finding);
        }
        if let Some(resource) = resource {
            let origin = Origin { source: source.clone(), document: Arc::new(document) };
            self.parsed.push(Parsed { resource, origin });
        }
    }

    fn refuse(&mut self, source: &Arc<str>, resource: &str, finding: Finding) {
        let Finding { line, field, message, suggestion } = finding;
        let (source, resource) = (source.to_string(), resource.to_owned());
        self.problems.push(Problem { source, line, field, message, suggestion, resource });
    }

    /// One call says one thing about a resource.
    fn refuse_duplicates(&mut self) {
        let mut first = BTreeMap::<&Id, &Origin>::new();
        for Parsed { resource, origin } in &self.parsed {
            let Some(earlier) = first.insert(&resource.id, origin) else { continue };
            let at = format!("{}, line {}", earlier.source, earlier.document.line);
            let message = format!("{} is also given at {at}", resource.id);
            let suggestion = "keep one of them".to_owned();
            self.problems.push(origin.problem(&resource.id, "metadata.name", message, suggestion));
        }
    }
}

/// What a document calls itself; a name that is missing is left out.
fn label(kind: Kind, document: &Node, default_namespace: &str) -> String {
    let metadata = document.get("metadata");
    let field = |name| metadata.and_then(|metadata| metadata.node.get(name)).and_then(|entry| entry.node.text());
    match field("name") {
        Some(name) => format!("{} {}/{name}", kind.name(), field("namespace").unwrap_or(default_namespace)),
        None => kind.name().to_owned(),
    }
}

fn kind_of(document: &Node) -> Result<Kind, Finding> {
    if !matches!(document.value, Value::Map(_)) {
        let message = format!("expected a resource, found {}", document.describe());
        return Err(Finding { line: document.line, field: String::new(), message, suggestion: String::new() });
    }
    let text = |field: &str| match document.get(field).map(|entry| (entry, entry.node.text())) {
        Some((_, Some(text))) => Ok(text),
        found => {
            let line = found.map_or(document.line, |(entry, _)| entry.line);
            let message = format!("a resource needs the text {field:?}");
            Err(Finding { line, field: field.to_owned(), message, suggestion: String::new() })
        }
    };
    let (api_version, kind) = (text("apiVersion")?, text("kind")?);
    Kind::of_document(api_version, kind).map_err(|unknown| Finding {
        line: document.line_of(unknown.field),
        field: unknown.field.to_owned(),
        message: unknown.message,
        suggestion: unknown.suggestion,
    })
}
