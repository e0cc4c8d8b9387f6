//! What Nix says, made readable. Pure: text in, text out.

use crate::LogLine;

/// A line without the escape sequences that colour it (ECMA-48 control sequences) or move the cursor.
pub(crate) fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' if characters.next() == Some('[') => {
                // A control sequence ends with a letter, `@` or `~`.
                for next in characters.by_ref() {
                    if ('@'..='~').contains(&next) {
                        break;
                    }
                }
            }
            '\t' => out.push(character),
            control if control.is_control() => {}
            other => out.push(other),
        }
    }
    out
}

/// What a line is to somebody who waits.
pub(crate) fn classify(line: &str) -> Option<LogLine> {
    let text = line.trim();
    if let Some(warning) = text
        .strip_prefix("warning: ")
        .or_else(|| text.strip_prefix("evaluation warning: "))
        .or_else(|| text.strip_prefix("trace: warning: "))
    {
        let warning = warning.strip_prefix("evaluation warning: ").unwrap_or(warning);
        // What would follow a colon comes as lines of their own. Names of files stand in two kinds of quotes at once.
        let warning = warning.trim_end_matches(':').replace("'\"", "`").replace("\"'", "`");
        return Some(LogLine::Warning(warning));
    }
    (!text.is_empty()).then(|| work(text).unwrap_or_else(|| LogLine::Progress(text.to_owned())))
}

/// What Nix says of its own work (`printMissing` in shared.cc, and its "activities" where no terminal is there).
fn work(text: &str) -> Option<LogLine> {
    let count = |text: &str| match text.split_once(' ')? {
        ("this", rest) => Some((1, rest.to_owned())),
        ("these", rest) => {
            let (count, rest) = rest.split_once(' ')?;
            Some((count.parse().ok()?, rest.to_owned()))
        }
        _ => None,
    };
    if let Some((count, what)) = count(text) {
        return match what.split_once(" will be ")? {
            (_, "built:") => Some(LogLine::ToBuild(count)),
            (_, fetched) => {
                let size = fetched.strip_prefix("fetched (")?.split_once(" download")?.0;
                Some(LogLine::ToFetch(count, size.to_owned()))
            }
        };
    }
    let name = |path: &str| Some(path.split_once('\'')?.0.rsplit('/').next()?.get(33..)?.to_owned());
    if let Some(path) = text.strip_prefix("building '") {
        let name = name(path)?;
        return Some(LogLine::Building(name.strip_suffix(".drv").unwrap_or(&name).to_owned()));
    }
    Some(LogLine::Fetching(name(text.strip_prefix("copying path '")?)?))
}

/// Nix's own error, cut to what matters: behind a trace, the error itself stands last, with what belongs to it.
pub(crate) fn essence(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let is_error = |line: &&str| line.trim_start().starts_with("error:");
    let Some(mut last) = lines.iter().rposition(is_error) else {
        let said: Vec<_> = lines.iter().filter(|line| !line.trim().is_empty()).collect();
        return said.iter().skip(said.len().saturating_sub(10)).map(|line| format!("{line}\n")).collect();
    };
    // Where several derivations failed, what failed first is the cause of the others ("1 dependencies of derivation …
    // failed to build").
    let is_consequence = |line: &str| {
        line.contains("dependencies of derivation '") || line.trim_start().starts_with("error: build of '")
    };
    let says_something = |line: &&str| is_error(line) && line.trim() != "error:";
    while is_consequence(lines[last]) {
        match lines[..last].iter().rposition(says_something) {
            Some(earlier) => last = earlier,
            None => break,
        }
    }
    let indent = lines[last].len() - lines[last].trim_start().len();
    let mut essence = String::new();
    for (index, line) in lines[last..].iter().enumerate() {
        if index > 0
            && (is_error(line) || line.trim_start().starts_with("… ") || line.starts_with("warning:"))
        {
            break;
        }
        let cut = line.get(indent..).filter(|_| line[..indent.min(line.len())].trim().is_empty());
        essence.push_str(cut.unwrap_or(line.trim_start()).trim_end());
        essence.push('\n');
    }
    let essence = essence.trim();
    essence.strip_prefix("error:").unwrap_or(essence).trim().to_owned()
}

