//! Nix files that are not as `nixfmt` writes them. Pure.

use crate::finding::Finding;

/// The largest file that is formatted, in bytes.
pub(crate) const MAX_FILE: usize = 4 << 20;

/// What came of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Formatted {
    Same,
    /// It would be this.
    Other(String),
    /// It can't be read.
    Unreadable(Finding),
}

/// Formats a file.
pub(crate) fn format(file: &str, text: &str) -> Formatted {
    match nixfmt_rs::format(text) {
        Ok(formatted) if formatted == text => Formatted::Same,
        Ok(formatted) => Formatted::Other(formatted),
        Err(error) => {
            let said = nixfmt_rs::format_error(text, None, &error);
            let (line, what) = read_error(&said);
            let finding = Finding::error(what, "put it right: what does not parse is not formatted").at(file);
            Formatted::Unreadable(match line {
                Some(line) => finding.line(line),
                None => finding,
            })
        }
    }
}

/// That a file is not formatted, and where that begins.
pub(crate) fn unformatted(file: &str, text: &str, formatted: &str) -> Finding {
    let same = text.split_inclusive('\n').zip(formatted.split_inclusive('\n')).take_while(|(a, b)| a == b);
    Finding::error("it is not formatted", "`bosco check --fix`, or `nixfmt`, does it")
        .at(file)
        .line(same.count() + 1)
}

/// The line and the words of an error as it is rendered: `error: WHAT`, then ` --> FILE:LINE:COLUMN`, or `LINE:COLUMN`.
fn read_error(said: &str) -> (Option<usize>, String) {
    let place = said.lines().find_map(|line| {
        let mut parts = line.trim().rsplitn(3, ':');
        let column = parts.next()?;
        let number = parts.next()?;
        column.trim().parse::<usize>().ok()?;
        number.rsplit([' ', '>', '─', '[']).next()?.trim().parse().ok()
    });
    let first = said.lines().next().unwrap_or("it can't be read");
    (place, first.trim_start_matches("error:").trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_formatted_once_and_then_stays_so() {
        let text = "{ a = 1;\n  b=2; }\n";
        let Formatted::Other(formatted) = format("a.nix", text) else { unreachable!() };
        assert_eq!(format("a.nix", &formatted), Formatted::Same);
        assert_eq!(unformatted("a.nix", text, &formatted).line, Some(1));
        assert_eq!(unformatted("a.nix", "{\n  a=1;\n}\n", "{\n  a = 1;\n}\n").line, Some(2));
    }

    #[test]
    fn what_does_not_parse_is_told_with_its_line() {
        let Formatted::Unreadable(finding) = format("a.nix", "{\n  a = ;\n}\n") else { unreachable!() };
        assert_eq!((finding.line, finding.file.as_deref()), (Some(2), Some("a.nix")), "{}", finding.words());
    }
}
