//! What the hub remembers: SQLite. One place for every statement; each write is on the disk when it returns.

mod closures;
mod secrets;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bosco_model::HostName;
use bosco_release::{Digest, Key, Number, Release, SignedReport};
use bosco_wire::api::{ReleaseLine, ReportLine, Standing};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Row, SqlSafeStr};
use thiserror::Error;

/// How long a statement waits for another one's write.
const BUSY: Duration = Duration::from_secs(20);
/// How many may read at once.
const READERS: u32 = 4;
/// How many reports of one host are kept, and how many bytes they have together.
const REPORTS: i64 = 200;
const REPORTS_BYTES: i64 = 8 * 1024 * 1024;

/// The hub's memory.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    /// One connection: writes go one after the other.
    writer: SqlitePool,
    readers: SqlitePool,
}

/// Why something could not be remembered, or not be recalled.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database said no.
    #[error("the hub's database: {0}")]
    Database(#[from] sqlx::Error),
    /// It is another version's.
    #[error("the hub's database can't be brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// What is in it can't be understood.
    #[error("the hub's database has something that can't be read: {0}")]
    Unreadable(String),
    /// A release with that number is there.
    #[error("there is a release {0} already")]
    NumberTaken(Number),
}

type Result<T> = std::result::Result<T, StoreError>;

/// A host as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostRow {
    pub(crate) keys: Vec<Key>,
    /// When it left, in seconds since 1970.
    pub(crate) gone: Option<u64>,
    /// Who told it to stay as it is, and why.
    pub(crate) held: Option<String>,
    /// Holds up to this number are to be let go of.
    pub(crate) lift: Option<Number>,
    pub(crate) ratchet: u64,
    /// What is wrong with its key.
    pub(crate) alarm: Option<String>,
    pub(crate) standing: Option<Standing>,
    pub(crate) seen: Option<u64>,
}

/// What changes all the time, and can be heard again: written now and then.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) host: HostName,
    pub(crate) ratchet: u64,
    pub(crate) alarm: Option<String>,
    pub(crate) standing: Option<Standing>,
    pub(crate) seen: Option<u64>,
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| StoreError::Unreadable(error.to_string()))
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| StoreError::Unreadable(error.to_string()))
}

