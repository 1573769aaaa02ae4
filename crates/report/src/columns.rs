//! Aligned columns.

use console::measure_text_width;

use crate::paint::Tone;

/// On which side a column is ragged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// One field of a table: harmless text (see [`crate::escape`]) and its tone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Cell { text: text.into(), tone: Tone::Plain }
    }

    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Cell { text: text.into(), tone }
    }

    fn width(&self) -> usize {
        measure_text_width(&self.text)
    }
}

/// The rows as lines of equal columns, two spaces between them and `indent` before; no line ends in a space.
pub(crate) fn lines(rows: &[Vec<Cell>], aligns: &[Align], indent: usize, colour: bool) -> Vec<String> {
    let widths: Vec<usize> = (0..aligns.len())
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(Cell::width).max().unwrap_or(0))
        .collect();
    rows.iter()
        .map(|row| {
            let mut line = " ".repeat(indent);
            let mut owed = 0;
            for ((cell, width), align) in row.iter().zip(&widths).zip(aligns) {
                let gap = width - cell.width();
                let (before, after) = if *align == Align::Right { (gap, 0) } else { (0, gap) };
                if cell.text.is_empty() {
                    owed += gap + 2;
                    continue;
                }
                line.push_str(&" ".repeat(owed + before));
                line.push_str(&cell.tone.paint(&cell.text, colour));
                owed = after + 2;
            }
            line
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_by_what_a_terminal_shows() {
        let rows = [vec!["a", "1", "x"], vec!["試験", "", "y"], vec!["ccc", "200", ""]]
            .map(|row| row.into_iter().map(Cell::new).collect::<Vec<_>>());
        let lines = lines(&rows, &[Align::Left, Align::Right, Align::Left], 1, false);
        assert_eq!(lines, [" a       1  x", " 試験       y", " ccc   200"]);
    }
}
