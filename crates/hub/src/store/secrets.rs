//! Bundles of secrets: ciphertext, each as it goes to a host, known by its digest.

use std::collections::BTreeSet;

use bosco_release::Digest;
use sqlx::Row;

use super::closures::digest;
use super::{Result, Store, json, number};

impl Store {
    /// Keeps a bundle.
    pub(crate) async fn keep_bundle(&self, digest: &Digest, bundle: &[u8], now: u64) -> Result<()> {
        sqlx::query(
            "INSERT INTO bundles (digest, bundle, since) VALUES ($1, $2, $3)
             ON CONFLICT (digest) DO UPDATE SET since = excluded.since",
        )
        .bind(digest.to_string())
        .bind(bundle)
        .bind(number(now))
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// A bundle, as it was brought.
    pub(crate) async fn bundle(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let row = sqlx::query("SELECT bundle FROM bundles WHERE digest = $1").bind(digest.to_string());
        let row = row.fetch_optional(&self.readers).await?;
        row.map(|row| Ok(row.try_get("bundle")?)).transpose()
    }

    /// Which of these bundles are there. They stay for a while, whether a release names them or not.
    pub(crate) async fn want_bundles(&self, digests: &[Digest], now: u64) -> Result<BTreeSet<Digest>> {
        let rows = sqlx::query(
            "UPDATE bundles SET since = $2 WHERE digest IN (SELECT value FROM json_each($1)) RETURNING digest",
        )
        .bind(json(&digests)?)
        .bind(number(now))
        .fetch_all(&self.writer)
        .await?;
        rows.iter().map(|row| digest(row, "digest")).collect()
    }

    /// Forgets the bundles that none of the newest releases names, but for those that somebody has asked for since a moment:
    /// they may be about to be published.
    pub(crate) async fn forget_bundles(&self, releases: u32, before: u64) -> Result<()> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "DELETE FROM release_bundles WHERE number NOT IN
             (SELECT number FROM releases ORDER BY number DESC LIMIT $1)",
        )
        .bind(i64::from(releases))
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "DELETE FROM bundles WHERE since < $1 AND digest NOT IN (SELECT digest FROM release_bundles)",
        )
        .bind(number(before))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }
}
