//! OpenSSH and bosco understand each other's signatures.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::*;

/// A folder with keys, gone when it is dropped.
struct Keys(PathBuf);

impl Keys {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("bosco-release-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// A new key, and the file that has its private half.
    fn make(&self, name: &str, kind: &[&str]) -> (Key, PathBuf) {
        let file = self.0.join(name);
        keygen(&[&["-q", "-N", "", "-C", "ada@laptop", "-t"], kind, &["-f", text(&file)]].concat(), "");
        (Key::parse(&fs::read_to_string(file.with_extension("pub")).unwrap()).unwrap(), file)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(file: &Path) -> &str {
    file.to_str().unwrap()
}

fn keygen(arguments: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new("ssh-keygen")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("OpenSSH's ssh-keygen is needed");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    (said.status.success(), String::from_utf8([said.stdout, said.stderr].concat()).unwrap())
}

/// What OpenSSH signs.
fn signed_by_openssh(key: &Path, namespace: &str, statement: &str) -> String {
    let (signs, signature) = keygen(&["-q", "-Y", "sign", "-f", text(key), "-n", namespace], statement);
    assert!(signs, "{signature}");
    signature
}

fn draft() -> Draft {
    Draft::new(statement("home", 3), vec![manifest("home", "web", 3, "x"), manifest("home", "db", 3, "y")])
        .unwrap()
}

fn who(key: &Key) -> Signer {
    Signer { name: "ada".into(), key: key.clone(), kind: SignerKind::Operator }
}

#[test]
fn what_openssh_signs_opens_here_and_what_is_signed_here_verifies_there() {
    let keys = Keys::new("both-ways");
    for (name, kind) in [("ed25519", vec!["ed25519"]), ("ecdsa", vec!["ecdsa", "-b", "256"])] {
        let (key, file) = keys.make(name, &kind);
        let draft = draft();
        let statement = draft.statement.clone();
        let release = draft.signed(signed_by_openssh(&file, RELEASE_NAMESPACE, &statement));
        let (_, by, manifests) = release.open(&[who(&key)]).unwrap();
        assert_eq!((by.key, manifests.len()), (key.clone(), 2), "{name}");
        for sealed in release.seal() {
            sealed.open(&trust_in("home", vec![who(&key)])).unwrap();
        }
        let elsewhere = Release { signature: signed_by_openssh(&file, "file", &statement), ..release };
        assert!(
            matches!(elsewhere.open(&[who(&key)]), Err(Unsealed::Forged(_))),
            "{name}: for something else"
        );

        let private = PrivateKey::from_openssh(fs::read_to_string(&file).unwrap()).unwrap();
        let signature = keys.0.join("signature");
        fs::write(&signature, sign(&private, RELEASE_NAMESPACE, &statement)).unwrap();
        let allowed = keys.0.join("allowed");
        fs::write(&allowed, format!("ada {key}\n")).unwrap();
        let verify = |namespace, statement: &str| {
            let files = ["-f", text(&allowed), "-s", text(&signature)];
            keygen(&[&["-Y", "verify", "-I", "ada", "-n", namespace], &files[..]].concat(), statement)
        };
        let (good, said) = verify(RELEASE_NAMESPACE, &statement);
        assert!(good, "{name}: {said}");
        assert!(!verify("file", &statement).0, "{name}: for something else");
        assert!(!verify(RELEASE_NAMESPACE, &format!("{statement} ")).0, "{name}: of something else");
        let (_, fingerprint) = keygen(&["-l", "-f", text(&file)], "");
        assert!(fingerprint.contains(&key.fingerprint()), "{name}: {fingerprint}");
    }
}

#[test]
fn a_signature_by_a_key_of_another_kind_is_told_by_that_kind_and_is_no_alarm() {
    let keys = Keys::new("other-kinds");
    for (name, kind, says) in [
        ("rsa", vec!["rsa", "-b", "2048"], "which is an RSA key"),
        ("ecdsa384", vec!["ecdsa", "-b", "384"], "which is an ECDSA key of 384 bits"),
        ("ecdsa521", vec!["ecdsa", "-b", "521"], "which is an ECDSA key of 521 bits"),
    ] {
        let (key, file) = keys.make(name, &kind);
        let draft = draft();
        let signature = signed_by_openssh(&file, RELEASE_NAMESPACE, &draft.statement);
        let why = draft.signed(signature).open(&[who(&key)]).unwrap_err();
        assert!(why.to_string().contains(says) && why.to_string().contains(&key.fingerprint()), "{why}");
        assert!(!Refusal::from(why).is_alarm());
    }
}
