//! By what the operator opens secrets here, as `sops` does.

use std::path::PathBuf;

use bosco_secrets::Identity;

/// The largest file of keys, in bytes.
const MOST: u64 = 64 << 10;

/// The operator's identities, and for a file that has none that can be used, why.
pub(crate) fn identities() -> (Vec<Identity>, Vec<String>) {
    let mut found = (Vec::new(), Vec::new());
    for path in places() {
        let text = match std::fs::metadata(&path) {
            Ok(size) if size.len() <= MOST => std::fs::read_to_string(&path).map_err(|why| why.to_string()),
            Ok(_) => Err(format!("it has more than {MOST} bytes")),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => continue,
            Err(why) => Err(why.to_string()),
        };
        match text.and_then(|text| Identity::parse_all(&text).map_err(|why| why.to_string())) {
            Ok(identities) => found.0.extend(identities),
            Err(why) => found.1.push(format!("{}: {why}", path.display())),
        }
    }
    found
}

/// Where they may lie: `SOPS_AGE_KEY_FILE`, sops' own file, the SSH key.
fn places() -> Vec<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = var("HOME");
    let config = var("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
    [
        var("SOPS_AGE_KEY_FILE"),
        config.map(|config| config.join("sops/age/keys.txt")),
        home.map(|home| home.join(".ssh/id_ed25519")),
    ]
    .into_iter()
    .flatten()
    .collect()
}
