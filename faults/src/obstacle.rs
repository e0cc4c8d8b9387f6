//! Ways to make an effect fail, from outside: what it needs is not there, as on a machine where something is wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bosco_activation::Effect;
use testbed::Host;

use crate::secrets::FOLDER;
use crate::watch::Mark;
use crate::world::System;

/// Where the host's services look for programs first.
const SHADOWS: &str = "usr/local/sbin";
const ROOTS: &str = "nix/var/nix/gcroots/bosco";

/// What makes one effect fail.
pub(crate) struct Obstacle<'a> {
    host: &'a Host,
    effect: Effect,
    candidate: &'a System,
    /// What has to be put back.
    saved: Option<(PathBuf, Vec<u8>)>,
    is_there: bool,
}

impl<'a> Obstacle<'a> {
    pub(crate) fn new(host: &'a Host, effect: Effect, candidate: &'a System) -> Self {
        Self { host, effect, candidate, saved: None, is_there: false }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.host.root().join(path)
    }

    /// A program that fails where its arguments have a word, and is the real one else.
    fn shadow(&self, program: &str, word: &str) -> Result<()> {
        let text = format!(
            "#!/bin/sh\ncase \"$*\" in *{word}*) echo '{program}: out of order' >&2; exit 1 ;; esac\nexec /usr/bin/{program} \"$@\"\n"
        );
        write(&self.at(SHADOWS).join(program), &text, 0o755)
    }

    /// What can stand there before the attempt begins.
    pub(crate) fn prepare(&mut self) -> Result<()> {
        match self.effect {
            Effect::Check => self.shadow("systemctl", "list-units"),
            Effect::InstallSecrets => make_folder(&self.key_in_the_making()?),
            Effect::Root => make_folder(&self.at(ROOTS).join("candidate.new")),
            Effect::Sync => self.damage(),
            Effect::Arm => self.shadow("systemd-run", "dead-man"),
            Effect::Switch => write(&self.at("root/script-fails"), &self.candidate.letter.to_string(), 0o644),
            Effect::Profiles => {
                write(&self.at("root/profile-fails"), &self.candidate.letter.to_string(), 0o644)
            }
            Effect::Probe => self.fail_unit(),
            Effect::PrepareEntry => self.shadow("nix-env", "candidate"),
            Effect::Reboot => self.shadow("systemctl", "reboot"),
            Effect::SetProfile => self.shadow("nix-env", "profiles/system*--set"),
            Effect::InstallBoot => make_folder(&self.at("boot/loader/loader.conf.tmp")),
            Effect::Revert => self.fail_unit(),
            Effect::Disarm => return Ok(()),
        }?;
        self.is_there = self.effect != Effect::Revert;
        Ok(())
    }

    /// What would be in the way of effects before the one that is meant. Or the effect has failed, and what has to work
    /// after it is to work.
    pub(crate) fn on(&mut self, mark: Mark) -> Result<()> {
        match (self.effect, mark) {
            (Effect::Revert, Mark::Done(Effect::Switch)) => {
                let inside = self.host.inside().context("the host has gone")?;
                make_folder(&inside.join("run/nixos/reload-list"))?;
            }
            (Effect::Disarm, Mark::Done(Effect::Root)) => {
                let root = self.at(ROOTS).join("candidate");
                fs::remove_file(&root).with_context(|| format!("can't remove {}", root.display()))?;
                make_folder(&root)?;
                self.is_there = true;
            }
            (effect, Mark::Failed(failed)) if effect == failed => self.take_away()?,
            _ => {}
        }
        Ok(())
    }

    /// Makes the host whole again.
    pub(crate) fn take_away(&mut self) -> Result<()> {
        let inside = self.host.inside();
        if self.effect == Effect::Revert
            && let Some(inside) = inside
        {
            let _ = fs::remove_dir(inside.join("run/nixos/reload-list"));
        }
        if let Some((path, contents)) = self.saved.take() {
            fs::write(&path, contents).with_context(|| format!("can't mend {}", path.display()))?;
        }
        if !std::mem::take(&mut self.is_there) {
            return Ok(());
        }
        let gone = |path: PathBuf| match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                fs::remove_dir(&path).with_context(|| format!("can't remove {}", path.display()))
            }
            _ => Ok(()),
        };
        let shadow = |program: &str| gone(self.at(SHADOWS).join(program));
        match self.effect {
            Effect::Check | Effect::Reboot => shadow("systemctl"),
            Effect::InstallSecrets => gone(self.key_in_the_making()?),
            Effect::Root => gone(self.at(ROOTS).join("candidate.new")),
            Effect::Arm => shadow("systemd-run"),
            Effect::Switch => gone(self.at("root/script-fails")),
            Effect::Profiles => gone(self.at("root/profile-fails")),
            Effect::PrepareEntry | Effect::SetProfile => shadow("nix-env"),
            Effect::InstallBoot => gone(self.at("boot/loader/loader.conf.tmp")),
            Effect::Disarm => gone(self.at(ROOTS).join("candidate")),
            Effect::Sync | Effect::Probe | Effect::Revert => Ok(()),
        }
    }

    /// What the second key is written as before it has its name.
    fn key_in_the_making(&self) -> Result<PathBuf> {
        let inside = self.host.inside().context("the host has gone")?;
        Ok(inside.join(&FOLDER[1..]).join(".two.bosco"))
    }

    fn fail_unit(&self) -> Result<()> {
        fail_unit(self.host, self.candidate)
    }

    /// Changes a file of the candidate on the disk, behind Nix' back.
    fn damage(&mut self) -> Result<()> {
        let file = self.host.root().join(&self.candidate.path.as_str()[1..]).join("nixos-version");
        let was = fs::read(&file).with_context(|| format!("can't read {}", file.display()))?;
        fs::write(&file, "damaged").with_context(|| format!("can't write {}", file.display()))?;
        self.saved = Some((file, was));
        Ok(())
    }
}

/// Makes a unit of a system fail whenever that is switched to.
pub(crate) fn fail_unit(host: &Host, system: &System) -> Result<()> {
    write(&host.root().join("root/unit-fails"), &system.letter.to_string(), 0o644)
}

/// Makes all units well again.
pub(crate) fn mend_unit(host: &Host) -> Result<()> {
    write(&host.root().join("root/unit-fails"), "-", 0o644)
}

fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("can't make {}", path.display()))
}

/// By another name first, so that no half of it is ever run.
fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let making = path.with_extension("making");
    let put = || -> std::io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        fs::write(&making, text)?;
        fs::set_permissions(&making, fs::Permissions::from_mode(mode))?;
        fs::rename(&making, path)
    };
    put().with_context(|| format!("can't write {}", path.display()))
}
