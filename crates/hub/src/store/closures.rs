//! Closures, and the archives that they need. A closure is there only with all its archives: the database itself lets none of
//! them go before it.

use std::collections::{BTreeMap, BTreeSet};

use bosco_model::{HostName, StorePath};
use bosco_release::{Contents, Digest};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Result, Store, StoreError, json, number, unsigned};

/// How long an archive is: by itself, and as it is stored.
pub(crate) type Sizes = (u64, u64);

impl Store {
    /// Keeps a closure. Gives how many of its archives are missing: where any is, nothing is kept.
    pub(crate) async fn keep_closure(&self, digest: &Digest, contents: &Contents, now: u64) -> Result<u64> {
        let hashes: BTreeSet<&Digest> = contents.iter().map(|path| &path.hash).collect();
        let (text, needed) = (json(contents)?, json(&hashes)?);
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let row = sqlx::query(
            "INSERT INTO closures (digest, contents, since) VALUES ($1, $2, $3)
             ON CONFLICT (digest) DO UPDATE SET since = excluded.since RETURNING id",
        )
        .bind(digest.to_string())
        .bind(text)
        .bind(number(now))
        .fetch_one(&mut *transaction)
        .await?;
        let id: i64 = row.try_get("id")?;
        sqlx::query(
            "INSERT INTO closure_objects (closure, object)
             SELECT $1, id FROM objects WHERE hash IN (SELECT value FROM json_each($2))
             ON CONFLICT (closure, object) DO NOTHING",
        )
        .bind(id)
        .bind(needed)
        .execute(&mut *transaction)
        .await?;
        let row = sqlx::query("SELECT COUNT(*) AS found FROM closure_objects WHERE closure = $1").bind(id);
        let found = unsigned(row.fetch_one(&mut *transaction).await?.try_get("found")?);
        let missing = (hashes.len() as u64).saturating_sub(found);
        if missing == 0 {
            transaction.commit().await?;
        }
        Ok(missing)
    }

    /// What is in a closure, as the JSON of [`Contents`].
    pub(crate) async fn closure(&self, digest: &Digest) -> Result<Option<String>> {
        let row = sqlx::query("SELECT contents FROM closures WHERE digest = $1").bind(digest.to_string());
        let row = row.fetch_optional(&self.readers).await?;
        row.map(|row| Ok(row.try_get("contents")?)).transpose()
    }

    /// Whether a closure is there, and has a path.
    pub(crate) async fn closure_has(&self, digest: &Digest, path: &StorePath) -> Result<bool> {
        // As it is written by `keep_closure`: to read a closure whole takes a hundred times as long.
        let row = sqlx::query(
            "SELECT COUNT(*) AS found FROM closures WHERE digest = $1 AND INSTR(contents, $2) > 0",
        )
        .bind(digest.to_string())
        .bind(format!("\"path\":\"{path}\""));
        Ok(row.fetch_one(&self.readers).await?.try_get::<i64, _>("found")? > 0)
    }

    /// Which of these closures are there. They stay for a while, whether a release names them or not.
    pub(crate) async fn want_closures(&self, digests: &[Digest], now: u64) -> Result<BTreeSet<Digest>> {
        let rows = sqlx::query(
            "UPDATE closures SET since = $2 WHERE digest IN (SELECT value FROM json_each($1)) RETURNING digest",
        )
        .bind(json(&digests)?)
        .bind(number(now))
        .fetch_all(&self.writer)
        .await?;
        rows.iter().map(|row| digest(row, "digest")).collect()
    }

    /// Whether a closure is one of a host's, in the newest releases that it is in.
    pub(crate) async fn is_closure_of(&self, host: &HostName, digest: &Digest, last: u32) -> Result<bool> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS found FROM
             (SELECT digest FROM release_closures WHERE host = $1 ORDER BY number DESC LIMIT $3) WHERE digest = $2",
        )
        .bind(host.as_str())
        .bind(digest.to_string())
        .bind(i64::from(last));
        Ok(row.fetch_one(&self.readers).await?.try_get::<i64, _>("found")? > 0)
    }

    /// Which of these archives are in the closures of a host's newest releases.
    pub(crate) async fn objects_of(
        &self,
        host: &HostName,
        hashes: &[Digest],
        last: u32,
    ) -> Result<BTreeMap<Digest, Sizes>> {
        let rows = sqlx::query(
            "SELECT DISTINCT hash, size, stored FROM objects JOIN closure_objects ON object = objects.id
             WHERE hash IN (SELECT value FROM json_each($1)) AND closure IN
             (SELECT id FROM closures WHERE digest IN
              (SELECT digest FROM release_closures WHERE host = $2 ORDER BY number DESC LIMIT $3))",
        )
        .bind(json(&hashes)?)
        .bind(host.as_str())
        .bind(i64::from(last))
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let sizes = (unsigned(row.try_get("size")?), unsigned(row.try_get("stored")?));
                Ok((digest(row, "hash")?, sizes))
            })
            .collect()
    }

    /// Which of these archives are there. They stay for a while, whether a closure needs them or not.
    pub(crate) async fn want_objects(&self, hashes: &[Digest], now: u64) -> Result<BTreeSet<Digest>> {
        let rows = sqlx::query(
            "UPDATE objects SET since = $2 WHERE hash IN (SELECT value FROM json_each($1)) RETURNING hash",
        )
        .bind(json(&hashes)?)
        .bind(number(now))
        .fetch_all(&self.writer)
        .await?;
        rows.iter().map(|row| digest(row, "hash")).collect()
    }

    /// An archive is on the disk.
    pub(crate) async fn object(&self, hash: &Digest, (size, stored): Sizes, now: u64) -> Result<()> {
        sqlx::query("INSERT INTO objects (hash, size, stored, since) VALUES ($1, $2, $3, $4)")
            .bind(hash.to_string())
            .bind(number(size))
            .bind(number(stored))
            .bind(number(now))
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Forgets the closures that none of the newest releases names, but for those that somebody has asked for since a moment:
    /// they may be about to be published.
    pub(crate) async fn forget_closures(&self, releases: u32, before: u64) -> Result<()> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "DELETE FROM release_closures WHERE number NOT IN
             (SELECT number FROM releases ORDER BY number DESC LIMIT $1)",
        )
        .bind(i64::from(releases))
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "DELETE FROM closures WHERE since < $1 AND digest NOT IN (SELECT digest FROM release_closures)",
        )
        .bind(number(before))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Forgets some of the archives that no closure needs and nobody has asked for since a moment. Gives which they are: what is
    /// on the disk of them may go.
    pub(crate) async fn forget_objects(&self, before: u64, most: u32) -> Result<Vec<Digest>> {
        let rows = sqlx::query(
            "DELETE FROM objects WHERE id IN
             (SELECT id FROM objects WHERE since < $1
              AND NOT EXISTS (SELECT 1 FROM closure_objects WHERE object = objects.id) LIMIT $2)
             RETURNING hash",
        )
        .bind(number(before))
        .bind(i64::from(most))
        .fetch_all(&self.writer)
        .await?;
        rows.iter().map(|row| digest(row, "hash")).collect()
    }
}

pub(super) fn digest(row: &SqliteRow, column: &str) -> Result<Digest> {
    let text: String = row.try_get(column)?;
    Digest::parse(&text).map_err(|error| StoreError::Unreadable(error.to_string()))
}
