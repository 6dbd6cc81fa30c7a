//! The dependency graph: cycles, orders, and what one process waits for.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    event::Gate,
    id::ProcessName,
    spec::{Dependency, DependencyCondition},
    status::{State, Status},
};

/// Why a set of configurations cannot stand together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Following dependencies leads back.
    #[error("dependency cycle: {}", .0.iter().map(ProcessName::as_str).collect::<Vec<_>>().join(" -> "))]
    Cycle(Vec<ProcessName>),
    /// A dependency does not exist and is not optional.
    #[error(
        "{process} depends on {missing}, which does not exist; create it first, in the same batch, or mark the dependency optional"
    )]
    Missing {
        /// Who depends.
        process: ProcessName,
        /// On what.
        missing: ProcessName,
    },
}

/// Who depends on whom, by name.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    edges: BTreeMap<ProcessName, Vec<ProcessName>>,
}

// === impl Graph ===

impl Graph {
    /// Puts a process and its dependencies, replacing what was there.
    pub fn put(&mut self, name: ProcessName, dependencies: &[Dependency]) {
        self.edges
            .insert(name, dependencies.iter().map(|d| d.name.clone()).collect());
    }

    /// Checks the processes of `new` and everything they reach, as if `new` had
    /// been put here.
    ///
    /// # Errors
    /// The first cycle, as a closed path.
    pub fn check(&self, new: &Self) -> Result<(), GraphError> {
        let targets = |name: &ProcessName| {
            let edges = new.edges.get(name).or_else(|| self.edges.get(name));
            edges.map_or(&[][..], Vec::as_slice)
        };
        let mut done = BTreeSet::new();
        for name in new.edges.keys() {
            visit(name, targets, &mut done)?;
        }
        Ok(())
    }

    /// `root` and everything it depends on, dependencies first.
    #[must_use]
    pub fn with_dependencies(&self, root: &ProcessName) -> Vec<ProcessName> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::from([root.clone()]);
        let mut stack = vec![(root.clone(), 0_usize)];
        while let Some((name, next)) = stack.last_mut() {
            let targets = self.edges.get(name).map_or(&[][..], Vec::as_slice);
            if let Some(target) = targets.get(*next) {
                *next += 1;
                if seen.insert(target.clone()) {
                    stack.push((target.clone(), 0));
                }
            } else if let Some((name, _)) = stack.pop() {
                order.push(name);
            }
        }
        order
    }

    /// Everything that depends on `root`, directly or not; not `root` itself.
    #[must_use]
    pub fn dependents(&self, root: &ProcessName) -> BTreeSet<ProcessName> {
        let mut found = BTreeSet::new();
        let mut queue = vec![root.clone()];
        while let Some(name) = queue.pop() {
            for (dependent, targets) in &self.edges {
                if targets.contains(&name) && found.insert(dependent.clone()) {
                    queue.push(dependent.clone());
                }
            }
        }
        found
    }

    /// For each of `members`, those of them that directly depend on it.
    #[must_use]
    pub fn dependents_of_each(
        &self,
        members: &[ProcessName],
    ) -> BTreeMap<ProcessName, Vec<ProcessName>> {
        let chosen: BTreeSet<_> = members.iter().collect();
        let mut found: BTreeMap<ProcessName, Vec<ProcessName>> = BTreeMap::new();
        for member in members {
            let targets = self.edges.get(member).into_iter().flatten();
            for target in targets.filter(|target| chosen.contains(target)) {
                found
                    .entry(target.clone())
                    .or_default()
                    .push(member.clone());
            }
        }
        found
    }

    /// Forgets what `name` depends on.
    pub fn remove(&mut self, name: &ProcessName) {
        self.edges.remove(name);
    }
}

/// Depth first with an explicit stack: a chain may be as long as the registry.
fn visit<'a>(
    root: &ProcessName,
    targets: impl Fn(&ProcessName) -> &'a [ProcessName],
    done: &mut BTreeSet<ProcessName>,
) -> Result<(), GraphError> {
    let mut path: Vec<(ProcessName, usize)> = vec![(root.clone(), 0)];
    let mut on_path = BTreeSet::from([root.clone()]);
    while let Some((name, next)) = path.last_mut() {
        let Some(target) = targets(name).get(*next) else {
            on_path.remove(name);
            done.insert(name.clone());
            path.pop();
            continue;
        };
        *next += 1;
        if on_path.contains(target) {
            let names = path.iter().map(|(name, _)| name.clone());
            let mut cycle: Vec<_> = names.skip_while(|name| name != target).collect();
            cycle.push(target.clone());
            return Err(GraphError::Cycle(cycle));
        }
        if !done.contains(target) {
            on_path.insert(target.clone());
            path.push((target.clone(), 0));
        }
    }
    Ok(())
}

