//! Answers in columns.

use anstream::println;
use comfy_table::{ContentArrangement, presets};

use crate::show::style::{STRONG, of_state};

/// A table without lines, as wide as it needs.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(head);
        Self(table)
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(cells);
    }

    /// Prints it. Colours are put in afterwards, so that they count for no column's width.
    pub(crate) fn print(&self) {
        for (index, line) in self.0.lines().enumerate() {
            let line = line.trim_end();
            // The preset pads the first column as well.
            let line = line.strip_prefix(' ').unwrap_or(line);
            if index == 0 {
                println!("{STRONG}{line}{STRONG:#}");
            } else {
                println!("{}", coloured(line));
            }
        }
    }
}

/// Colours the state that stands in a line, behind the host's name.
fn coloured(line: &str) -> String {
    use bosco_model::State;
    const STATES: [State; 9] = [
        State::UpToDate,
        State::NotCommitted,
        State::BootPending,
        State::RebootNeeded,
        State::Updating,
        State::Pending,
        State::Offline,
        State::Unfit,
        State::LocalOnly,
    ];
    let behind_name = line.find(' ').unwrap_or(line.len());
    let (name, rest) = line.split_at(behind_name);
    let text = rest.trim_start();
    let blank = &rest[..rest.len() - text.len()];
    match STATES.iter().find(|state| text.starts_with(state.words())) {
        None => line.to_owned(),
        Some(state) => {
            let (words, style) = (state.words(), of_state(*state));
            format!("{name}{blank}{style}{words}{style:#}{}", &text[words.len()..])
        }
    }
}
