//! Colours: which state gets which, and whether there are any.

use anstyle::{AnsiColor, Style};

use crate::{cli::paths::Surroundings, grpc::proto::ProcessState};

/// Whether styles are written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Palette {
    Plain,
    Coloured,
}

// === impl Palette ===

impl Palette {
    /// Colours on a terminal, unless `NO_COLOR` is set and not empty.
    pub(crate) fn choose(terminal: bool, here: Surroundings<'_>) -> Self {
        match terminal && here.set("NO_COLOR").is_none() {
            true => Self::Coloured,
            false => Self::Plain,
        }
    }

    /// `text` in `style`.
    pub(crate) fn paint(self, text: &str, style: Style) -> String {
        match self {
            Self::Coloured if style != Style::new() => {
                format!("{}{text}{}", style.render(), style.render_reset())
            }
            Self::Coloured | Self::Plain => text.to_owned(),
        }
    }
}

/// The style of a state.
pub(crate) fn state(state: ProcessState) -> Style {
    use ProcessState as S;
    let colour = match state {
        S::Running => AnsiColor::Green,
        S::Starting | S::Stopping | S::Reloading | S::Pending => AnsiColor::Cyan,
        S::Backoff | S::Paused | S::Unknown => AnsiColor::Yellow,
        S::Failed => AnsiColor::Red,
        S::Stopped | S::Succeeded | S::Unspecified => return Style::new(),
    };
    colour.on_default()
}

/// The style of the `index`th process in a mixed output.
pub(crate) fn nth(index: usize) -> Style {
    const COLOURS: [AnsiColor; 6] = [
        AnsiColor::Cyan,
        AnsiColor::Yellow,
        AnsiColor::Green,
        AnsiColor::Magenta,
        AnsiColor::Blue,
        AnsiColor::BrightRed,
    ];
    COLOURS[index % COLOURS.len()].on_default()
}
