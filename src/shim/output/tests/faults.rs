//! Kernel calls that fail when a test says so.

use std::cell::RefCell;

use nix::errno::Errno;

/// Which calls fail, counted from the next one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Only calls of this name count; `None`: all.
    pub(crate) call: Option<&'static str>,
    /// So many succeed first.
    pub(crate) after: u32,
    /// So many fail then.
    pub(crate) fail: u32,
    pub(crate) errno: Errno,
}

thread_local! {
    static PLAN: RefCell<Option<Plan>> = const { RefCell::new(None) };
}

/// Replaces the plan; the old one tells what is left of it.
pub(crate) fn plan(plan: Option<Plan>) -> Option<Plan> {
    PLAN.with(|cell| cell.replace(plan))
}

pub(crate) fn fault(call: &str) -> nix::Result<()> {
    PLAN.with(|cell| {
        let mut cell = cell.borrow_mut();
        let Some(plan) = cell.as_mut() else {
            return Ok(());
        };
        if plan.call.is_some_and(|only| only != call) {
            return Ok(());
        }
        if plan.after > 0 {
            plan.after -= 1;
            return Ok(());
        }
        if plan.fail > 0 {
            plan.fail -= 1;
            return Err(plan.errno);
        }
        Ok(())
    })
}
