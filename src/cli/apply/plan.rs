//! What a change does, in words.

use anstyle::{AnsiColor, Style};

use crate::{
    cli::render::{style::Palette, text},
    grpc::proto::{self, ApplyOutcome, BatchItemResult, ChangeAction},
};

/// What was done to one process, or with `dry_run` would be.
pub(super) fn describe(result: &BatchItemResult, dry_run: bool) -> String {
    let done = match result.outcome() {
        ApplyOutcome::Created => "created",
        ApplyOutcome::Updated => "updated",
        ApplyOutcome::Unchanged => "unchanged",
        ApplyOutcome::Pruned => "deleted",
        ApplyOutcome::Unspecified => "done",
    };
    let would = if dry_run && done != "unchanged" {
        "would be "
    } else {
        ""
    };
    let consequence = result.plan.as_ref().map(consequence).unwrap_or_default();
    format!("{would}{done}{consequence}")
}

/// `~ web  restart  spec.command (forces it), spec.nice`
pub(super) fn diff_line(result: &BatchItemResult, palette: Palette) -> String {
    let plan = result.plan.clone().unwrap_or_default();
    let (mark, style, action) = match (plan.action(), result.outcome()) {
        (ChangeAction::Create, _) | (ChangeAction::Unspecified, ApplyOutcome::Created) => {
            ('+', AnsiColor::Green.on_default(), "create")
        }
        (ChangeAction::Delete, _) | (ChangeAction::Unspecified, ApplyOutcome::Pruned) => {
            ('-', AnsiColor::Red.on_default(), "delete")
        }
        (action, _) => ('~', AnsiColor::Yellow.on_default(), word(action)),
    };
    let head = palette.paint(&format!("{mark} {}", text::line(&result.name)), style);
    let paths = match mark {
        '~' => paths(&plan, palette),
        _ => String::new(),
    };
    match paths.is_empty() {
        true => format!("{head}  {action}"),
        false => format!("{head}  {action}  {paths}"),
    }
}

fn word(action: ChangeAction) -> &'static str {
    match action {
        ChangeAction::Unspecified | ChangeAction::None => "update",
        ChangeAction::Create => "create",
        ChangeAction::LiveUpdate => "update in place",
        ChangeAction::Reload => "reload",
        ChangeAction::Restart => "restart",
        ChangeAction::Recreate => "delete and create",
        ChangeAction::Delete => "delete",
    }
}

fn paths(plan: &proto::ChangePlan, palette: Palette) -> String {
    let paths = plan.changed_paths.iter().map(|path| {
        let shown = text::line(path);
        if plan.forcing_paths.contains(path) {
            format!("{} (forces it)", palette.paint(&shown, Style::new().bold()))
        } else {
            shown
        }
    });
    paths.collect::<Vec<_>>().join(", ")
}

/// What follows for a running process.
fn consequence(plan: &proto::ChangePlan) -> String {
    let action = match plan.action() {
        ChangeAction::Reload => "reload",
        ChangeAction::Restart => "restart",
        ChangeAction::Recreate => "delete and create",
        ChangeAction::Unspecified
        | ChangeAction::None
        | ChangeAction::Create
        | ChangeAction::LiveUpdate
        | ChangeAction::Delete => return String::new(),
    };
    let when = if plan.deferred {
        " at the next start"
    } else {
        ""
    };
    let forcing: Vec<String> = plan
        .forcing_paths
        .iter()
        .map(|path| text::line(path))
        .collect();
    match forcing.is_empty() {
        true => format!(" ({action}{when})"),
        false => format!(" ({action}{when}, because of {})", forcing.join(", ")),
    }
}
