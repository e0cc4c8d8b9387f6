//! Who is listened to: a browser that shows the host's own page, and nobody who makes it ask from another one. Pure.

/// What a browser lets the page do: nothing but its own style and its own form.
pub(super) const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// What is said of who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// Which site it takes this for.
    pub(super) host: Option<&'a str>,
    /// Which site asks.
    pub(super) origin: Option<&'a str>,
    /// The same, by the browser's own word.
    pub(super) site: Option<&'a str>,
    /// Whether it wants to change anything.
    pub(super) changes: bool,
}

/// Whether somebody is listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Yes,
    No(&'static str),
}

/// Checks who asks.
pub(super) fn check(asked: &Asked<'_>, port: u16) -> Verdict {
    let names = ["localhost", "127.0.0.1", "[::1]"].map(|name| format!("{name}:{port}"));
    // A name that somebody else has given this address is not one of these.
    let is_here = |host: &str| names.iter().any(|name| name == host);
    if !asked.host.is_some_and(is_here) {
        return Verdict::No("this page is at http://localhost only");
    }
    let is_own = |origin: &str| origin.strip_prefix("http://") == asked.host;
    let from_here = match asked.origin {
        Some(origin) => is_own(origin),
        None => !asked.changes,
    };
    let by_browser = match asked.site {
        Some("same-origin") | None => true,
        // Somebody has typed the address.
        Some("none") => !asked.changes,
        // A link to the page may be anywhere.
        Some(_) => !asked.changes && asked.origin.is_none(),
    };
    if from_here && by_browser {
        Verdict::Yes
    } else {
        Verdict::No("another page asks; this one can be asked from itself only")
    }
}

/// Whether a form has the page's own word.
pub(super) fn has_token(form: &[u8], token: &str) -> bool {
    let given = form.strip_prefix(b"token=").unwrap_or_default();
    // As long for each wrong one.
    given.len() == token.len()
        && given.iter().zip(token.as_bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOST: Option<&str> = Some("localhost:9999");
    const OWN: Option<&str> = Some("http://localhost:9999");

    fn is_heard(host: Option<&str>, origin: Option<&str>, site: Option<&str>, changes: bool) -> bool {
        check(&Asked { host, origin, site, changes }, 9999) == Verdict::Yes
    }

    #[test]
    fn the_page_itself_is_heard() {
        assert!(is_heard(HOST, None, None, false), "curl");
        assert!(is_heard(HOST, None, Some("none"), false), "an address that was typed");
        assert!(is_heard(HOST, None, Some("cross-site"), false), "a link from elsewhere");
        assert!(is_heard(HOST, OWN, Some("same-origin"), true), "the button");
        assert!(is_heard(Some("[::1]:9999"), Some("http://[::1]:9999"), None, true));
        assert!(is_heard(Some("127.0.0.1:9999"), Some("http://127.0.0.1:9999"), None, true));
    }

    #[test]
    fn another_page_is_not() {
        assert!(!is_heard(HOST, None, None, true), "nobody says where from");
        assert!(!is_heard(HOST, Some("null"), None, true));
        assert!(!is_heard(HOST, Some("http://evil.example"), None, true));
        assert!(
            !is_heard(HOST, Some("http://localhost:9998"), None, true),
            "another program of this machine"
        );
        assert!(
            !is_heard(HOST, Some("http://127.0.0.1:9999"), None, true),
            "for a browser that is another site"
        );
        assert!(!is_heard(HOST, OWN, Some("cross-site"), true));
        assert!(!is_heard(HOST, Some("http://evil.example"), None, false), "a script that reads");
        assert!(
            !is_heard(Some("evil.example:9999"), Some("http://evil.example:9999"), Some("same-origin"), true),
            "rebound"
        );
        assert!(!is_heard(Some("localhost"), Some("http://localhost"), None, true));
        assert!(!is_heard(None, OWN, None, true));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn nobody_changes_anything_but_from_one_of_three_origins(
            host in prop::option::of("(localhost|127.0.0.1|\\[::1\\]|evil)(:9999|:80|)"),
            origin in prop::option::of("(http|https)://(localhost|127.0.0.1|\\[::1\\]|evil)(:9999|:80|)"),
            site in prop::option::of("same-origin|same-site|cross-site|none"),
        ) {
            if is_heard(host.as_deref(), origin.as_deref(), site.as_deref(), true) {
                let (host, origin) = (host.unwrap(), origin.unwrap());
                prop_assert_eq!(format!("http://{host}"), origin);
                prop_assert!(["localhost:9999", "127.0.0.1:9999", "[::1]:9999"].contains(&host.as_str()));
            }
        }

        #[test]
        fn only_the_pages_own_word_is_taken(form in "(token=)?[0-9a-f]{0,6}") {
            prop_assert_eq!(has_token(form.as_bytes(), "0a1b"), form == "token=0a1b");
        }
    }
}
