//! The text of `grub.cfg`, as far as it says what boots. It is a script: what is not plainly a menu, as NixOS writes it,
//! makes the whole of it unknown rather than half known.

use bosco_model::StorePath;

use super::super::init_of;

/// A boot menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Menu {
    /// What `default` is set to, but for the choice of one boot.
    default: Default,
    /// Whether the choice for one boot is honoured.
    pub(super) takes_next: bool,
    items: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Default {
    /// A number, a title or an id; for submenus several of them, with `>` between.
    Entry(String),
    /// What was booted last.
    Saved,
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    title: String,
    id: Option<String>,
    /// It is there under a condition.
    conditional: bool,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Entry { toplevel: Option<StorePath> },
    Submenu(Vec<Item>),
}

/// What is being read: the things that are open, the outermost first.
#[derive(Debug)]
enum Open {
    Item {
        item: Item,
        linux: Vec<String>,
    },
    /// A function, whose text is none of the menu's.
    Function,
}

impl Menu {
    /// Reads a menu. `None`: it can't be read for sure.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut defaults = Vec::new();
        let mut items = Vec::new();
        let mut open: Vec<Open> = Vec::new();
        let mut conditions = 0_usize;
        let mut sourced = false;
        for line in text.lines().map(str::trim) {
            let words = words(line);
            let Some(first) = words.first().map(String::as_str) else { continue };
            let in_entry = matches!(open.last(), Some(Open::Item { item, .. }) if matches!(item.kind, Kind::Entry { .. }));
            let in_function = matches!(open.last(), Some(Open::Function));
            match first {
                "}" => match open.pop()? {
                    Open::Item { item, linux } => close(item, &linux, &mut open, &mut items)?,
                    Open::Function => {}
                },
                "function" if line.ends_with('{') => open.push(Open::Function),
                // Where no menu of NixOS's has one: something before it was misread.
                "menuentry" | "submenu" if in_entry || in_function => return None,
                "menuentry" | "submenu" => {
                    let item = item(&words, conditions > 0)?;
                    match (line.ends_with('{'), line.ends_with('}')) {
                        (true, _) => open.push(Open::Item { item, linux: Vec::new() }),
                        // All of it on one line.
                        (_, true) if first == "menuentry" => close(item, &words, &mut open, &mut items)?,
                        _ => return None,
                    }
                }
                _ if in_function => {}
                "linux" | "linux16" | "linuxefi" | "module" | "module2" | "multiboot" | "multiboot2"
                    if in_entry =>
                {
                    if let Some(Open::Item { linux, .. }) = open.last_mut() {
                        linux.extend(words);
                    }
                }
                "if" if !in_entry => conditions += 1,
                "fi" if !in_entry => conditions = conditions.checked_sub(1)?,
                "source" | "configfile" | "." if !in_entry => sourced = true,
                "set" if !in_entry => {
                    defaults.extend(
                        words.get(1).and_then(|word| word.strip_prefix("default=")).map(str::to_owned),
                    );
                }
                _ => {}
            }
        }
        if !open.is_empty() || conditions > 0 {
            return None;
        }
        let takes_next = defaults.iter().any(|value| value == "${next_entry}");
        let default = if sourced { Default::Unknown } else { default_of(&defaults) };
        Some(Self { default, takes_next, items })
    }

    /// The system that boots where nobody chooses another one. `saved`: the entry that was booted last.
    pub(super) fn default_toplevel(&self, saved: Option<&str>) -> Option<StorePath> {
        let path = match &self.default {
            Default::Entry(path) => path,
            // GRUB takes the first one where nothing is saved.
            Default::Saved => saved.unwrap_or("0"),
            Default::Unknown => return None,
        };
        find(&self.items, path).cloned()
    }

    /// The path of titles to the entry that a profile has for a system.
    pub(super) fn candidate(&self, profile: &str, toplevel: &StorePath) -> Option<String> {
        let path = self.items.iter().find_map(|item| match &item.kind {
            Kind::Submenu(items) if item.title.ends_with(&profile_title(profile)) => {
                Some(format!("{}>{}", escaped(&item.title), path_to(items, toplevel)?))
            }
            _ => None,
        })?;
        // Another one of the same title would come first.
        (find(&self.items, &path) == Some(toplevel)).then_some(path)
    }
}

