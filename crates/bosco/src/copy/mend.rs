//! Mending what is damaged on a host, from the store here.

use bosco_model::{HostName, StorePath};
use bosco_nix::PathInfo;
use bosco_session::Session;

use super::{CHUNK, Copier, keep, no_room, size};
use crate::event::{Event, Stage};
use crate::fleet::failed;
use crate::outcome::Outcome;
use crate::reach::troubled;

impl Copier {
    /// Brings paths of what a host should have, which is in the store here, to one that has them damaged and so many bytes free. A
    /// session with which that has failed has ended.
    pub(crate) async fn mend(
        &self,
        host: &HostName,
        wanted: &[StorePath],
        damaged: &[StorePath],
        free: Option<u64>,
        session: &mut Session,
    ) -> Result<(), Outcome> {
        let nix_says = |error: bosco_nix::Error| failed(Stage::Copy, &error);
        let _permit = self.copies.acquire().await;
        let store = self.nix.store_here().map_err(nix_says)?;
        let (_, mut infos) = store.closure(wanted).await.map_err(nix_says)?;
        // Whatever the host names, it gets no other paths.
        keep(&mut infos, damaged.to_vec());
        if infos.is_empty() {
            let reason = "what it says is damaged is not part of what it should have";
            return Err(Outcome::failed(Stage::Copy, reason, None));
        }
        let of = size(&infos);
        if let Some(shortage) = bosco_activation::shortage(free, of) {
            return Err(no_room(&shortage));
        }
        (self.events)(Event::Mending { host: host.clone(), paths: infos.len(), of });
        for info in infos {
            let path = info.path.clone();
            self.mend_one(info, session).await?;
            (self.events)(Event::Mended { host: host.clone(), path });
        }
        Ok(())
    }

    async fn mend_one(&self, info: PathInfo, session: &mut Session) -> Result<(), Outcome> {
        let nix_says = |error: bosco_nix::Error| failed(Stage::Copy, &error);
        let (path, size) = (info.path.clone(), info.size);
        let mut archive = self.nix.archive(info).await.map_err(nix_says)?;
        let mut buffer = vec![0; CHUNK];
        // Nothing is asked for before there is something to send.
        let mut read = archive.read(&mut buffer).await.map_err(nix_says)?;
        session.repair(&path, size).await;
        while read > 0 && session.pass(&buffer[..read]).await {
            read = archive.read(&mut buffer).await.map_err(nix_says)?;
        }
        session.repaired().await.map_err(|error| troubled(Stage::Copy, &error))
    }
}
