//! Bundles of secrets: ciphertext, each as it goes to a host, known by its digest.

use std::collections::BTreeSet;

use bosco_release::Digest;
use sqlx::Row;

use super::closures::digest;
use super::{Result, Store, json, number};

impl Store {
    /// Keeps a bundle that an operator has brought, unless what they have brought and no release names would have more than
    /// so many bytes. Gives whether it is kept.
    pub(crate) async fn keep_bundle(
        &self,
        digest: &Digest,
        bundle: &[u8],
        operator: &str,
        most: u64,
        now: u64,
    ) -> Result<bool> {
        let kept = sqlx::query(
            "INSERT INTO bundles (digest, bundle, since, operator) SELECT $1, $2, $3, $4
             WHERE LENGTH($2) + (SELECT COALESCE(SUM(LENGTH(bundle)), 0) FROM bundles
              WHERE operator = $4 AND digest <> $1 AND digest NOT IN (SELECT digest FROM release_bundles)) <= $5
             ON CONFLICT (digest) DO UPDATE SET since = excluded.since",
        )
        .bind(digest.to_string())
        .bind(bundle)
        .bind(number(now))
        .bind(operator)
        .bind(number(most))
        .execute(&self.writer)
        .await?;
        Ok(kept.rows_affected() > 0)
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

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_brings_much_that_no_release_names_is_stopped_and_nobody_else_is() {
        let folder = std::env::temp_dir().join(format!("bosco-bundles-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let store = Store::open(&folder.join("hub.sqlite")).await.unwrap();
        let keep = async |bundle: &str, operator: &str| {
            let digest = Digest::of(&[bundle.as_bytes()]);
            store.keep_bundle(&digest, bundle.as_bytes(), operator, 10, 1).await.unwrap()
        };
        assert!(keep("12345", "ada").await && keep("67890", "ada").await);
        assert!(!keep("x", "ada").await);
        assert!(keep("67890", "ada").await, "it is there already");
        assert!(keep("x", "bo").await);
        assert!(!keep("12345678901", "cy").await);
        // What a release names is no matter.
        for statement in [
            "INSERT INTO releases (number, line, document, published) VALUES (1, '', '', 1)".to_owned(),
            format!("INSERT INTO release_bundles VALUES (1, 'web', '{}')", Digest::of(&[b"12345"])),
        ] {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&store.writer).await.unwrap();
        }
        assert!(keep("x2345", "ada").await && !keep("y", "ada").await);
        // Nor what is gone.
        store.forget_bundles(10, 2).await.unwrap();
        assert!(keep("1234567890", "ada").await);
        drop(store);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