/// How the title of a profile's submenu ends.
fn profile_title(profile: &str) -> String {
    format!(" - Profile '{profile}'")
}

/// Whether a path of titles leads into a profile's submenu.
pub(super) fn is_of_profile(path: &str, profile: &str) -> bool {
    let (first, rest) = split(path);
    rest.is_some() && first.ends_with(&profile_title(profile))
}

fn path_to(items: &[Item], toplevel: &StorePath) -> Option<String> {
    items.iter().find_map(|item| match &item.kind {
        Kind::Entry { toplevel: own } => (own.as_ref() == Some(toplevel)).then(|| escaped(&item.title)),
        Kind::Submenu(items) => Some(format!("{}>{}", escaped(&item.title), path_to(items, toplevel)?)),
    })
}

/// The system of the entry that a path leads to.
fn find<'a>(items: &'a [Item], path: &str) -> Option<&'a StorePath> {
    let (first, rest) = split(path);
    let index = if first.starts_with(|c: char| c.is_ascii_digit()) {
        first.parse().ok()?
    } else {
        items.iter().position(|item| item.title == first || item.id.as_deref() == Some(&first))?
    };
    if items.iter().take(index + 1).any(|item| item.conditional) {
        return None;
    }
    match (&items.get(index)?.kind, rest) {
        (Kind::Entry { toplevel }, None) => toplevel.as_ref(),
        (Kind::Submenu(items), Some(rest)) => find(items, rest),
        // A submenu alone would be shown, or its first one taken.
        _ => None,
    }
}

/// The first part of a path, and what is behind it. Within a part, `>>` means `>`.
fn split(path: &str) -> (String, Option<&str>) {
    let mut first = String::new();
    let mut chars = path.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == '>' && chars.next_if(|(_, next)| *next == '>').is_none() {
            return (first, Some(&path[at + 1..]));
        }
        first.push(c);
    }
    (first, None)
}

fn escaped(title: &str) -> String {
    title.replace('>', ">>")
}

/// The default among all that `default` is set to.
fn default_of(values: &[String]) -> Default {
    let fixed: Vec<&String> = values.iter().filter(|value| !value.starts_with("${")).collect();
    match fixed.as_slice() {
        [value] => Default::Entry((*value).clone()),
        // Older menus set the saved one beside the choice of one boot; it means something only where there is no other.
        [] if values.iter().any(|value| value == "${saved_entry}") => Default::Saved,
        _ => Default::Unknown,
    }
}

/// Adds an item that has been read to what it lies in.
fn close(mut item: Item, linux: &[String], open: &mut [Open], items: &mut Vec<Item>) -> Option<()> {
    if let Kind::Entry { toplevel } = &mut item.kind {
        *toplevel = init_of(linux.iter().map(String::as_str));
    }
    match open.last_mut() {
        None => items.push(item),
        Some(Open::Item { item: outer, .. }) => match &mut outer.kind {
            Kind::Submenu(items) => items.push(item),
            Kind::Entry { .. } => return None,
        },
        Some(Open::Function) => return None,
    }
    Some(())
}

/// An item by the words of its first line.
fn item(words: &[String], conditional: bool) -> Option<Item> {
    let title = words.get(1)?.clone();
    let id = words.iter().position(|word| word == "--id" || word == "$menuentry_id_option");
    let id = id.and_then(|at| words.get(at + 1)).cloned();
    let kind = match words.first()?.as_str() {
        "submenu" => Kind::Submenu(Vec::new()),
        _ => Kind::Entry { toplevel: None },
    };
    Some(Item { title, id, conditional, kind })
}

