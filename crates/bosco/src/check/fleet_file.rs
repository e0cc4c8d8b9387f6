//! What is wrong with `bosco.toml`. Pure.

use bosco_release::{FleetFile, FleetFileError};

use crate::finding::Finding;
use crate::suggest::near;

/// The mistake in a `bosco.toml`, where there is one. The first hides others.
pub(crate) fn fleet_file(file: &str, text: &str) -> Option<Finding> {
    let error = FleetFile::parse(text).err()?;
    let hint = error.hint().to_owned();
    let FleetFileError::Unreadable { line, why } = &error else {
        return Some(Finding::error(error.to_string(), hint).at(file));
    };
    let hint = meant(why).map_or(hint, |near| format!("did you mean `{near}`?"));
    let finding = Finding::error(why.clone(), hint).at(file);
    Some(match line {
        Some(line) => finding.line(*line),
        None => finding,
    })
}

/// What was meant by an unknown key: serde says ``unknown field `a`, expected one of `b`, `c` ``.
fn meant(why: &str) -> Option<String> {
    let rest = why.strip_prefix("unknown field `")?;
    let (unknown, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2);
    near(unknown, known).next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_told_with_its_line_and_what_was_meant() {
        let finding = fleet_file("bosco.toml", "fleet = \"home\"\n[hub]\nadress = \"x\"\n").unwrap();
        assert!(finding.words().starts_with("bosco.toml:3: unknown field `adress`"), "{}", finding.words());
        assert_eq!(finding.hint, "did you mean `address`?");
        assert!(fleet_file("bosco.toml", "fleet = \"home\"\n").is_none());
        assert!(fleet_file("bosco.toml", "").unwrap().hint.contains("docs/"));
    }
}
