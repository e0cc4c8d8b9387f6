//! A search for plaintext, which proves first that it would find it.

use testbed::Host;

/// What is planted, to be found.
const PLANTED: &str = "planted-to-be-found";

/// Looks at the arguments and environments of all processes of a machine, until it is asked what it has seen.
pub struct Watch<'a> {
    host: &'a Host,
}

impl<'a> Watch<'a> {
    /// Begins to look for these words.
    pub fn begin(host: &'a Host, words: &[&str]) -> Self {
        // By itself: as long as this runs, it has the words among its arguments.
        host.at_keyboard(&format!("rm -f /run/stop /run/seen; printf '{}' > /run/watched", lines(words)))
            .unwrap();
        host.at_keyboard(
            "systemd-run --quiet --unit=watch sh -c 'until [ -e /run/stop ]; do \
             grep -aoF -f /run/watched /proc/[0-9]*/cmdline /proc/[0-9]*/environ; done > /run/seen 2>/run/gone'",
        )
        .unwrap();
        Self { host }
    }

    /// What it has seen, but for what was planted there, in an argument and in an environment.
    pub fn end(self) -> String {
        let planted = format!(
            "WORD={PLANTED} sh -c 'until grep -q \"environ:{PLANTED}\" /run/seen && grep -q \"cmdline:{PLANTED}\" /run/seen; \
             do sleep 0.1; done' {PLANTED}\n\
             touch /run/stop; while systemctl is-active -q watch; do sleep 0.1; done; \
             grep -v ':{PLANTED}' /run/seen || [ $? = 1 ]; rm -f /run/watched /run/seen"
        );
        self.host.at_keyboard(&planted).unwrap()
    }
}

/// The files on disks of a machine, and the lines of its journal, that have one of these words, but for what is planted in
/// either.
pub fn kept_on(host: &Host, words: &[&str]) -> Vec<String> {
    let script = format!(
        "printf '{}' > /run/words; mkdir -p /var/lib/planted; echo {PLANTED} > /var/lib/planted/file\n\
         echo {PLANTED} | systemd-cat; journalctl --sync; sync; cd /\n\
         for top in *; do case $top in proc|sys|run|dev) ;; *) echo $top;; esac; done | \
         xargs grep -rlaF -f /run/words 2>/run/unread || true\n\
         journalctl --no-pager -o cat | grep -F -f /run/words || true\n\
         rm -r /run/words /var/lib/planted",
        lines(words)
    );
    let found = host.at_keyboard(&script).unwrap();
    let mut found: Vec<String> = found.lines().map(str::to_owned).collect();
    for planted in ["var/lib/planted/file", PLANTED] {
        let at = found.iter().position(|line| line == planted);
        found.remove(at.unwrap_or_else(|| panic!("{} was searched in vain: {found:?}", host.name())));
    }
    // The journal's own file has the planted word as well.
    found.retain(|line| {
        let is_journal = line.starts_with("var/log/journal/") && line.ends_with(".journal");
        !is_journal || journal_has(host, line, words)
    });
    found
}

/// Whether a file of the journal has one of the words itself.
fn journal_has(host: &Host, file: &str, words: &[&str]) -> bool {
    let script = format!("printf '{}' | grep -aqF -f - '/{file}' && echo yes || echo no", plain(words));
    host.at_keyboard(&script).unwrap().trim() == "yes"
}

fn plain(words: &[&str]) -> String {
    words.iter().map(|word| format!("{word}\\n")).collect()
}

/// The words and the planted one, as `printf` takes them.
fn lines(words: &[&str]) -> String {
    format!("{}{PLANTED}\\n", plain(words))
}