/// The words of a line, as GRUB takes them apart. Variables stay as they are written.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, '#') if word.is_none() => break,
            (None, ';') => words.extend(word.take()),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn toplevel(number: u64) -> StorePath {
        StorePath::parse(&format!("/nix/store/{number:032}-nixos-system-a-25.11")).unwrap()
    }

    fn entry(title: &str, options: &str, number: u64) -> String {
        format!(
            "menuentry \"{title}\" {options} {{\nsearch --set=drive1 --fs-uuid 0123-4567\n  linux \
             ($drive1)/kernels/0-linux-6.12.9-bzImage init={}/init loglevel=4\n  initrd ($drive1)/kernels/0-initrd\n}}\n\n",
            toplevel(number)
        )
    }

    /// As NixOS's install-grub.pl writes it, for a default with one specialisation.
    fn written(default: &str, before: &str) -> String {
        let header = format!(
            r#"# Automatically generated.  DO NOT EDIT THIS FILE!

    search --set=drive1 --fs-uuid 0123-4567
    if [ -s $prefix/grubenv ]; then
      load_env
    fi

    # ‘grub-reboot’ sets a one-time saved entry, which we process here and
    # then delete.
    if [ "${{next_entry}}" ]; then
      set default="${{next_entry}}"
      set next_entry=
      save_env next_entry
      set timeout=1
      set boot_once=true
    else
      set default={default}
      set timeout=5
    fi
    set timeout_style=menu

    function savedefault {{
        if [ -z "${{boot_once}}"]; then
        saved_entry="${{chosen}}"
        save_env saved_entry
        fi
    }}

    # Setup the graphics stack for bios and efi systems
    if [ "${{grub_platform}}" = "efi" ]; then
      insmod efi_gop
    else
      insmod vbe
    fi
    if loadfont ($drive1)/converted-font.pf2; then
      insmod gfxterm
      if [ "${{grub_platform}}" = "efi" ]; then
        set gfxmode=auto
      fi
      terminal_output gfxterm
    fi
{before}
"#
        );
        [
            header,
            entry("NixOS - Default", "--class nixos --unrestricted ", 10),
            entry("NixOS - (tracing - 2026-01-02 - 25.11)", "", 90),
            "submenu \"NixOS - All configurations\" --class submenu {\n".into(),
            "submenu \"NixOS - Configuration 10 (2026-01-02 - 25.11)\" --class submenu {\n".into(),
            entry("NixOS - Configuration 10 - Default (2026-01-02 - 25.11)", "--class nixos ", 10),
            entry("NixOS - Configuration 10 - (tracing - 2026-01-02 - 25.11)", "", 90),
            "}\n".into(),
            entry("NixOS - Configuration 9 (2026-01-01 - 25.11)", "--class nixos ", 9),
            "}\nsubmenu \"NixOS - Profile 'bosco_candidate'\" --class submenu {\n".into(),
            entry("NixOS - Configuration 2 (2026-01-03 - 25.11)", "--class nixos ", 20),
            entry("NixOS - Configuration 1 (2026-01-02 - 25.11)", "--class nixos ", 19),
            "}\n".into(),
        ]
        .concat()
    }

    const WINDOWS: &str = "menuentry 'Windows (on /dev/sda1)' --class windows $menuentry_id_option 'win-1' {\n\
                           if [ x = x ]; then\ninsmod ntfs\nfi\nchainloader +1\n}\nmenuentry \"Reboot\" { reboot }\n";

    #[test]
    fn the_default_is_the_entry_that_the_menu_says() {
        let of = |default: &str, before: &str, saved| {
            Menu::parse(&written(default, before)).unwrap().default_toplevel(saved)
        };
        assert_eq!(of("0", "", None), Some(toplevel(10)));
        assert_eq!(of("\"0\"", "", Some("NixOS - Default")), Some(toplevel(10)));
        assert_eq!(of("1", "", None), Some(toplevel(90)), "a specialisation");
        assert_eq!(of("0", WINDOWS, None), None, "another system");
        assert_eq!(of("2", WINDOWS, None), Some(toplevel(10)));
        assert_eq!(of("\"NixOS - Default\"", WINDOWS, None), Some(toplevel(10)));
        assert_eq!(of("win-1", WINDOWS, None), None);
        assert_eq!(of("\"2>0>1\"", "", None), Some(toplevel(90)));
        let nested = "NixOS - All configurations>NixOS - Configuration 9 (2026-01-01 - 25.11)";
        assert_eq!(of("\"${saved_entry}\"", "", Some(nested)), Some(toplevel(9)));
        assert_eq!(of("\"${saved_entry}\"", "", None), Some(toplevel(10)), "GRUB takes the first");
    }

    #[test]
    fn a_default_that_is_not_known_for_sure_is_none() {
        let of = |default: &str, before: &str| Menu::parse(&written(default, before))?.default_toplevel(None);
        assert_eq!(of("7", ""), None, "there is none");
        assert_eq!(of("2", ""), None, "it is a submenu");
        assert_eq!(of("0", "set default=1"), None, "it is set twice");
        assert_eq!(of("0", "source $prefix/custom.cfg"), None, "more is read");
        assert_eq!(of("1", "if [ x ]; then\nmenuentry 'a' {\n}\nfi"), None, "an entry is there or not");
        assert_eq!(of("0", "menuentry 'a' {"), None, "it is not closed");
        assert_eq!(of("$x", ""), None);
    }

    #[test]
    fn the_candidate_is_chosen_by_the_titles_that_lead_to_it() {
        let menu = Menu::parse(&written("0", WINDOWS)).unwrap();
        assert!(menu.takes_next);
        let path = "NixOS - Profile 'bosco_candidate'>NixOS - Configuration 2 (2026-01-03 - 25.11)";
        assert_eq!(menu.candidate("bosco_candidate", &toplevel(20)).as_deref(), Some(path));
        assert_eq!(menu.candidate("bosco_candidate", &toplevel(10)), None, "it is another profile's");
        assert!(is_of_profile(path, "bosco_candidate"));
        assert!(!is_of_profile("NixOS - All configurations>x", "bosco_candidate"));
        assert!(!is_of_profile("NixOS - Profile 'bosco_candidate'", "bosco_candidate"));
        let twice = written("0", "submenu \"NixOS - Profile 'bosco_candidate'\" {\n}\n");
        assert_eq!(Menu::parse(&twice).unwrap().candidate("bosco_candidate", &toplevel(20)), None);
    }

    #[test]
    fn a_menu_that_does_not_take_a_choice_back_has_none() {
        assert!(!Menu::parse("set default=0\nmenuentry \"a\" {\n}\n").unwrap().takes_next);
    }

    #[test]
    fn words_are_taken_apart_as_grub_does() {
        assert_eq!(
            words(r#"menuentry "a \"b\" c" 'd\e' f\ g {"#),
            ["menuentry", r#"a "b" c"#, r"d\e", "f g", "{"]
        );
        assert_eq!(words("fi; x # y"), ["fi", "x"]);
        assert_eq!(words(r#"set default="${next_entry}""#), ["set", "default=${next_entry}"]);
        assert_eq!(words("# all"), Vec::<String>::new());
        assert_eq!(words("'' x"), ["", "x"]);
    }

    proptest! {
        #[test]
        fn no_menu_makes_reading_it_panic(
            lines in prop::collection::vec("(menuentry|submenu|function|if|fi|\\}|set|linux) ?['\"]?\\PC{0,12}['\"]? ?\\{?", 0..12),
        ) {
            if let Some(menu) = Menu::parse(&lines.join("\n")) {
                let _ = menu.default_toplevel(Some("0>1"));
                let _ = menu.candidate("bosco_candidate", &toplevel(1));
            }
        }

        #[test]
        fn a_title_is_found_whatever_is_in_it(title in "[a-z>'\"\\\\ ${}#;]{1,12}") {
            let path = escaped(&title);
            let (first, rest) = split(&path);
            prop_assert_eq!(first, title);
            prop_assert_eq!(rest, None);
        }
    }
}
