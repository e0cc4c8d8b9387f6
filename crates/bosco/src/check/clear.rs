//! Secrets that stand in clear in the fleet's files. Pure.
//!
//! Only what can hardly be anything else is told: private keys, and tokens whose issuers gave them a form to be found by.

use regex_lite::Regex;

use crate::finding::Finding;
use crate::secrets::rules::Rules;

/// The largest file that is looked through, in bytes.
pub(crate) const MAX_FILE: usize = 1 << 20;
/// What says of a line, or of the one below it, that it is for everybody to see.
pub(crate) const MARK: &str = "bosco: not secret";

/// What it is, a part of it that is quickly looked for, and all of it.
const KINDS: [(&str, &str, &str); 19] = [
    ("a secret key of age", "AGE-SECRET-KEY-1", "AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    ("a private key", "PRIVATE KEY-----", "-----BEGIN (?:RSA |EC |DSA |OPENSSH )?PRIVATE KEY-----"),
    ("a private key of PGP", "PRIVATE KEY BLOCK", "-----BEGIN PGP PRIVATE KEY BLOCK-----"),
    ("a secret key that signs store paths", "==", r"\b[A-Za-z0-9._-]+:[A-Za-z0-9+/]{86}=="),
    ("a private key of WireGuard", "rivate", r#"(?i)private_?key\s*=\s*"?[A-Za-z0-9+/]{43}="#),
    ("a token of GitHub", "gh", r"\bgh[pousr]_[A-Za-z0-9]{36}"),
    ("a token of GitHub", "github_pat_", r"\bgithub_pat_[A-Za-z0-9_]{60}"),
    ("a token of GitLab", "glpat-", r"\bglpat-[A-Za-z0-9_-]{20}"),
    ("a secret key of AWS", "aws", r#"(?i)aws_?secret_?(?:access_?)?key"?\s*[=:]\s*"?[A-Za-z0-9+/]{40}\b"#),
    ("a token of Slack", "xox", r"\bxox[abprs]-[0-9]{8,}-[0-9A-Za-z-]{10}"),
    ("a key of Stripe", "k_live_", r"\b[sr]k_live_[0-9A-Za-z]{24}"),
    ("a key of Google", "AIza", r"\bAIza[0-9A-Za-z_-]{35}"),
    ("a token of npm", "npm_", r"\bnpm_[A-Za-z0-9]{36}"),
    ("a token of PyPI", "pypi-", r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50}"),
    ("a token of DigitalOcean", "do", r"\bdo[opr]_v1_[a-f0-9]{64}"),
    ("a key of Tailscale", "tskey-", r"\btskey-[a-z]+-[A-Za-z0-9]+-[A-Za-z0-9]{20}"),
    ("a key of SendGrid", "SG.", r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    ("a key of Anthropic", "sk-ant-", r"\bsk-ant-[A-Za-z0-9_-]{32}"),
    ("a token of Hugging Face", "hf_", r"\bhf_[A-Za-z0-9]{34}"),
];

/// What is looked for.
pub(crate) struct Patterns(Vec<(&'static str, &'static str, Regex)>);

impl Patterns {
    pub(crate) fn new() -> Self {
        let pattern = |(what, part, regex): &(&'static str, &'static str, &str)| {
            Some((*what, *part, Regex::new(regex).ok()?))
        };
        Self(KINDS.iter().filter_map(pattern).collect())
    }

    /// What is in a file that nobody should see.
    pub(crate) fn scan(&self, file: &str, text: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        if text.contains('\0') {
            return findings;
        }
        for (what, part, regex) in self.0.iter().filter(|(_, part, _)| text.contains(part)) {
            let mut before = "";
            for (number, line) in text.lines().enumerate() {
                let is_marked = line.contains(MARK) || before.contains(MARK);
                before = line;
                if is_marked || !line.contains(part) || !regex.is_match(line) {
                    continue;
                }
                if *what == "a private key" && has_passphrase(text, number) {
                    continue;
                }
                let hint = format!(
                    "take it out, also of git's history, and have another one made: who could read it has it; encrypt \
                     that with `bosco secrets edit`. Where everybody may see it, write `{MARK}` on the line before"
                );
                findings.push(
                    Finding::error(format!("{what} stands here in clear"), hint).at(file).line(number + 1),
                );
            }
        }
        findings
    }
}

/// Whether a private key that begins in a line can't be used without more.
fn has_passphrase(text: &str, line: usize) -> bool {
    let mut key = String::new();
    for line in text.lines().skip(line).take(200) {
        key.push_str(line.trim());
        key.push('\n');
        if line.contains("-----END") {
            break;
        }
    }
    key.contains("Proc-Type: 4,ENCRYPTED")
        || matches!(bosco_secrets::Identity::parse(&key), Err(bosco_secrets::InvalidIdentity::Encrypted))
}

/// Files that a rule of `.sops.yaml` names and that sops has not encrypted. `files` are paths from where that lies.
pub(crate) fn not_encrypted<'a>(
    rules: &'a Rules,
    files: impl Iterator<Item = &'a str>,
    is_sops: impl Fn(&str) -> bool,
) -> Vec<&'a str> {
    // A rule for everything says of no file in particular that it is secret.
    let paths: Vec<&Regex> = rules.paths.iter().filter(|regex| !regex.is_match("")).collect();
    let is_other = |file: &str| {
        let name = file.rsplit('/').next().unwrap_or(file);
        name.starts_with(".git")
            || name == crate::secrets::rules::FILE
            || [".nix", ".md", ".pub"].iter().any(|ending| name.ends_with(ending))
    };
    let named = files.filter(|file| !is_other(file) && paths.iter().any(|regex| regex.is_match(file)));
    named.filter(|file| !is_sops(file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::rules::read;

    fn found(text: &str) -> Vec<(usize, String)> {
        let findings = Patterns::new().scan("a.nix", text);
        findings.into_iter().map(|finding| (finding.line.unwrap(), finding.what)).collect()
    }

    #[test]
    fn all_patterns_are_ones() {
        assert_eq!(Patterns::new().0.len(), KINDS.len());
    }

    #[test]
    fn keys_and_tokens_in_clear_are_found_with_their_lines() {
        // Put together here, for none to stand in this file.
        let age = format!("{}{}", "AGE-SECRET-KEY-1", "Q".repeat(58));
        let pem = format!("-----BEGIN {} KEY-----\nMIIE\n-----END {0} KEY-----", "PRIVATE");
        let store = format!("cache.example.org-1:{}==", "A".repeat(86));
        let wireguard = format!("privateKey = \"{}=\";", "a".repeat(43));
        let github = format!("token = \"ghp_{}\";", "a1".repeat(18));
        let text = format!("{{\n{age}\n{pem}\n{store}\n{wireguard}\n{github}\n}}");
        let lines: Vec<usize> = found(&text).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [2, 3, 6, 7, 8]);
        assert_eq!(found(&format!("# {MARK}: of a test\n{age}\n")), []);
        assert_eq!(found(&format!("{age} # {MARK}")), []);
    }

    #[test]
    fn what_is_public_or_encrypted_is_not_told() {
        let public = format!("cache.example.org-1:{}=", "A".repeat(43));
        let sops = "db: ENC[AES256_GCM,data:Zm9v,iv:AAAA,tag:AAAA,type:str]";
        let locked = include_str!("../../../secrets/tests/keys/encrypted");
        for text in
            [public.as_str(), sops, locked, "sha256-AAAA=", "ssh-ed25519 AAAAC3Nz", "services.npm_x = 1;"]
        {
            assert_eq!(found(text), [], "{text}");
        }
        assert_eq!(found(include_str!("../../../secrets/tests/keys/ed25519")).len(), 1);
    }

    #[test]
    fn a_file_that_sops_should_have_encrypted_is_found() {
        let rules = read("creation_rules:\n  - path_regex: secrets/.*\n  - path_regex: .*\n").unwrap();
        let files = ["flake.nix", "secrets/a.yaml", "secrets/b.yaml", "secrets/README.md", "a.yaml"];
        assert_eq!(
            not_encrypted(&rules, files.into_iter(), |file| file.ends_with("b.yaml")),
            ["secrets/a.yaml"]
        );
    }
}
