//! Answers in columns.

use comfy_table::{ContentArrangement, presets};

use crate::show::style::STRONG;

/// A table without lines, as wide as it needs. A cell may have colours.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(head.map(|title| format!("{STRONG}{title}{STRONG:#}")));
        Self(table)
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(cells);
    }

    pub(crate) fn print(&self) {
        for line in self.0.lines() {
            // Each cell is padded, the first one as well.
            let line = line.trim_end();
            out!("{}", line.strip_prefix(' ').unwrap_or(line));
        }
    }
}
