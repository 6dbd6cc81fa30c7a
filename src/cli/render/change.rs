//! One line per change: what is different from what was shown before.

use super::{process, style, style::Palette, text, time};
use crate::grpc::proto::{
    self, ConditionStatus, Process, ProcessEventKind, ProcessStatus, Readiness,
    exit_status::Outcome,
};

/// What led to a line.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change<'a> {
    /// Seen in the first snapshot.
    Found,
    /// Told by an event.
    Event(&'a proto::ProcessEvent),
    /// Found to be different, or gone, after a reset.
    Resynced { gone: bool },
}

/// `r17  12:00:01.000Z  web  STARTING -> RUNNING  pid 4242  run 3  (API uid:1000)`
pub(crate) fn line(
    change: Change<'_>,
    old: Option<&Process>,
    new: &Process,
    palette: Palette,
) -> String {
    let mut words = vec![position(change, new), text::line(&new.name)];
    let kind = match change {
        Change::Event(event) => event.kind(),
        Change::Resynced { gone: true } => ProcessEventKind::Deleted,
        Change::Found | Change::Resynced { gone: false } => ProcessEventKind::Changed,
    };
    match kind {
        ProcessEventKind::Deleted => words.push("deleted".to_owned()),
        ProcessEventKind::Left => words.push("left the selection".to_owned()),
        ProcessEventKind::Added | ProcessEventKind::Changed | ProcessEventKind::Unspecified => {
            // A new uid is another process under the same name.
            let old = old.filter(|old| old.uid == new.uid);
            words.push(transition(old, new, palette));
            let differences = differences(old, new);
            let quiet = old.filter(|_| differences.is_empty());
            words.extend(differences);
            words.extend(quiet.and_then(|old| progress(old, new)));
        }
    }
    words.extend(attribution(change));
    words.join("  ")
}

fn position(change: Change<'_>, new: &Process) -> String {
    let (revision, when) = match change {
        Change::Event(event) => (event.revision, event.event_time.as_ref()),
        Change::Found | Change::Resynced { .. } => (new.revision, new.update_time.as_ref()),
    };
    match when {
        Some(when) => format!("{}  r{revision}", time::instant(when)),
        None => format!("r{revision}"),
    }
}

fn transition(old: Option<&Process>, new: &Process, palette: Palette) -> String {
    let painted = |process: &Process| {
        let state = process::state(process);
        palette.paint(process::state_name(state), style::state(state))
    };
    match old {
        Some(old) if process::state(old) != process::state(new) => {
            format!("{} -> {}", painted(old), painted(new))
        }
        _ => painted(new),
    }
}

/// What else is worth a word. Without `old`: what is set.
fn differences(old: Option<&Process>, new: &Process) -> Vec<String> {
    let empty = ProcessStatus::default();
    let before = old.and_then(|old| old.status.as_ref()).unwrap_or(&empty);
    let after = new.status.as_ref().unwrap_or(&empty);
    let mut words = Vec::new();
    if after.readiness != before.readiness {
        match after.readiness() {
            Readiness::Ready => words.push("ready".to_owned()),
            Readiness::NotReady if old.is_some() => words.push("not ready".to_owned()),
            Readiness::NotReady | Readiness::Unspecified => {}
        }
    }
    if after.pid != before.pid && after.pid != 0 {
        words.push(format!("pid {}", after.pid));
    }
    if after.run_id != before.run_id {
        words.push(format!("run {}", after.run_id));
    }
    if after.restart_count != before.restart_count {
        words.push(format!("restarts {}", after.restart_count));
    }
    if let Some(exit) = after
        .last_exit
        .as_ref()
        .filter(|_| after.last_exit != before.last_exit)
        .filter(|exit| !is_told_by(exit, &after.message))
    {
        words.push(process::exit(exit));
    }
    let because = process::because(after);
    if !because.is_empty() && because != process::because(before) {
        words.push(because);
    }
    words.extend(after.conditions.iter().filter_map(|condition| {
        let known = before
            .conditions
            .iter()
            .find(|c| c.r#type == condition.r#type);
        let news = match known {
            Some(known) => known.status != condition.status,
            None => condition.status() == ConditionStatus::False,
        };
        let value = process::describe_condition(condition);
        news.then(|| format!("{} {value}", text::line(&condition.r#type)))
    }));
    if after.notify_status != before.notify_status {
        words.push(format!("\"{}\"", text::line(&after.notify_status)));
    }
    if let Some(old) = old.filter(|old| old.generation != new.generation) {
        words.push(format!(
            "configuration {} -> {}",
            old.generation, new.generation
        ));
    }
    words
}

/// What moved where nothing else is worth a word.
fn progress(old: &Process, new: &Process) -> Option<String> {
    let (before, after) = (old.status.as_ref()?, new.status.as_ref()?);
    if after.stage != before.stage && !after.stage.is_empty() {
        return Some(format!("step {}", text::line(&after.stage)));
    }
    let wanted = process::desired_name(after.desired_state());
    (after.desired_state != before.desired_state).then(|| format!("wanted {wanted}"))
}

/// Whether `message` says why the run never began.
fn is_told_by(exit: &proto::ExitStatus, message: &str) -> bool {
    match &exit.outcome {
        Some(Outcome::SpawnError(error)) => message.contains(error),
        _ => false,
    }
}

/// How many versions are merged in this line, and who did it.
fn attribution(change: Change<'_>) -> Vec<String> {
    let mut words = Vec::new();
    let event = match change {
        Change::Event(event) => event,
        Change::Resynced { .. } => return vec!["(found after reset)".to_owned()],
        Change::Found => return words,
    };
    match event.skipped_versions {
        ..=0 => {}
        1 => words.push("[1 change merged]".to_owned()),
        merged => words.push(format!("[{merged} changes merged]")),
    }
    if let Some(cause) = &event.cause {
        let by = match cause.principal.is_empty() {
            true => cause.origin.clone(),
            false => format!("{} {}", cause.origin, cause.principal),
        };
        if !by.is_empty() {
            words.push(format!("({})", text::line(&by)));
        }
    }
    words
}

#[cfg(test)]
mod tests;