/// What Nix was at when an error came up, as far as its trace says it in the user's own words: the option, and the last of
/// the user's files. Nothing where the error says so itself.
pub(crate) fn surroundings(essence: &str, log: &str, is_ours: &dyn Fn(&str) -> bool) -> Vec<String> {
    let ours = with_names_of_the_user(log, is_ours);
    let behind = |line: &str, words: &str| {
        line.trim_start().strip_prefix(words).map(|rest| rest.trim_end_matches(':').to_owned())
    };
    let option = ours.lines().filter_map(|line| behind(line, "… while evaluating the option ")).next_back();
    let is_file = |place: &String| place.starts_with("./") || place.starts_with("`./");
    let mut places = ours.lines().filter_map(|line| {
        behind(line, "at ").or_else(|| behind(line, "… while evaluating definitions from "))
    });
    let place = places.rfind(is_file);
    let mut said = Vec::new();
    if let Some(option) = option.filter(|_| !essence.contains("The option `")) {
        said.push(format!("in the option {option}"));
    }
    if let Some(place) = place.filter(|_| !essence.contains("./")) {
        said.push(format!("at {}", place.trim_matches(['`', '\''])));
    }
    said
}

/// The derivations whose own builders failed, each with what Nix says of it. `builder for 'X' failed` until Nix 2.29,
/// `Cannot build 'X'` with a reason since.
pub(crate) fn failed_derivations(log: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = log.lines().collect();
    let mut failed = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(said) = line.trim_start().strip_prefix("error: ") else { continue };
        let named = said.strip_prefix("builder for '").or_else(|| said.strip_prefix("Cannot build '"));
        let Some((derivation, _)) = named.and_then(|rest| rest.split_once('\'')) else { continue };
        let behind =
            lines[at + 1..].iter().take_while(|line| line.starts_with(' ') && !line.trim().is_empty());
        let mut why: Vec<&str> = std::iter::once(said).chain(behind.map(|line| line.trim())).collect();
        let is_consequence = why.iter().any(|line| line.starts_with("Reason:") && line.contains("dependenc"));
        if !is_consequence && failed.iter().all(|(known, _)| known != derivation) {
            let elsewhere = format!("error: build of '{derivation}' on '");
            why.extend(lines.iter().filter(|line| line.starts_with(&elsewhere)));
            why.extend(last_words(derivation, &lines));
            failed.push((derivation.to_owned(), why.join("\n")));
        }
    }
    failed
}

/// The last that a builder printed, where the log has it (`--print-build-logs`): `NAME> TEXT`.
fn last_words<'a>(derivation: &str, log: &[&'a str]) -> impl Iterator<Item = &'a str> {
    const SHOWN: usize = 10;
    let base = derivation.strip_suffix(".drv").and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let prefix = format!("{}> ", base.get(33..).unwrap_or_default());
    let mut said: Vec<&str> = log.iter().filter(|line| line.starts_with(&prefix)).copied().collect();
    said.drain(..said.len().saturating_sub(SHOWN));
    said.into_iter()
}

