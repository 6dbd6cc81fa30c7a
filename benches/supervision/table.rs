//! Rows of figures, each held against what it is compared with.

use std::fmt::Write;

/// What a figure has to keep.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// One figure. With a baseline the bounds are on the ratio to it, otherwise on the
/// figure itself.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    figure: String,
    unit: &'static str,
    ours: f64,
    baseline: Option<(String, f64)>,
    must: Option<Bound>,
    aim: Option<Bound>,
}

// === impl Bound ===

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(most) => format!("<= {most}"),
            Self::AtLeast(least) => format!(">= {least}"),
        }
    }
}

// === impl Row ===

impl Row {
    pub(crate) fn new(figure: impl Into<String>, ours: f64, unit: &'static str) -> Self {
        Self {
            figure: figure.into(),
            unit,
            ours,
            baseline: None,
            must: None,
            aim: None,
        }
    }

    /// Compared with `value`, in the same unit.
    pub(crate) fn against(mut self, name: impl Into<String>, value: f64) -> Self {
        self.baseline = Some((name.into(), value));
        self
    }

    pub(crate) fn at_most(mut self, must: f64, aim: f64) -> Self {
        (self.must, self.aim) = (Some(Bound::AtMost(must)), Some(Bound::AtMost(aim)));
        self
    }

    pub(crate) fn at_least(mut self, must: f64, aim: f64) -> Self {
        (self.must, self.aim) = (Some(Bound::AtLeast(must)), Some(Bound::AtLeast(aim)));
        self
    }

    /// What the bounds are on.
    fn judged(&self) -> f64 {
        let baseline = self.baseline.as_ref();
        baseline.map_or(self.ours, |(_, value)| self.ours / value)
    }

    pub(crate) fn verdict(&self) -> &'static str {
        let holds = |bound: Option<Bound>| bound.map(|bound| bound.holds(self.judged()));
        match (holds(self.must), holds(self.aim)) {
            (None, _) => "",
            (Some(true), Some(true)) => "met, and the aim",
            (Some(true), _) => "met",
            (Some(false), _) => "MISSED",
        }
    }

    fn cells(&self) -> [String; 8] {
        let bound = |bound: Option<Bound>| bound.map_or_else(|| "-".to_owned(), Bound::text);
        let (name, value, ratio) = match &self.baseline {
            Some((name, value)) => (
                name.clone(),
                format!("{} {}", number(*value), self.unit),
                format!("{:.2}", self.judged()),
            ),
            None => ("-".to_owned(), "-".to_owned(), "-".to_owned()),
        };
        [
            self.figure.clone(),
            format!("{} {}", number(self.ours), self.unit),
            name,
            value,
            ratio,
            bound(self.must),
            bound(self.aim),
            self.verdict().to_owned(),
        ]
    }
}

/// Three digits that count, none more.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// The rows in Markdown.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| figure | ours | against | theirs | ratio | must | aim | |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} |", row.cells().join(" | "));
    }
    text
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn worst(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::max)
}
