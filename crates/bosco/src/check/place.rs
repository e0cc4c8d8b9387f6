//! Where among the fleet's files an error of Nix's is. Pure.

use std::collections::BTreeSet;

use bosco_model::HostName;
use regex_lite::Regex;

use crate::finding::Finding;

/// That a host does not evaluate: at the first place that Nix names among the fleet's files.
pub(crate) fn unevaluated(
    host: &HostName,
    why: &str,
    hint: Option<&str>,
    files: &BTreeSet<String>,
) -> Finding {
    let hint = hint.map_or_else(|| format!("`bosco build {host} --show-trace` shows more"), str::to_owned);
    let finding = Finding::error(why, hint).of(host);
    let Ok(place) = Regex::new(r"([A-Za-z0-9_+./-]+\.nix):([0-9]+)") else { return finding };
    for found in place.captures_iter(why) {
        let (Some(path), Some(line)) = (found.get(1), found.get(2)) else { continue };
        let path = path.as_str().trim_start_matches("./");
        if let (true, Ok(line)) = (files.contains(path), line.as_str().parse()) {
            return finding.at(path).line(line);
        }
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_among_the_fleets_files_is_named() {
        let files = ["host1.nix".to_owned(), "modules/a.nix".to_owned()].into();
        let host = HostName::parse("web").unwrap();
        let of = |why: &str| unevaluated(&host, why, None, &files);
        let finding = of("syntax error\nat /nix/store/x/lib/modules.nix:3:1\nat ./host1.nix:12:3:");
        assert_eq!((finding.file.as_deref(), finding.line), (Some("host1.nix"), Some(12)));
        assert_eq!(of("the option `a` does not exist").file, None);
    }
}