impl Store {
    /// Opens the database, and brings it up to date.
    pub(crate) async fn open(file: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // Whoever was told that something is kept will not say it again.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        let migration = |number, name: &'static str, text: &'static str| {
            let text = AssertSqlSafe(text).into_sql_str();
            Migration::new(number, name.into(), MigrationType::Simple, text, false)
        };
        let migrations = vec![
            migration(1, "hub", include_str!("../migrations/1-hub.sql")),
            migration(2, "secrets", include_str!("../migrations/2-secrets.sql")),
            migration(3, "operators", include_str!("../migrations/3-bundles-by-operator.sql")),
        ];
        Migrator::with_migrations(migrations).run(&writer).await?;
        let readers =
            SqlitePoolOptions::new().max_connections(READERS).connect_with(options.read_only(true)).await?;
        Ok(Self { writer, readers })
    }

    /// Every host that is or was let in.
    pub(crate) async fn hosts(&self) -> Result<BTreeMap<HostName, HostRow>> {
        let rows = sqlx::query("SELECT name, gone, held, lift, ratchet, alarm, standing, seen FROM hosts")
            .fetch_all(&self.readers)
            .await?;
        let mut hosts = BTreeMap::new();
        for row in rows {
            let standing: Option<String> = row.try_get("standing")?;
            let optional = |name: &str| row.try_get::<Option<i64>, _>(name).map(|value| value.map(unsigned));
            let host = HostRow {
                keys: Vec::new(),
                gone: optional("gone")?,
                held: row.try_get("held")?,
                lift: optional("lift")?,
                ratchet: unsigned(row.try_get("ratchet")?),
                alarm: row.try_get("alarm")?,
                // It is said again; that of another version may be passed over.
                standing: standing.and_then(|text| parse(&text).ok()),
                seen: optional("seen")?,
            };
            hosts.insert(host_name(&row.try_get::<String, _>("name")?)?, host);
        }
        let keys = sqlx::query("SELECT key, host FROM host_keys ORDER BY host, place")
            .fetch_all(&self.readers)
            .await?;
        for row in keys {
            let key = row.try_get::<String, _>("key")?;
            let key = Key::parse(&key).map_err(|error| StoreError::Unreadable(error.to_string()))?;
            if let Some(host) = hosts.get_mut(&host_name(&row.try_get::<String, _>("host")?)?) {
                host.keys.push(key);
            }
        }
        Ok(hosts)
    }

    /// Lets a host in, or gives it other keys. `false`: a key is another host's.
    pub(crate) async fn enroll(&self, host: &HostName, keys: &[Key], now: u64) -> Result<bool> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "INSERT INTO hosts (name, joined) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET gone = NULL",
        )
        .bind(host.as_str())
        .bind(number(now))
        .execute(&mut *transaction)
        .await?;
        sqlx::query("DELETE FROM host_keys WHERE host = $1")
            .bind(host.as_str())
            .execute(&mut *transaction)
            .await?;
        for (place, key) in keys.iter().enumerate() {
            let done = sqlx::query(
                "INSERT INTO host_keys (key, host, since, place) VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO NOTHING",
            )
            .bind(key.as_str())
            .bind(host.as_str())
            .bind(number(now))
            .bind(number(place as u64))
            .execute(&mut *transaction)
            .await?;
            if done.rows_affected() == 0 {
                return Ok(false);
            }
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Lets a host in no more. What it has left stays for its time.
    pub(crate) async fn forget(&self, host: &HostName, now: u64) -> Result<()> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for statement in [
            "DELETE FROM host_keys WHERE host = $1",
            "UPDATE hosts SET standing = NULL, held = NULL, lift = NULL, ratchet = 0, alarm = NULL WHERE name = $1",
        ] {
            sqlx::query(statement).bind(host.as_str()).execute(&mut *transaction).await?;
        }
        sqlx::query("UPDATE hosts SET gone = $2 WHERE name = $1")
            .bind(host.as_str())
            .bind(number(now))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Tells a host to stay as it is, or no more.
    pub(crate) async fn hold(&self, host: &HostName, held: Option<&str>) -> Result<()> {
        sqlx::query("UPDATE hosts SET held = $2 WHERE name = $1")
            .bind(host.as_str())
            .bind(held)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Has a host let go of holds up to a number; `None`: it has.
    pub(crate) async fn lift(&self, host: &HostName, up_to: Option<Number>) -> Result<()> {
        sqlx::query("UPDATE hosts SET lift = $2 WHERE name = $1")
            .bind(host.as_str())
            .bind(up_to.map(number))
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Keeps what was heard, all at once.
    pub(crate) async fn heard(&self, all: &[Heard]) -> Result<()> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for Heard { host, ratchet, alarm, standing, seen } in all {
            let standing = standing.as_ref().map(json).transpose()?;
            sqlx::query(
                "UPDATE hosts SET ratchet = $2, standing = $3, seen = $4, alarm = $5 WHERE name = $1 AND gone IS NULL",
            )
            .bind(host.as_str())
            .bind(number(*ratchet))
            .bind(standing)
            .bind(seen.map(number))
            .bind(alarm)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Keeps a release, whose closures are there. All of it or nothing.
    pub(crate) async fn publish(
        &self,
        line: &ReleaseLine,
        document: &str,
        closures: &BTreeMap<HostName, Digest>,
        bundles: &BTreeMap<HostName, Digest>,
        now: u64,
    ) -> Result<()> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let done = sqlx::query(
            "INSERT INTO releases (number, line, document, published) VALUES ($1, $2, $3, $4)
             ON CONFLICT (number) DO NOTHING",
        )
        .bind(number(line.number))
        .bind(json(line)?)
        .bind(document)
        .bind(number(now))
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::NumberTaken(line.number));
        }
        let closures = ("INSERT INTO release_closures (number, host, digest) VALUES ($1, $2, $3)", closures);
        let bundles = ("INSERT INTO release_bundles (number, host, digest) VALUES ($1, $2, $3)", bundles);
        for (statement, of_hosts) in [closures, bundles] {
            for (host, digest) in of_hosts {
                sqlx::query(statement)
                    .bind(number(line.number))
                    .bind(host.as_str())
                    .bind(digest.to_string())
                    .execute(&mut *transaction)
                    .await?;
            }
        }
        transaction.commit().await?;
        Ok(())
    }

    /// All releases, the newest first.
    pub(crate) async fn releases(&self) -> Result<Vec<ReleaseLine>> {
        let rows =
            sqlx::query("SELECT line FROM releases ORDER BY number DESC").fetch_all(&self.readers).await?;
        rows.iter().map(|row| parse(&row.try_get::<String, _>("line")?)).collect()
    }

    /// One release.
    pub(crate) async fn release(&self, of: Number) -> Result<Option<(ReleaseLine, Release)>> {
        let row = sqlx::query("SELECT line, document FROM releases WHERE number = $1").bind(number(of));
        let row = row.fetch_optional(&self.readers).await?;
        row.map(|row| {
            Ok((parse(&row.try_get::<String, _>("line")?)?, parse(&row.try_get::<String, _>("document")?)?))
        })
        .transpose()
    }

    /// One release, as JSON.
    pub(crate) async fn document(&self, of: Number) -> Result<Option<String>> {
        let row = sqlx::query("SELECT document FROM releases WHERE number = $1").bind(number(of));
        let row = row.fetch_optional(&self.readers).await?;
        row.map(|row| Ok(row.try_get("document")?)).transpose()
    }

    /// The number of the newest release; 0 without one.
    pub(crate) async fn newest(&self) -> Result<Number> {
        let row =
            sqlx::query("SELECT COALESCE(MAX(number), 0) AS newest FROM releases").fetch_one(&self.readers);
        Ok(unsigned(row.await?.try_get("newest")?))
    }

    /// Keeps a report. `false`: it is there already.
    pub(crate) async fn report(
        &self,
        host: &HostName,
        id: &str,
        report: &SignedReport,
        now: u64,
    ) -> Result<bool> {
        let done = sqlx::query(
            "INSERT INTO reports (host, id, received, document) VALUES ($1, $2, $3, $4)
             ON CONFLICT (host, id) DO NOTHING",
        )
        .bind(host.as_str())
        .bind(id)
        .bind(number(now))
        .bind(json(report)?)
        .execute(&self.writer)
        .await?;
        let is_new = done.rows_affected() > 0;
        if is_new {
            self.cap_reports(host).await?;
        }
        Ok(is_new)
    }

    /// A host has its newest reports here, as far as there is room, and the last one whatever its size.
    async fn cap_reports(&self, host: &HostName) -> Result<()> {
        sqlx::query(
            "DELETE FROM reports WHERE rowid IN (SELECT rowid FROM
              (SELECT rowid, ROW_NUMBER() OVER newest AS place, SUM(OCTET_LENGTH(document)) OVER newest AS bytes
               FROM reports WHERE host = $1
               WINDOW newest AS (ORDER BY received DESC, rowid DESC ROWS UNBOUNDED PRECEDING))
              WHERE place > $2 OR (place > 1 AND bytes > $3))",
        )
        .bind(host.as_str())
        .bind(REPORTS)
        .bind(REPORTS_BYTES)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// The last reports of a host, the newest first.
    pub(crate) async fn reports(&self, host: &HostName, last: u32) -> Result<Vec<ReportLine>> {
        let rows = sqlx::query(
            "SELECT received, document FROM reports WHERE host = $1 ORDER BY received DESC, rowid DESC LIMIT $2",
        )
        .bind(host.as_str())
        .bind(i64::from(last))
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let signed: SignedReport = parse(&row.try_get::<String, _>("document")?)?;
                Ok(ReportLine {
                    report: parse(&signed.report)?,
                    received: unsigned(row.try_get("received")?),
                })
            })
            .collect()
    }

    /// Forgets reports that came before a moment, but the last ones of each host.
    pub(crate) async fn forget_reports(&self, before: u64, last: u32) -> Result<()> {
        sqlx::query(
            "DELETE FROM reports WHERE received < $1 AND rowid NOT IN
             (SELECT kept.rowid FROM reports AS kept WHERE kept.host = reports.host
              ORDER BY kept.received DESC, kept.rowid DESC LIMIT $2)",
        )
        .bind(number(before))
        .bind(i64::from(last))
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Nothing is known of a host any more.
    pub(crate) async fn erase(&self, host: &HostName) -> Result<()> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for statement in [
            "DELETE FROM host_keys WHERE host = $1",
            "DELETE FROM reports WHERE host = $1",
            "DELETE FROM hosts WHERE name = $1",
        ] {
            sqlx::query(statement).bind(host.as_str()).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

fn host_name(text: &str) -> Result<HostName> {
    HostName::parse(text).map_err(|error| StoreError::Unreadable(error.to_string()))
}
