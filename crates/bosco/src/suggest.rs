//! What somebody may have meant who named what is not there. Pure.

/// How alike two words must be, by Jaro and Winkler: 1 is the same.
const ALIKE: f64 = 0.8;
/// Or how few slips of the finger there may be in a word: for short ones, of which a slip leaves little.
const SLIPS: usize = 1;
/// How many are suggested.
const SUGGESTED: usize = 3;
/// How many are listed.
const LISTED: usize = 20;

/// Those that are like a word, the most alike first.
pub(crate) fn near<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    let alike = known.map(|other| (strsim::jaro_winkler(word, other), other));
    let is_near = |alike: f64, other: &str| {
        alike >= ALIKE || word.len() > 2 && strsim::osa_distance(word, other) <= SLIPS
    };
    let mut alike: Vec<(f64, &str)> = alike.filter(|(alike, other)| is_near(*alike, other)).collect();
    alike.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    alike.into_iter().take(SUGGESTED).map(|(_, other)| other)
}

/// What to say of a host that is not there.
pub(crate) fn instead_of(host: &str, hosts: &[&str]) -> String {
    let near: Vec<String> = near(host, hosts.iter().copied()).map(|name| format!("`{name}`")).collect();
    // Who comes from Colmena says there how far to go.
    let is_goal = bosco_model::Goal::ALL.iter().any(|goal| goal.word() == host);
    match near.as_slice() {
        _ if is_goal => format!("`--goal {host}` says how far to go"),
        [] => {
            let names: Vec<String> = hosts.iter().map(ToString::to_string).collect();
            format!("the fleet has {}; a tag is `@{host}`", first_of(&names))
        }
        near => format!("did you mean {}? `bosco hosts` lists all", near.join(" or ")),
    }
}

/// The first of many.
pub(crate) fn first_of(names: &[String]) -> String {
    let more = names.len().saturating_sub(LISTED);
    let listed = names.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{listed} and {more} more") } else { listed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_alike_comes_first_and_what_is_not_alike_not_at_all() {
        let known = ["db", "web-2", "web-1", "mail"];
        assert_eq!(near("web-11", known.into_iter()).collect::<Vec<_>>(), ["web-1", "web-2"]);
        assert_eq!(near("mial", known.into_iter()).collect::<Vec<_>>(), ["mail"]);
        assert_eq!(near("wbe", ["web"].into_iter()).collect::<Vec<_>>(), ["web"]);
        assert_eq!(near("printer", known.into_iter()).count(), 0);
    }

    #[test]
    fn a_host_that_is_not_there_is_told_by_what_was_meant() {
        let hosts = ["db", "web-1"];
        assert!(instead_of("web1", &hosts).starts_with("did you mean `web-1`?"));
        assert!(instead_of("boot", &hosts).contains("--goal boot"));
        assert!(instead_of("staging", &hosts).contains("db, web-1; a tag is `@staging`"));
    }
}
