//! Texts of others, as an error shows them.

/// The beginning of a text, at most so many characters of it, in one line and without what would move a cursor.
#[must_use]
pub fn shown(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_short_and_moves_no_cursor() {
        assert_eq!(shown("a\x1b[2J\nb", 10), "a [2J b");
        assert_eq!(shown("ééé", 2), "éé");
    }
}
