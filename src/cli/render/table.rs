//! Aligned columns without borders.

use anstyle::Style;

use super::style::Palette;

/// Rows of cells under a header.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// One value. It must be a single line of safe text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

// === impl Table ===

impl Table {
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The lines; cut at `columns_max` characters where given.
    pub(crate) fn to_text(&self, palette: Palette, columns_max: Option<usize>) -> String {
        let widths = self.widths();
        let header: Vec<Cell> = self.header.iter().map(|&title| title.into()).collect();
        let mut text = String::new();
        for cells in std::iter::once(&header).chain(&self.rows) {
            push_row(
                cells,
                &widths,
                palette,
                columns_max.unwrap_or(usize::MAX),
                &mut text,
            );
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.header.iter().map(|title| title.len()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        widths
    }
}

// === impl Cell ===

impl Cell {
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: text.into(),
            style,
        }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::new())
    }
}

fn push_row(
    cells: &[Cell],
    widths: &[usize],
    palette: Palette,
    columns_max: usize,
    text: &mut String,
) {
    const GAP: usize = 2;
    // Spaces owed before the next cell; the last cell is followed by none.
    let mut owed = 0;
    let mut room = columns_max;
    for (cell, width) in cells.iter().zip(widths) {
        if cell.text.is_empty() {
            owed += width + GAP;
            continue;
        }
        if room <= owed {
            break;
        }
        room -= owed;
        text.extend(std::iter::repeat_n(' ', owed));
        let shown: String = cell.text.chars().take(room).collect();
        room -= shown.chars().count();
        text.push_str(&palette.paint(&shown, cell.style));
        owed = width.saturating_sub(cell.width()) + GAP;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use anstyle::AnsiColor;

    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&["NAME", "STATE", "NOTE"]);
        table.row(vec![
            "web".into(),
            Cell::styled("RUNNING", AnsiColor::Green.on_default()),
            "ok".into(),
        ]);
        table.row(vec!["database".into(), "".into(), "é".into()]);
        table.row(vec!["x".into(), "FAILED".into(), "".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_end_with_text() {
        let expected = "\
NAME      STATE    NOTE
web       RUNNING  ok
database           é
x         FAILED
";
        assert_eq!(sample().to_text(Palette::Plain, None), expected);
    }

    #[test]
    fn colours_do_not_shift_columns() {
        let text = sample().to_text(Palette::Coloured, None);
        assert!(
            text.contains("web       \u{1b}[32mRUNNING\u{1b}[0m  ok\n"),
            "{text:?}"
        );
    }

    #[test]
    fn lines_are_cut_at_the_edge_of_the_screen() {
        let text = sample().to_text(Palette::Plain, Some(12));
        assert_eq!(text, "NAME      ST\nweb       RU\ndatabase\nx         FA\n");
    }
}
