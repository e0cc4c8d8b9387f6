//! What the page looks like. Pure.

use std::fmt::Write;

use bosco_model::{HostName, Profiles, StorePath};
use bosco_wire::api::{Phase, Standing};

/// The longest words that are shown, in characters.
const LONGEST: usize = 300;

/// How it is drawn.
pub(super) const STYLE: &str = "\
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem; }
dt { opacity: 0.7; } dd { margin: 0 0 0.75rem 0; overflow-wrap: anywhere; }
.alarm { border-left: 4px solid #c33; padding-left: 0.75rem; }
button { font: inherit; padding: 0.4rem 1rem; }
";

/// The page.
pub(super) fn page(
    host: &HostName,
    standing: &Standing,
    should: Option<&StorePath>,
    profiles: &Profiles,
    token: &str,
) -> String {
    let mut rows = String::new();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(rows, "<dt>{name}</dt><dd>{}</dd>", escaped(value));
    };
    row("runs", named(standing.observed.current.as_ref()));
    if !profiles.only {
        row("should run", named(should));
    }
    for one in &profiles.all {
        let has = standing.observed.profiles.iter().find(|has| has.profile.is(&one.profile));
        row(&one.profile.to_string(), named(has.map(|has| &has.path)));
        if has.is_none_or(|has| has.path != one.path) {
            row("should be", one.path.as_str());
        }
    }
    row("is", words(standing.phase));
    if let Some(why) = &standing.why {
        row("because", why);
    }
    let mut alarms = String::new();
    for alarm in &standing.alarms {
        let _ = writeln!(alarms, "<p class=\"alarm\">{}</p>", escaped(alarm));
    }
    let (host, token, version) = (escaped(host.as_str()), escaped(token), escaped(&standing.version));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{host} · bosco</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\"><link rel=\"stylesheet\" href=\"/style.css\"></head>\n\
         <body><h1>{host}</h1>\n{alarms}<dl>\n{rows}</dl>\n\
         <form method=\"post\" action=\"/update\"><input type=\"hidden\" name=\"token\" value=\"{token}\">\
         <button>Update now</button></form>\n<p><small>bosco {version}</small></p></body></html>\n"
    )
}

fn words(phase: Phase) -> &'static str {
    match phase {
        Phase::Idle => "waiting for something new",
        Phase::Waiting => "staying as it is",
        Phase::Fetching => "fetching what it should run",
        Phase::Building => "building what it should run",
        Phase::Activating => "activating what it should run",
        Phase::Backoff => "trying again later",
    }
}

fn named(path: Option<&StorePath>) -> &str {
    path.map_or("nothing that is known", StorePath::as_str)
}

/// A text that means nothing to a browser but itself.
fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for character in text.chars().filter(|c| !c.is_control()).take(LONGEST) {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_words_get_out_of_their_place(why in "\\PC{0,40}[<>\"'&]{0,5}script", alarm in "[<>\"'&a-z/]{0,40}") {
            let host = HostName::parse("web").unwrap();
            let plain = page(&host, &Standing { why: Some("x".into()), alarms: vec!["x".into()], ..Standing::default() }, None, Profiles::NONE, "t");
            let standing = Standing { why: Some(why), alarms: vec![alarm], ..Standing::default() };
            let shown = page(&host, &standing, None, Profiles::NONE, "t");
            let marks = |text: &str| text.chars().filter(|c| "<>\"'".contains(*c)).collect::<String>();
            prop_assert_eq!(marks(&shown), marks(&plain));
        }
    }
}
