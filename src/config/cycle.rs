//! Dependencies that wait for each other. Only those among the processes of the
//! file are known here; others may be in the daemon.

use std::collections::BTreeMap;

use super::{
    errors::Findings,
    tree::{KeyPath, Node, Value},
};

/// Dependencies of each process, with line and index.
type Graph<'a> = BTreeMap<&'a str, Vec<(&'a str, u32, usize)>>;

struct Search<'a, 'f> {
    graph: &'a Graph<'a>,
    /// What is being looked at, from the root of the search.
    path: Vec<&'a str>,
    /// True: on the path. False: done.
    seen: BTreeMap<&'a str, bool>,
    findings: &'f mut Findings,
}

/// Finds each cycle once.
pub(super) fn check(tree: &Node, findings: &mut Findings) {
    let graph = graph_of(tree);
    let mut search = Search {
        graph: &graph,
        path: Vec::new(),
        seen: BTreeMap::new(),
        findings,
    };
    // Depth is at most `PROCESSES_MAX`; a file with more is refused anyway.
    if graph.len() <= super::PROCESSES_MAX {
        graph.keys().for_each(|name| search.visit(name));
    }
}

fn graph_of(tree: &Node) -> Graph<'_> {
    let processes = tree.get("processes").map_or(&[][..], Node::entries);
    let mut graph = Graph::new();
    for (name, process) in processes {
        let edges = graph.entry(name.as_str()).or_default();
        let Some(Value::List(items)) = process.get("dependencies").map(|node| &node.value) else {
            continue;
        };
        for (index, item) in items.iter().enumerate() {
            if let Value::Text(other) = &item.get("name").unwrap_or(item).value {
                edges.push((other.as_str(), item.line, index));
            }
        }
    }
    graph
}

impl<'a> Search<'a, '_> {
    fn visit(&mut self, name: &'a str) {
        if self.seen.contains_key(name) {
            return;
        }
        self.seen.insert(name, true);
        self.path.push(name);
        for &(other, line, index) in self.graph.get(name).into_iter().flatten() {
            if self.seen.get(other) == Some(&true) {
                self.report(other, line, index);
            } else {
                self.visit(other);
            }
        }
        self.path.pop();
        self.seen.insert(name, false);
    }

    fn report(&mut self, first: &str, line: u32, index: usize) {
        let mut key = KeyPath::default();
        key.push_key("processes");
        key.push_key(self.path.last().copied().unwrap_or_default());
        key.push_key("dependencies");
        key.push_index(index);
        let cycle = self.path.iter().skip_while(|name| **name != first);
        let cycle: Vec<_> = cycle.copied().chain([first]).collect();
        let cycle = cycle.join(" -> ");
        self.findings.add(
            line,
            key,
            format!("is part of a cycle: {cycle}; none of them could start"),
        );
    }
}