/// What `dependencies` allow, given the status of each that exists.
pub fn gate<'a>(
    dependencies: &[Dependency],
    status_of: impl Fn(&ProcessName) -> Option<&'a Status>,
) -> Gate {
    let mut held = Vec::new();
    for dependency in dependencies {
        let status = status_of(&dependency.name);
        match status.map_or(Standing::Held, |s| standing(dependency.condition(), s)) {
            Standing::Met => {}
            // Order only: what cannot come is not waited for.
            Standing::Failed if dependency.optional => {}
            Standing::Held if dependency.optional && status.is_none() => {}
            Standing::Failed => return Gate::Failed(dependency.name.clone()),
            Standing::Held => held.push(dependency.name.clone()),
        }
    }
    if held.is_empty() {
        Gate::Open
    } else {
        Gate::Held(held)
    }
}

enum Standing {
    Met,
    Held,
    Failed,
}

fn standing(condition: DependencyCondition, status: &Status) -> Standing {
    let met = match condition {
        DependencyCondition::Running => {
            matches!(
                status.state,
                State::Running | State::Reloading | State::Paused
            )
        }
        DependencyCondition::Ready => status.ready,
        DependencyCondition::Exited => status.current_exit().is_some(),
        DependencyCondition::Succeeded => status.state == State::Succeeded,
    };
    match (met, status.state) {
        (true, _) => Standing::Met,
        (false, State::Failed) => Standing::Failed,
        (false, _) => Standing::Held,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        status::{Cause, Desired},
        time::Timestamp,
    };

    fn name(text: &str) -> ProcessName {
        ProcessName::new(text).unwrap()
    }

    fn on(text: &str, condition: DependencyCondition, optional: bool) -> Dependency {
        Dependency {
            name: name(text),
            condition: Some(condition),
            restart_with: false,
            optional,
        }
    }

    fn graph(edges: &[(&str, &[&str])]) -> Graph {
        let mut graph = Graph::default();
        for (from, to) in edges {
            let to: Vec<_> = to
                .iter()
                .map(|t| on(t, DependencyCondition::Running, false))
                .collect();
            graph.put(name(from), &to);
        }
        graph
    }

    #[test]
    fn cycles_are_named_as_a_closed_path() {
        let there = graph(&[("b", &["c"]), ("c", &["b"]), ("d", &[])]);
        let error = there.check(&graph(&[("a", &["b", "d"])])).unwrap_err();
        assert_eq!(error.to_string(), "dependency cycle: b -> c -> b");
        assert_eq!(there.check(&graph(&[("d", &[])])), Ok(()));
    }

    #[test]
    fn what_is_new_replaces_what_is_there() {
        let there = graph(&[("a", &["b"]), ("b", &[])]);
        let error = there.check(&graph(&[("b", &["a"])])).unwrap_err();
        assert_eq!(error.to_string(), "dependency cycle: b -> a -> b");
        assert_eq!(there.check(&graph(&[("b", &["a"]), ("a", &[])])), Ok(()));
    }

    #[test]
    fn a_diamond_is_no_cycle_and_has_an_order() {
        let graph = graph(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"])]);
        assert_eq!(Graph::default().check(&graph), Ok(()));
        let order = graph.with_dependencies(&name("a"));
        assert_eq!(order, ["d", "b", "c", "a"].map(name));
        assert_eq!(
            graph.dependents(&name("d")),
            ["a", "b", "c"].map(name).into()
        );
    }

    #[test]
    fn a_long_chain_needs_no_deep_stack() {
        let mut graph = Graph::default();
        for i in 0..20_000 {
            let next = on(&format!("p{}", i + 1), DependencyCondition::Running, false);
            graph.put(name(&format!("p{i}")), &[next]);
        }
        assert_eq!(Graph::default().check(&graph), Ok(()));
        assert_eq!(graph.with_dependencies(&name("p0")).len(), 20_001);
    }

    #[test]
    fn gates_follow_the_conditions() {
        use DependencyCondition::{Ready, Running, Succeeded};
        let status = |state, ready| {
            let mut status = Status::new(Desired::Running, Cause::SUPERVISOR, Timestamp(0));
            (status.state, status.ready) = (state, ready);
            Some(status)
        };
        let held = || Gate::Held(vec![name("db")]);
        let failed = || Gate::Failed(name("db"));
        let table = [
            (Running, false, None, held()),
            (Running, true, None, Gate::Open),
            (Running, false, status(State::Starting, false), held()),
            (Running, false, status(State::Running, false), Gate::Open),
            (Ready, false, status(State::Running, false), held()),
            (Ready, false, status(State::Running, true), Gate::Open),
            (Ready, false, status(State::Failed, false), failed()),
            (Ready, true, status(State::Failed, false), Gate::Open),
            (Ready, true, status(State::Backoff, false), held()),
            (
                Succeeded,
                false,
                status(State::Succeeded, false),
                Gate::Open,
            ),
            (Succeeded, false, status(State::Running, true), held()),
            (Succeeded, false, status(State::Stopped, false), held()),
        ];
        for (i, (condition, optional, status, expected)) in table.into_iter().enumerate() {
            let dependencies = [on("db", condition, optional)];
            assert_eq!(
                gate(&dependencies, |_| status.as_ref()),
                expected,
                "row {i}"
            );
        }
    }
}