/// Calls files of the fleet by the names that the user knows: Nix reads them from a copy in its store.
pub(crate) fn with_names_of_the_user(text: &str, is_ours: &dyn Fn(&str) -> bool) -> String {
    // A store somewhere else has a path before this, which goes too.
    const STORE: &str = "/nix/store/";
    const COPY: &str = "-source/";
    const HASH: usize = 32;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(STORE) {
        let (before, path) = rest.split_at(start);
        let file = path.get(STORE.len() + HASH..).and_then(|behind| behind.strip_prefix(COPY)).map(|file| {
            let end = file.find(|c: char| c.is_whitespace() || "'\"`:»,;)".contains(c)).unwrap_or(file.len());
            &file[..end]
        });
        match file {
            Some(file) if !file.is_empty() && is_ours(file) => {
                let prefix = before.rfind(|c: char| c.is_whitespace() || "'\"`«(".contains(c));
                let prefix =
                    prefix.map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
                out.push_str(&before[..prefix]);
                out.push_str("./");
                out.push_str(file);
                rest = &path[STORE.len() + HASH + COPY.len() + file.len()..];
            }
            _ => {
                out.push_str(before);
                out.push_str(STORE);
                rest = &path[STORE.len()..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// Says where in the operator's own expression a mistake is: it is read from a file that the operator does not know.
pub(crate) fn with_place_in_expression(text: &str) -> String {
    const FILE: &str = "-expression.nix";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(FILE) {
        let before = &rest[..at];
        let begin = before.rfind(|c: char| c.is_whitespace() || "'\"`«(".contains(c));
        let begin = begin.map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
        out.push_str(&before[..begin]);
        out.push_str(if before[begin..].contains("/nix/store/") {
            "the expression"
        } else {
            &rest[begin..at + FILE.len()]
        });
        rest = &rest[at + FILE.len()..];
    }
    out.push_str(rest);
    out
}

const UNLOCKED: &str = "the flake's lock file lacks something, and can't be written there: `nix flake lock` where it can, and commit that";
const INITIALISE: &str = "in a flake a hive says for which system: `meta.nixpkgs = import nixpkgs { system = \"x86_64-linux\"; };`";
const UNTRACKED: &str = "is the name right? Flakes see only what git knows of: `git add` a new file";

/// What to do about an error that Nix's own words do not explain.
pub(crate) fn hint(log: &str) -> Option<&'static str> {
    let known = [
        ("is not tracked by Git", UNTRACKED),
        // Nix until about 2.27 says no more than that.
        (".nix' does not exist", UNTRACKED),
        (
            "does not exist. Definition values",
            "check the option's name, and that the module that declares it is imported",
        ),
        (
            "was not found in the Nix search path",
            "a hive takes its nixpkgs from `<nixpkgs>`: set `meta.nixpkgs` in it, or NIX_PATH",
        ),
        ("not an initialised package set", INITIALISE),
        ("the hive does not set `meta.nixpkgs`", INITIALISE),
        ("two names of the same", "keep `meta`; `network` is what NixOps calls it"),
        ("by Colmena's `makeHive`", "give it as `colmenaHive`, or without `makeHive`"),
        ("the hive is no attribute set", "a hive is `{ meta = …; HOST = MODULE; … }`"),
        ("syntax error", "mend the file that is named; nothing was done to any host"),
        (
            "infinite recursion",
            "something is defined by itself; `nix eval … --show-trace` shows the way round",
        ),
        ("Read-only file system", UNLOCKED),
        ("cannot write modified lock file", UNLOCKED),
        ("No space left on device", "free some space here, for example with `nix store gc`"),
        ("cannot connect to socket", "the Nix daemon does not run: `systemctl status nix-daemon`"),
        (
            "required to build",
            "this machine can't build for that system: add a remote builder, or emulation with binfmt",
        ),
    ];
    known.iter().find(|(said, _)| log.contains(said)).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_error_behind_a_trace_is_what_is_told() {
        let log = "warning: Git tree '/x' is dirty\nerror:\n       … while calling the 'head' builtin\n         at /nix/store/a:1:2:\n            1| x\n\n       … while evaluating the option `system.build.toplevel':\n\n       (stack trace truncated; use '--show-trace' to show the full, detailed trace)\n\n       error: The option `servces' does not exist. Definition values:\n       - In `web.nix': true\n";
        assert_eq!(
            essence(log),
            "The option `servces' does not exist. Definition values:\n- In `web.nix': true"
        );
    }

    #[test]
    fn a_syntax_error_keeps_its_place() {
        let log = "error: syntax error, unexpected end of file\n       at /nix/store/x:3:1:\n            2|   a = 1\n            3|\n             | ^\n";
        let essence = essence(log);
        assert!(
            essence.starts_with("syntax error") && essence.contains("3:1") && essence.ends_with('^'),
            "{essence}"
        );
    }

    #[test]
    fn the_first_failure_of_a_build_is_the_cause() {
        let log = "error: builder for '/nix/store/a.drv' failed with exit code 1;\n       last 1 log lines:\n       > no such thing\nerror: 1 dependencies of derivation '/nix/store/b.drv' failed to build\n";
        let essence = essence(log);
        assert!(essence.contains("exit code 1") && essence.contains("no such thing"), "{essence}");
        assert!(!essence.contains("dependencies"), "{essence}");
    }

    #[test]
    fn an_error_that_speaks_of_dependencies_is_still_the_error() {
        let log = "error:\n       … while evaluating x\n\n       error: attribute 'dependencies' missing\n";
        assert_eq!(essence(log), "attribute 'dependencies' missing");
    }

    #[test]
    fn each_derivation_that_failed_by_itself_is_named_once() {
        let old = "error: builder for '/nix/store/a.drv' failed with exit code 1;\n       last 1 log lines:\n       > boo\nerror: 1 dependencies of derivation '/nix/store/b.drv' failed to build\n";
        let told = "builder for '/nix/store/a.drv' failed with exit code 1;\nlast 1 log lines:\n> boo";
        assert_eq!(failed_derivations(old), [("/nix/store/a.drv".to_owned(), told.to_owned())]);
        let new = "error: Cannot build '/nix/store/a.drv'.\n       Reason: builder failed with exit code 1.\nerror: Cannot build '/nix/store/b.drv'.\n       Reason: 1 dependency failed.\n";
        let names: Vec<_> = failed_derivations(new).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["/nix/store/a.drv"]);
    }

    #[test]
    fn a_builders_last_words_stand_beside_its_failure() {
        let drv = format!("/nix/store/{}-x.drv", "0".repeat(32));
        let log = format!("x> one\ny> other\nx> two\nerror: builder for '{drv}' failed with exit code 1\n");
        let told = format!("builder for '{drv}' failed with exit code 1\nx> one\nx> two");
        assert_eq!(failed_derivations(&log), [(drv, told)]);
    }

    #[test]
    fn what_nix_says_of_its_own_work_is_known() {
        let path = format!("/nix/store/{}-hello-2.12", "0".repeat(32));
        for (said, work) in [
            ("this derivation will be built:".into(), LogLine::ToBuild(1)),
            ("these 12 derivations will be built:".into(), LogLine::ToBuild(12)),
            (
                "these 5 paths will be fetched (1.50 MiB download, 7.10 MiB unpacked):".into(),
                LogLine::ToFetch(5, "1.50 MiB".into()),
            ),
            (format!("building '{path}.drv'..."), LogLine::Building("hello-2.12".into())),
            (
                format!("copying path '{path}' from 'https://cache'..."),
                LogLine::Fetching("hello-2.12".into()),
            ),
            ("these are the times".into(), LogLine::Progress("these are the times".into())),
            ("building 'x'".into(), LogLine::Progress("building 'x'".into())),
        ] {
            assert_eq!(classify(&said), Some(work), "{said}");
        }
    }

    #[test]
    fn what_another_machine_said_of_a_build_stands_beside_its_failure() {
        let log = "error: build of '/x.drv' on 'ssh://a' failed: error: no bread\nerror: builder for '/x.drv' failed with exit code 1\n";
        let told = failed_derivations(log).remove(0).1;
        assert!(told.ends_with("on 'ssh://a' failed: error: no bread"), "{told}");
    }

    #[test]
    fn an_error_that_does_not_say_where_it_is_gets_the_option_and_the_file() {
        let hash = "0".repeat(32);
        let log = format!(
            "error:\n       … while evaluating the option `system.path':\n       … while evaluating the option `environment.etc.y.text':\n       … while evaluating definitions from `/nix/store/{hash}-source/web.nix':\n       … while calling 'throw'\n         at /nix/store/{hash}-source/lib/x.nix:3:1:\n\n       error: y is not there\n"
        );
        let said = surroundings("y is not there", &log, &|file| file == "web.nix");
        assert_eq!(said, ["in the option `environment.etc.y.text'", "at ./web.nix"]);
        assert!(surroundings("The option `x' does not exist. In `./web.nix'", &log, &|_| true).is_empty());
    }

    #[test]
    fn an_end_without_an_error_line_tells_the_last_lines() {
        assert_eq!(essence("a\n\nb\n"), "a\nb\n");
        assert_eq!(essence(""), "");
    }

    #[test]
    fn files_of_the_fleet_have_the_names_that_the_user_knows() {
        let hash = "0".repeat(32);
        let text =
            format!("at /nix/store/{hash}-source/hosts/web.nix:3:1: and /nix/store/{hash}-source/lib/x.nix");
        let told = with_names_of_the_user(&text, &|file| file == "hosts/web.nix");
        assert_eq!(told, format!("at ./hosts/web.nix:3:1: and /nix/store/{hash}-source/lib/x.nix"));
        let elsewhere = format!("path '/home/me/store/nix/store/{hash}-source/new.nix' does not exist");
        assert_eq!(with_names_of_the_user(&elsewhere, &|_| true), "path './new.nix' does not exist");
    }

    #[test]
    fn a_mistake_in_an_expression_has_no_file() {
        let hash = "0".repeat(32);
        let told = with_place_in_expression(&format!("at /home/me/nix/store/{hash}-expression.nix:1:4: x"));
        assert_eq!(told, "at the expression:1:4: x");
        assert_eq!(with_place_in_expression("at ./my-expression.nix:1"), "at ./my-expression.nix:1");
    }

    #[test]
    fn colours_and_cursor_movements_do_not_reach_the_user() {
        assert_eq!(plain("\x1b[31;1merror:\x1b[0m a\tb\r\x07"), "error: a\tb");
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_a_message_panic(text in "(error:|warning:|these |building '|copying path '| will be fetched \\(|/nix/store/|-source/|-expression.nix|\\x1b\\[|\\PC|\n){0,80}") {
            let _ = essence(&plain(&text));
            let _ = with_names_of_the_user(&text, &|_| true);
            let _ = with_place_in_expression(&text);
            let _ = surroundings("", &text, &|_| true);
            let _ = classify(&text);
            let _ = failed_derivations(&text);
        }
    }
}
