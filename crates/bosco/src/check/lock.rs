//! How old the nixpkgs of a lock file is. Pure.

use serde_json::Value;

use crate::finding::Finding;

/// After how many days a nixpkgs lacks so many fixes that it is told.
const OLD: u64 = 90;
const DAY: u64 = 24 * 60 * 60;

/// The nixpkgs that a flake takes, where they are old. `now` is in seconds since 1970.
pub(crate) fn lock(file: &str, text: &str, now: u64) -> Vec<Finding> {
    let Ok(lock) = serde_json::from_str::<Value>(text) else {
        return vec![Finding::error("it can't be read", "`nix flake lock` makes it anew").at(file)];
    };
    let nodes = &lock["nodes"];
    let root = lock["root"].as_str().unwrap_or("root");
    let inputs = nodes[root]["inputs"].as_object().into_iter().flatten();
    let mut findings = Vec::new();
    for (input, node) in inputs {
        let locked = &nodes[node.as_str().unwrap_or_default()]["locked"];
        let is_nixpkgs = input.starts_with("nixpkgs") || locked["repo"] == "nixpkgs";
        let Some(modified) = locked["lastModified"].as_u64().filter(|_| is_nixpkgs) else { continue };
        let days = now.saturating_sub(modified) / DAY;
        if days > OLD {
            let what = format!("the input `{input}` is {days} days old");
            let hint = format!("`nix flake update {input}` brings what was fixed since");
            findings.push(Finding::warning(what, hint).at(file));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_nixpkgs_is_told_and_other_inputs_are_not() {
        let text = r#"{"root":"root","nodes":{"root":{"inputs":{"nixpkgs":"nixpkgs_2","colmena":"colmena","follows":["a"]}},
            "nixpkgs_2":{"locked":{"lastModified":86400}},"nixpkgs":{"locked":{"lastModified":0}},
            "colmena":{"locked":{"lastModified":0}}}}"#;
        assert!(lock("flake.lock", text, 91 * DAY).is_empty());
        let found = lock("flake.lock", text, 92 * DAY);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].words(), "flake.lock: the input `nixpkgs` is 91 days old");
        assert_eq!(lock("flake.lock", "{", 0).len(), 1);
        assert!(lock("flake.lock", "{}", 0).is_empty());
    }
}
