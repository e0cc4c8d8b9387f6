//! The rules of CONTRIBUTING.md that a machine can check and no lint does.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools::root;

/// A file past this is asking to be two.
const MAX_LINES: usize = 600;
/// What says of each option of other tools which test shows it.
const COMPATIBILITY: &str = "docs/compatibility.md";

pub(crate) fn check() -> Result<()> {
    let mut wrong = Vec::new();
    for file in files()? {
        let Ok(text) = std::fs::read_to_string(root().join(&file)) else { continue };
        wrong.extend(faults(&file, &text));
    }
    let table = std::fs::read_to_string(root().join(COMPATIBILITY)).context(COMPATIBILITY)?;
    for (file, test) in tests_named(&table) {
        let text = std::fs::read_to_string(root().join(&file)).unwrap_or_default();
        if !text.contains(&format!("fn {test}(")) {
            wrong.push(format!("{COMPATIBILITY}: there is no test `{test}` in {file}"));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

/// The tests that a document names, as `push::name` or `crates/x/src/y.rs::name`: their files and their names.
fn tests_named(text: &str) -> Vec<(String, &str)> {
    let words = text.split('`').skip(1).step_by(2).filter(|word| !word.contains([' ', '…']));
    let named = words.filter_map(|word| word.split_once("::"));
    named
        .map(|(file, test)| {
            let is_path = Path::new(file).extension().is_some_and(|extension| extension == "rs");
            (if is_path { file.to_owned() } else { format!("crates/bosco/tests/{file}.rs") }, test)
        })
        .collect()
}

/// The files that git knows, or would take.
fn files() -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let output = git.output().context("could not run git")?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect())
}

/// What is wrong with one file.
fn faults(file: &Path, text: &str) -> Vec<String> {
    let code = matches!(file.extension().and_then(|e| e.to_str()), Some("rs" | "nix" | "sh"));
    let mut faults = Vec::new();
    let lines = text.lines().count();
    if code && lines > MAX_LINES {
        faults.push(format!(
            "{}: {lines} lines; past {MAX_LINES} it is asking to be two files",
            file.display()
        ));
    }
    if file.ends_with("src/lib.rs") || file.ends_with("src/main.rs") {
        let documented = text.lines().next().is_some_and(|line| line.starts_with("//! "));
        if !documented {
            faults.push(format!("{}: its first line does not say what it is for", file.display()));
        }
    }
    for (number, line) in text.lines().enumerate() {
        if code && line.ends_with([' ', '\t']) {
            faults.push(format!("{}:{}: blanks at the end of the line", file.display(), number + 1));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_and_trailing_blanks_are_found() {
        let long = "x\n".repeat(MAX_LINES + 1);
        assert_eq!(faults(Path::new("a.rs"), &long).len(), 1);
        assert_eq!(faults(Path::new("a.md"), &long).len(), 0);
        assert_eq!(faults(Path::new("a.nix"), "x \n").len(), 1);
        assert_eq!(faults(Path::new("a/src/lib.rs"), "mod x;\n").len(), 1);
    }

    #[test]
    fn the_tests_that_a_document_names_are_found() {
        let text = "| `x y` | `push::…` | `push::it_works`, `crates/a/src/b.rs::so_does_it`; ```";
        let found = tests_named(text);
        let expected = [("crates/bosco/tests/push.rs", "it_works"), ("crates/a/src/b.rs", "so_does_it")];
        assert_eq!(found, expected.map(|(file, test)| (file.to_owned(), test)));
    }
}
