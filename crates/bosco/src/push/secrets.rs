//! A host's secrets on their way: made for it, and handed over with what it is to run.

use bosco_model::{Declaration, Goal, Observed};
use bosco_session::Session;

use super::Host;
use crate::bundle::{Carried, Making, Own, Unmade};
use crate::event::{Event, Stage};
use crate::outcome::Outcome;
use crate::reach::troubled;

impl Host {
    /// Whether what it comes to may have secrets.
    pub(super) fn carries(&self, declared: &Declaration) -> bool {
        let activates = !matches!(self.push.goal, Goal::Build | Goal::Push | Goal::DryActivate);
        activates && !declared.host.profiles_only && !self.push.no_keys
    }

    /// Makes the host's secrets, unless they are under way already, and gives what is to be activated: where only they are
    /// wanted, the system that runs.
    pub(super) async fn with_secrets(
        &mut self,
        declared: Declaration,
        observed: &Observed,
        making: Option<Making>,
    ) -> Result<Declaration, Outcome> {
        let goal = self.push.goal;
        if matches!(goal, Goal::Build | Goal::Push | Goal::DryActivate) {
            return Ok(declared);
        }
        if declared.host.profiles_only {
            return self.without_system(declared);
        }
        if self.carries(&declared) && (!declared.secrets.is_empty() || observed.secrets.is_some()) {
            let own = Own::Said(observed.host_key.as_deref());
            let made = match making {
                Some(making) => making.end().await,
                None => self.push.bundler.make(&declared.host, &declared.secrets, own).await,
            };
            self.secrets = Some(made.map_err(Unmade::outcome)?);
        }
        if goal != Goal::Keys {
            return Ok(declared);
        }
        match &observed.current {
            // Another one than its default may not be meant to stay.
            Some(current) if observed.profile.as_ref() == Some(current) => {
                Ok(Declaration { toplevel: current.clone(), profiles: Vec::new(), ..declared })
            }
            _ => Err(Outcome::Refused {
                reason: "what it runs is not what it boots, so it is not clear which of the two gets them"
                    .into(),
                hint: "`bosco apply` brings both".into(),
            }),
        }
    }

    /// Secrets are a system's, which such a host has from elsewhere.
    fn without_system(&self, declared: Declaration) -> Result<Declaration, Outcome> {
        if declared.secrets.is_empty() {
            return Ok(declared);
        }
        if self.push.goal == Goal::Keys {
            return Err(Outcome::Refused {
                reason: "it gets profiles only, and secrets go with a system".into(),
                hint: "give it a profile `system`, or leave its secrets out".into(),
            });
        }
        let text = "its secrets are left out: they go with a system, and it gets profiles only";
        let host = Some(self.name.clone());
        (self.push.context.events)(Event::Warning { host, text: text.into() });
        Ok(declared)
    }

    /// Hands over its secrets, where it does not have them.
    pub(super) async fn carry(
        &self,
        declared: &Declaration,
        observed: &Observed,
        session: &mut Session,
    ) -> Result<(), Outcome> {
        let Some(Carried { digest, bytes }) = &self.secrets else { return Ok(()) };
        if !declared.secrets.keys.is_empty() && !declared.secrets.at_boot {
            let text = "its `deployment.keys` last until it reboots, as nothing of bosco is in its configuration; with \
                        `services.bosco.enable` they stay";
            let host = Some(self.name.clone());
            (self.push.context.events)(Event::Warning { host, text: text.into() });
        }
        if observed.secrets.as_ref() == Some(digest) {
            return Ok(());
        }
        session.secrets(*digest, bytes).await.map_err(|error| troubled(Stage::Copy, &error))
    }
}
