//! The live table: each frame overwrites the one before in place. Nothing about
//! the terminal is changed, so that nothing has to be put back.

use std::{fmt::Write as _, time::SystemTime};

use super::view::View;
use crate::cli::render::{process, style::Palette, time};

/// Used where the terminal does not say.
const DEFAULT_SIZE: (usize, usize) = (80, 24);
const CLEAR: &str = "\x1b[2J";
const HOME: &str = "\x1b[H";
const CLEAR_TO_END_OF_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    drawn: bool,
}

// === impl Screen ===

impl Screen {
    /// What to write so that the terminal shows `view`.
    pub(crate) fn frame(
        &mut self,
        view: &View,
        wide: bool,
        palette: Palette,
        now: SystemTime,
    ) -> String {
        let size = terminal_size::terminal_size().map_or(DEFAULT_SIZE, |(width, height)| {
            (width.0.into(), height.0.into())
        });
        let mut frame = String::new();
        if !std::mem::replace(&mut self.drawn, true) {
            frame.push_str(CLEAR);
        }
        frame.push_str(HOME);
        for line in lines(view, wide, palette, now, size) {
            frame.push_str(&line);
            frame.push_str(CLEAR_TO_END_OF_LINE);
            frame.push('\n');
        }
        frame.push_str(CLEAR_BELOW);
        frame
    }
}

/// The lines that fit into `size` (columns, rows), the last row left free.
fn lines(
    view: &View,
    wide: bool,
    palette: Palette,
    now: SystemTime,
    (columns, rows): (usize, usize),
) -> Vec<String> {
    let mut title = match view.revision() {
        Some(revision) => format!("{} processes at r{revision}", view.processes().len()),
        None => "waiting for the first snapshot".to_owned(),
    };
    let when = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = i64::try_from(when.as_secs()).unwrap_or(i64::MAX);
    let clock = time::instant(&prost_types::Timestamp { seconds, nanos: 0 });
    // Writing to a String cannot fail.
    let _ = write!(title, ", {clock}");
    let mut lines = vec![title.chars().take(columns).collect()];
    let table = process::table(view.processes(), wide, now).to_text(palette, Some(columns));
    lines.extend(table.lines().map(str::to_owned));
    let room = rows.saturating_sub(1).max(2);
    if lines.len() > room {
        let hidden = lines.len() - (room - 1);
        lines.truncate(room - 1);
        lines.push(format!("... and {hidden} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::proto;

    fn view(names: &[&str]) -> View {
        let process = |name: &&str| proto::Process {
            name: (*name).to_owned(),
            ..proto::Process::default()
        };
        let mut view = View::default();
        let message = |to_revision, payload| proto::WatchProcessesResponse {
            to_revision,
            payload: Some(payload),
            ..proto::WatchProcessesResponse::default()
        };
        use proto::watch_processes_response::Payload;
        let processes = names.iter().map(process).collect();
        for (to, payload) in [
            (0, Payload::Opened(proto::WatchOpened::default())),
            (0, Payload::Snapshot(proto::SnapshotPart { processes })),
            (9, Payload::Synced(proto::WatchSynced::default())),
        ] {
            view.accept(&message(to, payload)).unwrap();
        }
        view
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let view = view(&["a", "b", "c", "d", "e"]);
        let now = SystemTime::UNIX_EPOCH;
        let shown = lines(&view, false, Palette::Plain, now, (26, 6));
        assert_eq!(
            shown,
            [
                "5 processes at r9, 1970-01",
                "NAME  STATE  READY  PID  R",
                "a     -      -      -    0",
                "b     -      -      -    0",
                "... and 3 more",
            ]
        );
    }

    #[test]
    fn frames_overwrite_each_other() {
        let mut screen = Screen::default();
        let view = view(&["a"]);
        let mut frame = || screen.frame(&view, false, Palette::Plain, SystemTime::UNIX_EPOCH);
        assert!(frame().starts_with("\x1b[2J\x1b[H"));
        assert!(frame().starts_with("\x1b[H1 processes"));
    }
}
